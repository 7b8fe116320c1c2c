"""The report that the evaluate job writes: its pictures, and what it says where there are none."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from html_outline import Outline
from report_case import NASTY_FILE, as_json, write_case

from pipelines import build_dataset
from pipelines.evaluate import Options, execute
from pipelines.preflight import ProblemsFound


@pytest.fixture(scope="module")
def detections(tmp_path_factory) -> dict:
    case = write_case(tmp_path_factory.mktemp("detections"))
    return case | {"seen": "cat,car,fish"}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> dict:
    return write_case(tmp_path_factory.mktemp("given"), for_given_boxes=True) | {
        "seen": "cat,car,fish"
    }


class Report(Outline):
    def __init__(self, html: str):
        super().__init__()
        self.html = html
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            super().handle_starttag(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        pass

    @property
    def galleries(self) -> list[str]:
        return [text for tag, text in self.texts if tag == "h4"]

    @property
    def captions(self) -> list[str]:
        return re.findall("<span class=file>(image .*?)</span>", self.html)


def report(case: dict, out: Path, beam_args=(), **changes) -> Report:
    options = Options(out=str(out), **case | changes)
    assert execute(options, list(beam_args)) == 0
    return Report((out / "report.html").read_text())


def test_detections_have_five_galleries(detections, tmp_path):
    page = report(detections, tmp_path)
    assert page.galleries == [
        "Worst matches",
        "Best matches",
        "Matches at random",
        "Most confident mistakes",
        "Missed objects, at random",
    ]
    assert len(page.captions) == page.html.count("<image ") >= 15


def test_masks_for_given_boxes_have_three_and_begin_with_total_failures(
    given, tmp_path
):
    page = report(given, tmp_path)
    assert page.galleries == ["Worst masks", "Best masks", "Masks at random"]
    assert len(page.captions) == 12
    titles = re.findall(
        "<figcaption><b>(.*?)</b><span class=figures>(.*?)</s", page.html
    )
    assert all(name.endswith("(missed)") and not n for name, n in titles[:4])
    assert [n.split(",")[0] for _, n in titles[4:8]] == ["IoU 1.00"] * 4


def test_pictures_show_the_mask_that_the_figures_are_of(given, tmp_path):
    """Every fourth mask is where the truth is; the others are one, two or three pixels off."""
    page = report(given, tmp_path, gallery=100)
    truth = orjson.loads(Path(given["ground_truth"]).read_bytes())
    number = {a["id"]: n for n, a in enumerate(truth["annotations"])}
    figures = re.findall("<figure class=match>(.*?)</figure>", page.html, re.DOTALL)
    assert len(figures) == 3 * len(number)
    for figure in figures:
        n = number[int(re.search(", annotation ([0-9]+)", figure)[1])]
        assert ('class="predicted"' in figure) == (n % 5 != 4)
        assert ('class="extra"' in figure) == (n % 5 != 4 and n % 4 != 0)
        if n % 5 != 4:
            assert f"score {0.3 + 0.07 * (n % 10):.2f}" in figure


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_a_mistake_is_told_with_the_object_it_is_about(detections, tmp_path, kind):
    """One object found well, found twice, found badly, under another name; and one of nothing."""
    truth = orjson.loads(Path(detections["ground_truth"]).read_bytes())
    first = max(truth["annotations"], key=lambda a: a["area"])
    names = {c["id"]: c["name"] for c in truth["categories"]}
    name, other = (
        names[first["category_id"]],
        next(c for c in names if c != first["category_id"]),
    )
    x, y, width, height = first["bbox"]

    def found(score, category, box, image=first["image_id"]):
        left, top, right, low = box[0], box[1], box[0] + box[2], box[1] + box[3]
        return {
            "image_id": image,
            "category_id": category,
            "score": score,
            "bbox": box,
            "segmentation": [[left, top, right, top, right, low, left, low]]
            if kind == "bbox"
            else first["segmentation"],
        }

    own = first["category_id"]
    results = [
        found(0.9, own, [x, y, width, height]),
        found(0.8, own, [x, y, width, height * 0.9]),
        found(0.7, other, [x, y, width, height]),
    ]
    if kind == "bbox":
        results.append(found(0.6, own, [x, y, width, height * 0.3]))
    (tmp_path / "results.json").write_bytes(orjson.dumps(results))
    page = report(
        detections,
        tmp_path / "out",
        predictions=str(tmp_path / "results.json"),
        iou_type=(kind,),
    )
    mistakes = page.html.partition("Most confident mistakes")[2].partition("<h4>")[0]
    titles = re.findall("<figcaption><b>(.*?)</b>", mistakes)
    assert titles[:2] == [
        f"{name} (found twice)",
        f"{name}, predicted as {html.escape(names[other])}",
    ]
    if kind == "bbox":
        assert titles[2] == f"{name} (too far off)"


def test_masks_and_boxes_are_on_one_page(detections, tmp_path):
    page = report(detections, tmp_path, iou_type=("segm", "bbox"))
    titles = [t for tag, t in page.texts if tag == "h2"]
    assert titles == [
        "Warnings",
        "Masks",
        "Boxes",
        "How it was made",
    ]
    assert len(page.galleries) == 10
    ids = re.findall('<image id="(.*?)"', page.html)
    assert len(set(ids)) == len(ids)


def test_beam_gives_the_same_page_but_for_how_it_was_made(detections, tmp_path):
    def shown(page):
        return page.html.partition("<section id=produced>")[0]

    here = report(detections, tmp_path / "here")
    there = report(detections, tmp_path / "there", ["--runner=FnApiRunner"])
    assert shown(here) == shown(there)
    assert "-- --runner=FnApiRunner" in there.html


def test_the_order_of_the_results_changes_nothing(detections, tmp_path):
    results = orjson.loads(Path(detections["predictions"]).read_bytes())
    other = tmp_path / "results.json"
    # By image the other way round: what counts is the order within one.
    results.sort(key=lambda r: -r["image_id"])
    other.write_bytes(orjson.dumps(results))
    one = report(detections, tmp_path / "one")
    two = report(detections, tmp_path / "two", predictions=str(other))
    assert one.captions == two.captions


@pytest.fixture(scope="module")
def records(given, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("records")
    build = build_dataset.Options(
        annotations=given["ground_truth"],
        images=given["images"],
        out=str(out),
        split="all",
        num_shards=2,
    )
    assert build_dataset.execute(build, []) == 0
    return str(out)


def test_records_hold_their_pictures(given, records, tmp_path):
    from_records = report(given, tmp_path / "r", ground_truth=records, images=None)
    from_files = report(given, tmp_path / "f")
    assert from_records.captions == from_files.captions
    pictures = [
        set(re.findall('jpeg;base64,(.*?)"', p.html))
        for p in (from_records, from_files)
    ]
    assert pictures[0] == pictures[1]


def test_pictures_that_cannot_be_read_are_named(given, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    names = sorted(path.name for path in Path(given["images"]).iterdir())
    for name in names[2:]:
        (images / name).write_bytes((Path(given["images"]) / name).read_bytes())
    (images / names[1]).write_bytes(b"no picture")
    (images / names[2]).write_bytes(
        (Path(given["images"]) / names[2]).read_bytes()[:99]
    )
    assert names[0] == NASTY_FILE
    page = report(given, tmp_path / "out", images=str(images), gallery=100)
    told = [t for tag, t in page.texts if tag == "li"]
    assert any(NASTY_FILE in t and "no such file" in t for t in told)
    assert len([t for t in told if t.startswith("image ")]) == 3
    assert 0 < len(page.captions) < 3 * 66


def test_a_picture_of_another_size_is_named(given, tmp_path):
    truth = orjson.loads(Path(given["ground_truth"]).read_bytes())
    first, second = truth["images"][:2]
    first["file_name"] = second["file_name"]
    second["file_name"] = "small.png"
    images = tmp_path / "images"
    images.mkdir()
    for path in Path(given["images"]).iterdir():
        (images / path.name).write_bytes(path.read_bytes())
    import cv2

    cv2.imwrite(str(images / "small.png"), np.zeros((5, 7, 3), np.uint8))
    (tmp_path / "gt.json").write_bytes(orjson.dumps(truth))
    page = report(
        given,
        tmp_path / "out",
        ground_truth=str(tmp_path / "gt.json"),
        images=str(images),
        gallery=100,
    )
    told = "mask is of 96 x 96 pixels (height, width), the picture of 5 x 7"
    assert any(told in t for _, t in page.texts)


@pytest.fixture(scope="module")
def odd_sizes(detections, tmp_path_factory) -> dict:
    """The same with every third result's mask of another size than its image."""
    folder = tmp_path_factory.mktemp("odd")
    results = orjson.loads(Path(detections["predictions"]).read_bytes())
    for number, result in enumerate(results):
        if number % 3 == 0:
            result["segmentation"] = as_json(np.ones((40, 50 + number), bool))
    (folder / "results.json").write_bytes(orjson.dumps(results))
    return detections | {
        "predictions": str(folder / "results.json"),
        "wrong_size": "reference",
        "gallery": 100,
    }


