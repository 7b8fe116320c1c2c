"""Labelling images with predictors made up for the occasion."""

import io

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

from deepmac import label
from deepmac.instances import BoxMasks, Example, Instance
from deepmac.label import Settings, label_images
from deepmac.masks import decode_rle
from deepmac.predictors import open_predictor
from deepmac.predictors.checked import CheckedPredictor


def png(height=20, width=30, level=100):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (level, 50, 50)).save(file, "PNG")
    return file.getvalue()


def example(image_id=1, boxes=((4, 5, 12, 15),), level=100, **changes):
    """Boxes as corners: ymin, xmin, ymax, xmax."""
    instances = tuple(
        Instance(box=box, category_id=3, annotation_id=10 * image_id + i)
        for i, box in enumerate(boxes)
    )
    fields = {
        "image_id": image_id,
        "file_name": "a.png",
        "height": 20,
        "width": 30,
        "instances": instances,
        "encoded": png(level=level),
    }
    return Example(**(fields | changes))


def run(examples, predictor=None, **changes):
    predictor = predictor or open_predictor("box")
    return list(label_images(examples, predictor, Settings(**changes)))


def mask_of(row):
    rle = row["segmentation"]
    return decode_rle({"size": rle["size"], "counts": rle["counts"].encode()})


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
    (done,) = run([example(boxes=[(4, 5, 12, 15)])])
    (row,) = done.rows
    expected = np.zeros((20, 30), bool)
    expected[4:12, 5:15] = True
    np.testing.assert_array_equal(mask_of(row), expected)
    assert row.pop("segmentation")["size"] == [20, 30]
    assert row == {
        "image_id": 1,
        "annotation_id": 10,
        "category_id": 3,
        "score": 1.0,
        "box_xywh": [5, 4, 10, 8],
    }
    assert done.failure is None


def test_the_score_is_the_predictors_and_the_mask_is_pasted_at_the_given_box():
    (done,) = run([example(boxes=[(0, 0, 20, 30)])], checked(Recorder()))
    assert done.rows[0]["score"] == 0.75
    assert mask_of(done.rows[0]).all()


def test_a_box_between_pixels_gives_an_empty_mask_that_is_counted():
    boxes = [(4, 5, 12, 15), (4.1, 5, 4.2, 15)]
    (done,) = run([example(boxes=boxes)], checked(Recorder()))
    assert [mask_of(row).any() for row in done.rows] == [True, False]
    assert done.num_empty == 1


def test_one_image_that_breaks_the_predictor_costs_only_itself():
    recorder = Recorder()
    examples = [example(i, level=13 if i == 2 else 100) for i in range(1, 6)]
    done = run(examples, checked(recorder), micro_batch=4)
    assert [len(d.rows) for d in done] == [1, 0, 1, 1, 1]
    failure = done[1].failure
    assert failure is not None
    assert (failure.image_id, failure.annotation_id) == (2, None)
    assert (failure.stage, failure.reason) == ("predict", "predictor_failed")
    assert (failure.exception, failure.message) == ("ValueError", "unlucky picture")
    assert recorder.calls == [4, 1, 1, 1, 1, 1]


def out_of_memory(kind, bases=(RuntimeError,), text="OOM when allocating"):
    return type(kind, bases, {})(text)


def chained():
    error = RuntimeError("while calling layer 3")
    error.__cause__ = out_of_memory("ResourceExhaustedError")
    return error


WANTS_OF_MEMORY = {
    "Python": MemoryError("for an array"),
    "NumPy": out_of_memory("_ArrayMemoryError", (MemoryError,)),
    "TensorFlow": out_of_memory("ResourceExhaustedError"),
    "PyTorch": out_of_memory("OutOfMemoryError"),
    "JAX": out_of_memory("XlaRuntimeError", text="RESOURCE_EXHAUSTED: Out of memory"),
    "inside another": chained(),
}


@pytest.mark.parametrize("kind", WANTS_OF_MEMORY)
def test_want_of_memory_fails_no_image(kind):
    def predict(images, boxes):
        raise WANTS_OF_MEMORY[kind]

    with pytest.raises(MemoryError):
        run([example(1), example(2)], checked(predict))


def test_a_batch_that_memory_does_not_suffice_for_is_done_image_by_image():
    recorder = Recorder()

    def predict(images, boxes):
        if len(images) > 1:
            raise MemoryError
        return recorder(images, boxes)

    done = run([example(1), example(2)], checked(predict))
    assert [len(d.rows) for d in done] == [1, 1]
    assert recorder.calls == [1, 1]


def test_an_image_whose_masks_cannot_be_pasted_costs_only_itself(monkeypatch):
    paste, calls = label.paste_rles, []

    def fails_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise ValueError("late")
        return paste(*args, **kwargs)

    monkeypatch.setattr(label, "paste_rles", fails_once)
    done = run([example(i) for i in range(1, 6)], checked(Recorder()), micro_batch=2)
    assert [len(d.rows) for d in done] == [1, 1, 0, 1, 1]
    assert [d.failure and d.failure.message for d in done if d.failure] == ["late"]


