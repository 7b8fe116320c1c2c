"""COCO `segmentation` values: checked in bulk, made into run lengths when they are needed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmac.errors import DataError
from deepmac.evaluation.columns import Place
from deepmac.evaluation.run_lengths import find_bad_rle
from deepmac.instances import RLE
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


def check_segmentations(
    values: Sequence[Any],
    sizes: np.ndarray,
    place: Place,
    wrong_size: str,
) -> int:
    """Makes sure that `to_rle`, and pycocotools after it, can work with every value.

    A list holds polygons [x0, y0, x1, y1, ...] in pixels. An object has `size` (height, width)
    and `counts`: a list (uncompressed) or text (compressed).

    Args:
        values: N segmentations.
        sizes: int64 [N, 2], (height, width) of their images.
        place: names row i.
        wrong_size: `error` refuses RLEs of another size than the image.

    Returns:
        How many are of another size.

    Raises:
        DataError: a value has another form, or does not fit.
    """
    rows, counts, own_sizes = [], [], []
    for row, value in enumerate(values):
        if isinstance(value, list):
            if problem := _polygon_problem(value, *sizes[row].tolist()):
                raise DataError(f"{place(row)}: {problem}")
            continue
        size, text = _parts(value, row, place)
        rows.append(row)
        own_sizes.append(size)
        counts.append(text)
    own = np.array(own_sizes, np.int64).reshape(-1, 2)
    is_other = (own != sizes[rows]).any(axis=1)
    if wrong_size == "error" and is_other.any():
        at = int(np.argmax(is_other))
        more = f" ({is_other.sum()} in all)" if is_other.sum() > 1 else ""
        raise DataError(
            f"{place(rows[at])}: mask of {own[at].tolist()} pixels (height, width) in an image "
            f"of {sizes[rows[at]].tolist()}{more}; with --wrong_size reference such masks never "
            f"match, as in pycocotools"
        )
    compressed = [i for i, text in enumerate(counts) if text is not None]
    bad = find_bad_rle([counts[i] for i in compressed], own[compressed])
    if bad is not None:
        raise DataError(f"{place(rows[compressed[bad[0]]])}: {bad[1]}")
    return int(is_other.sum())


def to_rle(segmentation: Any, height: int, width: int) -> RLE:
    """A checked segmentation as compressed run lengths, made as the reference makes them.

    Args:
        segmentation: polygons, whose union is meant, or an RLE of either kind, which keeps its
            own size.
        height, width: of the image, for polygons.
    """
    if isinstance(segmentation, list):
        return rle_from_polygons(segmentation, height, width)
    if isinstance(segmentation["counts"], list):
        return rle_from_runs(segmentation["counts"], *segmentation["size"])
    return segmentation


def to_rles(segmentations: Sequence[Any], sizes: np.ndarray) -> list[RLE]:
    """`to_rle` of N segmentations; `sizes` int [N, 2] are those of their images."""
    return [
        to_rle(segmentation, height, width)
        for segmentation, (height, width) in zip(
            segmentations, sizes.tolist(), strict=True
        )
    ]


class RleCache:
    """The run lengths of checked segmentations, each made when it is first asked for.

    Args:
        segmentations: N checked values.
        sizes: int [N, 2], (height, width) of their images.
    """

    def __init__(self, segmentations: Sequence[Any], sizes: np.ndarray):
        self._segmentations, self._sizes = segmentations, sizes.tolist()
        self._rles: dict[int, RLE] = {}

    def __getitem__(self, row: int) -> RLE:
        if row not in self._rles:
            self._rles[row] = to_rle(self._segmentations[row], *self._sizes[row])
        return self._rles[row]


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
        if not {type(v) for v in polygon} <= {int, float}:
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
    if (
        not isinstance(size, list | tuple)
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