def test_masks_of_another_size_lose_no_card_but_their_own(
    odd_sizes, detections, tmp_path
):
    page = report(odd_sizes, tmp_path)
    num_odd = -(-len(orjson.loads(Path(odd_sizes["predictions"]).read_bytes())) // 3)
    lost = [t for tag, t in page.texts if tag == "li" and t.startswith("image ")]
    assert len(lost) == num_odd  # each of a size of its own
    assert all("the predicted mask is of 40 x " in t for t in lost)
    (head,) = [t for tag, t in page.texts if t.startswith("Not shown: ")]
    assert head.startswith(f"Not shown: {num_odd} that were chosen, of ")
    # What is right is never lost: as many cards as are chosen, but for the odd masks.
    told = re.findall("<span class=quiet>([0-9]+) of ([0-9]+) ", page.html)
    assert sum(int(all_) - int(here) for here, all_ in told) == num_odd


def test_the_page_is_the_same_whatever_the_seed_of_hashes(odd_sizes, tmp_path):
    code = (
        "import sys, json; from pipelines.evaluate import Options, execute; "
        "options = json.loads(sys.argv[1]); sys.exit(execute(Options(**options), []))"
    )
    pages = []
    for seed in "12":
        options = odd_sizes | {"out": str(tmp_path / seed)}
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(options)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        text = (tmp_path / seed / "report.html").read_text()
        pages.append(text.partition("<section id=produced>")[0])
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": None}, "with --images DIR"),
        ({"gallery": 0}, "as --gallery 0 asks"),
    ],
)
def test_a_page_without_pictures_says_why(detections, tmp_path, changes, sentence):
    page = report(detections, tmp_path, **changes)
    assert page.captions == []
    assert any(sentence in t for tag, t in page.texts if tag == "p")


