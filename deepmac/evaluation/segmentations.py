"""COCO `segmentation` values, checked and made into run lengths in bulk."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmac.errors import DataError
from deepmac.evaluation.columns import Place
from deepmac.evaluation.run_lengths import BadRunLengths, RunLengths, decode_counts
from deepmac.masks import (
    FARTHEST_POINT,
    LONGEST_OUTLINE,
    MOST_PIXELS,
    MOST_PIXELS_OF_POLYGONS,
    outline_length,
    rle_from_polygons,
    rle_from_runs,
    too_many_pixels,
)
from deepmac.text import short


def read_masks(
    values: Sequence[Any],
    sizes: np.ndarray,
    place: Place,
    wrong_size: str,
) -> tuple[RunLengths, int]:
    """The masks of COCO segmentations, made as the reference makes them.

    A list holds polygons [x0, y0, x1, y1, ...] in pixels, whose union is meant. An object has
    `size` (height, width), which need not be that of the image, and `counts`: a list (uncompressed)
    or text (compressed).

    Args:
        values: N segmentations.
        sizes: int64 [N, 2], (height, width) of their images.
        place: names row i.
        wrong_size: `error` refuses RLEs of another size than the image.

    Returns:
        The masks, and how many are of another size.

    Raises:
        DataError: a value has another form, or does not fit.
    """
    counts, own = _plain_texts(values) or _texts(values, sizes, place)
    is_other = (own != sizes).any(axis=1)
    if wrong_size == "error" and is_other.any():
        at = int(np.argmax(is_other))
        more = f" ({is_other.sum()} in all)" if is_other.sum() > 1 else ""
        raise DataError(
            f"{place(at)}: mask of {own[at].tolist()} pixels (height, width) in an image of "
            f"{sizes[at].tolist()}{more}; with --wrong_size reference such masks never match, as "
            f"in pycocotools"
        )
    try:
        return decode_counts(counts, own), int(is_other.sum())
    except BadRunLengths as e:
        raise DataError(f"{place(e.index)}: {e}") from None


def _plain_texts(values: Sequence[Any]) -> tuple[list[bytes], np.ndarray] | None:
    """Compressed counts, and sizes int64 [N, 2], if no value is anything else; for speed alone."""
    try:
        texts = [value["counts"] for value in values]
        sides = [side for value in values for side in value["size"]]
        counts = [text.encode("ascii") for text in texts]
    except (TypeError, KeyError, AttributeError, UnicodeEncodeError):
        return None
    if {type(side) for side in sides} != {int} or len(sides) != 2 * len(values):
        return None
    if {len(value["size"]) for value in values} != {2}:
        return None
    if min(sides) < 0 or max(sides) > MOST_PIXELS:
        return None
    sizes = np.array(sides, np.int64).reshape(-1, 2)
    return (counts, sizes) if sizes.prod(axis=1).max() <= MOST_PIXELS else None


def _texts(
    values: Sequence[Any], sizes: np.ndarray, place: Place
) -> tuple[list[bytes], np.ndarray]:
    """Compressed counts, and sizes int64 [N, 2], of values of any kind."""
    counts, own = [], []
    for row, (value, (height, width)) in enumerate(
        zip(values, sizes.tolist(), strict=True)
    ):
        if isinstance(value, list):
            if problem := _polygon_problem(value, height, width):
                raise DataError(f"{place(row)}: {problem}")
            rle = rle_from_polygons(value, height, width)
            own.append((height, width))
            counts.append(rle["counts"])
            continue
        size, text = _parts(value, row, place)
        if text is None:
            text = rle_from_runs(value["counts"], *size)["counts"] or b"0"
        own.append(size)
        counts.append(text)
    return counts, np.array(own, np.int64).reshape(-1, 2)


def _polygon_problem(polygons: list[Any], height: int, width: int) -> str | None:
    """What the reference would refuse, crash on, or misread. Later short polygons are empty."""
    if height * width > MOST_PIXELS_OF_POLYGONS:
        return too_many_pixels(height, width, MOST_PIXELS_OF_POLYGONS)
    if not polygons:
        return "segmentation is an empty list of polygons"
    if not isinstance(polygons[0], list) or len(polygons[0]) < 6:
        return f"a polygon needs at least 6 numbers, got {short(polygons[0])}"
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            return f"a polygon is a list of x, y, x, y, ..., got {short(polygon)}"
        if not all(
            issubclass(kind, _NUMBERS) for kind in {type(v) for v in polygon} - {int}
        ):
            return f"a polygon holds something that is not a number: {short(polygon)}"
        if polygon and not (
            min(polygon) >= -FARTHEST_POINT
            and max(polygon) <= FARTHEST_POINT
            and math.isfinite(sum(polygon))  # min and max miss NaN
        ):
            return f"a polygon is not finite, or lies far outside any image: {short(polygon)}"
        largest = max(map(abs, polygon), default=0)
        if (length := outline_length(polygon, largest)) > LONGEST_OUTLINE:
            return f"a polygon has an outline of {length:.3g} pixels: {short(polygon)}"
    return None


def _parts(value: Any, row: int, place: Place) -> tuple[Sequence[int], bytes | None]:
    """Size and compressed text of an RLE; None for text where it is a checked list of runs."""
    if not isinstance(value, dict) or not {"size", "counts"} <= value.keys():
        raise DataError(
            f"{place(row)}: segmentation is neither a list of polygons nor an RLE with 'size' "
            f"and 'counts', but {short(value)}"
        )
    size, counts = value["size"], value["counts"]
    if isinstance(size, list | tuple):  # from Python, NumPy's numbers are welcome
        size = [int(s) if isinstance(s, np.integer) else s for s in size]
    if (
        not isinstance(size, list)
        or len(size) != 2
        # One side may be 0, so that their product does not tell of the other.
        or not all(type(s) is int and 0 <= s <= MOST_PIXELS for s in size)
    ):
        raise DataError(
            f"{place(row)}: RLE size is {short(size)}, not [height, width] in pixels"
        )
    if size[0] * size[1] > MOST_PIXELS:
        raise DataError(f"{place(row)}: {too_many_pixels(*size)}")
    if isinstance(counts, str):
        return size, counts.encode("utf-8", "surrogatepass")
    if isinstance(counts, bytes):
        return size, counts
    if not isinstance(counts, list) or not {type(c) for c in counts} <= {int}:
        raise DataError(
            f"{place(row)}: RLE counts are neither whole numbers nor text, but {short(counts)}"
        )
    if min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
        raise DataError(
            f"{place(row)}: RLE counts add up to {sum(counts)} pixels, its size is {size[0]} x "
            f"{size[1]} = {size[0] * size[1]}"
        )
    return size, None


_NUMBERS = (float, np.integer, np.floating)
