"""RoI masks back into the image they were cut from: as probabilities, pixels or run lengths."""

import dataclasses
import functools
from collections.abc import Iterator

import cv2
import numpy as np

from deepmac.errors import DataError
from deepmac.instances import RLE
from deepmac.masks import rles_from_runs

THRESHOLD = 0.5
"""A pixel is foreground when its probability is above this."""

EDGE_TOLERANCE = 1e-5
"""In mask samples: a pixel this close outside a box edge counts as lying on it."""

# A box side is taken as at least this part of the image, as in the reference
_MIN_SIDE = 1e-4

_AT_ONCE = (
    64  # boxes that are placed together: 8 bytes for each and each pixel of an axis
)


@dataclasses.dataclass(frozen=True, slots=True)
class Patch:
    """The rectangle of the image that one box reaches; everything outside of it is 0.

    Attributes:
        top, left: its first row and column, in pixels.
        values: float32 [h, w], probability; uint8 where the mask was binary. May be empty.
    """

    top: int
    left: int
    values: np.ndarray


def paste_mask(
    probs: np.ndarray,
    box_norm: np.ndarray,
    height: int,
    width: int,
    *,
    reference_quirks: bool | None = None,
) -> np.ndarray:
    """Resamples one RoI mask into the image it was cut from.

    Corner-aligned, as in the reference: the corner samples of the mask lie on the edges of the
    box, and pixel i of an axis of n pixels lies at i / (n - 1) (at 0.5 when n is 1). A pixel
    outside the box is 0. Only the rows and columns that the box reaches are resampled.

    Args:
        probs: float [S, S], foreground probability in [0, 1]. A bool or uint8 mask is sampled
            by its nearest element instead of bilinearly, as in the reference.
        box_norm: float [4], (ymin, xmin, ymax, xmax), 0..1 of the image. May overhang it. Sides
            are taken as at least 1e-4 of the image.
        height, width: size of the image in pixels.
        reference_quirks: cut off at the last bit of a float32 coordinate, so that a row or column
            of pixels that lies on the box's edge comes and goes with rounding. By default an
            edge has a tolerance of `EDGE_TOLERANCE`, and what touches the border stays whole.

    Returns:
        float32 [height, width], probability; foreground is > 0.5. uint8 for a binary mask.

    Raises:
        DataError: the mask has a side under 2, or the box is not finite.
    """
    boxes_norm = np.asarray(box_norm)[None]
    probs = np.asarray(probs)[None]
    (patch,) = patches(probs, boxes_norm, height, width, reference_quirks)
    image = np.zeros((height, width), patch.values.dtype)
    h, w = patch.values.shape
    image[patch.top : patch.top + h, patch.left : patch.left + w] = patch.values
    return image


def paste_masks(
    probs: np.ndarray,
    boxes_norm: np.ndarray,
    height: int,
    width: int,
    threshold: float = THRESHOLD,
    *,
    reference_quirks: bool | None = None,
) -> np.ndarray:
    """The masks of N boxes of one image as pixels: `paste_mask` > threshold for each.

    Args:
        probs: float [N, S, S].
        boxes_norm: float [N, 4].

    Returns:
        bool [N, height, width]. At no time is there a float array of the image's size.
    """
    masks = np.zeros((len(probs), height, width), bool)
    every = patches(probs, boxes_norm, height, width, reference_quirks)
    for mask, patch in zip(masks, every, strict=True):
        h, w = patch.values.shape
        rows = slice(patch.top, patch.top + h)
        mask[rows, patch.left : patch.left + w] = patch.values > threshold
    return masks


def paste_rles(
    probs: np.ndarray,
    boxes_norm: np.ndarray,
    height: int,
    width: int,
    threshold: float = THRESHOLD,
    *,
    reference_quirks: bool | None = None,
) -> list[RLE]:
    """Run lengths of `paste_masks`, made without an array of the image's size."""
    runs = [
        _runs(patch.values > threshold, patch.top, patch.left, height, width)
        for patch in patches(probs, boxes_norm, height, width, reference_quirks)
    ]
    return rles_from_runs(runs, height, width)


