"""Pieces of images for a page: what is around an object, small, with the lines to draw over it."""

from collections.abc import Sequence

import cv2
import numpy as np

from deepmac.errors import DataError

_LARGEST_SCALE = 8
_MARGIN = 0.25  # of the longer side of what is shown, on each side
_LEAST_MARGIN = 12  # pixels of the image
_ROUNDING = 1e-3  # pixels of the image
_QUALITY = 82  # of JPEG

Window = tuple[int, int, int, int]
"""Rows and columns of an image: top, left, bottom, right, in whole pixels."""


def around(shapes: Sequence[np.ndarray], size: tuple[int, int]) -> Window:
    """The surroundings of boxes and masks.

    Args:
        shapes: float [4], (ymin, xmin, ymax, xmax) in pixels, or bool [H, W]; empty masks do not
            matter.
        size: (height, width) of the image, at least 1.

    Returns:
        At least a pixel; the whole image if there is nothing to surround.
    """
    extents = [extent for extent in map(_extent, shapes) if extent is not None]
    if not extents:
        return 0, 0, *size
    low = np.min([e[:2] for e in extents], axis=0)
    high = np.max([e[2:] for e in extents], axis=0)
    margin = max(_MARGIN * (high - low).max(), _LEAST_MARGIN)
    sides = np.array(size)
    # Boxes of records have been rounded; that must not show another row of pixels.
    low, high = low - margin + _ROUNDING, high + margin - _ROUNDING
    first = np.clip(np.floor(low), 0, sides - 1).astype(int)
    last = np.clip(np.ceil(high), first + 1, sides).astype(int)
    return int(first[0]), int(first[1]), int(last[0]), int(last[1])


def scaled_size(window: Window, side: int) -> tuple[int, int]:
    """(width, height) of the picture of a window whose longer side has `side` pixels.

    It has fewer where the window is so small that more could not be told apart.
    """
    top, left, bottom, right = window
    scale = min(side / max(bottom - top, right - left), _LARGEST_SCALE)
    return max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)


def encode(piece: np.ndarray, size: tuple[int, int]) -> bytes:
    """A piece of an image, uint8 [h, w, 3], RGB, as JPEG of a size (width, height).

    Raises:
        DataError: it cannot be encoded.
    """
    shrinks = size[0] < piece.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    scaled = cv2.cvtColor(cv2.resize(piece, size, interpolation=how), cv2.COLOR_RGB2BGR)
    quality = (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
    is_encoded, encoded = cv2.imencode(".jpg", scaled, quality)
    if not is_encoded:
        raise DataError("its picture cannot be encoded")
    return encoded.tobytes()


def scale_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool [h, w], in a size (width, height): bool [height, width].

    A mask that has pixels keeps some.
    """
    if not mask.any():
        return np.zeros(size[::-1], bool)
    shrinks = size[0] < mask.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    grey = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=how)
    # What is thinner than a pixel of the picture is shown all the same.
    return grey > 127 if (grey > 127).any() else grey > 0


def outline(mask: np.ndarray) -> str:
    """The edge of a mask, bool [h, w], as an SVG path in its pixels; empty for an empty one."""
    loops, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    paths = []
    for loop in loops:
        points = cv2.approxPolyDP(loop, 0.7, closed=True)[:, 0] + 0.5
        steps = " ".join(f"{x:g},{y:g}" for x, y in points)
        paths.append(f"M{steps}Z")
    return "".join(paths)


def _extent(shape: np.ndarray) -> np.ndarray | None:
    """(ymin, xmin, ymax, xmax) of a box or mask, float [4]; None of an empty mask."""
    if shape.ndim == 1:
        return shape
    rows, cols = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    if not rows.size:
        return None
    return np.array([rows[0], cols[0], rows[-1] + 1, cols[-1] + 1], np.float64)
