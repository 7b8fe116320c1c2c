"""COCO `segmentation` values, checked and made into run lengths in bulk."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmac.errors import DataError
from deepmac.evaluation.columns import Place
from deepmac.evaluation.outlines import Outlines
from deepmac.evaluation.plain import is_mask_array, plain
from deepmac.evaluation.run_lengths import BadRunLengths, RunLengths, decode_text
from deepmac.evaluation.typed_results import alike, are_typed, as_dicts, field_of
from deepmac.masks import (
    FARTHEST_POINT,
    LONGEST_OUTLINE,
    MOST_PIXELS,
    MOST_PIXELS_OF_POLYGONS,
    encode_rle,
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
    or text (compressed). From Python, polygons and numbers may be NumPy's, and a mask may be an
    array, bool [height, width].

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
    outlines, num_other = read_outlines(values, sizes, place, wrong_size)
    return outlines.drawn(), num_other


def read_outlines(
    values: Sequence[Any],
    sizes: np.ndarray,
    place: Place,
    wrong_size: str,
) -> tuple[RunLengths | Outlines, int]:
    """As `read_masks`; most polygons are checked, and not drawn yet."""
    if (texts := _plain_texts(values)) is not None:
        return _decoded(texts, sizes, place, wrong_size)
    values = as_dicts(values)
    polygons = _plain_polygons(values, sizes)
    others = [i for i in range(len(values)) if i not in polygons]

    def place_of_other(row: int) -> str:
        return place(others[row])

    texts = _texts([values[i] for i in others], sizes[others], place_of_other)
    ready, num_other = _decoded(texts, sizes[others], place_of_other, wrong_size)
    ready_rows, own = np.full(len(values), -1), np.array(sizes)
    ready_rows[others], own[others] = np.arange(len(others)), ready.sizes
    outlines = [polygons.get(i) for i in range(len(values))]
    return Outlines(ready, ready_rows, outlines, own), num_other


def _decoded(
    texts: "_Texts", sizes: np.ndarray, place: Place, wrong_size: str
) -> tuple[RunLengths, int]:
    """The masks of some texts, and how many are of another size than their images."""
    text, lengths, own = texts
    is_other = (own != sizes).any(axis=1)
    if wrong_size == "error" and is_other.any():
        at = int(np.argmax(is_other))
        more = f" ({is_other.sum()} in all)" if is_other.sum() > 1 else ""
        raise DataError(
            f"{place(at)}: mask of {own[at].tolist()} pixels (height, width) in an image of "
            f"{sizes[at].tolist()}{more}; with wrong_size 'reference' such masks never match, as "
            f"in pycocotools"
        )
    try:
        return decode_text(text, lengths, own), int(is_other.sum())
    except BadRunLengths as e:
        raise DataError(f"{place(e.index)}: {e}") from None


_Texts = tuple[bytes, np.ndarray, np.ndarray]
"""Compressed counts one after the other, their lengths int64 [N], sizes int64 [N, 2]."""


def _plain_texts(values: Sequence[Any]) -> _Texts | None:
    """The texts if all values are compressed RLEs; for speed alone."""
    values = alike(values)
    try:
        if are_typed(values):
            texts, own = field_of(values, "counts"), field_of(values, "size")
        else:
            texts = [value["counts"] for value in values]
            own = [value["size"] for value in values]
            if {type(side) for size in own for side in size} != {int}:
                return None
        if set(map(len, own)) != {2}:
            return None
        sizes = np.fromiter(itertools.chain.from_iterable(own), np.int64, 2 * len(own))
        text = "".join(texts).encode("ascii")
    except (TypeError, LookupError, AttributeError, UnicodeError, OverflowError):
        return None
    sizes = sizes.reshape(-1, 2)
    if sizes.min() < 0 or sizes.max() > MOST_PIXELS:
        return None
    if sizes.prod(axis=1).max() > MOST_PIXELS:
        return None
    return text, np.fromiter(map(len, texts), np.int64, len(texts)), sizes


def _texts(values: Sequence[Any], sizes: np.ndarray, place: Place) -> _Texts:
    """The texts of values of any kind."""
    counts, own = [], []
    for row, (value, (height, width)) in enumerate(
        zip(values, sizes.tolist(), strict=True)
    ):
        if is_mask_array(value):
            own.append(value.shape)
            counts.append(encode_rle(value)["counts"])
            continue
        if problem := _array_problem(value, height, width):
            raise DataError(f"{place(row)}: {problem}")
        value = plain(value)
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
    lengths = np.array([len(c) for c in counts], np.int64)
    return b"".join(counts), lengths, np.array(own, np.int64).reshape(-1, 2)


def _plain_polygons(
    values: Sequence[Any], sizes: np.ndarray
) -> dict[int, list[np.ndarray]]:
    """Row -> its polygons (see `Outlines`), of all that have any if none is unusual.

    What `_polygon_problem` finds, and what only the reference would draw, is left to it.
    """
    rows = [i for i, value in enumerate(values) if isinstance(value, list) and value]
    polygons = [polygon for i in rows for polygon in values[i]]
    kinds = set(map(type, polygons))
    if kinds not in ({list}, {np.ndarray}):
        return {}
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    if lengths.min() < 6 or (lengths % 2).any():
        return {}
    points = np.concatenate(polygons) if kinds == {np.ndarray} else _points(polygons)
    if points is None or points.ndim != 1:
        return {}
    starts = np.cumsum(lengths) - lengths
    largest = np.maximum.reduceat(np.abs(points), starts)
    # NaN is not smaller than anything.
    is_usual = (largest <= FARTHEST_POINT) & (largest * lengths <= LONGEST_OUTLINE)
    if not is_usual.all() or sizes[rows].prod(axis=1).max() > MOST_PIXELS_OF_POLYGONS:
        return {}
    outlines = iter(np.split(points, starts[1:]))
    return {row: list(itertools.islice(outlines, len(values[row]))) for row in rows}


def _points(polygons: list[list[Any]]) -> np.ndarray | None:
    """The numbers of polygons one after the other; None if something else is among them."""
    flat = list(itertools.chain.from_iterable(polygons))
    if not set(map(type, flat)) <= {int, float}:
        return None
    try:
        return np.array(flat, np.float64)
    except OverflowError:
        return None


def _array_problem(value: Any, height: int, width: int) -> str | None:
    """Why an array that is no mask is not a list of polygons either."""
    if not isinstance(value, np.ndarray):
        return None
    if value.ndim > 2 or value.shape == (height, width):
        return (
            f"segmentation is an array of {value.dtype} {list(value.shape)}; give a mask as bool "
            f"[height, width], here [{height}, {width}]"
        )
    return None


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
        largest = max(max(polygon), -min(polygon)) if polygon else 0
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
