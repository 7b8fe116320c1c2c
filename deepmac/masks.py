"""Masks as run lengths and as pixels. Run lengths are COCO's: column-major, zeros first."""

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask

from deepmac.errors import DataError
from deepmac.instances import RLE
from deepmac.text import short

# Its type stubs know only half of what it accepts.
coco_mask: Any = pycocotools.mask

FARTHEST_POINT = 1e6
"""Of a polygon, in pixels. Rasterising walks every edge pixel by pixel, also outside the image: a
wild coordinate would take all memory."""

LONGEST_OUTLINE = 4e6
"""Of a polygon, in pixels: what that walk may take together."""

MOST_PIXELS = 2**29 - 1
"""Of an image with masks: pycocotools writes and reads a run in six characters of five bits, the sign
among them, and does not look whether that is enough."""

MOST_PIXELS_OF_POLYGONS = 7 * 2**24 - 1
"""Of an image with polygons, see `rle_from_polygons`."""

# Up to here no run takes six characters. pycocotools has no room for the end of a text in which
# every run does.
_ALWAYS_ROOM = 2**24 - 1


def encode_rle(mask: np.ndarray) -> RLE:
    """Run lengths of a mask, bool or 0/1 [H, W]."""
    if mask.size > _ALWAYS_ROOM:
        columns = mask.T.ravel().astype(bool)
        ends = np.flatnonzero(columns[1:] != columns[:-1]) + 1
        runs = np.diff(ends, prepend=0, append=columns.size).tolist()
        return rle_from_runs([0] * bool(columns[0]) + runs, *mask.shape)
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
        DataError: the value has none of these forms, is empty, or its size is not the image's; or
            the image has more than `MOST_PIXELS`.
    """
    if height * width > MOST_PIXELS:
        raise DataError(too_many_pixels(height, width))
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
    is_size = isinstance(size, list | tuple) and bool not in map(type, size)
    if not is_size or list(size) != [height, width]:
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
    return _without_empty_runs(rle)


def too_many_pixels(height: int, width: int, most: int = MOST_PIXELS) -> str:
    """Says that an image is too large for masks, or for polygons."""
    what = "masks" if most == MOST_PIXELS else "polygons"
    return (
        f"an image of {height} x {width} pixels has more than {what} can have, {most}"
    )


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
    """Run lengths int64 [R] of one mask's compressed `counts`, see `runs_of`; may be empty."""
    return runs_of([counts])[0] if counts else np.zeros(0, np.int64)


