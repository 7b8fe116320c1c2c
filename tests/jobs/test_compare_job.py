"""`deepmac compare`, from directories to sentences and files."""

import csv
import json
from pathlib import Path

import coco_cases
import numpy as np
import pytest

from deepmac.cli import main
from pipelines.compare import OUTPUTS

IMAGES = range(1, 21)


def write(folder: Path, quality: float) -> None:
    """A ground truth and results that cover more or less of each object."""
    rng = np.random.default_rng(int(quality * 100))
    scene = coco_cases.Scene(images=IMAGES, categories=(1, 2))
    for image in IMAGES:
        for category in (1, 2):
            x = 60 * (category - 1)
            scene.object((x, 0, 40, 40), image, category)
            # The first category is found as well by all.
            share = rng.normal(0.8 if category == 1 else quality, 0.1)
            height = int(np.clip(40 * share, 1, 40))
            scene.found((x, 0, 40, height), rng.random(), image, category)
    for image in scene.truth["images"]:
        image["file_name"] = f"{image['id']:012d}.jpg"
    scene.truth["categories"][1]["name"] = "two, or | more"
    folder.mkdir(exist_ok=True)
    (folder / "gt.json").write_text(json.dumps(scene.truth))
    (folder / "dt.json").write_text(json.dumps(scene.results))


def evaluate(folder: Path, out: str, *args: str) -> Path:
    argv = ["evaluate", "--ground_truth", str(folder / "gt.json"), "--predictions"]
    argv += [str(folder / "dt.json"), "--out", str(folder / out), "--draws", "0", *args]
    assert main(argv) == 0
    return folder / out


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name, quality in (("a", 0.6), ("b", 0.9)):
        write(root / name, quality)
        evaluate(root / name, "out", "--seen", "1")
        evaluate(root / name, "boxes", "--iou_type", "bbox")
    evaluate(root / "a", "other", "--seen", "2")
    evaluate(root / "a", "fewer", "--image_ids", "1,2")
    evaluate(root / "a", "limits", "--max_dets", "1,5,100")
    evaluate(root / "a", "flat", "--no_use_categories")
    (root / "old").mkdir()
    (root / "old" / "metrics.json").write_text("{}")
    (root / "empty").mkdir()
    (root / "foreign.npz").write_bytes(b"PK")
    return root


def compare(capsys, *args) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["compare", *map(str, args)])
    done = capsys.readouterr()
    return status, done.out, done.err


def test_the_better_one_is_named(runs, tmp_path, capsys):
    out = tmp_path / "out"
    args = runs / "a" / "out", runs / "b" / "out", "--out", out, "--group", "both=1,2"
    status, text, errors = compare(capsys, *args)
    assert (status, errors) == (0, "")
    assert "B is better on unseen by 0." in text
    assert "no difference is shown on seen: " in text
    assert f"{out}/comparison.json" in text
    assert {p.name for p in out.iterdir()} == set(OUTPUTS)
    document = json.loads((out / "comparison.json").read_bytes())
    for sentence in document["conclusions"]:
        assert sentence in text
    assert list(document["groups"]) == ["all", "seen", "unseen", "both"]
    unseen = document["groups"]["unseen"]["AP"]
    written = [
        json.loads((runs / run / "out" / "metrics.json").read_bytes())["segm"]
        for run in "ab"
    ]
    assert unseen["a"] == written[0]["groups"]["unseen"]["AP"]
    assert unseen["b"] == written[1]["groups"]["unseen"]["AP"]
    assert 0 < unseen["interval"][0] < unseen["difference"] < unseen["interval"][1]
    assert unseen["share_b_better"] == 1
    assert document["groups"]["both"]["AP"] == document["groups"]["all"]["AP"]
    assert [c["id"] for c in document["per_category"]] == [1, 2]
    assert document["per_category"][1]["groups"] == ["unseen", "both"]
    assert len(document["images"]) == 10 <= document["images_changed"]
    first = document["images"][0]
    assert first["file_name"] == f"{first['image_id']:012d}.jpg"
    assert first["file_name"] in text
    page = (out / "comparison.md").read_text()
    assert "| two, or \\| more |" in page
    data = (out / "comparison.csv").read_bytes()
    assert b"\r" not in data
    rows = list(csv.DictReader(data.decode().splitlines()))
    row = next(r for r in rows if (r["name"], r["figure"]) == ("two, or | more", "AP"))
    assert [float(row["low"]), float(row["high"])] == unseen["interval"]


