"""Encoded images -> the network's input, as a TensorFlow graph.

The twin of `deepmac.resize` and `deepmac.data.decode`, for programs that have neither.
"""

from typing import Any

import tensorflow as tf

from deepmac.config.schema import (
    FixedShapeResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    ResizeType,
)
from deepmac.errors import ConfigError

Tensor = Any


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
        images: uint8 or float32 [B, H, W, 3] RGB, 0 to 255, H and W at least 1.
        config: `image_resizer` of a configuration with a `frame`.

    Returns:
        float32 [B, *frame, 3], 0 to 255, and int32 [B, 2], the height and width of the image in
        it, at the top left.
    """
    resizer: Any = config.chosen
    shape = tf.shape(images)
    size = new_size(shape[1:3], config)
    resized = _INTERPOLATIONS[resizer.resize_method](
        images=images, size=size, align_corners=False, half_pixel_centers=False
    )
    padded = tf.cast(resized, tf.float32)
    height_width = frame(config)
    value = getattr(resizer, "per_channel_pad_value", ()) or (0.0,) * 3
    for axis in (1, 2):
        missing = height_width[axis - 1] - size[axis - 1]
        margin = tf.tensor_scatter_nd_update(tf.shape(padded), [[axis]], [missing])
        padded = tf.concat([padded, tf.broadcast_to(value, margin)], axis)
    padded.set_shape((None, *height_width, 3))
    return padded, tf.broadcast_to(size, (shape[0], 2))


def frame(config: ImageResizerConfig) -> tuple[int, int]:
    """Height and width that every image is padded to, pixels.

    Raises:
        ConfigError: they depend on the image. The shapes inside the network are fixed.
    """
    match config.chosen:
        case FixedShapeResizerConfig(height=height, width=width):
            return height, width
        case KeepAspectRatioResizerConfig(pad_to_max_dimension=True) as resizer:
            return resizer.max_dimension, resizer.max_dimension
    raise ConfigError(
        "image_resizer: images keep different sizes, an exported network takes one; use "
        "fixed_shape_resizer, or keep_aspect_ratio_resizer with pad_to_max_dimension: true"
    )


def new_size(size: Tensor, config: ImageResizerConfig) -> Tensor:
    """What an image is brought to before it is padded: int32 [2], height and width.

    In float32 and half to even, as `resize.geometry` has it.

    Args:
        size: int32 [2], of the image.
        config: as for `resize_images`.
    """
    resizer = config.chosen
    if not isinstance(resizer, KeepAspectRatioResizerConfig):
        return tf.constant(frame(config))
    shorter, longer = float(resizer.min_dimension), float(resizer.max_dimension)
    sides: Any = tf.cast(size, tf.float32)
    scale = shorter / tf.reduce_min(sides)
    longest = tf.reduce_max(sides)
    scale = tf.where(tf.round(scale * longest) > longer, longer / longest, scale)
    return tf.maximum(tf.cast(tf.round(sides * scale), tf.int32), 1)


_INTERPOLATIONS = {
    ResizeType.BILINEAR: tf.raw_ops.ResizeBilinear,
    ResizeType.NEAREST_NEIGHBOR: tf.raw_ops.ResizeNearestNeighbor,
}
