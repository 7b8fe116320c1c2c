"""Labelling images with predictors made up for the occasion."""

import io

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from deepmac import label
from deepmac.instances import BoxMasks
from deepmac.label import BoxRequest, ImageRequest, Settings, Unusable, label_images
from deepmac.masks import decode_rle
from deepmac.predictors import open_predictor
from deepmac.predictors.checked import CheckedPredictor


def png(height=20, width=30, level=100):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (level, 50, 50)).save(file, "PNG")
    return file.getvalue()


def request(image_id=1, boxes=((5, 4, 10, 8),), level=100, **changes):
    asked = tuple(
        BoxRequest(annotation_id=10 * image_id + i, category_id=3, bbox_xywh=box)
        for i, box in enumerate(boxes)
    )
    fields = {"height": 20, "width": 30, "boxes": asked}
    encoded = changes.pop("encoded", png(level=level))
    fields |= {"image_id": image_id, "read": lambda: encoded}
    return ImageRequest(**(fields | changes))


def run(requests, predictor=None, **changes):
    predictor = predictor or open_predictor("box")
    return list(label_images(requests, predictor, Settings(**changes)))


class Recorder:
    """A predictor that says yes everywhere, fails on images of level 13, and takes notes."""

    def __init__(self, detections=None):
        self.calls = []
        self.detections = detections

    def __call__(self, images, boxes):
        self.calls.append(len(images))
        if any(image[0, 0, 0] == 13 for image in images):
            raise ValueError("unlucky\npicture")
        if boxes is None:
            return [self.detections] * len(images)
        return [
            BoxMasks(
                b.astype(np.float32),
                np.ones((len(b), 2, 2), np.float32),
                np.full(len(b), 0.75, np.float32),
                np.full(len(b), -1, np.int32),
            )
            for b in boxes
        ]


def checked(predict):
    return CheckedPredictor("test:predictor", predict)


def test_a_row_is_a_coco_result_that_joins_its_box():
    (done,) = run([request(boxes=[(5, 4, 10, 8)])])
    (row,) = done.rows
    counts = row["segmentation"].pop("counts")
    assert row == {
        "image_id": 1,
        "annotation_id": 10,
        "category_id": 3,
        "score": 1.0,
        "segmentation": {"size": [20, 30]},
        "box_xywh": [5, 4, 10, 8],
    }
    expected = np.zeros((20, 30), bool)
    expected[4:12, 5:15] = True
    mask = decode_rle({"size": [20, 30], "counts": counts.encode()})
    np.testing.assert_array_equal(mask, expected)
    assert (done.counts["images_out"], done.counts["boxes_out"]) == (1, 1)


def test_the_score_is_the_predictors_and_the_mask_is_pasted_at_the_given_box():
    (done,) = run([request(boxes=[(0, 0, 30, 20)])], checked(Recorder()))
    assert done.rows[0]["score"] == 0.75
    rle = done.rows[0]["segmentation"]
    assert decode_rle({"size": [20, 30], "counts": rle["counts"].encode()}).all()


def test_one_image_that_breaks_the_predictor_costs_only_itself():
    recorder = Recorder()
    requests = [request(i, level=13 if i == 2 else 100) for i in range(1, 6)]
    done = run(requests, checked(recorder), micro_batch=4)
    assert [len(d.rows) for d in done] == [1, 0, 1, 1, 1]
    (failure,) = done[1].failures
    assert (failure.image_id, failure.annotation_id) == (2, None)
    assert (failure.stage, failure.reason) == ("mask", "predictor_failed")
    assert (failure.exception, failure.message) == ("ValueError", "unlucky picture")
    assert done[1].counts["images_failed"] == done[1].counts["boxes_failed"] == 1
    assert recorder.calls == [4, 1, 1, 1, 1, 1]


def test_a_batch_that_fails_late_leaves_no_masks_behind(monkeypatch):
    paste, calls = label.paste_rle, []

    def fails_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise ValueError("late")
        return paste(*args, **kwargs)

    monkeypatch.setattr(label, "paste_rle", fails_once)
    done = run([request(1), request(2), request(3)], checked(Recorder()))
    assert [len(d.rows) for d in done] == [1, 1, 1]
    assert not any(d.failures for d in done)


def test_an_image_without_boxes_does_not_reach_the_predictor():
    recorder = Recorder()
    done = run([request(1, boxes=[]), request(2)], checked(recorder))
    assert [d.rows != [] for d in done] == [False, True]
    assert [d.counts["images_out"] for d in done] == [1, 1]
    assert recorder.calls == [1]


def test_crowd_boxes_get_no_mask_and_are_counted():
    crowd = BoxRequest(
        annotation_id=1, category_id=3, bbox_xywh=[0, 0, 9, 9], is_crowd=True
    )
    (done,) = run([ImageRequest(image_id=1, read=png, boxes=(crowd,))])
    assert done.rows == done.failures == []
    assert (done.counts["boxes_in"], done.counts["boxes_crowd"]) == (1, 1)


BAD_IMAGES = {
    "image_unreadable": {"encoded": b"\xff\xd8 not much of a picture"},
    "image_size_differs": {"height": 30, "width": 20},
    "image_too_large": {"encoded": png(3000, 40), "height": 3000, "width": 40},
}


@pytest.mark.parametrize("reason", BAD_IMAGES)
def test_a_bad_image_is_a_failure_and_the_rest_goes_on(reason):
    bad, good = run([request(7, **BAD_IMAGES[reason]), request(8)], max_pixels=100_000)
    (failure,) = bad.failures
    assert (failure.reason, failure.image_id, failure.stage) == (reason, 7, "read")
    assert bad.rows == []
    assert bad.counts["boxes_failed"] == 1
    assert len(good.rows) == 1