def mean_foreground(probs: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """The score of a mask whose box was given: the mean probability inside the mask.

    Args:
        probs: float [..., S, S], foreground probability.

    Returns:
        float32 [...], above `threshold` and at most 1; 0 where no sample is foreground.
    """
    inside = probs > threshold
    total = np.sum(probs, axis=(-2, -1), where=inside, dtype=np.float64)
    count = inside.sum(axis=(-2, -1))
    return (total / np.maximum(count, 1)).astype(np.float32)


def patches(
    probs: np.ndarray,
    boxes_norm: np.ndarray,
    height: int,
    width: int,
    reference_quirks: bool | None = None,
) -> Iterator[Patch]:
    """The part of `paste_mask` inside each of N boxes. Arguments and errors are the same.

    Args:
        probs: float, bool or uint8 [N, S, S].
        boxes_norm: float [N, 4].
    """
    probs, boxes = np.asarray(probs), np.asarray(boxes_norm)
    if probs.ndim != 3 or min(probs.shape[1:]) < 2:
        raise DataError(f"a RoI mask must be at least 2 x 2, got {probs.shape[1:]}")
    if not (finite := np.isfinite(boxes).all(axis=1)).all():
        box = boxes[~finite][0].tolist()
        raise DataError(f"box {box} holds a number that is not finite")
    place = _place_as_reference if reference_quirks else _place
    for first in range(0, len(probs), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        ymin, xmin, ymax, xmax = boxes[some].T
        down = place(ymin, ymax, height, probs.shape[1])
        right = place(xmin, xmax, width, probs.shape[2])
        for mask, (top, rows), (left, cols) in zip(
            probs[some], down, right, strict=True
        ):
            yield Patch(top, left, _sampled(mask, rows, cols))


def _sampled(mask: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """A mask [S, S] at positions [h] and [w], in samples: float32 [h, w], or uint8."""
    if mask.dtype in (np.bool_, np.uint8):
        nearest = np.ix_((rows + 0.5).astype(int), (cols + 0.5).astype(int))
        return mask[nearest].astype(np.uint8)
    # Along the row first, then across: the reference's order, hence its rounding.
    across = _blend(mask.astype(np.float32, copy=False).T, cols).T  # [S, w]
    return _blend(across, rows)


def _place(
    low: np.ndarray, high: np.ndarray, length: int, size: int
) -> list[tuple[int, np.ndarray]]:
    """Where the pixels of one axis fall in the masks.

    Args:
        low, high: edges of the boxes, 0..1 of the axis; float [N].
        length: of the axis in pixels.
        size: of a mask in samples.

    Returns:
        For each box the first pixel inside it, and for that one and each one after it up to the
        last one inside its position, float32 [n], 0..size - 1.
    """
    low, high = low.astype(np.float64), high.astype(np.float64)
    positions = _pixels(length) - low[:, None]
    positions /= np.maximum(high - low, _MIN_SIDE)[:, None]
    positions *= size - 1
    first = np.count_nonzero(positions < -EDGE_TOLERANCE, axis=1).tolist()
    last = np.count_nonzero(positions < size - 1 + EDGE_TOLERANCE, axis=1).tolist()
    inside = positions.clip(0, size - 1).astype(np.float32)
    return [(a, row[a:b]) for a, b, row in zip(first, last, inside, strict=True)]


@functools.lru_cache(maxsize=64)
def _pixels(length: int) -> np.ndarray:
    """Places of the pixels of an axis, 0..1; float64 [length], not to be written to."""
    return np.arange(length) / (length - 1) if length > 1 else np.array([0.5])


def _place_as_reference(
    low: np.ndarray, high: np.ndarray, length: int, size: int
) -> list[tuple[int, np.ndarray]]:
    """`_place` with the reference's float32 arithmetic, step by step, and its sharp cut-off."""
    return [
        _place_one_as_reference(edges, length, size)
        for edges in np.stack([low, high], axis=1).astype(np.float32)
    ]


def _place_one_as_reference(
    edges: np.ndarray, length: int, size: int
) -> tuple[int, np.ndarray]:
    side = max(edges[1] - edges[0], np.float32(_MIN_SIDE))
    start, end = (np.array([0, 1], np.float32) - edges[0]) / side
    steps = np.float32(size - 1)
    if length > 1:
        step = (end - start) * steps / np.float32(length - 1)
        positions = start * steps + np.arange(length, dtype=np.float32) * step
    else:
        positions = np.array([np.float32(0.5) * (start + end) * steps])
    inside = np.flatnonzero((positions >= 0) & (positions <= steps))
    if not inside.size:
        return 0, positions[:0]
    return int(inside[0]), positions[inside[0] : inside[-1] + 1]


def _blend(samples: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Linear interpolation along the first axis: [S, ...] at positions [n] gives [n, ...]."""
    index = positions.astype(np.intp)
    steps = np.empty_like(samples)
    np.subtract(samples[1:], samples[:-1], out=steps[:-1])
    steps[-1] = 0  # nothing comes after the last sample
    blended = steps.take(index, axis=0)
    blended *= (positions - index.astype(np.float32))[:, None]
    blended += samples.take(index, axis=0)
    return blended


def _runs(mask: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """COCO run lengths, uncompressed, of an image that is 0 around one rectangle.

    Args:
        mask: bool [h, w], the rectangle.
        top, left: its place in the image of `height` x `width`.

    Returns:
        int64 [R], zeros and ones in turn, zeros first, column after column.
    """
    h, w = mask.shape
    # A zero between columns ends every run within its own; two more for the first and the last.
    framed = np.zeros(w * (h + 1) + 2, bool)
    # OpenCV turns a mask in blocks, NumPy element by element.
    columns = cv2.transpose(mask.view(np.uint8)) if mask.size else mask.T
    framed[1:-1].reshape(w, h + 1)[:, :h] = columns
    column, row = np.divmod((framed[1:] != framed[:-1]).nonzero()[0], h + 1)
    borders = (left + column) * height + (top + row)  # starts and ends in turn
    # A run that reaches the bottom of a column goes on at the top of the next.
    starts, ends = borders[::2], borders[1::2]
    if (joined := starts[1:] == ends[:-1]).any():
        apart = ~joined
        borders = np.stack(
            [starts[np.append(True, apart)], ends[np.append(apart, True)]], axis=1
        ).ravel()
    borders = np.concatenate([[0], borders, [height * width]])
    runs = borders[1:] - borders[:-1]
    return runs if runs[-1] else runs[:-1]
