"""Compressed COCO run lengths by the thousand: checked, and measured, in a few array passes.

pycocotools trusts its input: run lengths that do not add up to the image make its IoU loop run
for ever or read outside its memory. So everything is checked here before it gets there.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from deepmac.errors import DataError
from deepmac.instances import RLE
from deepmac.masks import coco_mask, runs_of

_CHUNK = 255  # pycocotools.mask.area of a longer list overflows under NumPy 2
# Of text decoded at once: the temporary arrays stay in the cache
_BATCH_CHARS = 200_000


def find_bad_rle(counts: Sequence[bytes], sizes: np.ndarray) -> tuple[int, str] | None:
    """The first RLE that is not one, or does not fill its own size.

    Args:
        counts: N compressed COCO run lengths.
        sizes: int [N, 2], (height, width) in pixels.

    Returns:
        Its index and what is wrong with it, or None.
    """
    if not len(counts):
        return None
    ends = np.cumsum([len(c) for c in counts], dtype=np.int64)
    batches = np.flatnonzero(np.diff(ends // _BATCH_CHARS, prepend=-1)).tolist()
    for start, stop in itertools.pairwise([*batches, len(counts)]):
        bad = _find_bad(counts[start:stop], np.asarray(sizes[start:stop], np.int64))
        if bad is not None:
            return start + bad[0], bad[1]
    return None


def rle_areas(rles: Sequence[RLE]) -> np.ndarray:
    """Foreground pixels of N checked RLEs, float64 [N] (whole numbers)."""
    chunks = [
        coco_mask.area(list(rles[i : i + _CHUNK])) for i in range(0, len(rles), _CHUNK)
    ]
    return np.concatenate([np.zeros(0), *chunks])


def tight_boxes(rles: Sequence[RLE]) -> np.ndarray:
    """Tight boxes of N checked RLEs, float64 [N, 4], (x, y, width, height) in pixels.

    Zeros for an empty mask. They are pycocotools' own, also for unusual encodings (runs of
    length zero), because it skips pairs of masks whose boxes, made like this, do not overlap.
    """
    chunks = [
        coco_mask.toBbox(list(rles[i : i + _CHUNK]))
        for i in range(0, len(rles), _CHUNK)
    ]
    return np.concatenate([np.zeros((0, 4)), *chunks])


def mask_iou(
    detections: Sequence[RLE], truths: Sequence[RLE], is_crowd: Sequence[bool]
) -> np.ndarray:
    """IoU of every detection with every ground truth, all of them checked RLEs.

    Returns:
        float64 [D, G]; for a crowd the part of the detection that it covers; -1 for masks of
        unlike sizes whose tight boxes overlap.
    """
    return coco_mask.iou(list(detections), list(truths), list(is_crowd))


def _find_bad(counts: Sequence[bytes], sizes: np.ndarray) -> tuple[int, str] | None:
    pixels = sizes[:, 0] * sizes[:, 1]
    for index, text in enumerate(counts):
        if not text:
            return index, "RLE counts are empty"
    try:
        runs, starts = runs_of(counts)
    except DataError as e:
        if len(counts) == 1:
            return 0, str(e)
        half = len(counts) // 2  # look for the culprit
        bad = _find_bad(counts[:half], sizes[:half])
        if bad is not None:
            return bad
        bad = _find_bad(counts[half:], sizes[half:])
        return None if bad is None else (half + bad[0], bad[1])
    totals = np.add.reduceat(runs, starts)
    is_wrong = (totals != pixels) | (np.minimum.reduceat(runs, starts) < 0)
    if not is_wrong.any():
        return None
    index = int(np.argmax(is_wrong))
    height, width = sizes[index]
    if totals[index] == pixels[index]:
        return index, "RLE counts hold a negative run"
    return index, (
        f"RLE counts add up to {totals[index]} pixels, its size is {height} x {width} = "
        f"{pixels[index]}"
    )
