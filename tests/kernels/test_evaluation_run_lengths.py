"""Run lengths in bulk: the same as one by one, and nothing malformed gets past."""

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.errors import DataError
from deepmac.evaluation.run_lengths import (
    find_bad_rle,
    mask_iou,
    rle_areas,
    tight_boxes,
)
from deepmac.masks import runs_of


def encode(mask: np.ndarray) -> dict:
    return pycocotools.mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def noise(seed: int, height: int, width: int, density: float) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < density


@given(
    shapes=st.lists(
        st.tuples(
            st.integers(0, 99),
            st.integers(1, 40),
            st.integers(1, 300),
            st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_runs_measure_the_pixels(shapes):
    masks = [noise(*shape) for shape in shapes]
    rles = [encode(mask) for mask in masks]
    runs, starts = runs_of([r["counts"] for r in rles])
    for mask, part in zip(masks, np.split(runs, starts[1:]), strict=True):
        values = np.arange(len(part)) % 2  # zeros and ones in turn
        np.testing.assert_array_equal(np.repeat(values, part), mask.ravel(order="F"))
    sizes = np.array([mask.shape for mask in masks])
    assert find_bad_rle([r["counts"] for r in rles], sizes) is None
    np.testing.assert_array_equal(rle_areas(rles), [mask.sum() for mask in masks])


def test_areas_and_boxes_of_more_than_255_masks():
    masks = [noise(n, 9, 7, 0.1) for n in range(600)]
    rles = [encode(mask) for mask in masks]
    np.testing.assert_array_equal(rle_areas(rles), [mask.sum() for mask in masks])
    for mask, box in zip(masks, tight_boxes(rles), strict=True):
        rows, columns = np.nonzero(mask)
        expected = [0, 0, 0, 0]
        if len(rows):
            low, high = (columns.min(), rows.min()), (columns.max(), rows.max())
            expected = [*low, high[0] - low[0] + 1, high[1] - low[1] + 1]
        np.testing.assert_array_equal(box, expected)


def test_no_masks_have_no_areas_and_no_boxes():
    assert rle_areas([]).shape == (0,)
    assert tight_boxes([]).shape == (0, 4)
    assert find_bad_rle([], np.zeros((0, 2))) is None


def test_iou_of_masks_and_of_a_crowd():
    left, both = np.zeros((4, 4)), np.ones((4, 4))
    left[:, :2] = 1
    truth = [encode(both), encode(both)]
    np.testing.assert_array_equal(
        mask_iou([encode(left)], truth, [False, True]), [[0.5, 1.0]]
    )


GOOD = encode(noise(1, 20, 30, 0.5))["counts"]

BAD = {
    "too few pixels": (encode(noise(1, 19, 30, 0.5))["counts"], "add up to 570 pixels"),
    "too many pixels": (encode(noise(1, 21, 30, 0.5))["counts"], "its size is 20 x 30"),
    "cut off": (b"h\x60", "cut off"),
    "foreign character": (b"ab~", "not part of the encoding"),
    "not even text": (b"\xff\x00", "not part of the encoding"),
    "a run without end": (b"o" * 30 + b"0", "more than 30 bits"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("num_before", [0, 1, 3, 5000])
def test_the_first_bad_one_is_found(name, num_before):
    counts, reason = BAD[name]
    everything = [GOOD] * num_before + [counts, GOOD, counts]
    sizes = np.tile([20, 30], (len(everything), 1))
    bad = find_bad_rle(everything, sizes)
    assert bad is not None
    assert bad[0] == num_before
    assert reason in bad[1]


def test_runs_of_negative_length_are_found_although_the_sum_is_right():
    counts = b"O" + b"ib0"  # -1, 601
    runs, _ = runs_of([counts])
    assert runs.tolist() == [-1, 601]
    bad = find_bad_rle([counts], np.array([[20, 30]]))
    assert bad == (0, "RLE counts hold a negative run")


def test_text_that_is_no_rle_is_refused():
    with pytest.raises(DataError, match="cut off"):
        runs_of([b"\x60"])