def test_no_report_leaves_none_not_even_an_old_one(detections, tmp_path):
    report(detections, tmp_path)
    options = Options(out=str(tmp_path), report=False, **detections | {"images": None})
    assert execute(options, []) == 0
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": "nowhere"}, "nowhere: no such directory of images"),
        ({"gallery": -1}, "--gallery must not be negative, got -1"),
        ({"report": False}, "--images is for the report, which --no_report leaves out"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    detections, tmp_path, changes, sentence
):
    with pytest.raises(ProblemsFound, match=re.escape(sentence)):
        execute(Options(out=str(tmp_path / "out"), **detections | changes), [])
    assert not (tmp_path / "out").exists()


def test_records_take_no_images(given, records, tmp_path):
    options = Options(out=str(tmp_path / "out"), **given | {"ground_truth": records})
    with pytest.raises(ProblemsFound, match="records hold their images"):
        execute(options, [])


def test_the_command_on_the_page_is_the_one_to_give_again(detections, tmp_path):
    page = report(detections, tmp_path, use_categories=False, seen=None)
    (command,) = (t for tag, t in page.texts if tag == "code")
    assert command.startswith("deepmac evaluate --ground_truth=")
    assert command.endswith(
        f"--no_use_categories --images={detections['images']} --gallery=4"
    )
