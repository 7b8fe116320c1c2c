"""What lies behind the figures of an evaluation, as arrays: curves, histograms, calibration.

Everything follows from the merged state, in whatever order its rows are. The first area range is
meant, which is that of all sizes unless others were asked for.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.state import unpack_bits
from deepmac.evaluation.summary import Evaluation

HIT_AT = 0.5
"""IoU from which on a detection is called right in `reliability`, if it is among the thresholds."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PrecisionCurves:
    """Precision against recall, in the first area range at the largest limit.

    Attributes:
        labels: P of them: single IoU thresholds, and the mean over all.
        recalls: float64 [R].
        precision: float64 [P, R, K], in [0, 1]; NaN where a category has no objects.
    """

    labels: tuple[str, ...]
    recalls: np.ndarray
    precision: np.ndarray

    def mean(self, categories: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """float64 [P, R], over the categories (their positions) that have objects; NaN for none."""
        chosen = self.precision
        if categories is not None:
            chosen = chosen[:, :, np.asarray(categories, np.int64)]
        chosen = chosen[:, :, ~np.isnan(chosen).any(axis=(0, 1))]
        if not chosen.shape[2]:
            return np.full(chosen.shape[:2], np.nan)
        return chosen.mean(axis=2)


def precision_curves(evaluation: Evaluation) -> PrecisionCurves:
    """The curves at IoU 0.50 and 0.75, as far as these are thresholds, and their mean over all."""
    parameters = evaluation.parameters
    precision = evaluation.curves.precision[..., 0, -1]  # [T, R, K]
    thresholds = parameters.iou_thresholds
    single = [t for t in (0.5, 0.75) if t in thresholds]
    chosen = [(f"IoU {t:.2f}", precision[thresholds.index(t)]) for t in single]
    if len(thresholds) > len(single):
        low, high = min(thresholds), max(thresholds)
        chosen.append((f"mean of IoU {low:.2f} to {high:.2f}", precision.mean(axis=0)))
    labels, arrays = zip(*chosen, strict=True)
    stacked = np.stack(arrays)
    return PrecisionCurves(
        labels=labels,
        recalls=np.array(parameters.recall_thresholds),
        precision=np.where(stacked > -1, stacked, np.nan),
    )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """The detections that match an annotation that counts, at the lowest IoU threshold.

    Attributes:
        row: int64 [N], rows of the state.
        ordinal: int64 [N], number of the annotation.
        category: int64 [N], position of the annotation's category.
        iou: float64 [N].
    """

    row: np.ndarray
    ordinal: np.ndarray
    category: np.ndarray
    iou: np.ndarray


def hits_of(evaluation: Evaluation) -> Hits:
    """The detections that match, in order of the annotations."""
    partial, parameters = evaluation.partial, evaluation.parameters
    lowest = int(np.argmin(parameters.iou_thresholds))
    is_hit = _match_bits(evaluation, "hits")[:, lowest]
    rows = np.flatnonzero(is_hit & (partial.matched_ordinal >= 0))
    # Each annotation is matched once: crowds, which are not, are no hits.
    rows = rows[np.argsort(partial.matched_ordinal[rows])]
    ordinal = partial.matched_ordinal[rows].astype(np.int64)
    truth = np.argsort(partial.truth_ordinal)
    at = truth[np.searchsorted(partial.truth_ordinal[truth], ordinal)]
    return Hits(
        row=partial.matched[rows].astype(np.int64),
        ordinal=ordinal,
        category=partial.truth_category[at].astype(np.int64),
        iou=partial.matched_iou[rows].astype(np.float64),
    )


def histogram(
    values: np.ndarray, low: float, num_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many values lie in equal bins between `low` and 1, both included.

    Returns:
        Edges, float64 [B + 1], and numbers, int64 [B].
    """
    edges = np.linspace(low, 1, num_bins + 1)
    # What lies on an edge belongs above it; rounding keeps 0.15 = 3 * 0.05 there.
    place = np.floor((values - low) / (1 - low) * num_bins + 1e-6).astype(np.int64)
    return edges, np.bincount(place.clip(0, num_bins - 1), minlength=num_bins)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Scores against what became of the detections, in B bins of equal width.

    Attributes:
        edges: float64 [B + 1], of the scores.
        number: int64 [B], detections.
        right: int64 [B], of them, those that are right.
        score: float64 [B], their mean score; NaN where there are none.
        iou: the threshold at which they are right.
    """

    edges: np.ndarray
    number: np.ndarray
    right: np.ndarray
    score: np.ndarray
    iou: float

    @property
    def share(self) -> np.ndarray:
        """float64 [B], of the detections that are right; NaN where there are none."""
        nothing = np.full(len(self.number), np.nan)
        return np.divide(self.right, self.number, out=nothing, where=self.number > 0)

    @property
    def error(self) -> float | None:
        """Mean distance of score and share, each bin by its number; None without detections."""
        filled = self.number > 0
        if not filled.any():
            return None
        distance = np.abs(self.score - self.share)[filled]
        return float((distance * self.number[filled]).sum() / self.number.sum())


def reliability(
    evaluation: Evaluation,
    categories: Iterable[Any] | None = None,
    num_bins: int = 10,
) -> Reliability:
    """How often detections are right, by score.

    Those that match what is ignored, such as crowds, take no part, nor do those without a match
    that lie outside the first area range.

    Args:
        evaluation: to look at.
        categories: ids; None: all.
        num_bins: between 0 and 1, or, where scores lie beyond, between the least and the most.
    """
    partial, parameters = evaluation.partial, evaluation.parameters
    at = _hit_threshold(parameters.iou_thresholds)
    is_right, takes_part = _outcomes(evaluation, at)
    score = partial.score
    low = min(0.0, float(score.min(initial=0)))
    high = max(1.0, float(score.max(initial=1)))
    if categories is not None:
        index = evaluation.scope.category_index
        places = np.array([index[c] for c in categories], np.int64)
        takes_part = takes_part & np.isin(partial.category, places)
    score, is_right = score[takes_part], is_right[takes_part]
    order = np.argsort(score, kind="stable")  # sums depend on their order
    score, is_right = score[order], is_right[order]
    place = np.floor((score - low) / (high - low) * num_bins + 1e-9).astype(np.int64)
    place = place.clip(0, num_bins - 1)
    number = np.bincount(place, minlength=num_bins)
    total = np.bincount(place, weights=score, minlength=num_bins)
    nothing = np.full(num_bins, np.nan)
    return Reliability(
        edges=np.linspace(low, high, num_bins + 1),
        number=number,
        right=np.bincount(place[is_right], minlength=num_bins),
        score=np.divide(total, number, out=nothing, where=number > 0),
        iou=right_at(parameters),
    )


def iou_by_size(
    evaluation: Evaluation, hits: Hits, categories: Iterable[int] | None = None
) -> dict[str, tuple[float, int] | None]:
    """Mean IoU of the matches and their number, by the size of the object; None without any.

    Args:
        evaluation: to look at.
        hits: of it.
        categories: positions; None: all.

    Returns:
        By label of each area range but the first.
    """
    partial, parameters = evaluation.partial, evaluation.parameters
    num_ranges = len(parameters.area_ranges)
    order = np.argsort(partial.truth_ordinal)
    roles = unpack_bits(partial.truth_roles[order], num_ranges + 1)
    at = np.searchsorted(partial.truth_ordinal[order], hits.ordinal)
    chosen = np.ones(len(at), bool)
    if categories is not None:
        chosen = np.isin(hits.category, np.fromiter(categories, np.int64))
    found = {}
    for a, area_range in list(enumerate(parameters.area_ranges))[1:]:
        iou = hits.iou[chosen & roles[at, a]]
        found[area_range.label] = (float(iou.mean()), len(iou)) if len(iou) else None
    return found


def right_at(parameters: Parameters) -> float:
    """The IoU from which on a detection is called right."""
    return parameters.iou_thresholds[_hit_threshold(parameters.iou_thresholds)]


def outcomes(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """bool [D] each: the detection is right at the threshold of `reliability`; it takes part."""
    return _outcomes(evaluation, _hit_threshold(evaluation.parameters.iou_thresholds))


def _outcomes(evaluation: Evaluation, at: int) -> tuple[np.ndarray, np.ndarray]:
    partial = evaluation.partial
    is_right = np.zeros(len(partial.score), bool)
    is_right[partial.matched] = _match_bits(evaluation, "hits")[:, at]
    is_ignored = np.zeros(len(partial.score), bool)
    is_ignored[partial.matched] = _match_bits(evaluation, "ignored")[:, at]
    num_ranges = len(evaluation.parameters.area_ranges)
    is_outside = unpack_bits(partial.outside, num_ranges)[:, 0]
    return is_right, ~is_ignored & (is_right | ~is_outside)


def _match_bits(evaluation: Evaluation, name: str) -> np.ndarray:
    """bool [N, T] of the detections that have any match, in the first range."""
    parameters = evaluation.parameters
    shape = len(parameters.area_ranges), len(parameters.iou_thresholds)
    return unpack_bits(getattr(evaluation.partial, name), *shape)[:, 0]


@functools.cache
def _hit_threshold(thresholds: tuple[float, ...]) -> int:
    """Position of `HIT_AT`, or of the lowest."""
    if HIT_AT in thresholds:
        return thresholds.index(HIT_AT)
    return int(np.argmin(thresholds))
