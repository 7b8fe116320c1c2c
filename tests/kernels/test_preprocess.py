"""Resizing and normalising: seen by eye, by the sizes the reference gives, and by laws."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac import resize
from deepmac.config.schema import (
    ConditionalShapeResizerConfig,
    FeatureExtractorConfig,
    FixedShapeResizerConfig,
    IdentityResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    PadToMultipleResizerConfig,
    ResizeCondition,
    ResizeType,
)
from deepmac.model.preprocess import normalise
from deepmac.resize import (
    geometry,
    resize_bilinear,
    resize_image,
    resize_masks,
    resize_nearest,
)


def keep_aspect(shorter: int, longer: int, **fields) -> ImageResizerConfig:
    resizer = KeepAspectRatioResizerConfig(
        min_dimension=shorter, max_dimension=longer, **fields
    )
    return ImageResizerConfig(keep_aspect_ratio_resizer=resizer)


def fixed(height: int, width: int, **fields) -> ImageResizerConfig:
    resizer = FixedShapeResizerConfig(height=height, width=width, **fields)
    return ImageResizerConfig(fixed_shape_resizer=resizer)


def row(*values) -> np.ndarray:
    """An image [1, len(values), 1]."""
    return np.array(values, np.uint8)[None, :, None]


def test_doubling_repeats_the_border_and_halves_the_steps_between():
    doubled = resize_bilinear(row(0, 3, 6, 9, 12, 15), 1, 12)[0, :, 0]
    assert doubled.tolist() == [0, 1.5, 3, 4.5, 6, 7.5, 9, 10.5, 12, 13.5, 15, 15]
    assert doubled.dtype == np.float32


def test_shrinking_picks_pixels_and_averages_none():
    picked = resize_bilinear(row(*range(15)), 1, 3)[0, :, 0]
    assert picked.tolist() == [0, 5, 10]
    assert resize_nearest(row(*range(15)), 1, 4)[0, :, 0].tolist() == [0, 3, 7, 11]


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((333, 500), 1024, (682, 1024)),
        ((375, 500), 512, (384, 512)),
        ((375, 500), 1024, (768, 1024)),
        ((426, 640), 512, (341, 512)),
        ((426, 640), 1024, (682, 1024)),
        ((612, 612), 512, (512, 512)),
        ((640, 426), 512, (512, 341)),
        ((1, 5000), 64, (1, 64)),  # never less than a pixel
    ],
)
def test_sizes_that_the_reference_gives(size, side, expected):
    padded = geometry(*size, keep_aspect(side, side, pad_to_max_dimension=True))
    assert padded == (*expected, side, side)
    assert geometry(*size, keep_aspect(side, side)) == (*expected, *expected)


def test_the_shorter_side_is_as_asked_unless_the_longer_would_exceed_its_limit():
    assert geometry(100, 120, keep_aspect(50, 80))[:2] == (50, 60)
    assert geometry(100, 200, keep_aspect(50, 80))[:2] == (40, 80)
    assert geometry(10, 12, keep_aspect(50, 80))[:2] == (50, 60)  # small ones grow


@given(height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_an_image_fits_its_frame_and_transposing_transposes(height, width):
    config = keep_aspect(512, 512, pad_to_max_dimension=True)
    new_height, new_width, *frame = geometry(height, width, config)
    assert frame == [512, 512]
    assert max(new_height, new_width) == 512
    assert geometry(width, height, config)[:2] == (new_width, new_height)


def test_the_other_resizers():
    identity = ImageResizerConfig(identity_resizer=IdentityResizerConfig())
    assert geometry(30, 50, identity) == (30, 50, 30, 50)
    assert geometry(30, 50, fixed(40, 20)) == (40, 20, 40, 20)
    multiple = ImageResizerConfig(
        pad_to_multiple_resizer=PadToMultipleResizerConfig(multiple=32)
    )
    assert geometry(30, 64, multiple) == (30, 64, 32, 64)

    def conditional(condition: ResizeCondition) -> ImageResizerConfig:
        resizer = ConditionalShapeResizerConfig(condition=condition, size_threshold=100)
        return ImageResizerConfig(conditional_shape_resizer=resizer)

    greater = conditional(ResizeCondition.GREATER)
    assert geometry(50, 80, greater)[:2] == (50, 80)
    assert geometry(150, 200, greater)[:2] == (75, 100)
    smaller = conditional(ResizeCondition.SMALLER)
    assert geometry(50, 80, smaller)[:2] == (100, 160)
    assert geometry(150, 200, smaller)[:2] == (150, 200)


def test_padding_lies_at_the_bottom_and_right():
    image = np.full((2, 4, 3), 200, np.uint8)
    resizer = keep_aspect(
        4, 4, pad_to_max_dimension=True, per_channel_pad_value=(1, 2, 3)
    )
    padded, size = resize_image(image, resizer)
    assert size == (2, 4, 4, 4)
    assert (padded[:2] == 200).all()
    assert (padded[2:] == [1, 2, 3]).all()
    tall, _ = resize_image(
        image.transpose(1, 0, 2), keep_aspect(4, 4, pad_to_max_dimension=True)
    )
    assert (tall[:, :2] == 200).all()
    assert (tall[:, 2:] == 0).all()


def test_an_image_of_the_right_size_is_not_changed_nor_shared():
    image = np.arange(48, dtype=np.float32).reshape(4, 4, 3)
    same, _ = resize_image(image, fixed(4, 4))
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


@given(seed=st.integers(0, 99))
def test_rows_and_columns_are_treated_alike(seed):
    rng = np.random.default_rng(seed)
    height, width, new_height, new_width = rng.integers(1, 40, 4)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    here = resize_bilinear(image, new_height, new_width)
    there = resize_bilinear(image.transpose(1, 0, 2), new_width, new_height)
    np.testing.assert_allclose(
        here, there.transpose(1, 0, 2), atol=1e-4
    )  # order of blends
    assert image.min() <= here.min()
    assert here.max() <= image.max()


def test_masks_go_the_way_of_the_image_and_stay_masks():
    masks = np.zeros((2, 20, 30), np.uint8)
    masks[0, 5:10, 10:20] = 1
    resized = resize_masks(masks, keep_aspect(60, 60, pad_to_max_dimension=True))
    assert resized.shape == (2, 60, 60)
    assert resized.dtype == np.uint8
    assert (resized[0, 10:20, 20:40] == 1).all()
    assert resized.sum() == 4 * masks.sum()
    assert resize_masks(masks[:0], fixed(8, 9)).shape == (0, 8, 9)


def test_nearest_by_configuration():
    image = np.arange(15, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    resizer = fixed(1, 4, resize_method=ResizeType.NEAREST_NEIGHBOR)
    resized, _ = resize_image(image, resizer)
    assert resized[0, :, 0].tolist() == [0, 3, 7, 11]
    assert resized.dtype == np.float32


def test_channels_are_reversed_before_they_are_normalised():
    extractor = FeatureExtractorConfig(
        type="hourglass_10",
        channel_means=(1.0, 2.0, 3.0),  # of blue, green, red
        channel_stds=(2.0, 4.0, 8.0),
        bgr_ordering=True,
    )
    red_green_blue = np.array([11.0, 10.0, 5.0], np.float32)
    assert normalise(red_green_blue, extractor).tolist() == [2.0, 2.0, 1.0]
    plain = dataclasses.replace(extractor, bgr_ordering=False)
    assert normalise(red_green_blue, plain).tolist() == [5.0, 2.0, 0.25]
    bare = FeatureExtractorConfig(type="hourglass_10")
    assert normalise(red_green_blue, bare).tolist() == [11.0, 10.0, 5.0]


@given(seed=st.integers(0, 10**6), most=st.sampled_from([4, 40, 200]))
def test_opencv_gives_what_numpy_gives(seed, most):
    if not resize._opencv_is_exact():
        pytest.skip("this OpenCV rounds positions, and is not used")
    rng = np.random.default_rng(seed)
    height, width, *size = rng.integers(1, most, 4).tolist()
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    by_opencv = resize._resized_by_opencv(image, *size)
    # Grey by grey, which goes by NumPy; atol: float32 sums of numbers up to 255
    planes = [resize_bilinear(image[..., c : c + 1], *size) for c in range(3)]
    by_numpy = np.concatenate(planes, axis=2)
    if (height, width) != tuple(size):
        np.testing.assert_allclose(by_opencv, by_numpy, atol=1e-4)


def test_large_images_are_not_copied_as_a_whole(monkeypatch):
    monkeypatch.setattr(resize, "_MOST_IN_OPENCV", 100)
    monkeypatch.setattr(resize.cv2, "warpAffine", None)
    image = np.full((10, 10, 3), 7, np.uint8)
    assert (resize_bilinear(image, 4, 5) == 7).all()