def test_want_of_memory_while_pasting_stops_the_job(monkeypatch):
    def fails(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(label, "paste_rles", fails)
    with pytest.raises(MemoryError):
        run([example(1), example(2)], checked(Recorder()))


def test_images_are_prepared_before_their_turn_and_a_failure_costs_only_itself():
    class Preparing(Recorder):
        prepared = 0

        def prepare(self, image):
            self.prepared += 1
            if image[0, 0, 0] == 14:
                raise ValueError("odd size")
            return image[::-1]

        def __call__(self, images, boxes):
            assert all(image.strides[0] < 0 for image in images)
            return super().__call__(images, boxes)

    predictor = Preparing()
    examples = [example(1), example(2, level=14), example(3)]
    done = run(examples, checked(predictor))
    assert predictor.prepared == 3
    assert [len(d.rows) for d in done] == [1, 0, 1]
    assert done[1].failure
    assert (done[1].failure.stage, done[1].failure.message) == ("predict", "odd size")


def test_a_set_is_read_no_further_than_three_batches_ahead():
    taken = []

    def examples():
        for i in range(100):
            taken.append(i)
            yield example(i)

    results = label_images(examples(), checked(Recorder()), Settings(micro_batch=2))
    next(results)
    assert len(taken) <= 2 * 3
    results.close()
    assert len(taken) <= 2 * 3


def test_an_image_without_boxes_does_not_reach_the_predictor():
    recorder = Recorder()
    done = run([example(1, boxes=[]), example(2)], checked(recorder))
    assert [d.rows != [] for d in done] == [False, True]
    assert recorder.calls == [1]


def test_crowds_get_no_mask_and_are_counted():
    crowd = Instance(box=(0, 0, 9, 9), category_id=3, annotation_id=1, is_crowd=True)
    one = Instance(box=(0, 0, 9, 9), category_id=3, annotation_id=2)
    (done,) = run([example(instances=(crowd, one, crowd))])
    assert [row["annotation_id"] for row in done.rows] == [2]
    assert (done.num_boxes, done.num_crowds) == (3, 2)


BAD_IMAGES = {
    "image_missing": {"encoded": None},
    "image_damaged": {"encoded": b"\xff\xd8 not much of a picture"},
    "size_differs": {"height": 30, "width": 20},
    "image_too_large": {"encoded": png(3000, 40), "height": 3000, "width": 40},
}


@pytest.mark.parametrize("reason", BAD_IMAGES)
def test_a_bad_image_is_a_failure_and_the_rest_goes_on(reason):
    bad, good = run([example(7, **BAD_IMAGES[reason]), example(8)], max_pixels=100_000)
    failure = bad.failure
    assert failure is not None
    assert (failure.reason, failure.image_id, failure.stage) == (reason, 7, "image")
    assert (bad.rows, bad.num_boxes) == ([], 1)
    assert len(good.rows) == 1


# Detections.

FOUND = BoxMasks(
    np.array([[2, 1, 8, 9]] * 4, np.float32),
    np.ones((4, 2, 2), np.float32),
    np.array([0.25, 0.75, 0.5, 0.875], np.float32),
    np.array([1, 2, 1, 99], np.int32),
)


def test_detections_come_best_first_with_the_detected_box_and_no_annotation():
    (done,) = run([example()], checked(Recorder(FOUND)), detect=True)
    assert [row["score"] for row in done.rows] == [0.875, 0.75, 0.5, 0.25]
    assert [row["category_id"] for row in done.rows] == [99, 2, 1, 1]
    assert done.rows[0]["box_xywh"] == [1, 2, 8, 6]
    assert "annotation_id" not in done.rows[0]


def test_detections_are_limited_by_score_and_number():
    limits = {"detect": True, "min_score": 0.5, "max_detections": 2}
    (done,) = run([example(boxes=[])], checked(Recorder(FOUND)), **limits)
    assert [row["score"] for row in done.rows] == [0.875, 0.75]
    (none,) = run([example()], checked(Recorder(FOUND)), detect=True, min_score=0.9)
    assert none.rows == []


# Laws.


@settings(deadline=None, max_examples=25)
@given(
    numbers=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    micro_batch=st.integers(1, 5),
)
def test_every_image_is_accounted_for_and_no_batch_changes_a_row(numbers, micro_batch):
    rng = np.random.default_rng(sum(numbers))
    examples = [
        example(
            i,
            boxes=[(*low, *(low + 5)) for low in rng.random((number, 2)) * 10],
            level=13 if number == 3 else 100,
        )
        for i, number in enumerate(numbers)
    ]
    done = run(examples, checked(Recorder()), micro_batch=micro_batch)
    alone = [run([e], checked(Recorder()))[0] for e in examples]
    assert done == alone
    for d, number in zip(done, numbers, strict=True):
        assert d.num_boxes == number
        assert len(d.rows) == (0 if number == 3 else number)
        assert (d.failure is not None) == (number == 3)


def test_full_size_masks_are_asked_for_in_bearable_portions(monkeypatch):
    monkeypatch.setattr(label, "_IN_FRAME_BYTES", 20 * 30 * 2)
    sizes = []
    boxes = [(i, i, i + 6, i + 6) for i in range(5)]
    plain = open_predictor("ellipse")

    class Counting:
        in_image_frame = True

        def __call__(self, images, boxes):
            sizes.append(len(boxes[0]))
            return plain(images, boxes)

    (done,) = run([example(boxes=boxes)], checked(Counting()))
    assert sizes == [2, 2, 1]
    monkeypatch.undo()
    assert done.rows == run([example(boxes=boxes)], plain)[0].rows
