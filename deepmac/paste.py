"""RoI masks back into the image they were cut from: as probabilities, pixels or run lengths."""

import dataclasses

import numpy as np

from deepmac.errors import DataError
from deepmac.instances import RLE
from deepmac.masks import rle_from_runs

THRESHOLD = 0.5
"""A pixel is foreground when its probability is above this."""

EDGE_TOLERANCE = 1e-5
"""In mask samples: a pixel this close outside a box edge counts as lying on it."""

# A box side is taken as at least this part of the image, as in the reference
_MIN_SIDE = 1e-4


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
    patch = resample(probs, box_norm, height, width, reference_quirks=reference_quirks)
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
    for mask, prob, box in zip(masks, probs, boxes_norm, strict=True):
        patch = resample(prob, box, height, width, reference_quirks=reference_quirks)
        h, w = patch.values.shape
        rows = slice(patch.top, patch.top + h)
        mask[rows, patch.left : patch.left + w] = patch.values > threshold
    return masks


def paste_rle(
    probs: np.ndarray,
    box_norm: np.ndarray,
    height: int,
    width: int,
    threshold: float = THRESHOLD,
    *,
    reference_quirks: bool | None = None,
) -> RLE:
    """Run lengths of `paste_mask(...) > threshold`, made without an array of the image's size."""
    patch = resample(probs, box_norm, height, width, reference_quirks=reference_quirks)
    runs = _runs(patch.values > threshold, patch.top, patch.left, height, width)
    return rle_from_runs(runs.tolist(), height, width)


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


def resample(
    probs: np.ndarray,
    box_norm: np.ndarray,
    height: int,
    width: int,
    *,
    reference_quirks: bool | None = None,
) -> Patch:
    """The part of `paste_mask` inside the box. Arguments and errors are the same."""
    probs, box = np.asarray(probs), np.asarray(box_norm)
    if probs.ndim != 2 or min(probs.shape) < 2:
        raise DataError(f"a RoI mask must be at least 2 x 2, got {probs.shape}")
    if not np.isfinite(box).all():
        raise DataError(f"box {box.tolist()} holds a number that is not finite")
    ymin, xmin, ymax, xmax = box
    place = _place_as_reference if reference_quirks else _place
    top, rows = place(ymin, ymax, height, probs.shape[0])
    left, cols = place(xmin, xmax, width, probs.shape[1])
    if probs.dtype in (np.bool_, np.uint8):
        nearest = np.ix_((rows + 0.5).astype(int), (cols + 0.5).astype(int))
        return Patch(top, left, probs[nearest].astype(np.uint8))
    # Along the row first, then across: the reference's order, hence its rounding.
    across = _blend(probs.astype(np.float32, copy=False).T, cols).T  # [S, w]
    return Patch(top, left, _blend(across, rows))


def _place(low: float, high: float, length: int, size: int) -> tuple[int, np.ndarray]:
    """Where the pixels of one axis fall in the mask.

    Args:
        low, high: edges of the box, 0..1 of the axis.
        length: of the axis in pixels.
        size: of the mask in samples.

    Returns:
        The first pixel inside the box, and for it and each one after it up to the last one
        inside its position, float32 [n], 0..size - 1.
    """
    low, high = float(low), float(high)
    pixels = np.arange(length) / (length - 1) if length > 1 else np.array([0.5])
    positions = (pixels - low) / max(high - low, _MIN_SIDE) * (size - 1)
    first, last = np.searchsorted(
        positions, [-EDGE_TOLERANCE, size - 1 + EDGE_TOLERANCE]
    )
    inside = positions[first:last].clip(0, size - 1)
    return int(first), inside.astype(np.float32)


def _place_as_reference(
    low: float, high: float, length: int, size: int
) -> tuple[int, np.ndarray]:
    """`_place` with the reference's float32 arithmetic, step by step, and its sharp cut-off."""
    edges = np.array([low, high], np.float32)
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
    below = np.floor(positions)
    above = np.ceil(positions).astype(int)
    fraction = (positions - below)[:, None]
    low = samples[below.astype(int)]
    return low + (samples[above] - low) * fraction


def _runs(mask: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """COCO run lengths, uncompressed, of an image that is 0 around one rectangle.

    Args:
        mask: bool [h, w], the rectangle.
        top, left: its place in the image of `height` x `width`.

    Returns:
        int64 [R], zeros and ones in turn, zeros first, column after column.
    """
    h, w = mask.shape
    framed = np.zeros((w, h + 2), np.int8)
    framed[:, 1:-1] = mask.T
    change = np.diff(
        framed, axis=1
    )  # [w, h + 1]: 1 where a run starts, -1 past its end
    starts, ends = np.argwhere(change == 1), np.argwhere(change == -1)  # (column, row)
    if not len(starts):
        return np.array([height * width])
    to_pixel = np.array([height, 1])
    first_pixel = left * height + top
    starts, ends = starts @ to_pixel + first_pixel, ends @ to_pixel + first_pixel
    # A run that reaches the bottom of a column goes on at the top of the next.
    apart = starts[1:] != ends[:-1]
    borders = [starts[np.append(True, apart)], ends[np.append(apart, True)]]
    runs = np.diff(np.stack(borders, axis=1).ravel(), prepend=0, append=height * width)
    return runs if runs[-1] else runs[:-1]
