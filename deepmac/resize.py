"""Images of any size -> the network's input; masks go along.

Resizing is the reference's: pixel i of an axis of n pixels, made from one of m, lies at
i * (m / n) of the source, in float32. There is no half-pixel shift and no smoothing when shrinking.
The published weights were trained on it; a modern resize gives other pixels and other masks.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from deepmac.config.schema import (
    ConditionalShapeResizerConfig,
    FixedShapeResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    PadToMultipleResizerConfig,
    ResizeCondition,
    ResizeType,
)

_MOST_IN_OPENCV = 1 << 24  # values of an image; a larger one is not copied as a whole
_LONGEST_IN_OPENCV = 1 << 15  # side, in pixels


class Geometry(NamedTuple):
    """The size an image is brought to, and that of the frame it then lies in, at the top left."""

    height: int  # pixels
    width: int
    padded_height: int
    padded_width: int


def resize_image(
    image: np.ndarray, config: ImageResizerConfig
) -> tuple[np.ndarray, Geometry]:
    """An image as the network wants it, but for `deepmac.model.preprocess.normalise`.

    Args:
        image: [H, W, 3] RGB, 0 to 255, H and W at least 1.
        config: `image_resizer` of a configuration.

    Returns:
        float32 [padded_height, padded_width, 3], 0 to 255, and where the image lies in it.

    Raises:
        ConfigError: an interpolation that is not available.
    """
    size = geometry(image.shape[0], image.shape[1], config)
    interpolate = _interpolation(config)
    resized = interpolate(image, size.height, size.width).astype(np.float32, copy=False)
    pad_value: Sequence[float] = ()
    if isinstance(config.chosen, KeepAspectRatioResizerConfig):
        pad_value = config.chosen.per_channel_pad_value
    return _pad(resized, size, pad_value), size


def resize_masks(masks: np.ndarray, config: ImageResizerConfig) -> np.ndarray:
    """Masks of an image through the geometry of `resize_image`, by the nearest pixel.

    Args:
        masks: [N, H, W], any dtype.
        config: `image_resizer` of a configuration.

    Returns:
        [N, padded_height, padded_width], same dtype; padding is 0.
    """
    size = geometry(masks.shape[1], masks.shape[2], config)
    planes = np.moveaxis(masks, 0, -1)
    resized = resize_nearest(planes, size.height, size.width)
    return np.moveaxis(_pad(resized, size), -1, 0)


def geometry(height: int, width: int, config: ImageResizerConfig) -> Geometry:
    """What `config` makes of an image of `height` x `width` pixels."""
    new = frame = (height, width)
    match config.chosen:
        case KeepAspectRatioResizerConfig() as resizer:
            new = frame = _fitting_size(
                new, resizer.min_dimension, resizer.max_dimension
            )
            if resizer.pad_to_max_dimension:
                frame = (resizer.max_dimension, resizer.max_dimension)
        case FixedShapeResizerConfig() as resizer:
            new = frame = (resizer.height, resizer.width)
        case ConditionalShapeResizerConfig() as resizer:
            new = frame = _conditional_size(new, resizer)
        case PadToMultipleResizerConfig(multiple=multiple):
            frame = (
                -(-height // multiple) * multiple,
                -(-width // multiple) * multiple,
            )
    return Geometry(*new, *frame)


def _fitting_size(size: tuple[int, int], shorter: int, longer: int) -> tuple[int, int]:
    """The shorter side as asked, unless the longer one would exceed its limit.

    In float32 and half to even, as in the reference; a side is never less than a pixel.
    """
    scale = np.float32(shorter) / np.float32(min(size))
    if np.round(scale * np.float32(max(size))) > longer:
        scale = np.float32(longer) / np.float32(max(size))
    height, width = (max(1, int(np.round(np.float32(side) * scale))) for side in size)
    return height, width


def _conditional_size(
    size: tuple[int, int], resizer: ConditionalShapeResizerConfig
) -> tuple[int, int]:
    """Brings the longer side down, or the shorter side up, to the threshold; rounds down."""
    if resizer.condition is ResizeCondition.GREATER:
        ratio = np.float32(min(max(size), resizer.size_threshold)) / np.float32(
            max(size)
        )
    else:
        ratio = np.float32(max(min(size), resizer.size_threshold)) / np.float32(
            min(size)
        )
    height, width = (max(1, int(np.float32(side) * ratio)) for side in size)
    return height, width


def _pad(image: np.ndarray, size: Geometry, value: Sequence[float] = ()) -> np.ndarray:
    """Fills the frame of `size` at the bottom and right with `value` of each channel, or 0."""
    height, width, channels = image.shape
    if (height, width) == (size.padded_height, size.padded_width):
        return image
    padded = np.empty((size.padded_height, size.padded_width, channels), image.dtype)
    padded[:height, :width] = image
    padded[height:] = padded[:, width:] = value if value else 0
    return padded


def _interpolation(config: ImageResizerConfig):
    method = getattr(config.chosen, "resize_method", ResizeType.BILINEAR)
    return _INTERPOLATIONS[method]


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """float32 [height, width, C] from [H, W, C]: legacy bilinear, clamped at the border."""
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    if _suits_opencv(image, height, width):
        return _resized_by_opencv(image, height, width)
    rows, next_rows, row_fraction = _taps(image.shape[0], height)
    cols, next_cols, col_fraction = _taps(image.shape[1], width)
    used, position = np.unique(np.concatenate([rows, next_rows]), return_inverse=True)
    source = image[used]
    left, right = (
        np.take(source, c, axis=1).astype(np.float32) for c in (cols, next_cols)
    )
    across = _blend(left, right, col_fraction[None, :, None])
    return _blend(
        across[position[:height]],
        across[position[height:]],
        row_fraction[:, None, None],
    )


def _suits_opencv(image: np.ndarray, height: int, width: int) -> bool:
    """Whether OpenCV resizes it exactly; it takes a float32 copy of the whole image to do so."""
    sides = (*image.shape[:2], height, width)
    return (
        image.shape[2] == 3
        and image.size <= _MOST_IN_OPENCV
        and min(sides) > 0
        and max(sides) < _LONGEST_IN_OPENCV
        and _opencv_is_exact()
    )


def _resized_by_opencv(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What `resize_bilinear` gives, up to the rounding of its sums, several times as fast."""
    vertical, horizontal = image.shape[0] / height, image.shape[1] / width
    return _sampled(image, (horizontal, 0, 0), (0, vertical, 0), height, width)


