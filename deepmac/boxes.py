"""Box geometry on arrays. Boxes are (ymin, xmin, ymax, xmax) unless a name says otherwise."""

import numpy as np


def from_xywh(bbox_xywh: np.ndarray) -> np.ndarray:
    """COCO boxes as corners.

    Args:
        bbox_xywh: float [..., 4], (x, y, width, height), any unit.

    Returns:
        [..., 4], (ymin, xmin, ymax, xmax), same unit and at least float64-exact for float64.
    """
    x, y, width, height = np.moveaxis(np.asarray(bbox_xywh, dtype=np.float64), -1, 0)
    return np.stack([y, x, y + height, x + width], axis=-1)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Corners as COCO (x, y, width, height): the inverse of `from_xywh`, up to rounding."""
    ymin, xmin, ymax, xmax = np.moveaxis(np.asarray(boxes, dtype=np.float64), -1, 0)
    return np.stack([xmin, ymin, xmax - xmin, ymax - ymin], axis=-1)


def normalise(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel boxes [..., 4] as fractions of an image of `height` x `width` pixels."""
    return np.asarray(boxes) / np.array(
        [height, width, height, width], dtype=np.float64
    )


def denormalise(boxes_norm: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes [..., 4] in fractions of an image as pixels of it."""
    return np.asarray(boxes_norm) * np.array(
        [height, width, height, width], dtype=np.float64
    )
