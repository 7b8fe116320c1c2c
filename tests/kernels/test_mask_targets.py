"""Cutting mask targets: looked-up pixels against whole masks that are changed, resized and cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmac.config.load import load_config
from deepmac.config.schema import (
    ImageResizerConfig,
    JitterMode,
    KeepAspectRatioResizerConfig,
)
from deepmac.data.augment import Frame, Picture, augment
from deepmac.data.jitter import jitter_boxes
from deepmac.data.mask_targets import cut_mask, rows_needed, whole_mask
from deepmac.resize import geometry, resize_masks

TRAIN = load_config("center_net_deepmac_512x512_voc_only").train_config
PLACES = [
    step
    for step in TRAIN.data_augmentation_options
    if step.random_horizontal_flip or step.random_square_crop_by_scale
]
RESIZER = ImageResizerConfig(
    keep_aspect_ratio_resizer=KeepAspectRatioResizerConfig(
        min_dimension=48, max_dimension=48, pad_to_max_dimension=True
    )
)


def cut_naively(mask: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Corner-aligned and bilinear, sample by sample; 0 outside of the mask."""
    height, width = mask.shape

    def pixel(y: int, x: int) -> float:
        return mask[y, x] if 0 <= y < height and 0 <= x < width else 0

    result = np.zeros((size, size))
    (ymin, xmin), (ymax, xmax) = box.reshape(2, 2) * [height - 1, width - 1]
    for row in range(size):
        for col in range(size):
            y = ymin + row / (size - 1) * (ymax - ymin)
            x = xmin + col / (size - 1) * (xmax - xmin)
            top, left = int(np.floor(y)), int(np.floor(x))
            v, u = y - top, x - left
            result[row, col] = (
                (1 - v) * (1 - u) * pixel(top, left)
                + (1 - v) * u * pixel(top, left + 1)
                + v * (1 - u) * pixel(top + 1, left)
                + v * u * pixel(top + 1, left + 1)
            )
    return result


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_looked_up_pixels_give_what_whole_masks_give(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(5, 60, 2)
    mask = (rng.random((height, width)) < 0.5).astype(np.uint8)
    shown = np.repeat(mask[..., None], 3, axis=2)  # the mask goes through as an image
    changed = augment(Picture.of(shown, np.zeros((0, 4))), PLACES, rng)
    whole = resize_masks(changed.image[None, ..., 0], RESIZER)[0]
    frame = changed.frame.resized(geometry(*changed.image.shape[:2], RESIZER))
    np.testing.assert_array_equal(whole_mask(mask, frame), whole)
    box = rng.uniform(-0.2, 1.2, 4).astype(np.float32)
    expected = cut_naively(whole, box.astype(np.float64), 7)
    # float32 positions up to 60 pixels, steps of 1 between pixels
    np.testing.assert_allclose(cut_mask(mask, frame, box, 7), expected, atol=1e-4)
    needed = mask[: rows_needed(frame, box)]
    np.testing.assert_array_equal(
        cut_mask(needed, frame, box, 7), cut_mask(mask, frame, box, 7)
    )


def test_a_full_mask_is_full_and_a_box_of_no_size_is_a_point():
    mask, frame = np.full((9, 9), 255, np.uint8), Frame.of(9, 9)
    assert (cut_mask(mask, frame, np.array([0, 0, 1, 1], np.float32), 5) == 1).all()
    mask[4, 4] = 0
    assert (cut_mask(mask, frame, np.full(4, 0.5, np.float32), 5) == 0).all()


def test_one_sample_lies_on_the_centre():
    mask = np.eye(9, dtype=np.uint8)
    box = np.array([0.25, 0.25, 0.75, 0.75], np.float32)
    assert cut_mask(mask, Frame.of(9, 9), box, 1).tolist() == [[1]]


def test_few_rows_are_needed():
    frame = Frame.of(480, 640)
    box = np.array([0.1, 0, 0.25, 1], np.float32)
    assert 121 <= rows_needed(frame, box) <= 124
    outside = np.array([1.05, 0, 1.1, 1], np.float32)
    assert rows_needed(frame, outside) == 1


@given(seed=st.integers(0, 999), mode=st.sampled_from(list(JitterMode)))
def test_jittered_boxes_stay_in_the_picture_about_their_centre(seed, mode):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((20, 2, 2), np.float32), axis=1)
    boxes, draws = corners.reshape(-1, 4), rng.random((20, 4))
    found = jitter_boxes(boxes, mode, 0.1, draws)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    # Each edge by at most a tenth of half a side
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    assert (np.abs(found - boxes) <= sides * 0.05 + 1e-6).all()
    if "SYMMETRIC" in mode.name:
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        np.testing.assert_allclose(
            (found[:, :2] + found[:, 2:]) / 2, centres, atol=1e-6
        )
    np.testing.assert_allclose(jitter_boxes(boxes, mode, 0, draws), boxes, atol=1e-6)


@pytest.mark.parametrize("mode", [m for m in JitterMode if "SHRINK" in m.name])
def test_shrunk_boxes_lie_in_the_boxes(mode):
    boxes = np.array([[0.2, 0.3, 0.6, 0.9]], np.float32)
    found = jitter_boxes(boxes, mode, 0.5, np.full((1, 4), 0.5))
    np.testing.assert_allclose(found, [[0.25, 0.375, 0.55, 0.825]], atol=1e-6)
