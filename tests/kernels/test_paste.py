"""Pasting RoI masks into the image: cases seen by eye, laws, and pycocotools' run lengths."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from deepmac.errors import DataError
from deepmac.masks import decode_rle, encode_rle, rle_runs
from deepmac.paste import mean_foreground, paste_mask, paste_masks, paste_rles


def draw(mask: np.ndarray) -> list[str]:
    return ["".join(map(str, row)) for row in mask.astype(int)]


def slow_paste(probs, box, height, width):
    """The documented rule for each pixel of the image, one by one, in float64."""
    size = probs.shape[0]
    image = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            ends = ((i, height, box[0], box[2]), (j, width, box[1], box[3]))
            y, x = (
                ((k / (n - 1) if n > 1 else 0.5) - low)
                / max(high - low, 1e-4)
                * (size - 1)
                for k, n, low, high in ends
            )
            if not (min(y, x) >= -1e-5 and max(y, x) <= size - 1 + 1e-5):
                continue
            y, x = np.clip([y, x], 0, size - 1)
            up, left = min(int(y), size - 2), min(int(x), size - 2)
            fy, fx = y - up, x - left
            image[i, j] = (
                probs[up, left] * (1 - fy) * (1 - fx)
                + probs[up, left + 1] * (1 - fy) * fx
                + probs[up + 1, left] * fy * (1 - fx)
                + probs[up + 1, left + 1] * fy * fx
            )
    return image


coordinate = st.floats(-0.5, 1.5, width=32)


@st.composite
def cases(pick):
    rng = np.random.default_rng(pick(st.integers(0, 999)))
    height, width = pick(st.integers(1, 40)), pick(st.integers(1, 40))
    size = pick(st.integers(2, 9))
    y, x = (sorted((pick(coordinate), pick(coordinate))) for _ in range(2))
    probs = rng.random((size, size), np.float32)
    return probs, np.array([y[0], x[0], y[1], x[1]]), height, width


def test_a_full_mask_fills_its_box_and_nothing_else():
    box = np.array([0.25, 0.0, 0.75, 0.5])
    pasted = paste_mask(np.ones((4, 4)), box, height=5, width=5) > 0.5
    assert draw(pasted) == ["00000", "11100", "11100", "11100", "00000"]


def test_a_box_that_overhangs_the_image_is_cut_not_squeezed():
    left_half = np.tile([1.0, 1.0, 0.0, 0.0], (4, 1))
    box = np.array([-0.5, 0.5, 0.5, 1.5])
    pasted = paste_mask(left_half, box, height=5, width=5) > 0.5
    assert draw(pasted) == ["00110", "00110", "00110", "00000", "00000"]


def test_a_box_between_the_pixels_gives_an_empty_mask():
    box = np.array([0.3, 0.3, 0.4, 0.4])
    (rle,) = paste_rles(np.ones((1, 4, 4)), box[None], height=5, width=5)
    assert rle_runs(rle["counts"]).tolist() == [25]


def test_a_box_ending_a_rounding_error_before_the_border_keeps_the_last_row():
    probs = np.ones((32, 32), np.float32)
    box = np.array([0.5, 0.0, np.nextafter(np.float32(1), np.float32(0)), 1.0])
    assert paste_mask(probs, box, 9, 9)[8].all()
    assert not paste_mask(probs, box, 9, 9, reference_quirks=True)[8].any()


def test_the_edge_tolerance_is_not_a_border_of_its_own():
    box = np.array([0.0, 0.0, 0.5 - 1e-4, 1.0])
    assert not paste_mask(np.ones((4, 4)), box, 5, 5)[2].any()


def test_an_image_of_one_pixel_takes_the_middle_of_the_box():
    probs = np.array([[0.0, 1.0], [0.0, 1.0]])
    assert paste_mask(probs, np.array([0.0, 0.25, 1.0, 1.25]), 1, 1) == 0.25
    whole = np.array([0.0, 0.0, 1.0, 1.0])
    assert paste_mask(probs, whole, 1, 1, reference_quirks=True) == 0.5


@pytest.mark.parametrize("dtype", [np.uint8, bool])
def test_a_binary_mask_is_sampled_by_the_nearest_element(dtype):
    mask = np.array([[1, 0], [0, 1]], dtype)
    pasted = paste_mask(mask, np.array([0.0, 0.0, 1.0, 1.0]), 4, 4)
    assert draw(pasted) == ["1100", "1100", "0011", "0011"]


@given(case=cases())
def test_only_the_box_is_resampled_and_nothing_is_lost(case):
    np.testing.assert_allclose(
        paste_mask(*case),
        slow_paste(*case),
        # float32 blending; a position near 0 rounds to 1e-7, and a step of one sample is <= 1
        atol=2e-5,
    )


@given(case=cases(), threshold=st.sampled_from([0.0, 0.3, 0.5]), quirks=st.booleans())
def test_run_lengths_are_those_of_the_pixels(case, threshold, quirks):
    probs, box, height, width = case
    pixels = paste_mask(*case, reference_quirks=quirks) > threshold
    arguments = (probs[None], box[None], height, width, threshold)
    (rle,) = paste_rles(*arguments, reference_quirks=quirks)
    assert rle == encode_rle(pixels)
    np.testing.assert_array_equal(decode_rle(rle), pixels)
    (many,) = paste_masks(*arguments, reference_quirks=quirks)
    np.testing.assert_array_equal(many, pixels)


@given(
    mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2)),
)
def test_run_lengths_of_any_pattern_over_the_whole_image(mask):
    whole = np.array([0.0, 0.0, 1.0, 1.0])
    assert paste_rles(mask[None], whole[None], *mask.shape) == [encode_rle(mask)]


@given(seed=st.integers(0, 99))
def test_mirroring_mask_and_box_mirrors_the_picture(seed):
    probs = np.random.default_rng(seed).random((4, 4))
    here = paste_mask(probs, np.array([0.125, 0.25, 0.75, 0.875]), height=17, width=33)
    there = paste_mask(
        probs[:, ::-1], np.array([0.125, 0.125, 0.75, 0.75]), height=17, width=33
    )
    # the same sums in another order
    np.testing.assert_allclose(here[:, ::-1], there, atol=1e-6)


@given(case=cases())
def test_transposing_everything_transposes_the_picture(case):
    probs, box, height, width = case
    there = paste_mask(probs.T, box[[1, 0, 3, 2]], width, height)
    np.testing.assert_allclose(paste_mask(*case), there.T, atol=1e-6)


def test_mean_foreground_averages_what_is_inside_and_is_zero_for_nothing():
    probs = np.array([[[0.9, 0.7], [0.5, 0.1]], [[0.5, 0.4], [0.0, 0.2]]])
    np.testing.assert_allclose(mean_foreground(probs), [0.8, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "box", "message"),
    [
        ((1, 1), [0, 0, 1, 1], "at least 2 x 2"),
        ((2, 4, 4), [0, 0, 1, 1], "at least 2 x 2"),
        ((4, 4), [0, np.nan, 1, 1], "not finite"),
        ((4, 4), [0, 0, np.inf, 1], "not finite"),
    ],
)
def test_what_cannot_be_pasted_is_refused(shape, box, message):
    with pytest.raises(DataError, match=message):
        paste_rles(np.ones((1, *shape)), np.array([box]), 5, 5)


@given(seed=st.integers(0, 99), quirks=st.booleans())
def test_boxes_pasted_together_are_those_pasted_alone(seed, quirks):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 200))  # more than are placed together
    probs = rng.random((count, 5, 5)).astype(np.float32)
    boxes = np.sort(rng.uniform(-0.2, 1.2, (count, 2, 2)), axis=1).reshape(count, 4)
    together = paste_rles(probs, boxes, 19, 31, reference_quirks=quirks)
    alone = (
        paste_mask(prob, box, 19, 31, reference_quirks=quirks) > 0.5
        for prob, box in zip(probs, boxes, strict=True)
    )
    assert together == [encode_rle(mask) for mask in alone]
