"""COCO masks by the thousand, as run lengths in one array: checked, measured, compared.

Nothing is drawn: the pixels that two masks share are counted from where their runs begin and end.
pycocotools trusts its input (run lengths that do not add up to the image make its IoU loop run for
ever or read outside its memory), so everything is checked when it is decoded.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from deepmac.errors import DataError
from deepmac.instances import RLE
from deepmac.masks import coco_mask, rle_from_runs, runs_of_text

# Of text decoded at once, and of runs compared: the temporary arrays stay in the cache
_BATCH_CHARS = 200_000
_BATCH_RUNS = 100_000
_FAR = (
    1 << 32
)  # more pixels than a mask has: puts the masks of a list one behind the other


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RunLengths:
    """N masks, the runs of one after those of the other.

    Attributes:
        runs: int32 [R], lengths of zeros and ones in turn, zeros first, column by column.
        starts: int64 [N + 1], where the runs of each mask begin, and where the last ones end.
        sizes: int64 [N, 2], (height, width) in pixels; the runs of a mask add up to their product.
    """

    runs: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def none(cls) -> "RunLengths":
        """No masks."""
        return cls(
            np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros((0, 2), np.int64)
        )

    @classmethod
    def concatenate(cls, parts: Sequence["RunLengths"]) -> "RunLengths":
        """The masks of all parts."""
        parts = [cls.none(), *parts]
        lengths = np.concatenate([np.diff(p.starts) for p in parts])
        return cls(
            np.concatenate([p.runs for p in parts]),
            _edges(lengths),
            np.concatenate([p.sizes for p in parts]),
        )

    def drawn(self) -> "RunLengths":
        """Itself: as `Outlines.drawn`."""
        return self

    def take(self, rows: np.ndarray) -> "RunLengths":
        """Some of the masks, int [M], in any order."""
        first, last = self.starts[rows], self.starts[rows + 1]
        return RunLengths(
            self.runs[ranges(first, last)], _edges(last - first), self.sizes[rows]
        )

    def areas(self) -> np.ndarray:
        """Foreground pixels, int64 [N]."""
        covered = np.append(0, np.cumsum(self.runs[1::2], dtype=np.int64))
        # Runs at odd places; of a mask that starts at an odd place those are its zeros.
        totals = self.sizes[:, 0] * self.sizes[:, 1]
        at_odd = np.diff(covered[self.starts // 2])
        return np.where(self.starts[:-1] % 2, totals - at_odd, at_odd)

    def has_empty_runs(self) -> np.ndarray:
        """bool [N], whether a run but the first is of length zero, which no encoder writes."""
        is_empty = self.runs == 0
        first = self.starts[:-1][np.diff(self.starts) > 0]
        if is_empty.sum() == is_empty[first].sum():  # as a rule
            return np.zeros(len(self), bool)
        is_empty[first] = False
        return np.diff(np.append(0, np.cumsum(is_empty))[self.starts]) > 0

    def rle(self, row: int) -> RLE:
        """One mask in the compressed form."""
        runs = self.runs[self.starts[row] : self.starts[row + 1]]
        height, width = self.sizes[row].tolist()
        return rle_from_runs(runs.tolist(), height, width)

    def tight_boxes(self) -> np.ndarray:
        """Tight boxes, float64 [N, 4], (x, y, width, height) in pixels; zeros for no foreground.

        They are pycocotools' own, also for masks whose foreground is runs of length zero alone,
        because it does not compare masks whose boxes, made like this, do not overlap.
        """
        boxes = np.zeros((len(self), 4))
        for start, stop in _batches(np.diff(self.starts), _BATCH_RUNS):
            boxes[start:stop] = _tight_boxes(self[start:stop])
        return boxes

    def __getitem__(self, rows: slice) -> "RunLengths":
        """Neighbouring masks, without a copy of their runs."""
        start, stop, _ = rows.indices(len(self))
        first, last = self.starts[[start, stop]].tolist()
        return RunLengths(
            self.runs[first:last],
            self.starts[start : stop + 1] - first,
            self.sizes[rows],
        )

    def spans(self) -> "Spans":
        """The runs of foreground."""
        ends = np.cumsum(self.runs, dtype=np.int64)
        before = np.append(0, ends)[self.starts[:-1]]
        number = np.diff(self.starts) // 2
        starts = _edges(number)
        # The second, fourth, ... run of each mask
        rows = np.repeat(self.starts[:-1] + 1 - 2 * starts[:-1], number)
        rows += np.arange(0, 2 * len(rows), 2)
        end = ends[rows]
        end -= np.repeat(before, number)
        return Spans(end - self.runs[rows], end, starts)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Runs of foreground of N masks, in pixels from the first of each mask, column by column.

    Attributes:
        begin, end: int64 [F], the end not included.
        starts: int64 [N + 1], where those of each mask begin, and where the last ones end.
    """

    begin: np.ndarray
    end: np.ndarray
    starts: np.ndarray

    def masks(self) -> np.ndarray:
        """int64 [F], the mask that each belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))


class BadRunLengths(DataError):
    """Run lengths that are not a mask.

    Attributes:
        index: which of those that were given.
    """

    def __init__(self, index: int, reason: str):
        super().__init__(reason)
        self.index = index


def decode_counts(counts: Sequence[bytes], sizes: np.ndarray) -> RunLengths:
    """The masks of N texts; see `decode_text`."""
    lengths = np.array([len(c) for c in counts], np.int64)
    return decode_text(b"".join(counts), lengths, sizes)


def decode_text(text: bytes, lengths: np.ndarray, sizes: np.ndarray) -> RunLengths:
    """The masks of compressed COCO run lengths.

    Args:
        text: run lengths, those of one mask after those of the other.
        lengths: int64 [N], bytes of each in the text.
        sizes: int [N, 2], (height, width) in pixels.

    Raises:
        BadRunLengths: a text is something else, or does not fill its size.
    """
    sizes = np.asarray(sizes, np.int64).reshape(len(lengths), 2)
    if not lengths.all():
        raise BadRunLengths(int(np.argmin(lengths)), "RLE counts are empty")
    view, edges = memoryview(text), _edges(lengths)
    parts = []
    for start, stop in _batches(lengths, _BATCH_CHARS):
        some = slice(start, stop)
        part = view[edges[start] : edges[stop]]
        try:
            parts.append(_decoded(part, lengths[some], sizes[some]))
        except BadRunLengths as e:
            raise BadRunLengths(start + e.index, str(e)) from None
    return RunLengths.concatenate(parts)


def intersections(
    ones: RunLengths, rows: np.ndarray, others: RunLengths, other_rows: np.ndarray
) -> np.ndarray:
    """Pixels that two masks of the same size have in common.

    Args:
        ones, others: the masks.
        rows, other_rows: int64 [P], which of them to compare.

    Returns:
        int64 [P].
    """
    a, b = ones.spans(), others.spans()
    a_end, a_begin = (_apart(v, a.masks()) for v in (a.end, a.begin))
    b_end, b_begin = (_apart(v, b.masks()) for v in (b.end, b.begin))
    b_begin = np.append(b_begin, np.iinfo(np.int64).max)
    covered = np.append(0, np.cumsum(b.end - b.begin))
    is_void = b.starts[other_rows] == b.starts[other_rows + 1]
    # Only spans of the one that lie between first and last pixel of the other can meet any of it.
    low = np.append(b.begin, 0)[b.starts[other_rows]]
    high = np.append(0, b.end)[b.starts[other_rows + 1]]
    first = np.searchsorted(a_end, _apart(low, rows), "right")
    last = np.searchsorted(a_begin, _apart(high, rows), "left")
    last = np.where(is_void, first, np.maximum(first, last))

    def covered_before(pixel: np.ndarray, mask: np.ndarray) -> np.ndarray:
        pixel = _apart(pixel, mask)
        at = np.searchsorted(b_end, pixel, "right")
        return covered[at] + np.maximum(pixel - b_begin[at], 0)

    common = np.zeros(len(rows), np.int64)
    for start, stop in _batches(last - first, _BATCH_RUNS):
        some = slice(start, stop)
        number = last[some] - first[some]
        spans = ranges(first[some], last[some])
        mask = np.repeat(other_rows[some], number)
        shared = covered_before(a.end[spans], mask)
        shared -= covered_before(a.begin[spans], mask)
        sums = np.append(0, np.cumsum(shared))
        common[some] = np.diff(sums[_edges(number)])
    return common


def pair_iou(
    detections: RunLengths,
    detection_rows: np.ndarray,
    truths: RunLengths,
    truth_rows: np.ndarray,
    is_crowd: np.ndarray,
    *,
    lowest: float = 0.0,
) -> np.ndarray:
    """IoU of pairs of masks, as pycocotools has it.

    Args:
        detections, truths: the masks.
        detection_rows, truth_rows: int64 [P], which of them to compare.
        is_crowd: bool [P], of the ground truth: the part of the detection that it covers is meant.
        lowest: an IoU that is certainly lower may be 0.

    Returns:
        float64 [P]; -1 for masks of unlike sizes whose tight boxes overlap.
    """
    detections, d = _used(detections, detection_rows)
    truths, g = _used(truths, truth_rows)
    own, other = detections.areas()[d], truths.areas()[g]
    a, b = detections.tight_boxes()[d].T, truths.tight_boxes()[g].T
    width = np.minimum(a[0] + a[2], b[0] + b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[1] + a[3], b[1] + b[3]) - np.maximum(a[1], b[1])
    meets = (width > 0) & (height > 0)
    odd_d, odd_g = detections.has_empty_runs()[d], truths.has_empty_runs()[g]
    most = np.minimum(own, other)
    # Boxes of masks with empty runs may be too small.
    most = np.where(odd_d | odd_g, most, np.minimum(most, width * height))
    bound = _ratio(most, own, other, is_crowd)
    same = (detections.sizes[d] == truths.sizes[g]).all(axis=1)
    iou = np.where(meets & ~same, -1.0, 0.0)
    rows = np.flatnonzero(meets & same & (bound >= lowest))
    common = intersections(detections, d[rows], truths, g[rows])
    iou[rows] = _ratio(common, own[rows], other[rows], is_crowd[rows])
    # Where two masks have empty runs at the same place, pycocotools looks no further.
    for row in rows[(odd_d & odd_g)[rows]].tolist():
        pair = (
            [detections.rle(int(d[row]))],
            [truths.rle(int(g[row]))],
            [bool(is_crowd[row])],
        )
        iou[row] = coco_mask.iou(*pair)[0, 0]
    return iou


def ranges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """int64 [..], the numbers from each `first` up to its `last`, one range after the other."""
    lengths = last - first
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(first - starts, lengths)


def _tight_boxes(masks: RunLengths) -> np.ndarray:
    """See `RunLengths.tight_boxes`."""
    spans = masks.spans()
    height, width = masks.sizes.T
    boxes = np.zeros((len(masks), 4), np.int64)
    # Where it has seen no pixel, pycocotools takes the difference of its starting values.
    void = np.stack([width, height, (1 - width) % _FAR, (1 - height) % _FAR], axis=-1)
    number = np.diff(spans.starts)
    is_void = number > 0
    boxes[is_void] = void[is_void]
    begin, end = spans.begin, spans.end
    length = end - begin
    if not length.all():
        is_pixel = length > 0
        begin, end, length = begin[is_pixel], end[is_pixel], length[is_pixel]
        number = np.bincount(spans.masks()[is_pixel], minlength=len(masks))
    if not len(begin):
        return boxes.astype(np.float64)
    own = np.flatnonzero(number)
    last = np.cumsum(number[own]) - 1
    first = np.append(0, last[:-1] + 1)
    left = begin[first] // height[own]
    right = (end[last] - 1) // height[own]
    # Exact in floating point: a quotient of such numbers is far from the next whole one.
    sides = np.repeat(height.astype(np.float64), number)
    top = begin - np.floor(begin / sides) * sides
    bottom = top + length
    top = np.minimum.reduceat(top, first)
    bottom = np.maximum.reduceat(bottom, first)
    # A run that goes on in the next column reaches from edge to edge.
    top = np.where(bottom > height[own], 0, top)
    bottom = np.minimum(bottom, height[own])
    boxes[own] = np.stack([left, top, right - left + 1, bottom - top], axis=-1)
    return boxes.astype(np.float64)


def _ratio(
    common: np.ndarray, own: np.ndarray, other: np.ndarray, is_crowd: np.ndarray
) -> np.ndarray:
    union = np.where(is_crowd, own, own + other - common)
    return np.divide(common, union, out=np.zeros(len(common)), where=common > 0)


def _used(masks: RunLengths, rows: np.ndarray) -> tuple[RunLengths, np.ndarray]:
    """The masks that some rows, int64 [P], mean, and the rows of these in them."""
    used, at = np.unique(rows, return_inverse=True)
    return masks.take(used), at


def _apart(pixel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return mask * _FAR + pixel


def _edges(lengths: np.ndarray) -> np.ndarray:
    """int64 [N + 1], where N parts begin, and the last ends."""
    return np.append(0, np.cumsum(lengths, dtype=np.int64))


def _batches(lengths: np.ndarray, most: int) -> list[tuple[int, int]]:
    """(start, stop) of some neighbours that together are about `most` long."""
    ends = np.cumsum(lengths)
    edges = np.flatnonzero(np.diff(ends // most, prepend=-1)).tolist()
    return list(itertools.pairwise([*edges, len(lengths)]))


def _decoded(text: memoryview, lengths: np.ndarray, sizes: np.ndarray) -> RunLengths:
    try:
        runs, first = runs_of_text(text, lengths)
    except DataError as e:
        if len(lengths) == 1:
            raise BadRunLengths(0, str(e)) from None
        half = len(lengths) // 2  # look for the culprit
        size = int(lengths[:half].sum())
        _decoded(text[:size], lengths[:half], sizes[:half])
        try:
            _decoded(text[size:], lengths[half:], sizes[half:])
        except BadRunLengths as found:
            raise BadRunLengths(half + found.index, str(found)) from None
        raise
    pixels = sizes[:, 0] * sizes[:, 1]
    totals = np.add.reduceat(runs, first)
    is_wrong = (totals != pixels) | (np.minimum.reduceat(runs, first) < 0)
    if is_wrong.any():
        index = int(np.argmax(is_wrong))
        height, width = sizes[index]
        reason = "RLE counts hold a negative run"
        if totals[index] != pixels[index]:
            reason = (
                f"RLE counts add up to {totals[index]} pixels, its size is {height} x {width} "
                f"= {pixels[index]}"
            )
        raise BadRunLengths(index, reason)
    return RunLengths(runs.astype(np.int32), np.append(first, len(runs)), sizes)
