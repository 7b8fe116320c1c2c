"""`label --review` on a finished job, from files and from records."""

import gzip
import json
import re

import orjson
import pytest
from own_modules import importable
from small_dataset import SmallDataset

from pipelines import build_dataset, infer

DETECTOR = """
import numpy as np
from deepmac import BoxMasks

def make():
    def predict(images, boxes):
        found = np.array([[1, 2, 9, 12], [3, 3, 20, 30]], np.float32)
        return [
            BoxMasks(
                found,
                np.ones((2, 4, 4), np.float32),
                np.array([0.5, 0.75], np.float32),
                np.array([1, 18], np.int32),
            )
            for image in images
        ]
    predict.can_detect = True
    return predict
"""


@pytest.fixture
def dataset(tmp_path) -> SmallDataset:
    """12 images with 24 boxes, 6 of them crowds: 18 masks."""
    return SmallDataset(tmp_path / "data").write()


def label(dataset, out, *more, model="ellipse") -> int:
    return infer.main([*dataset.flags, f"--out={out}", f"--model={model}", *more])


def rows_of(out) -> list[dict]:
    return [
        orjson.loads(line)
        for path in sorted(out.glob("predictions-*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]


def read(out) -> str:
    return (out / "review.html").read_bytes().decode()  # valid UTF-8


def ids_in(page: str) -> list[dict]:
    found = re.findall(r'data-ids="([^"]*)"', page)
    return [json.loads(text.replace("&quot;", '"')) for text in found]


def test_a_finished_job_gets_its_page_from_the_same_command(dataset, tmp_path, capsys):
    def contents():
        files = [p for p in out.rglob("*") if p.is_file() and p.name != "run.json"]
        return {p.name: p.read_bytes() for p in files}

    out = tmp_path / "out"
    assert label(dataset, out, "--unit_images=5") == 0
    before = contents()
    assert label(dataset, out, "--unit_images=5", "--review") == 0
    assert "review.html: the 1 lowest-scored of 18 masks" in capsys.readouterr().out
    after = contents()
    page = after.pop("review.html").decode()
    assert after == before
    # So few that the sample has them all.
    asked = {row["annotation_id"] for row in rows_of(out)}
    assert {i["annotation_id"] for i in ids_in(page)} == asked
    other = tmp_path / "other"
    assert label(dataset, other, "--unit_images=7", "--review") == 0
    assert read(other) == page


def test_records_give_the_same_page(dataset, tmp_path):
    records, out, again = tmp_path / "records", tmp_path / "out", tmp_path / "again"
    build = [*dataset.flags, f"--out={records}", "--split=all", "--num_shards=3"]
    assert build_dataset.main(build) == 0
    assert label(dataset, out, "--review") == 0
    given = [f"--records={records}", f"--out={again}", "--model=ellipse", "--review"]
    assert infer.main(given) == 0
    assert read(again) == read(out)


def test_detections_are_named_by_their_place(dataset, tmp_path):
    (tmp_path / "detects.py").write_text(DETECTOR)
    out = tmp_path / "out"
    with importable(tmp_path):
        assert (
            label(dataset, out, "--boxes=detect", "--review", model="detects:make") == 0
        )
    ids = ids_in(read(out))
    assert len(ids) == len(rows_of(out)) == 24
    # The lowest scores first: the second-best of each image.
    assert [i["rank"] for i in ids] == [2] * 12 + [1] * 12
    assert all(set(i) == {"image_id", "rank"} for i in ids)


def test_images_that_have_gone_are_counted_and_named(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    assert label(dataset, out) == 0
    images = dataset.folder / "images"
    (images / "größe 0.jpeg").unlink()
    (images / "größe 2.png").write_bytes(b"\x89PNG")
    assert label(dataset, out, "--review") == 0
    assert "4 chosen could not be shown" in capsys.readouterr().out
    page = read(out)
    assert "Not shown: 4 chosen masks of 2 images" in page
    assert "<li>image 100 (2): größe 0.jpeg: no such file</li>" in page
    assert {i["image_id"] for i in ids_in(page)}.isdisjoint({100, 102})


def test_names_may_be_no_unicode_or_html(tmp_path):
    dataset = SmallDataset(tmp_path / "data")
    dataset.categories[2] = {"id": 90, "name": "<script>ü"}
    entry = dataset.images[0]
    dataset.files["\udcff<b>.jpeg"] = dataset.files.pop(entry["file_name"])
    entry["file_name"] = "\udcff<b>.jpeg"
    out = tmp_path / "out"
    assert label(dataset.write(), out, "--review") == 0
    page = read(out)
    assert page.count("<script>") == 1
    assert "&lt;script&gt;ü" in page
    assert "\\xff&lt;b&gt;.jpeg" in page


def test_a_job_without_masks_has_a_page(tmp_path):
    dataset = SmallDataset(tmp_path / "data")
    dataset.annotations.clear()
    assert label(dataset.write(), tmp_path / "out", "--review") == 0
    assert "There are no masks." in read(tmp_path / "out")


@pytest.mark.parametrize("value", ["0", "-3"])
def test_the_limit_must_be_positive(dataset, tmp_path, capsys, value):
    assert label(dataset, tmp_path / "out", f"--review_max={value}") == 2
    assert f"--review_max must be positive, got {value}" in capsys.readouterr().err
