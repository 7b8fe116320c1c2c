"""A match as a picture: what was predicted, what is true, and where the two differ."""

import dataclasses

import numpy as np

from deepmac import crops

_SIDE = 240  # pixels of the longer side of a picture


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MatchPicture:
    """A piece of an image, with the shapes to draw over it as SVG paths in its pixels.

    Attributes:
        jpeg: the piece, scaled, nothing drawn on it.
        width, height: of it, in pixels.
        predicted, truth: either shape; empty for none.
        both, extra, missed: where they agree; predicted alone; true alone.
    """

    jpeg: bytes
    width: int
    height: int
    predicted: str
    truth: str
    both: str
    extra: str
    missed: str


def draw_match(
    image: np.ndarray, predicted: np.ndarray | None, truth: np.ndarray | None
) -> MatchPicture:
    """The surroundings of a prediction and of what it is compared with.

    Args:
        image: uint8 [H, W, 3], RGB.
        predicted, truth: a mask, bool [H, W], or a box, float [4], (ymin, xmin, ymax, xmax) in
            pixels; None for none.

    Raises:
        DataError: the picture cannot be encoded.
    """
    height, width = image.shape[:2]
    shapes = [_inside(shape, height, width) for shape in (predicted, truth)]
    window = crops.around([s for s in shapes if s is not None], (height, width))
    top, left, bottom, right = window
    size = crops.scaled_size(window, _SIDE)
    a, b = (_filled(shape, window, size) for shape in shapes)
    return MatchPicture(
        jpeg=crops.encode(image[top:bottom, left:right], size),
        width=size[0],
        height=size[1],
        predicted=crops.outline(a),
        truth=crops.outline(b),
        both=crops.outline(a & b),
        extra=crops.outline(a & ~b),
        missed=crops.outline(b & ~a),
    )


def _inside(shape: np.ndarray | None, height: int, width: int) -> np.ndarray | None:
    """A box cut to the image; masks lie in it anyway."""
    if shape is None or shape.ndim == 2:
        return shape
    return shape.clip(0, [height, width, height, width])


def _filled(
    shape: np.ndarray | None, window: crops.Window, size: tuple[int, int]
) -> np.ndarray:
    """A shape in the picture, bool [height, width]."""
    top, left, bottom, right = window
    if shape is None:
        return np.zeros(size[::-1], bool)
    if shape.ndim == 2:
        return crops.scale_mask(shape[top:bottom, left:right], size)
    scale = np.array([size[1] / (bottom - top), size[0] / (right - left)])
    corners = (shape.reshape(2, 2) - [top, left]) * scale
    first = np.floor(corners[0]).astype(int)
    last = np.ceil(corners[1]).astype(int)
    filled = np.zeros(size[::-1], bool)
    filled[first[0] : last[0], first[1] : last[1]] = True
    return filled
