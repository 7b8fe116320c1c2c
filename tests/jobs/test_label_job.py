"""The whole `label` job, on a handful of small images."""

import collections
import contextlib
import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import orjson
import pytest
from own_modules import importable
from PIL import Image
from pycocotools.coco import COCO

from deepmac.masks import decode_rle
from pipelines import build_dataset, infer
from pipelines.label_plan import unit_length

NUM_IMAGES = 7
HEIGHT, WIDTH = 24, 32


def write_dataset(folder: Path, num_images=NUM_IMAGES) -> Path:
    """Noisy pictures with two boxes each, one of them a crowd in picture 5; no masks."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for index in range(num_images):
        image_id = 100 + (index * 11) % num_images  # not in the order of the file
        pixels = rng.integers(0, 99, (HEIGHT, WIDTH, 3), np.uint8)
        pixels[4:16, 6:22] += 120
        name = f"{image_id}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append(
            {"id": image_id, "file_name": name, "height": HEIGHT, "width": WIDTH}
        )
        for box in ([4, 3, 20, 15], [index % 20, 1, 9, 8]):
            annotations.append(
                {
                    "id": 10_000 - len(annotations),
                    "image_id": image_id,
                    "category_id": 1 + index % 2,
                    "bbox": box,
                    "iscrowd": int(image_id == 105 and box[2] == 20),
                    "note": {"by": "hand"},
                }
            )
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = folder / "boxes.json"
    write_json(
        path,
        {
            "info": {"year": 2017},
            "images": images,
            "annotations": annotations,
            "categories": categories,
            "licenses": [],
        },
    )
    return path


def write_json(path, value):
    path.write_text(json.dumps(value))


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    write_json(path, value)


def arguments(dataset: Path, out: Path, *more: str, model="ellipse") -> list[str]:
    return [
        f"--annotations={dataset}",
        f"--images={dataset.parent / 'images'}",
        f"--out={out}",
        f"--model={model}",
        *more,
    ]


def label(dataset: Path, out: Path, *more: str, model="ellipse") -> int:
    return infer.main(arguments(dataset, out, *more, model=model))


def rows_of(out: Path) -> list[dict]:
    lines = []
    for path in sorted(out.glob("predictions-*.jsonl.gz")):
        lines += gzip.decompress(path.read_bytes()).splitlines()
    return [orjson.loads(line) for line in lines]


def letters(out: Path) -> list[dict]:
    lines = (out / "dead_letters.jsonl").read_bytes().splitlines()
    return [orjson.loads(line) for line in lines]


def counts_of(out: Path) -> dict:
    return orjson.loads((out / "manifest.json").read_bytes())["counts"]


def contents(out: Path) -> dict[str, bytes]:
    """Everything that must not differ between runs."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def mask_of(row) -> np.ndarray:
    rle = row["segmentation"]
    return decode_rle({"size": rle["size"], "counts": rle["counts"].encode()})


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(tmp_path / "data")


# What is written.


def test_every_box_gets_a_mask_that_joins_it(dataset, tmp_path):
    out = tmp_path / "out"
    assert label(dataset, out, "--unit_images=3", model="box") == 0
    truth = json.loads(dataset.read_text())
    asked = {a["id"]: a for a in truth["annotations"] if not a["iscrowd"]}
    rows = rows_of(out)
    assert [row["image_id"] for row in rows] == sorted(row["image_id"] for row in rows)
    assert {row["annotation_id"] for row in rows} == set(asked)
    for row in rows:
        annotation = asked[row["annotation_id"]]
        assert row["box_xywh"] == annotation["bbox"]
        assert row["category_id"] == annotation["category_id"]
        assert row["image_id"] == annotation["image_id"]
        assert "bbox" not in row
        x, y, w, h = annotation["bbox"]
        expected = np.zeros((HEIGHT, WIDTH), bool)
        expected[y : y + h, x : x + w] = True
        np.testing.assert_array_equal(mask_of(row), expected)


