"""Comparing precisions, and settling on one, with predictors made up for the occasion."""

import io

import numpy as np
import pytest
from PIL import Image

from deepmac.instances import BoxMasks, Example, Instance
from deepmac.precision import compare
from deepmac.predictors.checked import CheckedPredictor
from pipelines import label_precision
from pipelines.label_precision import NUM_IMAGES, settle, settled_before

BOX = (10.0, 10.0, 30.0, 50.0)
IMAGE = np.zeros((40, 60, 3), np.uint8)


class Left:
    """Masks of the left part of a box; detects `found`."""

    def __init__(self, part=1.0, score=0.9, found=(BOX,), precision="float32"):
        self.part, self.score, self.found = part, score, np.array(found, np.float32)
        self.precision = precision
        self.num_images = 0

    def __call__(self, images, boxes):
        self.num_images += len(images)
        boxes = [self.found] * len(images) if boxes is None else boxes
        return [self._of(np.asarray(b, np.float32).reshape(-1, 4)) for b in boxes]

    def _of(self, boxes):
        probs = np.zeros((len(boxes), 21, 21), np.float32)
        probs[:, :, : round(21 * self.part)] = 1
        scores = np.full(len(boxes), self.score, np.float32)
        return BoxMasks(boxes, probs, scores, np.ones(len(boxes), np.int32))


def test_equal_masks_have_an_iou_of_1():
    result = compare(Left(), Left(), [IMAGE], [np.array([BOX, BOX])])
    assert (result.num_images, result.num_masks, result.num_empty) == (1, 2, 0)
    assert (result.mean_iou, result.lowest_iou) == (1.0, 1.0)
    assert result.mean_score_difference == 0
    assert result.is_same_enough


def test_masks_that_are_empty_in_both_are_counted_and_prove_nothing():
    result = compare(Left(0.0), Left(0.0), [IMAGE], [np.array([BOX, BOX])])
    assert (result.num_masks, result.num_empty) == (2, 2)
    assert not result.is_same_enough
    result = compare(Left(0.0), Left(1.0), [IMAGE], [np.array([BOX])])
    assert (result.num_empty, result.mean_iou) == (0, 0.0)


def test_the_iou_is_that_of_the_pixels():
    result = compare(Left(1.0), Left(11 / 21), [IMAGE], [np.array([BOX])])
    # columns 10..50 of the image (the corner samples lie on the edges), and 10..30
    assert result.mean_iou == pytest.approx(0.5, abs=0.03)
    assert not result.is_same_enough


def test_score_differences_have_no_sign():
    result = compare(Left(score=0.5), Left(score=0.7), [IMAGE], [np.array([BOX])])
    assert result.mean_score_difference == pytest.approx(0.2)
    assert result.largest_score_difference == pytest.approx(0.2)


def test_without_boxes_there_is_nothing_to_compare():
    result = compare(Left(), Left(), [IMAGE], [np.zeros((0, 4))])
    assert result.num_masks == 0
    assert not result.is_same_enough
    assert result.as_json()["mean_iou"] is None
    assert result.in_words() == "no mask to compare in 1 images"


@pytest.mark.parametrize(
    ("again", "kept"),
    [
        ([BOX], 1.0),
        ([(10, 10, 30, 44)], 1.0),
        ([(10, 40, 30, 60)], 0.0),
        (np.zeros((0, 4)), 0.0),
    ],
)
def test_detections_must_be_found_again(again, kept):
    result = compare(Left(), Left(found=again), [IMAGE], None)
    assert result.detections_kept == kept
    assert result.is_same_enough == (kept == 1.0)


def test_detections_in_the_padding_are_not_asked_for():
    """Their boxes end where they begin; as given boxes they would be refused."""
    flat = (57.0, 30.0, 59.0, 30.0)
    result = compare(
        Strict(found=[BOX, flat]), Strict(found=[BOX, flat]), [IMAGE], None
    )
    assert (result.num_masks, result.num_failed) == (1, 0)
    assert result.detections_kept == 1.0


class Strict(Left):
    """Refuses boxes without an area, as predictors do."""

    def __call__(self, images, boxes):
        for of_image in boxes or []:
            if not (of_image[:, 2:] > of_image[:, :2]).all():
                raise ValueError("a box without an area")
        return super().__call__(images, boxes)


