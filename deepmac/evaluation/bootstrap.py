"""How far the figures would differ on other images: the bootstrap over images, from the state alone.

Images are drawn with replacement, as many as there are; an image drawn twice counts twice. Nothing
is matched again: matching never looks beyond an image.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from deepmac.evaluation.accumulate import Ranked, rank_by_category
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.state import unpack_bits
from deepmac.evaluation.summary import Evaluation, coco_figures, places

GIVEN_IOU = "mean_iou_at_gt_boxes"
_BLOCK = 1 << 23  # weights of detections held at once


def draw_images(num_images: int, num_draws: int, seed: int = 0) -> np.ndarray:
    """How often each image is drawn, uint16 [B, I]; the same every time."""
    rng = np.random.default_rng(seed)
    drawn = np.empty((num_draws, num_images), np.uint16)
    for row in drawn:
        row[:] = np.bincount(
            rng.integers(0, num_images, num_images), minlength=num_images
        )
    return drawn


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """The figures of an evaluation for B draws of its images.

    Attributes:
        scope: the images and categories.
        values: by name of the COCO number, float64 [B, K]; NaN where a draw has no object of the
            category.
        iou_sum, iou_number: float64 [B, K], of the annotations that predictions for given boxes are
            compared with; a number of 0 where there are no such predictions.
    """

    scope: Scope
    values: Mapping[str, np.ndarray]
    iou_sum: np.ndarray
    iou_number: np.ndarray

    def of(self, category_ids: Iterable[Any] | None = None) -> dict[str, np.ndarray]:
        """Each figure, averaged over categories as COCO does, float64 [B]; NaN for none."""
        columns = slice(None)
        if category_ids is not None:
            index = self.scope.category_index
            columns = np.array(sorted(index[c] for c in category_ids), np.int64)
        found = {name: _mean(v[:, columns]) for name, v in self.values.items()}
        number = self.iou_number[:, columns].sum(axis=1)
        total = self.iou_sum[:, columns].sum(axis=1)
        iou = np.full(len(number), np.nan)
        found[GIVEN_IOU] = np.divide(total, number, out=iou, where=number > 0)
        return found


def resample(evaluation: Evaluation, weights: np.ndarray) -> Resampled:
    """The figures with other images.

    Args:
        evaluation: of all images.
        weights: int [B, I], how often each image counts, from `draw_images`.
    """
    parameters, partial = evaluation.parameters, evaluation.partial
    num_categories, num_ranges = evaluation.num_truths.shape
    figures = coco_figures(parameters)
    values = {f.name: np.full((len(weights), num_categories), np.nan) for f in figures}
    roles = unpack_bits(partial.truth_roles, num_ranges + 1)
    category = partial.truth_category * parameters.use_categories
    ranked_categories = rank_by_category(partial, parameters, num_categories)
    for k, ranked in enumerate(ranked_categories):
        own = category == k
        images = [partial.truth_image[own & roles[:, a]] for a in range(num_ranges)]
        for block in _blocks(len(weights), len(ranked.image)):
            drawn = weights[block]
            numbers = np.stack([drawn[:, i].sum(axis=1) for i in images], axis=-1)
            found = _Draws(ranked, drawn, numbers, parameters)
            for figure in figures:
                thresholds, area, limit = places(figure, parameters)
                if area is None or limit is None or not thresholds:
                    continue
                of = found.precision if figure.is_precision else found.recall
                values[figure.name][block, k] = of(area, limit)[:, thresholds].mean(
                    axis=1
                )
    return Resampled(evaluation.scope, values, *_given(evaluation, weights))


def interval(draws: np.ndarray, share: float = 0.95) -> tuple[float, float] | None:
    """The middle part of the draws of a figure, float64 [B]; None where there is nothing."""
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return None
    low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


class _Draws:
    """Precision and recall of one category for some draws, each computed once.

    Args:
        ranked: the detections.
        weights: int [b, I].
        numbers: int [b, A], objects that count in each range.
        parameters: of the evaluation.
    """

    def __init__(
        self,
        ranked: Ranked,
        weights: np.ndarray,
        numbers: np.ndarray,
        parameters: Parameters,
    ):
        self._ranked, self._numbers, self._parameters = ranked, numbers, parameters
        self._weights = weights[:, ranked.image].astype(np.float32)  # [b, D]
        self._precision: dict[tuple[int, int], np.ndarray] = {}

    def recall(self, area: int, limit: int) -> np.ndarray:
        """float64 [b, T], final recall; NaN without objects."""
        ranked = self._ranked
        kept = ranked.rank[ranked.matched] < self._parameters.max_dets[limit]
        hits = ranked.hits[kept, area].astype(np.float32)
        found = self._weights[:, ranked.matched[kept]] @ hits
        return self._over(found.astype(np.float64), self._numbers[:, area, None])

    def precision(self, area: int, limit: int) -> np.ndarray:
        """float64 [b, T], mean over the recall thresholds; NaN without objects."""
        key = area, limit
        if key not in self._precision:
            self._precision[key] = self._mean_precision(area, limit)
        return self._precision[key]

    def _mean_precision(self, area: int, limit: int) -> np.ndarray:
        """As `accumulate.finalize`, with weights: see there why hits alone matter.

        A hit of weight 0 changes nothing: its precision is not above that of the hit before it.
        """
        ranked, numbers = self._ranked, self._numbers[:, area].astype(np.float64)
        recalls = np.array(self._parameters.recall_thresholds)
        kept = ranked.rank < self._parameters.max_dets[limit]
        counted = kept & ~ranked.is_outside[:, area]
        some = np.flatnonzero(kept[ranked.matched])
        place = ranked.matched[some]
        weights = self._weights[:, place].astype(np.float64)
        up_to = np.cumsum(self._weights * counted, axis=1, dtype=np.float64)[:, place]
        hits, ignored = ranked.hits[some, area], ranked.ignored[some, area]
        matched = (hits | ignored) & counted[place, None]
        result = np.zeros((len(weights), hits.shape[1]))
        for t in range(hits.shape[1]):
            rows = np.flatnonzero(hits[:, t])
            true = np.cumsum(weights[:, rows], axis=1)
            false = up_to[:, rows] - np.cumsum(weights * matched[:, t], axis=1)[:, rows]
            precision = true / np.maximum(true + false, 1)
            best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            recall = self._over(true, numbers[:, None])
            reached = np.searchsorted(recalls, recall.ravel(), "right")
            steps = np.diff(reached.reshape(true.shape), prepend=0, axis=1)
            result[:, t] = (best * steps).sum(axis=1) / len(recalls)
        return np.where(numbers[:, None] > 0, result, np.nan)

    @staticmethod
    def _over(values: np.ndarray, number: np.ndarray) -> np.ndarray:
        return np.divide(
            values, number, out=np.full(values.shape, np.nan), where=number > 0
        )


def _given(
    evaluation: Evaluation, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers, float64 [B, K], of the IoU at given boxes."""
    num_categories = len(evaluation.scope.category_ids)
    totals = np.zeros((2, len(weights), num_categories))
    if evaluation.partial.counts["predictions_for_given_boxes"]:
        image, category, iou = evaluation.given_box_ious()
        for k in range(num_categories):
            own = category == k
            drawn = weights[:, image[own]].astype(np.float64)
            totals[:, :, k] = drawn @ np.nan_to_num(iou[own]), drawn.sum(axis=1)
    return totals[0], totals[1]


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the categories that there are, [B]."""
    is_there = ~np.isnan(values)
    total, number = np.nansum(values, axis=1), is_there.sum(axis=1)
    nothing = np.full(len(values), np.nan)
    return np.divide(total, number, out=nothing, where=number > 0)


def _blocks(num_draws: int, num_detections: int) -> Iterator[slice]:
    step = max(_BLOCK // max(num_detections, 1), 1)
    edges = [*range(0, num_draws, step), num_draws]
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop)
