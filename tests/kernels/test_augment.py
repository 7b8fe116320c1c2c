"""Augmentation: laws of the steps, and that draws are spread as they should be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmac.config.load import load_config
from deepmac.config.training_schema import SquareCropByScaleConfig
from deepmac.data.augment import (
    NOTHING,
    Frame,
    Picture,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    augment,
    crop,
    crop_border,
    draw_crop,
    mirror,
    square_crop,
)
from deepmac.data.mask_targets import whole_mask

STEPS = load_config("center_net_deepmac_512x512_voc_only").train_config
STEPS = STEPS.data_augmentation_options
COLOURS = (adjust_brightness, adjust_hue)
FACTORS = (adjust_contrast, adjust_saturation)


def picture(seed: int, height: int = 24, width: int = 31) -> Picture:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    corners = np.sort(rng.random((6, 2, 2), np.float32), axis=1)
    return Picture.of(image, corners.reshape(-1, 4), rng.random((6, 3, 2), np.float32))


def same(a: Picture, b: Picture) -> bool:
    pairs = zip((a.image, *a.frame), (b.image, *b.frame), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs) and np.allclose(
        a.boxes, b.boxes, atol=1e-6
    )


def test_mirroring_twice_changes_nothing():
    original = picture(0)
    assert same(mirror(mirror(original)), original)
    assert not same(mirror(original), original)


def test_a_frame_says_where_pixels_came_from():
    original = picture(1)
    changed = mirror(crop(mirror(original), square_crop(24, 31, 0.7, 5, 25)))
    rows, cols = changed.frame
    shown = original.image[np.maximum(rows, 0)[:, None], np.maximum(cols, 0)].copy()
    shown[rows == NOTHING] = shown[:, cols == NOTHING] = 0
    np.testing.assert_array_equal(changed.image, shown)
    assert (rows == NOTHING).any()


def test_a_crop_seen_by_eye():
    image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2) + 1
    found = crop(Picture.of(image, np.zeros((0, 4))), square_crop(4, 4, 1.0, 1, 3))
    # Columns 1 to 4 of rows -1 to 2; there is no column 4, and column 3 is the last, never shown.
    assert found.image[..., 0].tolist() == [
        [0, 0, 0, 0],
        [2, 3, 0, 0],
        [6, 7, 0, 0],
        [10, 11, 0, 0],
    ]


def test_a_crop_keeps_what_it_touches_and_cuts_it_off():
    boxes = [[0, 0, 1, 1], [0, 0, 0.2, 0.2], [0.5, 0.5, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]]
    points = np.array([[[0.5, 0.5]]] * 3 + [[[0.9, 0.9]]], np.float32)
    whole = Picture.of(np.zeros((100, 100, 3), np.uint8), np.array(boxes), points)
    found = crop(whole, square_crop(100, 100, 0.5, 50, 50))  # the pixels 25 to 75
    assert found.kept.tolist() == [0, 2, 3]  # a box without area stays
    expected = [[0, 0, 1, 1], [0.5] * 4, [0.7, 0.7, 1, 1]]
    np.testing.assert_allclose(found.boxes, expected, atol=1e-6)
    np.testing.assert_allclose(found.points[0], [[0.5, 0.5]], atol=1e-6)
    assert np.isnan(found.points[2]).all()  # outside


@given(seed=st.integers(0, 999))
@settings(max_examples=30)
def test_the_box_of_a_changed_mask_is_the_changed_box(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), np.uint8)
    y, x = rng.integers(0, 30, 2)
    height, width = rng.integers(3, 10, 2)
    mask[y : y + height, x : x + width] = 1
    box = np.array([[y / 40, x / 50, (y + height) / 40, (x + width) / 50]])
    changed = augment(Picture.of(np.zeros((40, 50, 3), np.uint8), box), STEPS, rng)
    if not len(changed.kept):
        return
    rows, cols = whole_mask(mask, changed.frame).nonzero()
    if not len(
        rows
    ):  # only the last row or column was in the crop, which does not show it
        return
    side = len(changed.frame.rows), len(changed.frame.cols)
    found = [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]
    # A pixel: that of the last row or column
    np.testing.assert_allclose(changed.boxes[0] * np.tile(side, 2), found, atol=1.001)


@pytest.mark.parametrize("adjust", COLOURS + FACTORS)
def test_colours_stay_in_range_and_may_stay_as_they_are(adjust):
    image = picture(3).image
    neutral = 0 if adjust in COLOURS else 1
    np.testing.assert_allclose(adjust(image, neutral), image, atol=1e-3)
    strong = adjust(image, 0.4 if adjust in COLOURS else 3)
    assert strong.min() >= 0
    assert strong.max() <= 255
    assert strong.dtype == np.float32


def test_colours_leave_their_argument_alone():
    image = picture(3).image.astype(np.float32)
    before = image.copy()
    for adjust in COLOURS + FACTORS:
        adjust(image, 0.5)
    np.testing.assert_array_equal(image, before)


def test_saturation_and_hue_of_a_colour_seen_by_eye():
    orange = np.full((2, 2, 3), (200, 150, 100), np.uint8)
    np.testing.assert_allclose(
        adjust_saturation(orange, 0.5)[0, 0], [200, 175, 150], atol=1e-3
    )
    # A third of the circle: red becomes green, green blue, blue red
    np.testing.assert_allclose(
        adjust_hue(orange, 1 / 3)[0, 0], [100, 200, 150], atol=1e-3
    )
    np.testing.assert_allclose(
        adjust_hue(orange, -2 / 3)[0, 0], [100, 200, 150], atol=1e-3
    )


def test_crops_are_drawn_as_configured():
    config, rng = SquareCropByScaleConfig(), np.random.default_rng(0)
    crops = [draw_crop(300, 400, config, rng) for _ in range(2000)]
    sides, counts = np.unique([c.side for c in crops], return_counts=True)
    assert sides.tolist() == [240, 280, 320, 360, 400, 440, 480, 520]
    assert counts.min() > 200
    centres = np.array([(c.top + c.side // 2, c.left + c.side // 2) for c in crops])
    assert centres.min(axis=0).tolist() == [128, 128]
    assert centres.max(axis=0).tolist() == [300 - 128, 400 - 128]


@given(size=st.integers(2, 3000), border=st.integers(1, 300))
def test_there_is_always_a_place_for_the_centre(size, border):
    kept = crop_border(size, border)
    assert kept <= size - kept or kept == 1


def test_images_of_a_pixel_can_be_cropped():
    for size in ((1, 1), (1, 9), (2, 2)):
        square = draw_crop(*size, SquareCropByScaleConfig(), np.random.default_rng(0))
        found = crop(
            Picture.of(np.ones((*size, 3), np.uint8), np.zeros((0, 4))), square
        )
        assert found.image.shape == (square.side, square.side, 3)


def test_draws_decide_everything():
    a, b, c = (
        augment(picture(5), STEPS, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert same(a, b)
    assert a.image.shape != c.image.shape or not same(a, c)


def test_half_of_the_pictures_are_mirrored():
    original = picture(0)
    rng = np.random.default_rng(0)
    first = [augment(original, STEPS[:1], rng).frame.cols[0] for _ in range(400)]
    assert set(first) == {0, 30}
    assert 160 < first.count(0) < 240


def test_a_whole_frame_is_that_of_the_image():
    assert [len(axis) for axis in Frame.of(3, 5)] == [3, 5]
