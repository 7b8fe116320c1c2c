"""Boxes moved at random, so that the mask head does not come to rely on exact ones."""

import numpy as np

from deepmac.config.schema import JitterMode

_SMALLEST = 1e-6  # side of a box, in fractions of the picture

_RANGES = {
    JitterMode.DEFAULT: (-1, 1),
    JitterMode.EXPAND: (0, 1),
    JitterMode.SHRINK: (-1, 0),
    JitterMode.EXPAND_SYMMETRIC: (0, 1),
    JitterMode.SHRINK_SYMMETRIC: (-1, 0),
    JitterMode.EXPAND_SYMMETRIC_XY: (0, 1),
    JitterMode.SHRINK_SYMMETRIC_XY: (-1, 0),
}
"""What the distance of an edge from the centre grows by, in `ratio`: least and most."""

_SYMMETRIC_XY = (JitterMode.EXPAND_SYMMETRIC_XY, JitterMode.SHRINK_SYMMETRIC_XY)
_SYMMETRIC = (
    JitterMode.EXPAND_SYMMETRIC,
    JitterMode.SHRINK_SYMMETRIC,
    *_SYMMETRIC_XY,
)


def jitter_boxes(
    boxes: np.ndarray, mode: JitterMode, ratio: float, draws: np.ndarray
) -> np.ndarray:
    """Boxes whose edges lie nearer to the centre, or farther from it, by some factor.

    Every edge has a factor of its own. In the symmetric modes opposite edges share one, in the
    `_XY` modes all four do; there the box grows no farther than to the nearer border of the picture.

    Args:
        boxes: float32 [N, 4], (ymin, xmin, ymax, xmax) in fractions of the picture.
        mode: which way edges go, and which of them together.
        ratio: `max_roi_jitter_ratio`: by how much the factors differ from 1 at most.
        draws: float [N, 4], 0 to 1, one for each edge; the symmetric modes take the first, for y,
            and the second, for x; the `_XY` modes the first for both.

    Returns:
        float32 [N, 4], cut off at the border of the picture.
    """
    low, high = (np.float32(ratio * end) for end in _RANGES[mode])
    factors = 1 + (low + draws.astype(np.float32) * (high - low))
    starts, ends = boxes[:, :2], boxes[:, 2:]
    centres = (starts + ends) / 2
    halves = np.maximum(ends - starts, np.float32(_SMALLEST)) / 2
    if mode in _SYMMETRIC:
        room = np.abs(np.minimum(centres, 1 - centres) / halves)
        if mode in _SYMMETRIC_XY:
            factors = np.repeat(factors[:, :1], 2, axis=1)
            room = room.min(axis=1, keepdims=True)
        factors = np.tile(np.clip(factors[:, :2], -room, room), 2)
    moved = [centres - halves * factors[:, :2], centres + halves * factors[:, 2:]]
    return np.concatenate(moved, axis=1).clip(0, 1)
