"""How far the figures would differ on other images: the bootstrap over images, from the state alone.

Images are drawn with replacement, as many as there are; an image drawn twice counts twice. Nothing
is matched again: matching never looks beyond an image.

Where no scores tie within an image and category, a draw's figures equal, to 1e-7, an evaluation of a
data set in which the images stand as often; else within about 1e-3 (docs/evaluate.md): the copies of
the first of two such detections all come before those of the second here, and in turns there.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmac.evaluation.accumulate import Ranked, rank_by_category
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.state import unpack_bits
from deepmac.evaluation.summary import (
    GIVEN_AP,
    Evaluation,
    coco_figures,
    given_iou_figures,
    main_figure,
    places,
)

INTERVAL = 0.95
"""Share of the draws that an interval covers."""

FEWEST_IMAGES = 10
"""With objects of what a figure is about: below, no interval is given."""

_BLOCK = 1 << 24  # numbers in the largest array
_EXACT = 1 << 24  # up to here float32 holds every whole number


def draw_images(num_images: int, num_draws: int, seed: int = 0) -> np.ndarray:
    """How often each image is drawn, uint8 [B, I]; the same every time."""
    rng = np.random.default_rng(seed)
    if not num_images:
        return np.zeros((num_draws, 0), np.uint8)
    # That an image is drawn more than 255 times has a chance of less than 1 in 10 ** 500.
    drawn = np.empty((num_draws, num_images), np.uint8)
    for row in drawn:
        row[:] = np.bincount(
            rng.integers(0, num_images, num_images), minlength=num_images
        )
    return drawn


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """The figures of an evaluation for B draws of its images.

    Attributes:
        evaluation: with every image once.
        images: of the objects that count, int [..], by category and range.
        values: by name of the COCO number, float64 [B, K]; NaN where a draw has no object of the
            category.
        given: by name of the mean IoU at given boxes; empty where no prediction was made for one.
    """

    evaluation: Evaluation
    images: Sequence[Sequence[np.ndarray]]
    values: Mapping[str, np.ndarray]
    given: Mapping[str, "GivenBoxes"]

    def of(self, category_ids: Iterable[Any] | None = None) -> dict[str, np.ndarray]:
        """Each figure, averaged over categories as COCO does, float64 [B]; NaN for none.

        Those at given boxes are there where `Evaluation.figures` has them.
        """
        columns = slice(None)
        if category_ids is not None:
            columns = self.evaluation.columns(category_ids)
        found = {name: _mean(v[:, columns]) for name, v in self.values.items()}
        found |= {name: given.mean(columns) for name, given in self.given.items()}
        if self.evaluation.has_only_given_boxes:
            found[GIVEN_AP] = found[main_figure(self.evaluation.parameters)]
        return found

    def deviations(
        self, category_ids: Iterable[Any] | None = None
    ) -> dict[str, np.ndarray]:
        """How far each figure lies off its mean over the draws, float64 [..].

        Figures are left out whose objects lie in fewer than `FEWEST_IMAGES`, which say nothing of
        other images; draws, that have none of the objects.

        The mean itself means nothing: a draw holds fewer different images than there are, and the
        fewer they are, the higher rise the maxima that precision is made of (docs/decisions.md).
        """
        ids = None if category_ids is None else list(category_ids)
        found = {}
        for name, draws in self.of(ids).items():
            draws = draws[~np.isnan(draws)]
            if len(draws) and self._num_images(name, ids) >= FEWEST_IMAGES:
                found[name] = draws - draws.mean()
        return found

    def _num_images(self, figure: str, category_ids: Sequence[Any] | None) -> int:
        """Images with objects of some categories that the figure is about."""
        parameters = self.evaluation.parameters
        if figure in self.given:
            by_category = self.given[figure].images
        else:
            name = main_figure(parameters) if figure == GIVEN_AP else figure
            coco = next(f for f in coco_figures(parameters) if f.name == name)
            _, area, _ = places(coco, parameters)
            assert area is not None  # without its range a figure has no draws
            by_category = [images[area] for images in self.images]
        rows = range(len(by_category))
        if category_ids is not None:
            rows = self.evaluation.columns(category_ids).tolist()
        images = [by_category[k] for k in rows]
        return len(np.unique(np.concatenate(images))) if images else 0


class GivenBoxes(NamedTuple):
    """A mean IoU at given boxes for B draws.

    Attributes:
        total, number: float64 [B, K], sum of the IoU, and of how many annotations.
        images: of these, int [..], by category.
    """

    total: np.ndarray
    number: np.ndarray
    images: Sequence[np.ndarray]

    def mean(self, columns: slice | np.ndarray) -> np.ndarray:
        """float64 [B], over some categories; NaN where a draw has no such annotation."""
        total, number = (v[:, columns].sum(axis=1) for v in (self.total, self.number))
        nothing = np.full(len(number), np.nan)
        return np.divide(total, number, out=nothing, where=number > 0)


def resample(evaluation: Evaluation, weights: np.ndarray) -> Resampled:
    """The figures with other images; to about 1e-7, for speed, but for tied scores (see above).

    Args:
        evaluation: of all images.
        weights: int [B, I], how often each image counts, from `draw_images`.
    """
    parameters = evaluation.parameters
    num_categories = len(evaluation.num_truths)
    figures = coco_figures(parameters)
    values = {f.name: np.full((len(weights), num_categories), np.nan) for f in figures}
    ranked = []
    if len(weights):
        ranked = list(rank_by_category(evaluation.partial, parameters, num_categories))
    images = _images_of_objects(evaluation)
    most_rows = max([weights.shape[1], *(len(r.matched) for r in ranked)])
    for block in _blocks(len(weights), most_rows):
        drawn = np.ascontiguousarray(weights[block].T, np.float32)  # [I, b]
        for k, of_category in enumerate(ranked):
            found = _Draws(of_category, images[k], drawn, parameters)
            for figure in figures:
                thresholds, area, limit = places(figure, parameters)
                if area is None or limit is None or not thresholds:
                    continue
                of = found.precision if figure.is_precision else found.recall
                values[figure.name][block, k] = of(thresholds, area, limit)
    given = {}
    if evaluation.has_given_boxes:
        for name, area in given_iou_figures(parameters).items():
            given[name] = _given_boxes(evaluation, area, weights)
    return Resampled(evaluation, images, values, given)


def interval(
    value: float, deviations: np.ndarray, share: float = INTERVAL
) -> tuple[float, float]:
    """As far about a figure as it would vary over other images.

    Rounded to 6 digits, to be the same on every machine.

    Args:
        value: the figure, with every image once.
        deviations: float64 [..], from `Resampled.deviations`.
        share: of the draws that lie within, about their mean.
    """
    half = float(np.quantile(np.abs(deviations), share))
    return round(value - half, 6), round(value + half, 6)


def intervals(
    figures: Mapping[str, float | None], deviations: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """The interval of each figure that has a value and draws."""
    return {
        name: interval(value, deviations[name])
        for name, value in figures.items()
        if name in deviations and value is not None
    }


class _Draws:
    """Precision and recall of one category for b draws.

    Draws are the last axis throughout: one detection after the other is added to all of them.

    Args:
        ranked: the detections.
        objects: for each range, int [..], images of the objects that count.
        drawn: float32 [I, b], how often each image counts.
        parameters: of the evaluation.
    """

    def __init__(
        self,
        ranked: Ranked,
        objects: Sequence[np.ndarray],
        drawn: np.ndarray,
        parameters: Parameters,
    ):
        if len(ranked.image) * drawn.max(initial=0) >= _EXACT:
            drawn = drawn.astype(np.float64)
        self._ranked, self._drawn, self._rows = ranked, drawn, list(drawn)
        self._parameters = parameters
        self._numbers = [self._weighted(images) for images in objects]
        self._precision: dict[tuple[int, int], np.ndarray] = {}

    def recall(self, thresholds: Sequence[int], area: int, limit: int) -> np.ndarray:
        """float64 [b], final recall, mean over IoU thresholds; NaN without objects."""
        ranked, number = self._ranked, self._numbers[area]
        kept = ranked.rank[ranked.matched] < self._parameters.max_dets[limit]
        times = ranked.hits[kept, area][:, thresholds].sum(axis=1)
        hits = self._weighted(ranked.image[ranked.matched[kept]], times)
        most = np.maximum(number * len(thresholds), 1)
        return np.where(number > 0, hits / most, np.nan)

    def precision(self, thresholds: Sequence[int], area: int, limit: int) -> np.ndarray:
        """float64 [b], mean over IoU and recall thresholds; NaN without objects."""
        key = area, limit
        if key not in self._precision:
            self._precision[key] = self._mean_precision(area, limit)
        return self._precision[key][thresholds].mean(axis=0)

    def _mean_precision(self, area: int, limit: int) -> np.ndarray:
        """float64 [T, b]: as `accumulate.finalize`, with weights; see there why hits alone matter.

        A hit of weight 0 changes nothing: its precision is not above that of the hit before it.
        """
        ranked, number = self._ranked, self._numbers[area]
        kept = ranked.rank < self._parameters.max_dets[limit]
        counted = kept & ~ranked.is_outside[:, area]
        some = np.flatnonzero(kept[ranked.matched])
        place, hits = ranked.matched[some], ranked.hits[some, area]
        images, is_hit = ranked.image[place], hits.any(axis=1)
        countable = self._sums(ranked.image[counted], np.cumsum(counted)[place[is_hit]])
        row_of = np.cumsum(is_hit) - 1
        # A hit counts whatever its own size, a match with what is ignored never.
        changes = (
            (np.add, hits & ~counted[place, None]),
            (np.subtract, ranked.ignored[some, area] & counted[place, None]),
        )
        recalls = _Recalls(number, self._parameters.recall_thresholds)
        result = np.zeros((hits.shape[1], len(number)))
        for t in range(hits.shape[1]):
            rows = np.flatnonzero(hits[:, t])
            true = self._sums(images[rows], np.arange(1, len(rows) + 1))
            total = countable[row_of[rows]]
            for operation, is_changed in changes:
                changed = np.flatnonzero(is_changed[:, t])
                up_to = np.searchsorted(changed, rows, "right")
                operation(total, self._sums(images[changed], up_to), out=total)
            precision = np.divide(true, np.maximum(total, 1, out=total), out=total)
            for after, row in itertools.pairwise(precision[::-1]):
                np.maximum(after, row, out=row)
            result[t] = recalls.mean(precision, true)
        return np.where(number > 0, result, np.nan)

    def _weighted(
        self, images: np.ndarray, times: np.ndarray | None = None
    ) -> np.ndarray:
        """int64 [b], how many images there are, each as often as it is drawn, times a number."""
        number = np.bincount(images, times, minlength=len(self._drawn))
        some = np.flatnonzero(number)
        factors = number[some].astype(self._drawn.dtype)
        # Not `@`, whose threads are dearer than the sum.
        total = np.einsum("i,ib->b", factors, self._drawn[some])
        return np.rint(total).astype(np.int64)

    def _sums(self, images: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """How often the first n of a list of images are drawn, [N, b], for each n of `stops`."""
        sums = np.empty((len(stops), self._drawn.shape[1]), self._drawn.dtype)
        before, rows, numbers = (
            np.zeros_like(self._drawn[0]),
            self._rows,
            images.tolist(),
        )
        start = 0
        # All draws at a time: several times as fast as `np.cumsum` along either axis.
        for total, stop in zip(sums, stops.tolist(), strict=True):
            if start == stop:
                total[:] = before
            else:
                np.add(before, rows[numbers[start]], out=total)
                for image in numbers[start + 1 : stop]:
                    np.add(total, rows[image], out=total)
            before, start = total, stop
        return sums


class _Recalls:
    """The recall thresholds of b draws, whose numbers of objects differ.

    Args:
        number: int64 [b], of objects.
        thresholds: R of them, ascending.
    """

    def __init__(self, number: np.ndarray, thresholds: Sequence[float]):
        self._num_thresholds = len(thresholds)
        different, which = np.unique(number, return_inverse=True)
        # For each number n: how many thresholds 0, 1, ... n hits reach.
        tables = [
            np.searchsorted(thresholds, np.arange(n + 1) / max(n, 1), "right")
            for n in different.tolist()
        ]
        self._table = np.concatenate(tables).astype(np.float32)
        self._start = np.cumsum([0, *map(len, tables)])[which]

    def mean(self, precision: np.ndarray, true: np.ndarray) -> np.ndarray:
        """float64 [b], the mean of the precisions at which the thresholds are reached.

        Args:
            precision: [N, b] at N hits, never rising.
            true: [N, b], hits so far.
        """
        index = true.astype(np.intp)
        index += self._start
        reached = self._table[index]
        reached[1:] -= reached[:-1].copy()
        total = np.einsum("nb,nb->b", precision, reached, dtype=np.float64)
        return total / self._num_thresholds


def _images_of_objects(evaluation: Evaluation) -> list[list[np.ndarray]]:
    """See `Resampled.images`."""
    partial, parameters = evaluation.partial, evaluation.parameters
    num_categories, num_ranges = evaluation.num_truths.shape
    roles = unpack_bits(partial.truth_roles, num_ranges + 1)
    category = partial.truth_category * parameters.use_categories
    order = np.argsort(category, kind="stable")
    edges = np.searchsorted(category[order], np.arange(num_categories + 1)).tolist()
    return [
        [partial.truth_image[rows[roles[rows, a]]] for a in range(num_ranges)]
        for rows in (order[i:j] for i, j in itertools.pairwise(edges))
    ]


def _given_boxes(
    evaluation: Evaluation, area: int | None, weights: np.ndarray
) -> GivenBoxes:
    """Of the annotations in a range, or in any."""
    image, category, iou = evaluation.given_box_ious(area)
    shape = len(weights), len(evaluation.scope.category_ids)
    totals, by_category = np.zeros((2, *shape)), []
    for k in range(shape[1]):
        own = category == k
        images, which = np.unique(image[own], return_inverse=True)
        drawn = weights[:, images].astype(np.float64)
        sums = np.bincount(which, np.nan_to_num(iou[own]), minlength=len(images))
        numbers = np.bincount(which, minlength=len(images))
        totals[:, :, k] = np.einsum("bi,ni->nb", drawn, [sums, numbers])
        by_category.append(images)
    return GivenBoxes(totals[0], totals[1], by_category)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the categories that there are, [B]."""
    is_there = ~np.isnan(values)
    total, number = np.nansum(values, axis=1), is_there.sum(axis=1)
    nothing = np.full(len(values), np.nan)
    return np.divide(total, number, out=nothing, where=number > 0)


def _blocks(num_draws: int, num_rows: int) -> Iterator[slice]:
    step = max(_BLOCK // max(num_rows, 1), 1)
    edges = [*range(0, num_draws, step), num_draws]
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop)
