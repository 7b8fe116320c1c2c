"""What the mask head is to say of a box: its mask, resampled to the frame of the box.

The reference resizes whole masks, pads them, and cuts the boxes out of that. The result depends on
at most 2 S x 2 S pixels of the stored mask, which are looked up here through the `Frame` of the
picture: no mask is ever resized.
"""

from typing import NamedTuple

import numpy as np

from deepmac.data.augment import Frame

# The pixel before a position, and that after it
_SIDES = np.array([[0], [1]], np.float32)


class _Taps(NamedTuple):
    """For the samples of one axis of a box, the two stored pixels that each lies between.

    Attributes:
        index: int [2, S], rows or columns of the stored mask; any where the weight is 0.
        weight: float32 [2, S].
    """

    index: np.ndarray
    weight: np.ndarray


def cut_mask(mask: np.ndarray, frame: Frame, box: np.ndarray, size: int) -> np.ndarray:
    """The mask in the frame of its box, between 0 and 1.

    Corner-aligned and bilinear, as `deepmac.model.roi.cut_rois` cuts features; what lies outside of
    the picture counts as 0.

    Args:
        mask: [H, W], the mask as it is stored, foreground above 0.
        frame: of the picture after augmentation, resize and padding.
        box: float32 [4], in fractions of the padded picture; may be flipped or overhang it.
        size: S, sides of the result.

    Returns:
        float32 [S, S].
    """
    ymin, xmin, ymax, xmax = box
    rows = _taps(ymin, ymax, size, frame.rows)
    cols = _taps(xmin, xmax, size, frame.cols)
    pixels = mask[rows.index.reshape(-1, 1), cols.index.reshape(-1)] > 0  # [2 S, 2 S]
    across = np.einsum(
        "rks,ks->rs", pixels.reshape(2 * size, 2, size), cols.weight, dtype=np.float32
    )
    return np.einsum("ksc,ks->sc", across.reshape(2, size, size), rows.weight)


def rows_needed(frame: Frame, box: np.ndarray) -> int:
    """How many rows of a stored mask, from the top, `cut_mask` may look at."""
    low, high = sorted(box[[0, 2]] * np.float32(len(frame.rows) - 1))
    first = max(int(np.floor(low)), 0)
    return int(frame.rows[first : max(int(np.floor(high)), 0) + 3].max(initial=0)) + 1


def whole_mask(mask: np.ndarray, frame: Frame) -> np.ndarray:
    """The mask as the picture shows it: uint8 [padded_height, padded_width], 0 or 1.

    Args:
        mask: [H, W], as it is stored, foreground above 0.
        frame: of the picture after augmentation, resize and padding.
    """
    shown = (mask > 0)[np.maximum(frame.rows, 0)[:, None], np.maximum(frame.cols, 0)]
    is_there = (frame.rows >= 0)[:, None] & (frame.cols >= 0)
    return (shown & is_there).astype(np.uint8)


def _taps(low: np.float32, high: np.float32, size: int, stored: np.ndarray) -> _Taps:
    last = np.float32(len(stored) - 1)
    low, high = low * last, high * last
    if size == 1:
        position = np.array([(low + high) / 2], np.float32)
    else:
        steps = np.arange(size, dtype=np.float32) / np.float32(size - 1)
        position = low + steps * (high - low)
    before = np.floor(position)
    fraction = position - before
    pixels = before + _SIDES
    weight = np.abs(1 - _SIDES - fraction)  # 1 - fraction, fraction
    weight[(pixels < 0) | (pixels > last)] = 0
    index = stored[pixels.clip(0, last).astype(np.intp)]
    weight[index < 0] = 0
    return _Taps(np.where(weight > 0, index, 0), weight)