def test_an_image_that_a_predictor_fails_on_is_counted_and_says_nothing():
    boxes = [np.array([BOX]), np.array([(5.0, 5.0, 5.0, 9.0)])]
    result = compare(Strict(), Strict(), [IMAGE, IMAGE], boxes)
    assert (result.num_masks, result.num_failed) == (1, 1)
    assert "1 images failed" in result.in_words()


def test_want_of_memory_stops_the_comparison():
    def full(images, boxes):
        raise MemoryError

    with pytest.raises(MemoryError):
        compare(full, full, [IMAGE], [np.array([BOX])])


def examples(count=30):
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, "PNG")
    for i in range(count):
        boxes = (Instance(box=BOX, category_id=1),) if i != 1 else ()
        encoded = b"no image" if i == 2 else file.getvalue()
        yield Example(
            image_id=i, file_name="a", height=40, width=60, instances=boxes, encoded=encoded
        )  # fmt: skip


def settled(
    request, fast_part=1.0, units=None, monkeypatch=None, first=examples, **predictor
):
    opened = {}

    def open_predictor(precision):
        part = fast_part if precision == "bfloat16" else 1.0
        opened[precision] = Left(part, **({"precision": precision} | predictor))
        return CheckedPredictor("left", opened[precision])

    monkeypatch.setattr(label_precision, "bfloat16_units", lambda environment: units)
    result = settle(
        request,
        open_predictor,
        first,
        detect=False,
        mask_threshold=0.5,
        max_pixels=10_000,
        environment={},
    )
    return result, opened


def test_float32_needs_no_proof(monkeypatch):
    result, opened = settled("float32", units="amx", monkeypatch=monkeypatch)
    assert (result["precision"], result["comparison"], opened) == ("float32", None, {})


def test_where_no_image_can_be_compared_bfloat16_is_a_risk_and_auto_takes_none(
    monkeypatch,
):
    def nothing():
        return iter(())

    result, _ = settled("bfloat16", monkeypatch=monkeypatch, first=nothing)
    assert "what bfloat16 does to the masks is not known" in result["summary"]
    result, _ = settled("auto", units="amx", monkeypatch=monkeypatch, first=nothing)
    assert result["precision"] == "float32"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"plan": {"context": {"precision": {"precision": "bfloat16"}}}}', "bfloat16"),
        ('{"plan": {"context": {"precision": {"precision": ["x"]}}}}', "float32"),
        ('{"plan": {"context": {"precision": {"precision": "float16"}}}}', "float32"),
        ('{"plan": []}', "float32"),
        ("no JSON", "float32"),
    ],
)
def test_what_an_earlier_run_settled_on(tmp_path, text, expected):
    assert settled_before(str(tmp_path)) == "float32"
    (tmp_path / "job.json").write_text(text)
    assert settled_before(str(tmp_path)) == expected


def test_auto_is_float32_without_matrix_units(monkeypatch):
    result, opened = settled("auto", monkeypatch=monkeypatch)
    assert result["precision"] == "float32"
    assert "no matrix units" in result["because"]
    assert set(opened) == {"float32"}


@pytest.mark.parametrize(("part", "expected"), [(1.0, "bfloat16"), (0.9, "float32")])
def test_auto_takes_bfloat16_where_the_masks_stay_the_same(part, expected, monkeypatch):
    result, opened = settled("auto", part, "amx", monkeypatch)
    assert result["precision"] == expected
    assert result["comparison"]["num_masks"] == NUM_IMAGES  # one box each
    assert opened["float32"].num_images == NUM_IMAGES
    assert f"precision: {expected}" in result["summary"]
    assert "mean mask IoU" in result["summary"]


def test_bfloat16_is_used_where_it_is_asked_for_but_not_without_a_word(monkeypatch):
    result, _ = settled("bfloat16", 0.9, monkeypatch=monkeypatch)
    assert result["precision"] == "bfloat16"
    assert "warning" in result["summary"]
    result, _ = settled("bfloat16", 1.0, monkeypatch=monkeypatch)
    assert "warning" not in result["summary"]


def test_predictors_that_have_no_choice_stay_as_they_are(monkeypatch):
    result, _ = settled("auto", units="amx", precision=None, monkeypatch=monkeypatch)
    assert result["precision"] == "float32"
    assert result["comparison"] is None
