"""What is said of images and boxes that cannot be used; how boxes are put into batches."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from deepmac.errors import DataError
from deepmac.predictors.inputs import check_boxes, check_image
from deepmac.predictors.pool import BATCH_SIZES, MaskPool, chunks


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[0]], r"image 3: must be a NumPy array, got list"),
        (np.zeros((4, 5), np.uint8), r"must be RGB, .* got an array of \(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), r"must be RGB"),
        (np.zeros((0, 5, 3), np.uint8), r"got an array of \(0, 5, 3\)"),
        (np.zeros((4, 5, 3)), r"must be uint8, 0 to 255, got float64"),
    ],
)
def test_an_image_that_cannot_be_used(image, message):
    with pytest.raises(DataError, match=message):
        check_image(image, "image 3")


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3]], r"boxes: must be \[N, 4\], got an array of \(1, 3\)"),
        ([1, 2, 3, 4], r"must be \[N, 4\]"),
        ([["a", 2, 3, 4]], r"must be numbers"),
        (
            [[1, 2, 3, 4], [1, 2, np.nan, 4]],
            r"boxes\[1\] = \(1, 2, nan, 4\): .* finite",
        ),
        ([[0, 0, 9, 9], [5, 2, 5, 8]], r"boxes\[1\] = \(5, 2, 5, 8\): ymax must be"),
        ([[2, 8, 5, 2]], r"boxes\[0\] = \(2, 8, 5, 2\): xmax must be"),
        ([[10, 0, 12, 5]], r"outside the image of 10 x 20 pixels \(height x width\)"),
        ([[-5, 0, 0, 5]], r"outside the image"),
    ],
)
def test_a_box_that_cannot_be_used(boxes, message):
    with pytest.raises(DataError, match=message):
        check_boxes(boxes, 10, 20)


def test_a_box_may_overhang_the_image():
    boxes = [[-3, -4, 5, 6], [9.5, 19.5, 30, 40]]
    np.testing.assert_array_equal(check_boxes(boxes, 10, 20), boxes)


def test_no_boxes_are_no_mistake():
    assert check_boxes([], 10, 20).shape == (0, 4)


@given(st.integers(0, 1000))
def test_batches_hold_every_box_once_and_waste_less_than_a_small_batch(count):
    parts = list(chunks(count))
    assert [i for start, stop, _ in parts for i in range(start, stop)] == [
        *range(count)
    ]
    assert all(
        size in BATCH_SIZES and stop - start <= size for start, stop, size in parts
    )
    assert sum(size for _, _, size in parts) - count < BATCH_SIZES[0]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 100)), max_size=8))
def test_the_pool_gives_each_image_its_own_masks_in_order(puts):
    shapes = set()

    def mask(rois, instance):
        shapes.add(rois.shape)
        return rois[..., 0] + instance[:, None, :1]

    pool = MaskPool(mask, mask_size=2)
    expected: dict[int, list[float]] = {}
    serial = 0
    for image, count in puts:
        values = np.arange(serial, serial + count, dtype=np.float32)
        serial += count
        rois = np.broadcast_to(values[:, None, None, None], (count, 2, 2, 3))
        pool.put(image, rois, np.full((count, 4), 0.5, np.float32))
        expected.setdefault(image, []).extend(values + 0.5)
    masks = pool.finish()
    assert masks.keys() == expected.keys()
    for image, values in expected.items():
        assert masks[image].shape == (len(values), 2, 2)
        np.testing.assert_array_equal(masks[image][:, 1, 0], values)
    assert shapes <= {(size, 2, 2, 3) for size in BATCH_SIZES}