def test_the_manifest_tells_the_whole_and_nothing_of_this_machine(dataset, tmp_path):
    out = tmp_path / "out"
    assert label(dataset, out, "--unit_images=3") == 0
    manifest = orjson.loads((out / "manifest.json").read_bytes())
    assert manifest["kind"] == "predictions"
    assert [u["name"] for u in manifest["units"]] == [
        f"predictions-0000{i}-of-00003.jsonl.gz" for i in range(3)
    ]
    assert [u["images"] for u in manifest["units"]] == [3, 3, 1]
    counts = manifest["counts"]
    assert (counts["images_in"], counts["images_out"]) == (7, 7)
    assert counts["annotations_in"] == 14 == counts["masks_out"] + counts["crowds"]
    text = (out / "manifest.json").read_text()
    assert str(tmp_path) not in text
    assert manifest["options"]["model_fingerprint"] == "ellipse"


def test_exports_are_what_pycocotools_reads(dataset, tmp_path):
    out, mine = tmp_path / "out", [1, 1, 5, 1, 5, 5]

    def give_one_a_mask_and_one_an_area(data):
        data["annotations"][0]["segmentation"] = [mine]
        data["annotations"][1]["area"] = 7.5
        del data["annotations"][1]["iscrowd"]

    edit(dataset, give_one_a_mask_and_one_an_area)
    assert label(dataset, out, "--write_coco_results", "--write_annotations") == 0
    before = json.loads(dataset.read_text())
    after = json.loads((out / "annotations.json").read_text())
    assert list(after) == list(before)
    by_id = {row["annotation_id"]: row for row in rows_of(out)}
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        if old.get("iscrowd") or "segmentation" in old:
            assert new == old
            continue
        assert new["segmentation"] == by_id[old["id"]]["segmentation"]
        assert new["area"] == old.get("area", mask_of(by_id[old["id"]]).sum())
        assert new["iscrowd"] == 0
        assert old.items() <= new.items()
    before["annotations"] = after["annotations"] = None
    assert after == before
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO(dataset).loadRes(str(out / "predictions.json"))
    assert len(found.anns) == 13
    results = json.loads((out / "predictions.json").read_text())
    assert set(results[0]) == {"image_id", "category_id", "segmentation", "score"}


def test_records_give_the_same_masks_as_their_annotations(dataset, tmp_path):
    records, out, direct = (tmp_path / name for name in ("records", "out", "direct"))
    build = [f"--annotations={dataset}", f"--images={dataset.parent / 'images'}"]
    assert build_dataset.main([*build, f"--out={records}", "--num_shards=3"]) == 0
    assert infer.main([f"--records={records}", f"--out={out}", "--model=box"]) == 0
    assert label(dataset, direct, model="box") == 0

    def masks(folder):
        keys = ("image_id", "category_id", "score", "segmentation")
        return {row["annotation_id"]: [row[k] for k in keys] for row in rows_of(folder)}

    assert masks(out) == masks(direct)
    counts = counts_of(out)
    assert counts["crowds"] == 1
    assert counts["annotations_in"] == 14 == counts["masks_out"] + counts["crowds"]
    assert "boxes_clipped" not in counts


def test_detections_on_records_do_without_their_boxes(dataset, tmp_path, detector):
    records, out = tmp_path / "records", tmp_path / "out"
    build = [f"--annotations={dataset}", f"--images={dataset.parent / 'images'}"]
    assert build_dataset.main([*build, f"--out={records}", "--num_shards=2"]) == 0
    more = [f"--records={records}", f"--out={out}", "--boxes=detect"]
    assert infer.main([*more, f"--model={detector}"]) == 0
    assert counts_of(out)["masks_out"] == len(rows_of(out)) == 14
    assert "annotations_in" not in counts_of(out)


