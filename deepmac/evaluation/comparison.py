"""Two evaluations of the same images: which is better, on what, and how sure that is."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deepmac.evaluation.bootstrap import (
    GIVEN_IOU,
    Resampled,
    draw_images,
    interval,
    resample,
)
from deepmac.evaluation.state import check_terms, unpack_bits
from deepmac.evaluation.summary import Evaluation


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two evaluations.

    Attributes:
        first, second: the figure of each; None where there is nothing to say.
        interval: the middle 95 % of second - first over the draws of images; None as well.
        share_better: of the draws in which the second is better.
    """

    first: float | None
    second: float | None
    interval: tuple[float, float] | None
    share_better: float | None

    @property
    def value(self) -> float | None:
        """second - first."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves no doubt which is better."""
        return self.interval is not None and not (
            self.interval[0] <= 0 <= self.interval[1]
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` finds.

    Attributes:
        groups: name of a group of categories, `all` the first -> figure -> difference.
        categories: category id -> figure -> difference.
        images: (image id, score of the first, of the second), those that changed most first; see
            `image_scores`.
    """

    groups: Mapping[str, Mapping[str, Difference]]
    categories: Mapping[Any, Mapping[str, Difference]]
    images: Sequence[tuple[Any, float, float]]


def compare(
    first: Evaluation,
    second: Evaluation,
    groups: Mapping[str, Iterable[Any]],
    *,
    num_draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """The differences of two evaluations, with the bootstrap over images paired.

    Both are drawn the same images, so what makes an image hard for both cancels.

    Args:
        first, second: of the same images, categories and parameters.
        groups: of categories, by name.
        num_draws: of the bootstrap.
        seed: of the draws.

    Raises:
        DataError: they are not of the same, naming what differs.
    """
    check_terms(first.partial.terms, second.partial.terms)
    weights = draw_images(len(first.scope.image_ids), num_draws, seed)
    drawn = resample(first, weights), resample(second, weights)
    evaluations = first, second
    categories = {}
    if first.parameters.use_categories:
        categories = {
            c: _differences(evaluations, drawn, [c]) for c in first.scope.category_ids
        }
    return Comparison(
        groups={
            "all": _differences(evaluations, drawn, None),
            **{n: _differences(evaluations, drawn, ids) for n, ids in groups.items()},
        },
        categories=categories,
        images=_changes(first, second),
    )


def image_scores(evaluation: Evaluation) -> np.ndarray:
    """How well the objects of each image are met, float64 [I] in [0, 1]; NaN without any.

    Where predictions were made for given boxes, the mean IoU at them; else the share of the objects
    that were found, averaged over the IoU thresholds.
    """
    num_images = len(evaluation.scope.image_ids)
    partial, parameters = evaluation.partial, evaluation.parameters
    if partial.counts["predictions_for_given_boxes"]:
        image, _, iou = evaluation.given_box_ious()
        number = np.bincount(image, minlength=num_images)
        total = np.bincount(image, np.nan_to_num(iou), minlength=num_images)
    else:
        num_ranges = len(parameters.area_ranges)
        num_thresholds = len(parameters.iou_thresholds)
        counts = unpack_bits(partial.truth_roles, num_ranges + 1)[:, 0]
        number = np.bincount(partial.truth_image[counts], minlength=num_images)
        hits = unpack_bits(partial.hits, num_ranges, num_thresholds)[:, 0].mean(axis=1)
        image = partial.image[partial.matched]
        total = np.bincount(image, hits, minlength=num_images)
    nothing = np.full(num_images, np.nan)
    return np.divide(total, number, out=nothing, where=number > 0)


def _differences(
    evaluations: tuple[Evaluation, Evaluation],
    drawn: tuple[Resampled, Resampled],
    category_ids: Iterable[Any] | None,
) -> dict[str, Difference]:
    ids = None if category_ids is None else list(category_ids)
    first, second = (_figures(e, ids) for e in evaluations)
    draws = [d.of(ids) for d in drawn]
    found = {}
    for name, value in first.items():
        change = draws[1][name] - draws[0][name]
        change = change[~np.isnan(change)]
        better = float((change > 0).mean()) if len(change) else None
        found[name] = Difference(value, second[name], interval(change), better)
    return found


def _figures(
    evaluation: Evaluation, category_ids: Sequence[Any] | None
) -> dict[str, float | None]:
    stats = evaluation.stats
    if category_ids is not None:
        stats = evaluation.stats_of(category_ids)
    known: dict[str, float | None] = {
        name: None if value < 0 else value for name, value in stats.items()
    }
    return known | {GIVEN_IOU: evaluation.mean_iou_at_given_boxes(category_ids)}


def _changes(first: Evaluation, second: Evaluation) -> list[tuple[Any, float, float]]:
    scores = image_scores(first), image_scores(second)
    rows = np.flatnonzero(~np.isnan(scores[0]) & ~np.isnan(scores[1]))
    order = rows[np.argsort(-np.abs(scores[1] - scores[0])[rows], kind="stable")]
    ids = first.scope.image_ids
    return [(ids[i], float(scores[0][i]), float(scores[1][i])) for i in order.tolist()]
