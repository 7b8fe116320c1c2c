"""Encoded images -> the RGB pixels that predictors see."""

import contextlib
import io
import threading
from collections.abc import Iterator

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin

from deepmac.errors import DataError

MAX_PIXELS = 89_478_485
"""Larger images are refused unless the caller says otherwise: Pillow's own limit."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_PLUGINS = (WebPImagePlugin, TiffImagePlugin)  # the others load by themselves

_SIXTEEN_BIT_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I")


class ImageTooLarge(DataError):
    """The header of an image declares more pixels than allowed; it was not decoded."""


def decode_rgb(encoded: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The pixels of an image as stored: an EXIF orientation is not applied.

    Everything is decoded by Pillow. Its JPEG pixels are those of libjpeg's accurate integer
    transform, as in OpenCV and in TensorFlow with `dct_method="INTEGER_ACCURATE"`; TensorFlow's
    own default is a faster transform that differs by a few grey levels. Grey, palette and CMYK
    images become RGB, transparency is dropped, 16-bit grey keeps its upper 8 bits.

    Args:
        encoded: a JPEG, PNG, WebP, BMP, GIF (its first frame), TIFF or PPM file.
        max_pixels: of the image; checked before it is decoded.

    Returns:
        uint8 [H, W, 3], a copy of its own.

    Raises:
        DataError: not such a file, cut off, or of a pixel format without colours.
        ImageTooLarge: more pixels than `max_pixels`.
    """
    with _located(), _open(encoded) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageTooLarge(
                f"{height} x {width} pixels, more than the limit of {max_pixels}"
            )
        if image.mode in _SIXTEEN_BIT_GREY:
            grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255)
            return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
        if image.mode == "F":
            raise DataError("an image of floating-point numbers has no colours")
        if "transparency" in image.info:
            image = image.convert("RGBA")  # a palette may give each colour an alpha
        if image.mode != "RGB":  # else converting is a copy
            image = image.convert("RGB")
        return np.array(image)


_opening = threading.Lock()


def _open(encoded: bytes) -> Image.Image:
    """Reads the header, whatever size it declares: the caller has a limit of its own."""
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(encoded), formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@contextlib.contextmanager
def _located() -> Iterator[None]:
    """Turns what Pillow raises on damaged files into one DataError."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise
    except Exception as e:  # decoders of damaged files raise almost anything
        raise DataError(f"not a readable image: {_reason(e)}") from e


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return (
            f"none of {', '.join(FORMATS)}"  # Pillow's own text names a memory address
        )
    return " ".join(str(error).split()) or type(error).__name__