def test_a_damaged_record_costs_itself_and_a_damaged_shard_its_rest(dataset, tmp_path):
    records, out = tmp_path / "records", tmp_path / "out"
    build = [f"--annotations={dataset}", f"--images={dataset.parent / 'images'}"]
    assert build_dataset.main([*build, f"--out={records}", "--num_shards=1"]) == 0
    (shard,) = records.glob("*.tfrecord")
    whole = bytearray(shard.read_bytes())
    whole[len(whole) // 2] ^= 1
    shard.write_bytes(whole)
    assert infer.main([f"--records={records}", f"--out={out}", "--model=box"]) == 3
    (letter,) = letters(out)
    assert letter["reason"] == "shard_damaged"
    counts = counts_of(out)
    assert counts["images_in"] == 7
    assert 0 < counts["images_out"] < 7


# Laws.


@pytest.mark.parametrize("more", [["--unit_images=1"], ["--unit_images=2"], []])
def test_no_unit_or_batch_size_changes_a_row(dataset, tmp_path, more):
    assert label(dataset, tmp_path / "a", "--unit_images=3") == 0
    assert label(dataset, tmp_path / "b", "--micro_batch=3", *more) == 0
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")


def test_one_worker_or_two_give_the_same_bytes(dataset, tmp_path):
    assert label(dataset, tmp_path / "a", "--unit_images=1", model="grabcut") == 0
    two = ["--unit_images=1", "--direct_num_workers=2"]
    assert label(dataset, tmp_path / "b", *two, model="grabcut") == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_order_of_the_lists_in_the_file_does_not_matter(dataset, tmp_path):
    assert label(dataset, tmp_path / "a", "--unit_images=2") == 0
    data = json.loads(dataset.read_text())
    data["images"].reverse()
    write_json(dataset, dict(reversed(data.items())))
    assert label(dataset, tmp_path / "b", "--unit_images=2") == 0
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")


# Going on.


def test_a_finished_job_is_left_alone_and_other_options_are_refused(
    dataset, tmp_path, capsys
):
    out = tmp_path / "out"
    assert label(dataset, out, "--unit_images=2") == 0
    before = contents(out)
    assert label(dataset, out, "--unit_images=2", "--micro_batch=1") == 0
    assert "4 done before" in capsys.readouterr().out
    assert contents(out) == before
    for more, name in (
        (["--mask_threshold=0.25"], "mask_threshold = 0.5, now it is 0.25"),
        (["--boxes=detect"], "has no detector"),
    ):
        assert label(dataset, out, "--unit_images=2", *more) == 2
        assert name in capsys.readouterr().err
    assert label(dataset, out, "--unit_images=2", model="box") == 2
    assert 'model = "ellipse", now it is "box"' in capsys.readouterr().err
    assert contents(out) == before


def test_options_of_a_predictor_of_ones_own_are_part_of_the_job(
    dataset, tmp_path, detector, capsys
):
    out, model = tmp_path / "out", detector.replace(":make", ":chosen")
    assert label(dataset, out, "--set=size=3", model=model) == 0
    assert label(dataset, out, "--set=size=4", model=model) == 2
    said = capsys.readouterr().err
    assert 'was begun with set = ["size=3"], now it is ["size=4"]' in said
    assert label(dataset, out, "--set=size=3", "--accept=head", model=model) == 2
    said = capsys.readouterr().err
    assert 'was begun with accept = null, now it is ["head"]' in said


def test_only_missing_units_are_done_again(dataset, tmp_path):
    out = tmp_path / "out"
    assert label(dataset, out, "--unit_images=2") == 0
    before = contents(out)
    victim = "predictions-00001-of-00004"
    (out / "units" / f"{victim}.json").unlink()
    times = {p.name: p.stat().st_mtime_ns for p in (out / "units").iterdir()}
    assert label(dataset, out, "--unit_images=2") == 0
    assert contents(out) == before
    for path in (out / "units").iterdir():
        assert path.stem == victim or path.stat().st_mtime_ns == times[path.name]


SLOW_PREDICTOR = textwrap.dedent("""
    import os, time
    from deepmac.predictors import open_predictor

    def make():
        ellipse = open_predictor("ellipse")

        def predict(images, boxes):
            time.sleep(0.1)
            with open(os.environ["CALLS"], "a") as file:
                file.write(f"{len(images)}\\n")
            return ellipse(images, boxes)

        predict.can_detect = False
        return predict
""")


@pytest.mark.parametrize(
    ("num_kills", "workers"),
    [
        (1, 1),
        pytest.param(20, 1, marks=pytest.mark.slow),
        pytest.param(5, 2, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(
    tmp_path, num_kills, workers
):
    num_images = 10 + 10 * num_kills
    dataset = write_dataset(tmp_path / "data", num_images)
    (tmp_path / "slow.py").write_text(SLOW_PREDICTOR)
    calls = tmp_path / "calls"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "CALLS": str(calls)}

    def command(out):
        more = ["--unit_images=1", f"--direct_num_workers={workers}"]
        args = arguments(dataset, out, *more, model="slow:make")
        return [sys.executable, "-m", "pipelines.infer", *args]

    out, rng = tmp_path / "killed", random.Random(0)
    kills_at_work = 0
    for kill in range(num_kills):
        before = stamps(out)
        job = subprocess.Popen(
            command(out),
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Most of them in the midst of work, the rest from the first moment on.
        while kill % 4 and job.poll() is None and len(stamps(out)) == len(before):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1 if kill % 4 else 2))
        kills_at_work += job.poll() is None
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        after = stamps(out)
        assert before.items() <= after.items(), "a committed unit was touched"
    done = subprocess.run(command(out), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert kills_at_work == num_kills, "a run ended before its kill"
    num_calls = len(calls.read_text().split())
    # A kill costs the unit in flight of each worker, and no more than that.
    assert num_images <= num_calls <= num_images + num_kills * workers
    calls.unlink()
    subprocess.run(
        command(tmp_path / "whole"), env=environment, check=True, capture_output=True
    )
    assert contents(out) == contents(tmp_path / "whole")


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Of every committed unit's record and data: which file, and when it was written."""
    found = {}
    for record in (out / "units").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            for path in (record, out / f"{record.stem}.jsonl.gz"):
                found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


# Detections, and a predictor of one's own.

DETECTOR = textwrap.dedent("""
    import numpy as np
    from deepmac.instances import BoxMasks

    def make(checkpoint=None):
        def predict(images, boxes):
            if boxes is None:
                boxes = [np.array([[2.0, 3, 12, 20], [0, 0, 24, 32]])] * len(images)
            return [
                BoxMasks(
                    b.astype(np.float32),
                    np.ones((len(b), 3, 3), np.float32),
                    np.linspace(0.25, 0.75, len(b), dtype=np.float32),
                    np.arange(len(b), dtype=np.int32) + 1,
                )
                for b in boxes
            ]
        return predict

    def chosen(overrides=(), accept=()):
        return make()

    def broken(checkpoint=None):
        def predict(images, boxes):
            if any(image[0, 0, 0] == BAD for image in images):
                return [None] * len(images)
            return make()(images, boxes)
        return predict
""")


@pytest.fixture
def detector(tmp_path):
    (tmp_path / "detector.py").write_text(DETECTOR)
    with importable(tmp_path):
        yield "detector:make"


def test_detections_need_images_alone(dataset, tmp_path, detector):
    out = tmp_path / "out"

    def keep_images(data):
        del data["annotations"], data["categories"]

    edit(dataset, keep_images)
    more = ["--boxes=detect", "--max_detections=1", "--unit_images=4"]
    assert label(dataset, out, *more, model=detector) == 0
    rows = rows_of(out)
    assert len(rows) == 7
    assert rows[0]["box_xywh"] == [0, 0, 32, 24]
    assert (rows[0]["score"], rows[0]["category_id"]) == (0.75, 2)
    assert "annotation_id" not in rows[0]
    assert counts_of(out) == {
        "image_bytes": counts_of(out)["image_bytes"],
        "images_in": 7,
        "images_out": 7,
        "images_failed": 0,
        "masks_out": 7,
    }


def test_detections_of_categories_that_are_not_there_are_counted(
    dataset, tmp_path, detector, capsys
):
    edit(dataset, lambda data: data.update(categories=[{"id": 5, "name": "hat"}]))
    out = tmp_path / "out"
    assert label(dataset, out, "--boxes=detect", model=detector) == 0
    assert counts_of(out)["masks_of_unknown_category"] == len(rows_of(out)) > 0
    assert "masks of unknown category" in capsys.readouterr().out


def test_a_users_predictor_answers_for_given_boxes(dataset, tmp_path, detector):
    assert label(dataset, tmp_path / "out", model=detector) == 0
    assert len(rows_of(tmp_path / "out")) == 13


def test_a_wrong_answer_is_a_dead_letter_that_names_predictor_and_image(
    dataset, tmp_path, detector
):
    first = np.asarray(Image.open(dataset.parent / "images" / "102.png"))[0, 0, 0]
    text = (tmp_path / "detector.py").read_text().replace("BAD", str(first))
    (tmp_path / "detector.py").write_text(text)
    out = tmp_path / "out"
    assert label(dataset, out, model="detector:broken") == 3
    (letter,) = letters(out)
    assert (letter["image_id"], letter["reason"]) == (102, "predictor_failed")
    assert "'detector:broken', image 0 of 1: neither BoxMasks" in letter["message"]
    assert counts_of(out)["images_out"] == 6


# Bad input.


def first_box(data):
    return next(a for a in data["annotations"] if a["image_id"] == 100)


def image_file(dataset, name="100.png"):
    return dataset.parent / "images" / name


BAD_BOXES = {
    "box_missing": lambda a: a.pop("bbox"),
    "box_malformed": lambda a: a.update(bbox=[1, 2, float("nan"), 4]),
    "box_empty": lambda a: a.update(bbox=[1, 2, 0, 4]),
    "box_outside": lambda a: a.update(bbox=[40, 2, 5, 4]),
    "category_unknown": lambda a: a.update(category_id=77),
    "crowd_malformed": lambda a: a.update(iscrowd="yes"),
    "image_unknown": lambda a: a.update(image_id=9999),
    "id_duplicate": lambda a: a.update(id=9990),
}


@pytest.mark.parametrize("reason", BAD_BOXES)
def test_a_bad_box_is_a_dead_letter_and_nothing_else_is_lost(dataset, tmp_path, reason):
    edit(dataset, lambda data: BAD_BOXES[reason](first_box(data)))
    out = tmp_path / "out"
    assert label(dataset, out) == 0
    (letter,) = letters(out)
    assert letter["reason"] == reason
    assert letter["job"] == "label"
    assert letter["annotation_id"] is not None
    counts = counts_of(out)
    assert counts["masks_out"] == len(rows_of(out)) == 12
    assert counts["annotations_failed"] == 1
    assert counts["images_failed"] == 0


def test_a_box_beyond_the_border_is_cut_and_counted_or_refused(dataset, tmp_path):
    edit(dataset, lambda data: first_box(data).update(bbox=[20, 10, 50, 50]))
    assert label(dataset, tmp_path / "cut", model="box") == 0
    assert counts_of(tmp_path / "cut")["boxes_clipped"] == 1
    assert label(dataset, tmp_path / "drop", "--out_of_bounds=drop") == 0
    assert [x["reason"] for x in letters(tmp_path / "drop")] == ["box_out_of_bounds"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def corrupt(path):
    data = bytearray(path.read_bytes())
    middle = data.index(b"IDAT") + 40
    data[middle : middle + 8] = b"\0" * 8
    path.write_bytes(data)


BAD_IMAGES = {
    "image_missing": lambda path: path.unlink(),
    "image_truncated": truncate,
    "image_damaged": corrupt,
    "image_unsupported": lambda path: path.write_bytes(b"no picture"),
    "size_differs": lambda path: Image.new("RGB", (WIDTH, HEIGHT + 1)).save(path),
    "image_too_large": lambda path: Image.new("RGB", (3000, 400)).save(path),
}


@pytest.mark.parametrize("reason", BAD_IMAGES)
def test_a_bad_image_is_a_dead_letter_and_nothing_else_is_lost(
    dataset, tmp_path, reason, capsys
):
    BAD_IMAGES[reason](image_file(dataset))
    out = tmp_path / "out"
    assert label(dataset, out, "--max_pixels=1000000") == 3  # one in seven
    assert "14.3% of the images failed" in capsys.readouterr().out
    (letter,) = letters(out)
    assert (letter["reason"], letter["image_id"]) == (reason, 100)
    counts = counts_of(out)
    assert (counts["images_in"], counts["images_failed"]) == (7, 1)
    assert counts["annotations_of_failed_images"] == 2
    assert counts["masks_out"] == len(rows_of(out)) == 11
    again = tmp_path / "again"
    more = ["--max_pixels=1000000", "--max_failed_fraction=0.2"]
    assert label(dataset, again, *more) == 0


def test_odd_but_usable_images_are_labelled_and_counted(dataset, tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    deep = grey.astype(np.uint16) * 256
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(grey).save(image_file(dataset, "100.png"))
    Image.fromarray(deep).save(image_file(dataset, "101.png"))
    Image.new("CMYK", (WIDTH, HEIGHT)).save(image_file(dataset, "102.png"), "JPEG")
    Image.new("RGB", (WIDTH, HEIGHT)).save(
        image_file(dataset, "103.png"), "JPEG", exif=turned
    )
    out = tmp_path / "out"
    assert label(dataset, out, model="grabcut") == 0
    counts = counts_of(out)
    assert counts["images_out"] == 7
    assert counts["masks_out"] == 13
    odd = ("images_greyscale", "images_16_bit", "images_cmyk", "images_turned")
    assert [counts[name] for name in odd] == [2, 1, 1, 1]


def test_all_problems_are_told_at_once(dataset, tmp_path, capsys):
    more = ["--unit_images=0", "--min_score=2", "--boxes=detect", "--write_annotations"]
    status = infer.main(
        [
            f"--annotations={dataset}",
            f"--images={tmp_path / 'nowhere'}",
            f"--out={dataset}",
            "--model=grabcut",
            *more,
        ]
    )
    assert status == 2
    text = capsys.readouterr().err
    for part in (
        "problems:",
        "--unit_images must be positive, got 0",
        "--min_score must be in 0..1, got 2",
        "--write_annotations: detections belong to no annotation",
        "nowhere: no such directory of images",
        "'grabcut' has no detector",
        "cannot be the output directory",
    ):
        assert part in text
    assert "Traceback" not in text


WRONG_FILES = {
    "no JSON": ("{", "not valid JSON"),
    "a list": ("[]", "holds a list, not a JSON object"),
    "no images": ('{"images": []}', "the list of images is empty"),
    "no annotations": ('{"images": [{"id": 1}]}', "no list of annotations"),
    "strangers": (
        '{"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 2}],'
        ' "categories": [{"id": 1, "name": "cat"}]}',
        "no annotation has the image_id of an image",
    ),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_an_annotation_file_that_cannot_be_used_is_one_line(
    dataset, tmp_path, capsys, case
):
    text, message = WRONG_FILES[case]
    dataset.write_text(text)
    assert label(dataset, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_reasons_are_counted_at_the_end(dataset, tmp_path, capsys):
    def spoil(data):
        for annotation in data["annotations"][:5]:
            annotation["bbox"] = [0, 0, 0, 0]

    edit(dataset, spoil)
    assert label(dataset, tmp_path / "out") == 0
    assert "box_empty" in capsys.readouterr().out
    reasons = collections.Counter(x["reason"] for x in letters(tmp_path / "out"))
    assert reasons == {"box_empty": 5}


@pytest.mark.parametrize(
    ("num_images", "length"), [(1, 4), (20, 4), (3200, 100), (10**6, 256)]
)
def test_units_are_neither_tiny_nor_few(num_images, length):
    assert unit_length(num_images) == length