def test_a_size_that_only_viewers_see_is_explained():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "JPEG", exif=exif)
    (done,) = run([request(encoded=file.getvalue(), height=30, width=20)])
    assert "annotated as 30 x 20; its EXIF orientation" in done.failures[0].message


BAD_BOXES = [
    ((5, 5, 0, 4), "box_empty"),
    ((5, 5, -3, 4), "box_empty"),
    ((31, 5, 4, 4), "box_outside"),
    ((-9, 5, 9, 4), "box_outside"),
    ((float("nan"), 5, 4, 4), "box_invalid"),
    ((5, 5, float("inf"), 4), "box_invalid"),
    ((5, 5, 10**400, 4), "box_invalid"),
    ((5, 5, 4), "box_invalid"),
    (("5", 5, 4, 4), "box_invalid"),
    (None, "box_invalid"),
]


@pytest.mark.parametrize(("box", "reason"), BAD_BOXES)
def test_a_bad_box_is_a_failure_and_its_neighbour_is_not(box, reason):
    (done,) = run([request(boxes=[box, (1, 1, 5, 5)])])
    (failure,) = done.failures
    assert (failure.reason, failure.annotation_id) == (reason, 10)
    assert failure.stage == "box"
    assert [row["annotation_id"] for row in done.rows] == [11]
    assert (done.counts["boxes_failed"], done.counts["images_failed"]) == (1, 0)


def test_an_overhanging_box_is_cut_and_counted_or_dropped():
    boxes = [(-3, -2, 10, 10), (1, 1, 5, 5)]
    (cut,) = run([request(boxes=boxes)])
    assert cut.rows[0]["box_xywh"] == [-3, -2, 10, 10]  # as given
    assert (cut.counts["boxes_clipped"], cut.counts["boxes_out"]) == (1, 2)
    (dropped,) = run([request(boxes=boxes)], out_of_bounds="drop")
    assert [f.reason for f in dropped.failures] == ["box_out_of_bounds"]
    assert len(dropped.rows) == 1


def test_a_category_that_does_not_exist_is_a_failure_of_its_box():
    (done,) = run([request()], category_ids={1, 2})
    assert [f.reason for f in done.failures] == ["unknown_category"]
    (done,) = run([request()], category_ids={1, 2, 3})
    assert not done.failures


def test_usable_box_keeps_a_box_that_touches_the_border_exactly():
    box = label.usable_box([0, 0, 30, 20], 20, 30, "drop")
    np.testing.assert_array_equal(box, [0, 0, 20, 30])
    with pytest.raises(Unusable, match="reaches beyond"):
        label.usable_box([0, 0, 30 + 1e-9, 20], 20, 30, "drop")


# Detections.

FOUND = BoxMasks(
    np.array([[2, 1, 8, 9]] * 4, np.float32),
    np.ones((4, 2, 2), np.float32),
    np.array([0.25, 0.75, 0.5, 0.875], np.float32),
    np.array([1, 2, 1, 99], np.int32),
)


def test_detections_come_best_first_with_the_detected_box_and_no_annotation():
    (done,) = run([ImageRequest(image_id=1, read=png)], checked(Recorder(FOUND)))
    assert [row["score"] for row in done.rows] == [0.875, 0.75, 0.5, 0.25]
    assert [row["category_id"] for row in done.rows] == [99, 2, 1, 1]
    assert done.rows[0]["box_xywh"] == [1, 2, 8, 6]
    assert "annotation_id" not in done.rows[0]
    assert done.counts["detections_out"] == 4


def test_detections_are_limited_by_score_number_and_category():
    asked = ImageRequest(image_id=1, read=png)
    limits = {"min_score": 0.5, "max_detections": 1, "category_ids": {1, 2}}
    (done,) = run([asked], checked(Recorder(FOUND)), **limits)
    assert [row["score"] for row in done.rows] == [0.75]
    assert done.counts["detections_unknown_category"] == 1


# Laws.


@settings(deadline=None, max_examples=25)
@given(
    numbers=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    micro_batch=st.integers(1, 5),
)
def test_every_box_and_image_is_accounted_for_whatever_the_batch(numbers, micro_batch):
    rng = np.random.default_rng(sum(numbers))
    requests = [
        request(
            i,
            boxes=[tuple(rng.integers(-8, 34, 4).tolist()) for _ in range(number)],
            level=13 if number == 3 else 100,
        )
        for i, number in enumerate(numbers)
    ]
    done = run(requests, checked(Recorder()), micro_batch=micro_batch)
    alone = [run([r], checked(Recorder()))[0] for r in requests]
    assert [d.rows for d in done] == [a.rows for a in alone]
    assert [d.image_id for d in done] == [r.image_id for r in requests]
    for d, number in zip(done, numbers, strict=True):
        counts = d.counts
        assert counts["boxes_in"] == number
        assert number == counts["boxes_out"] + counts["boxes_failed"]
        assert counts["boxes_out"] == len(d.rows)
        assert counts["images_in"] == counts["images_out"] + counts["images_failed"]


def test_full_size_masks_are_asked_for_in_bearable_portions(monkeypatch):
    monkeypatch.setattr(label, "_IN_FRAME_BYTES", 20 * 30 * 2)
    sizes = []
    boxes = [(i, i, 6, 6) for i in range(5)]
    plain = open_predictor("ellipse")

    class Counting:
        in_image_frame = True

        def __call__(self, images, boxes):
            sizes.append(len(boxes[0]))
            return plain(images, boxes)

    (done,) = run([request(boxes=boxes)], checked(Counting()))
    assert sizes == [2, 2, 1]
    monkeypatch.undo()
    assert done.rows == run([request(boxes=boxes)], plain)[0].rows
