"""`deepmac label` with a SavedModel that is run as it is."""

import gzip
from pathlib import Path

import numpy as np
import orjson
import pytest
import saved_models
import tensorflow as tf
from small_dataset import SmallDataset

from deepmac.cli import main

FOUND = tf.constant([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])


def detected() -> dict[str, tf.Tensor]:
    return {
        "detection_boxes": FOUND,
        "detection_scores": tf.constant([[0.75, 0.5]]),
        "detection_classes": tf.constant([[18.0, 1.0]]),
    }


def filled(input_tensor, boxes):
    """Masks that fill their boxes with a probability of 3/4."""
    count = tf.shape(boxes)[1]
    black = tf.reduce_min(tf.cast(input_tensor, tf.float32)) * 0
    return detected() | {"detection_masks": tf.fill([1, count, 4, 4], 0.75) + black}


def only_detections(input_tensor):
    return filled(input_tensor, FOUND)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    SmallDataset(folder, num_images=5).write()
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    specs = (saved_models.IMAGE, saved_models.BOXES)
    saved_models.save_function(filled, folder / "saved_model", *specs)
    return folder


def label(dataset: Path, out: Path, *more: str) -> int:
    annotations = next(dataset.glob("*.json"))
    inputs = [f"--annotations={annotations}", f"--images={dataset / 'images'}"]
    return main(["label", *inputs, f"--out={out}", *more])


def rows_of(out: Path) -> list[dict]:
    units = sorted(out.glob("predictions-*.jsonl.gz"))
    lines = (gzip.decompress(unit.read_bytes()).splitlines() for unit in units)
    return [orjson.loads(line) for unit in lines for line in unit]


def test_given_boxes_get_masks(dataset, export, tmp_path):
    assert label(dataset, tmp_path / "a", f"--model={export}") == 0
    rows = rows_of(tmp_path / "a")
    assert [row["annotation_id"] for row in rows] == sorted(
        row["annotation_id"] for row in rows
    )
    assert len(rows) == 8  # of ten boxes two are crowds
    assert {row["score"] for row in rows} == {0.75}
    two_words = ["--model=saved_model", f"--checkpoint={export / 'saved_model'}"]
    assert label(dataset, tmp_path / "b", *two_words) == 0
    assert rows_of(tmp_path / "b") == rows


def test_detections(dataset, export, tmp_path):
    assert label(dataset, tmp_path, f"--model={export}", "--boxes=detect") == 0
    rows = rows_of(tmp_path)
    assert [row["category_id"] for row in rows] == [18, 1] * 5
    assert rows[0]["box_xywh"] == [0, 0, 16, 12]  # of 24 x 32 pixels
    assert np.allclose([row["score"] for row in rows], [0.75, 0.5] * 5)


def test_a_graph_without_boxes_is_refused_before_any_work(dataset, tmp_path, capsys):
    export = tmp_path / "export"
    saved_models.save_function(only_detections, export, saved_models.IMAGE)
    assert label(dataset, tmp_path / "a", f"--model={export}") == 2
    expected = f"error: --boxes=given: '{export}' takes no boxes; use --boxes=detect\n"
    assert capsys.readouterr().err == expected
    assert label(dataset, tmp_path / "b", f"--model={export}", "--boxes=detect") == 0
    assert len(rows_of(tmp_path / "b")) == 10


def test_a_job_is_not_continued_with_another_graph(dataset, export, tmp_path, capsys):
    out = tmp_path / "out"
    assert label(dataset, out, f"--model={export / 'saved_model'}") == 0
    other = tmp_path / "saved_model"
    specs = (saved_models.IMAGE, saved_models.BOXES)
    saved_models.save_function(
        lambda image, boxes: {
            "detection_masks": boxes[..., None] * tf.ones([1, 1, 1, 4])
        },
        other,
        *specs,
    )
    assert label(dataset, out, f"--model={other}") == 2
    assert "model_fingerprint" in capsys.readouterr().err
