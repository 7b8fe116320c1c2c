"""Encoded images -> the network's input, as a TensorFlow graph.

The twin of `deepmac.model.preprocess` and `deepmac.data.decode`, for programs that have neither.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from deepmac.config.schema import (
    ConditionalShapeResizerConfig,
    FixedShapeResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    PadToMultipleResizerConfig,
    ResizeCondition,
    ResizeType,
)

Tensor = Any


class Geometry(NamedTuple):
    """See `deepmac.model.preprocess.Geometry`: int32 [2] each, height and width in pixels."""

    size: Tensor
    frame: Tensor


def decode_rgb(encoded: Tensor) -> Tensor:
    """uint8 [H, W, 3], the pixels of an image file, as `deepmac.data.decode` has them.

    JPEG by libjpeg's accurate transform, which is not TensorFlow's default. Grey, palette and
    CMYK images become RGB, transparency is dropped, 16-bit PNGs keep their upper 8 bits.

    Args:
        encoded: string, a JPEG, PNG, BMP or GIF file (its first frame).
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def resize_images(images: Tensor, config: ImageResizerConfig) -> tuple[Tensor, Tensor]:
    """Images of one size as the network wants them, but for `preprocess.normalise`.

    Args:
        images: uint8 or float32 [B, H, W, 3] RGB, 0 to 255.
        config: `image_resizer` of a configuration.

    Returns:
        float32 [B, padded_height, padded_width, 3], 0 to 255, and int32 [B, 2], the height and
        width of the image in it, at the top left.
    """
    shape = tf.shape(images)
    size, frame = geometry(shape[1:3], config)
    method = getattr(config.chosen, "resize_method", ResizeType.BILINEAR)
    resized = _INTERPOLATIONS[method](
        images=images, size=size, align_corners=False, half_pixel_centers=False
    )
    pad_value: Sequence[float] = ()
    if isinstance(config.chosen, KeepAspectRatioResizerConfig):
        pad_value = config.chosen.per_channel_pad_value
    padded = _pad(tf.cast(resized, tf.float32), frame - size, pad_value or (0.0,) * 3)
    padded.set_shape((None, *(static_frame(config) or (None, None)), 3))
    return padded, tf.broadcast_to(size, (shape[0], 2))


def static_frame(config: ImageResizerConfig) -> tuple[int, int] | None:
    """Height and width that every image is padded to; None where they depend on the image."""
    match config.chosen:
        case FixedShapeResizerConfig(height=height, width=width):
            return height, width
        case KeepAspectRatioResizerConfig(pad_to_max_dimension=True) as resizer:
            return resizer.max_dimension, resizer.max_dimension
    return None


def geometry(size: Tensor, config: ImageResizerConfig) -> Geometry:
    """What `config` makes of an image of `size`: int32 [2], height and width."""
    new = frame = size
    match config.chosen:
        case KeepAspectRatioResizerConfig() as resizer:
            new = frame = _fitting_size(
                size, resizer.min_dimension, resizer.max_dimension
            )
        case FixedShapeResizerConfig(height=height, width=width):
            new = frame = tf.constant([height, width])
        case ConditionalShapeResizerConfig() as resizer:
            new = frame = _conditional_size(size, resizer)
        case PadToMultipleResizerConfig(multiple=multiple):
            frame = -(-size // multiple) * multiple
    fixed = static_frame(config)
    return Geometry(new, frame if fixed is None else tf.constant(fixed))


def _fitting_size(size: Tensor, shorter: int, longer: int) -> Tensor:
    sides = tf.cast(size, tf.float32)
    scale = shorter / tf.reduce_min(sides)
    longest = tf.reduce_max(sides)
    scale = tf.where(tf.round(scale * longest) > longer, longer / longest, scale)
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), 1)


def _conditional_size(size: Tensor, resizer: ConditionalShapeResizerConfig) -> Tensor:
    sides = tf.cast(size, tf.float32)
    threshold = float(resizer.size_threshold)
    if resizer.condition is ResizeCondition.GREATER:
        side = tf.reduce_max(sides)
        ratio = tf.minimum(side, threshold) / side
    else:
        side = tf.reduce_min(sides)
        ratio = tf.maximum(side, threshold) / side
    return tf.maximum(tf.cast(sides * ratio, tf.int32), 1)


def _pad(images: Tensor, margins: Tensor, value: Sequence[float]) -> Tensor:
    """Adds rows below and columns on the right, int32 [2], in the colour `value`."""
    for axis, margin in ((1, margins[0]), (2, margins[1])):
        shape = tf.tensor_scatter_nd_update(tf.shape(images), [[axis]], [margin])
        fill = tf.broadcast_to(tf.constant(value, tf.float32), shape)
        images = tf.concat([images, fill], axis)
    return images


_INTERPOLATIONS = {
    ResizeType.BILINEAR: tf.raw_ops.ResizeBilinear,
    ResizeType.NEAREST_NEIGHBOR: tf.raw_ops.ResizeNearestNeighbor,
}