def runs_of(counts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of N RLEs, one after the other; see `runs_of_text`."""
    lengths = np.array([len(c) for c in counts], np.int64)
    return runs_of_text(b"".join(counts), lengths)


def runs_of_text(
    text: bytes | memoryview, text_lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths of N RLEs, one after the other.

    Args:
        text: compressed COCO run lengths, those of one after those of the other. 5 bits of a
            signed number a character (offset 48), lowest first, the sixth bit says that more
            follow; from the fourth run of a mask on, a run is stored as the difference to the one
            two before.
        text_lengths: int64 [N], of each; none is 0.

    Returns:
        int64 [R] runs (zeros and ones in turn, zeros first) and int64 [N] where each RLE starts.

    Raises:
        DataError: a text is cut off or holds something else.
    """
    bits = np.frombuffer(text, np.uint8) - np.uint8(48)
    text_ends = text_lengths.cumsum()
    if bits.max() > 63:
        raise DataError("RLE counts hold a character that is not part of the encoding")
    if (bits[text_ends - 1] & 32).any():
        raise DataError("RLE counts are cut off")
    last = (bits < 32).nonzero()[0]  # [R], index of the last character of each run
    lengths = last.copy()
    lengths[0] += 1
    lengths[1:] -= last[:-1]
    if lengths.max() > 6:  # of which pycocotools would make another number
        raise DataError("RLE counts hold a run of more than 30 bits")
    # The last character carries the sign. Each is taken together with the one before it, where that
    # one says that more follow: most runs have no third, and nothing need be gathered for two.
    number, is_more = bits & np.uint8(31), bits >> np.uint8(5)
    pairs = ((number ^ np.uint8(16)).view(np.int8) - np.int8(16)).astype(np.int16)
    pairs[1:] <<= is_more[:-1] * np.int16(5)
    pairs[1:] |= number[:-1] * is_more[:-1]
    runs = pairs[last].astype(np.int64)
    # Of a run of three or more, the lower ones are still to be put behind.
    longer, back = (lengths > 2).nonzero()[0], 2
    while longer.size:
        runs[longer] = (runs[longer] << 5) | number[last[longer] - back]
        back += 1
        longer = longer[lengths[longer] > back]
    starts = np.zeros(len(text_ends), np.int64)
    if len(starts) > 1:
        starts[1:] = np.searchsorted(last, text_ends[:-1])
    _undo_differences(runs, starts)
    return runs, starts


def _undo_differences(runs: np.ndarray, starts: np.ndarray) -> None:
    """Adds up, in place, runs 1, 3, 5, ... and runs 2, 4, 6, ... of every RLE.

    Every other run of the whole array is summed in one pass: what comes together in an RLE is
    taken off the first of the next one before. The first run of each stands for itself.
    """
    if len(starts) == 1:
        runs[1::2] = runs[1::2].cumsum()
        runs[2::2] = runs[2::2].cumsum()
        return
    stops = np.append(starts[1:], len(runs))
    first = runs[starts]
    runs[starts] = 0
    for parity in (0, 1):
        chain = runs[parity::2]
        begin, end = (starts - parity + 1) // 2, (stops - parity + 1) // 2
        begin = begin[begin < end]
        if len(begin) > 1:
            chain[begin[1:]] -= np.add.reduceat(chain, begin)[:-1]
        np.cumsum(chain, out=chain)
    runs[starts] = first


def _rle_from_polygons(polygons: Sequence[Any], height: int, width: int) -> RLE:
    if not polygons:
        raise DataError("segmentation is an empty list of polygons")
    if height * width > MOST_PIXELS_OF_POLYGONS:
        raise DataError(too_many_pixels(height, width, MOST_PIXELS_OF_POLYGONS))
    for index, polygon in enumerate(polygons):
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError(
                f"polygon {index} needs an even count of at least 6 numbers, got {short(polygon)}"
            )
        largest = np.nan
        if {type(v) for v in polygon} <= {int, float}:
            with contextlib.suppress(OverflowError):
                largest = np.abs(np.asarray(polygon, np.float64)).max()
        if not np.isfinite(largest):
            raise DataError(
                f"polygon {index} holds something that is not a finite number"
            )
        if largest > FARTHEST_POINT:
            raise DataError(f"polygon {index} has a point {largest:.3g} pixels away")
        if (length := outline_length(polygon, largest)) > LONGEST_OUTLINE:
            raise DataError(f"polygon {index} has an outline of {length:.3g} pixels")
    return rle_from_polygons(polygons, height, width)


def outline_length(polygon: Sequence[float], largest: float) -> float:
    """Pixels that rasterising a polygon walks over, or more where that is little.

    Args:
        polygon: x0, y0, x1, y1, ..., finite.
        largest: absolute value in it.
    """
    if (bound := largest * len(polygon)) <= LONGEST_OUTLINE:
        return bound
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def _rle_from_counts(counts: list[Any], height: int, width: int) -> RLE:
    if not {type(c) for c in counts} <= {int}:
        raise DataError(f"RLE counts are not whole numbers: {short(counts)}")
    if min(counts, default=0) < 0:
        raise DataError(f"RLE counts hold a negative number: {short(counts)}")
    if (total := sum(counts)) != height * width:
        raise DataError(
            f"RLE counts add up to {short(total)} pixels, image has {height} x {width} = "
            f"{height * width}"
        )
    return _without_empty_runs(rle_from_runs(counts, height, width))


def rle_from_polygons(
    polygons: Sequence[Sequence[float]], height: int, width: int
) -> RLE:
    """The union of polygons that have been checked, as pycocotools draws them.

    A large image gets a column more, which is cut off again. Where pycocotools has no room for the
    end of a text, the allocator has, but for those of 4, 12, 20, ... runs: with the column there are
    not 4, and 12 only in images of more than `MOST_PIXELS_OF_POLYGONS`.
    """
    extra = height * width > _ALWAYS_ROOM
    drawn = coco_mask.frPyObjects(list(polygons), height, width + extra)
    rle = coco_mask.merge(drawn) if len(drawn) > 1 else drawn[0]
    if not extra:
        return rle
    ends = np.minimum(np.cumsum(rle_runs(rle["counts"])), height * width)
    runs = np.diff(ends, prepend=0).tolist()
    while len(runs) > 1 and not runs[-1]:
        runs.pop()
    return rle_from_runs(runs, height, width)


def rles_from_polygons(
    masks: Sequence[Sequence[Sequence[float]]], height: int, width: int
) -> list[RLE]:
    """`rle_from_polygons` of many masks; their polygons have at least 6 numbers each."""
    if height * width > _ALWAYS_ROOM:
        return [rle_from_polygons(polygons, height, width) for polygons in masks]
    every = [polygon for polygons in masks for polygon in polygons]
    drawn = iter(coco_mask.frPyObjects(every, height, width))
    parts = [list(itertools.islice(drawn, len(polygons))) for polygons in masks]
    return [coco_mask.merge(p) if len(p) > 1 else p[0] for p in parts]


def rle_from_runs(runs: Sequence[int], height: int, width: int) -> RLE:
    """Run lengths that have been checked, in the compressed form."""
    if height * width <= _ALWAYS_ROOM:
        size_and_runs = {"size": [height, width], "counts": list(runs)}
        return coco_mask.frPyObjects(size_and_runs, height, width)
    return rles_from_runs([np.array(runs, np.int64)], height, width)[0]


def rles_from_runs(runs: Sequence[np.ndarray], height: int, width: int) -> list[RLE]:
    """`rle_from_runs` of many masks of one size, int64 [R] each with R > 0, in one pass."""
    if not runs:
        return []
    lengths = [len(r) for r in runs]
    text, stops = _text_of_runs(np.concatenate(runs), np.array(lengths))
    starts = [0, *stops[:-1]]
    return [
        {"size": [height, width], "counts": text[start:stop]}
        for start, stop in zip(starts, stops, strict=True)
    ]


def _text_of_runs(runs: np.ndarray, lengths: np.ndarray) -> tuple[bytes, list[int]]:
    """The inverse of `runs_of_text`.

    Args:
        runs: int64 [R], under 2^29, of N masks one after the other.
        lengths: int64 [N], runs of each mask, positive.

    Returns:
        Their texts one after the other, and where each ends.
    """
    ends = lengths.cumsum()
    # From its fourth on, a run is told as the difference to the one before the last.
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    first = ends - lengths
    whole = np.concatenate([first, *(first[lengths > n] + n for n in (1, 2))])
    numbers[whole] = runs[whole]
    # Characters of five bits, the lowest first; bit 5 says that more follow, the last carries a sign.
    sizes = np.where(numbers < 0, ~numbers, numbers)
    num_characters = np.searchsorted(_CHARACTERS, sizes, "right") + 1
    places = np.arange(num_characters.max())
    characters = (numbers[:, None] >> 5 * places & 31) + 48
    characters += 32 * (places < num_characters[:, None] - 1)
    used = places < num_characters[:, None]
    text = characters.astype(np.uint8)[used].tobytes()
    return text, num_characters.cumsum()[ends - 1].tolist()


_CHARACTERS = 1 << np.arange(4, 30, 5)  # numbers that need a character more


def _without_empty_runs(rle: RLE) -> RLE:
    """The same mask in the form that `encode_rle` gives it.

    Only the first run may be of length zero there. pycocotools takes other empty runs, and finds
    wrong boxes and overlaps for such masks.
    """
    runs = rle_runs(rle["counts"])
    empty = np.flatnonzero(runs[1:] == 0)
    if not empty.size:
        return rle
    ends = np.cumsum(runs)
    # What an empty run keeps apart is one: both of its ends go.
    is_value = np.arange(len(runs)) % 2 == 1
    kept = runs > 0
    ends, is_value = ends[kept], is_value[kept]
    last = np.append(is_value[1:] != is_value[:-1], True)  # of runs of one value
    lengths = np.diff(ends[last], prepend=0).tolist()
    return rle_from_runs([0] * bool(is_value[0]) + lengths, *rle["size"])
