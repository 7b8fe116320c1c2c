"""Directories of predictions: whole ones are read, all others refused."""

import gzip
import json
from pathlib import Path

import pytest

from deepmac.data.manifest import PREDICTIONS
from deepmac.data.predictions import open_predictions, read_unit
from deepmac.errors import DataError

ROW = {"image_id": 1, "category_id": 2, "score": 0.5, "box_xywh": [1, 2, 3, 4]}


@pytest.fixture
def folder(tmp_path) -> Path:
    data = gzip.compress(json.dumps(ROW).encode() + b"\n")
    names = [f"predictions-0000{n}-of-00002.jsonl.gz" for n in range(2)]
    for name in names:
        (tmp_path / name).write_bytes(data)
    counts = {"images_out": 1, "masks_out": 1}
    units = [PREDICTIONS.entry(name, len(data), "", counts) for name in names]
    change_manifest(tmp_path, **PREDICTIONS.head(), units=units, counts={})
    (tmp_path / "job.json").write_text("{}")
    return tmp_path


def change_manifest(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(manifest | changes))


def test_units_come_in_the_order_of_the_manifest(folder):
    names = [Path(unit).name for unit in open_predictions(str(folder)).units]
    assert names == [f"predictions-0000{n}-of-00002.jsonl.gz" for n in range(2)]


def test_rows_as_results_for_masks_and_for_boxes(folder):
    unit = open_predictions(str(folder)).units[0]
    assert read_unit(unit, for_boxes=False) == [ROW]
    assert read_unit(unit, for_boxes=True) == [ROW | {"bbox": [1, 2, 3, 4]}]


def test_a_row_without_a_box_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"box_xywh": [1, 2, 3, 4]}\n{"score": 1}\n')
    with pytest.raises(DataError, match="line 2 has no 'box_xywh'"):
        read_unit(str(path), for_boxes=True)


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        open_predictions(str(folder))


def test_an_unfinished_directory(folder):
    (folder / "manifest.json").unlink()
    refused(folder, "has not finished; the same command goes on")


def test_some_other_directory(tmp_path):
    refused(tmp_path, "no directory of predictions")
    refused(tmp_path / "missing", "no directory of predictions")


def test_another_kind_and_another_schema(folder):
    change_manifest(folder, kind="records")
    refused(folder, r"a directory of records; predictions \(`deepmac label`\)")
    change_manifest(folder, kind="predictions", schema=2)
    refused(folder, "schema 2, this version reads 1")
    (folder / "manifest.json").write_text("[]")
    refused(folder, "no manifest of ours")


def test_a_damaged_manifest(folder):
    units = json.loads((folder / "manifest.json").read_text())["units"]
    del units[1]["bytes"]
    change_manifest(folder, units=units)
    refused(folder, r"damaged, units\[1\] has no 'bytes'; run the same")
    change_manifest(folder, units=None)
    refused(folder, "damaged, units is None, not a list")
    (folder / "manifest.json").write_text('{"kind": "predictions", "schema": 1}')
    refused(folder, "damaged, .* has no 'units'")


def test_a_missing_and_a_shortened_unit(folder):
    unit = folder / "predictions-00001-of-00002.jsonl.gz"
    unit.write_bytes(unit.read_bytes()[:-1])
    refused(folder, r"00001-of-00002.jsonl.gz has \d+ bytes, not")
    unit.unlink()
    refused(folder, "00001-of-00002.jsonl.gz is missing; run the same label command")
