"""Masks as run lengths and as pixels. Run lengths are COCO's: column-major, zeros first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask

from deepmac.errors import DataError
from deepmac.instances import RLE
from deepmac.text import short

# Its type stubs know only half of what it accepts.
coco_mask: Any = pycocotools.mask

# Rasterising walks every edge pixel by pixel, also outside the image: a wild coordinate
# would take all memory.
_FARTHEST_POINT = 1e6


def encode_rle(mask: np.ndarray) -> RLE:
    """Run lengths of a mask, bool or 0/1 [H, W]."""
    # pycocotools reads columns first; a Fortran copy costs less than its own conversion.
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def decode_rle(rle: RLE) -> np.ndarray:
    """The mask of run lengths, bool [H, W]."""
    return coco_mask.decode(rle).astype(bool)


def rle_area(rle: RLE) -> int:
    """Foreground pixels."""
    return int(coco_mask.area(rle))


def rle_from_segmentation(segmentation: Any, height: int, width: int) -> RLE:
    """Run lengths of a COCO `segmentation` value, with the semantics of pycocotools.

    Args:
        segmentation: a list of polygons [x0, y0, x1, y1, ...] in pixels (their union), or an
            RLE dict with `counts` as a list (uncompressed), str or bytes (compressed).
        height, width: size of the image in pixels.

    Raises:
        DataError: the value has none of these forms, is empty, or its size is not the image's.
    """
    if isinstance(segmentation, list):
        return _rle_from_polygons(segmentation, height, width)
    if not (
        isinstance(segmentation, dict) and {"size", "counts"} <= segmentation.keys()
    ):
        raise DataError(
            f"segmentation is neither a list of polygons nor an RLE with 'size' and 'counts', "
            f"but {short(segmentation)}"
        )
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        raise DataError(
            f"mask of {short(size)} pixels (height, width) in an image of "
            f"[{height}, {width}]"
        )
    if isinstance(counts, list):
        return _rle_from_counts(counts, height, width)
    if isinstance(counts, str):
        counts = counts.encode(
            "utf-8", "replace"
        )  # check_rle refuses what is not ASCII
    if not isinstance(counts, bytes):
        raise DataError(f"RLE counts are neither numbers nor text, but {short(counts)}")
    rle: RLE = {"size": [height, width], "counts": counts}
    check_rle(rle)
    return rle


def check_rle(rle: RLE) -> None:
    """Raises DataError unless the runs of a compressed RLE add up to its size.

    pycocotools does not look: counts that run past the image write outside its memory.
    """
    height, width = rle["size"]
    runs = rle_runs(rle["counts"])
    if runs.size and runs.min() < 0:
        raise DataError("RLE counts hold a negative run")
    if runs.size and runs.sum() != height * width:
        raise DataError(
            f"RLE counts add up to {int(runs.sum())} pixels, image has {height} x {width} = "
            f"{height * width}"
        )
    if not runs.size and height * width:
        raise DataError("RLE counts are empty")


def rle_runs(counts: bytes) -> np.ndarray:
    """Run lengths int64 [R] of compressed `counts`: zeros and ones in turn, zeros first.

    The format is COCO's: 5 bits of a signed number a character (offset 48), bit 6 says that
    more follow, and from the fourth run on each is stored as the difference to the one two
    before.

    Raises:
        DataError: the text is cut off or holds a character outside the alphabet.
    """
    chars = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if chars.size == 0:
        return np.zeros(0, np.int64)
    if chars.min() < 0 or chars.max() > 63:
        raise DataError("RLE counts hold a character that is not part of the encoding")
    is_last = (chars & 0x20) == 0
    if not is_last[-1]:
        raise DataError("RLE counts are cut off")
    starts = np.concatenate([[0], np.flatnonzero(is_last)[:-1] + 1])
    position = np.arange(chars.size) - np.repeat(
        starts, np.diff(np.append(starts, chars.size))
    )
    if position.max() > 11:
        raise DataError("RLE counts hold a run of more than 60 bits")
    values = np.add.reduceat((chars & 0x1F) << (5 * position), starts)
    ends = np.flatnonzero(is_last)
    negative = (chars[ends] & 0x10) != 0
    values -= np.where(negative, np.int64(1) << (5 * (position[ends] + 1)), 0)
    # Undo the differences: runs 3, 5, 7, ... build on run 1, and 4, 6, ... on run 2.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _rle_from_polygons(polygons: Sequence[Any], height: int, width: int) -> RLE:
    if not polygons:
        raise DataError("segmentation is an empty list of polygons")
    for index, polygon in enumerate(polygons):
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError(
                f"polygon {index} needs an even count of at least 6 numbers, got {short(polygon)}"
            )
        try:
            largest = np.abs(np.asarray(polygon, np.float64)).max()
        except (TypeError, ValueError, OverflowError):
            largest = np.nan
        if not np.isfinite(largest):
            raise DataError(
                f"polygon {index} holds something that is not a finite number"
            )
        if largest > _FARTHEST_POINT:
            raise DataError(f"polygon {index} has a point {largest:.3g} pixels away")
    return coco_mask.merge(coco_mask.frPyObjects(list(polygons), height, width))


def _rle_from_counts(counts: list[Any], height: int, width: int) -> RLE:
    try:
        runs = np.asarray(counts, np.int64)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"RLE counts are not whole numbers: {short(counts)}") from None
    if runs.ndim != 1:
        raise DataError(f"RLE counts are not whole numbers: {short(counts)}")
    if (runs < 0).any():
        raise DataError(f"RLE counts hold a negative number: {short(counts)}")
    if runs.sum() != height * width:
        raise DataError(
            f"RLE counts add up to {int(runs.sum())} pixels, image has {height} x {width} = "
            f"{height * width}"
        )
    return coco_mask.frPyObjects(
        {"size": [height, width], "counts": counts}, height, width
    )