def _sampled(
    image: np.ndarray,
    x_of: tuple[float, float, float],
    y_of: tuple[float, float, float],
    height: int,
    width: int,
) -> np.ndarray:
    """Pixel (x, y) of the result lies at these multiples of (x, y, 1) of the image."""
    return cv2.warpAffine(
        np.ascontiguousarray(image, np.float32),
        np.array([x_of, y_of]),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


@functools.cache
def _opencv_is_exact() -> bool:
    """Whether this OpenCV interpolates in float32; versions before 5 know 32 places in a pixel."""
    ramp = np.arange(12).reshape(2, 2, 3)
    found = _sampled(ramp, (0, 0, 1 / 3), (0, 0, 1 / 3), 1, 1)
    return np.allclose(found, [[[3, 4, 5]]], atol=1e-5, rtol=0)


def resize_nearest(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """[height, width, C] from [H, W, C]: legacy nearest, the pixel at or before the position."""
    rows = nearest_index(image.shape[0], height)
    return image[rows[:, None], nearest_index(image.shape[1], width)]


def nearest_index(num_in: int, num_out: int) -> np.ndarray:
    """For each pixel of an axis after `resize_nearest` the one that it shows: int [num_out]."""
    return _taps(num_in, num_out)[0]


def _taps(num_in: int, num_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output pixel of an axis the two source pixels and how far it is past the first."""
    position = _positions(num_in, num_out)
    before = np.minimum(position.astype(np.int64), num_in - 1)
    after = np.minimum(before + 1, num_in - 1)
    return before, after, position - before.astype(np.float32)


def _positions(num_in: int, num_out: int) -> np.ndarray:
    """Where the pixels of an output axis lie on the input axis: float32 [num_out]."""
    scale = np.float32(num_in) / np.float32(num_out)
    return np.arange(num_out, dtype=np.float32) * scale


def _blend(a: np.ndarray, b: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """a + (b - a) * fraction; overwrites b."""
    b -= a
    b *= fraction
    b += a
    return b


_INTERPOLATIONS = {
    ResizeType.BILINEAR: resize_bilinear,
    ResizeType.NEAREST_NEIGHBOR: resize_nearest,
}