def test_a_run_again_says_the_same_and_another_seed_nearly_so(runs, tmp_path, capsys):
    paths = runs / "a" / "out", runs / "b" / "out" / "evaluation-segm.npz"
    documents = []
    for name, seed in (("x", 0), ("y", 0), ("z", 1)):
        out = tmp_path / name
        compare(capsys, *paths, "--out", out, "--seed", seed, "--draws", 400)
        documents.append((out / "comparison.json").read_bytes())
    assert documents[0] == documents[1]
    one, other = (
        json.loads(d)["groups"]["unseen"]["AP"]["interval"] for d in documents[1:]
    )
    assert one != other
    assert one == pytest.approx(other, abs=0.02)


def test_boxes_are_compared_where_that_is_what_there_is(runs, capsys):
    status, text, _ = compare(capsys, runs / "a" / "boxes", runs / "b" / "boxes")
    assert status == 0
    assert "boxes, 20 images" in text


def test_too_few_images_for_intervals_are_told_once(runs, capsys):
    args = runs / "a" / "fewer", runs / "a" / "fewer"
    status, text, _ = compare(capsys, *args)
    assert status == 0
    assert "±" not in text
    assert "No intervals: fewer than 10 images have objects" in text


@pytest.mark.parametrize(
    ("ranges", "sentence"),
    [
        ("mine:0:2000", "B is better on all categories by 0."),
        ("small:0:2000", "B is better on all categories by 0."),
        ("none:5000:6000", "no conclusion: there is no object that AP_none could be"),
    ],
)
def test_without_a_range_of_all_sizes_the_first_one_counts(
    runs, tmp_path, capsys, ranges, sentence
):
    paths = []
    for run in "ab":
        evaluate(runs / run, tmp_path / run, "--area_ranges", ranges)
        paths.append(tmp_path / run)
    said = capsys.readouterr().out
    assert "warning: no area range is called 'all'" in said
    status, text, _ = compare(capsys, *paths)
    assert status == 0
    assert sentence in text


MISTAKES = {
    "nothing there": ("a/out", "nowhere", (), "nowhere: no such directory or file"),
    "no evaluation": ("empty", "b/out", (), "holds no evaluation-segm.npz or evaluation-bbox.npz: name a directory"),
    "an old one": ("a/out", "old", (), "of an older deepmac; run the evaluation again"),
    "foreign file": ("foreign.npz", "b/out", (), "foreign.npz: not an evaluation that `deepmac evaluate` has saved"),
    "kinds": ("a/out", "b/boxes", (), "there is no kind of evaluation in common: {}/a/out has segm; {}/b/boxes has bbox"),
    "kind not there": ("a/out", "b/out", ("--iou_type", "bbox"), "there is no evaluation of bbox: "),
    "images": ("a/out", "a/fewer", (), "do not evaluate the same images (20 in A, 2 in B): only A has 3, 4, 5, 6, ... (18 in all)"),
    "parameters": ("a/out", "a/limits", (), "max_dets is 1, 10, 100 in A and 1, 5, 100 in B"),
    "groups": ("a/out", "a/other", (), "group 'seen' has other categories in A than in B (ids 1, 2)"),
    "group": ("a/out", "b/out", ("--group", "x=category 3"), "has no category 'category 3'; did you mean 'category 1'"),
    "group's name": ("a/out", "b/out", ("--group", "seen=1"), "there is a group 'seen' already"),
    "supercategories": ("a/out", "b/out", ("--group", "supercategories"), "a saved evaluation does not keep them"),
    "no categories": ("a/flat", "a/flat", ("--group", "x=1"), "--group needs categories"),
    "output": ("a/out", "b/out", ("--out", "{}/foreign.npz"), "cannot be the output directory"),
    "draws": ("a/out", "b/out", ("--draws", "-1"), "-1 is not in the range x>=0"),
    "option": ("a/out", "b/out", ("--draw", "1"), "did you mean '--draws'"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_costs_one_line_and_status_2(name, runs, capsys):
    a, b, args, sentence = MISTAKES[name]
    args = [str(arg).format(runs) for arg in args]
    status, text, errors = compare(capsys, runs / a, runs / b, *args)
    assert (status, text) == (2, "")
    assert sentence.replace("{}", str(runs)) in errors
    assert len(errors.splitlines()) == 1
