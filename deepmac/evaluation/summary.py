"""Curves -> the COCO numbers: of all categories, of groups of them, of each."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmac.evaluation.accumulate import Curves, count_by_category
from deepmac.evaluation.parameters import COCO_AREAS, Parameters, Scope
from deepmac.evaluation.state import Partial, unpack_bits

GIVEN_IOU = "mean_iou_at_gt_boxes"
"""Name of `Evaluation.mean_iou_at_given_boxes` among the figures."""

GIVEN_AP = "ap_at_gt_boxes"
"""Name of `Evaluation.ap_at_given_boxes` among the figures."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome of an evaluation.

    Attributes:
        parameters, scope: what was evaluated.
        curves: precision, recall and scores as in pycocotools.
        partial: the merged state behind them.
    """

    parameters: Parameters
    scope: Scope
    curves: Curves
    partial: Partial

    @property
    def stats(self) -> dict[str, float]:
        """The COCO numbers over all categories (see `coco_stats`)."""
        return coco_stats(self.curves, self.parameters)

    def stats_of(self, category_ids: Iterable[Any]) -> dict[str, float]:
        """The same over some categories."""
        return coco_stats(self.curves, self.parameters, self.columns(category_ids))

    def figures(
        self, category_ids: Iterable[Any] | None = None
    ) -> dict[str, float | None]:
        """The COCO numbers, then those at given boxes; None where there is nothing to say.

        At given boxes: the mean IoU, that of each size under its name with `_` and the label of
        the area range after it, and AP.
        """
        ids = None if category_ids is None else list(category_ids)
        stats = self.stats if ids is None else self.stats_of(ids)
        known = {name: None if value < 0 else value for name, value in stats.items()}
        means = {
            name: self._mean_iou(ids, area)
            for name, area in given_iou_figures(self.parameters).items()
        }
        ap = known[main_figure(self.parameters)] if self.has_only_given_boxes else None
        return known | means | {GIVEN_AP: ap}

    def mean_iou_at_given_boxes(
        self, category_ids: Iterable[Any] | None = None
    ) -> float | None:
        """Mean IoU of the annotations' masks and those predicted for their boxes.

        Over the annotations that are no crowds; one that no prediction carries the id of counts
        as 0. None where there is no such annotation, where boxes are evaluated, or where no
        prediction of the whole evaluation carries an id.
        """
        return self._mean_iou(category_ids, None)

    def mean_iou_by_size(
        self, category_ids: Iterable[Any] | None = None
    ) -> dict[str, float | None] | None:
        """The same for each area range but `all`, by label: of the annotations whose area is in it.

        Both ends of a range belong to it. An annotation that is ignored is in none.
        """
        if not self.has_given_boxes:
            return None
        ids = None if category_ids is None else list(category_ids)
        return {
            self.parameters.area_ranges[area].label: self._mean_iou(ids, area)
            for area in given_iou_figures(self.parameters).values()
            if area is not None
        }

    def ap_at_given_boxes(
        self, category_ids: Iterable[Any] | None = None
    ) -> float | None:
        """AP where every prediction was made for the box of an annotation, else None."""
        return self.figures(category_ids)[GIVEN_AP]

    @property
    def has_given_boxes(self) -> bool:
        """Whether any prediction was made for a given box, and masks are evaluated."""
        return self.partial.counts["predictions_for_given_boxes"] > 0

    @property
    def has_only_given_boxes(self) -> bool:
        """Whether every prediction was made for a given box, and masks are evaluated."""
        counts = self.partial.counts
        return (
            self.has_given_boxes
            and counts["predictions_for_given_boxes"] == counts["predictions"]
            and not counts["predictions_with_unknown_annotation_id"]
        )

    def given_box_ious(
        self, area: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every annotation with a mask that is no crowd, in the order of the ground truth.

        Args:
            area: position of a range, for the annotations in it alone.

        Returns:
            int64 [N], positions of its image and of its category; float64 [N], IoU, NaN without
            a prediction.
        """
        given = self._given
        if area is None:
            return given.image, given.category, given.iou
        rows = given.is_in_range[:, area]
        return given.image[rows], given.category[rows], given.iou[rows]

    @property
    def given_ordinals(self) -> np.ndarray:
        """int64 [N], numbers (`GroundTruth.ordinal`) of the annotations of `given_box_ious`."""
        return self._given.ordinal

    def annotations_without_prediction(self) -> np.ndarray:
        """Numbers (`GroundTruth.ordinal`) of the annotations that no prediction was made for.

        None of them where no prediction of the whole evaluation was made for a given box.
        """
        if not self.has_given_boxes:
            return self._given.ordinal[:0]
        return self._given.ordinal[np.isnan(self._given.iou)]

    @functools.cached_property
    def _given(self) -> "_Given":
        image, category, roles = self._truths
        rows = np.flatnonzero(roles[:, -1])
        rows = rows[np.argsort(self.partial.truth_ordinal[rows])]
        ordinal = self.partial.truth_ordinal[rows].astype(np.int64)
        iou = np.full(len(ordinal), np.nan)
        iou[np.searchsorted(ordinal, self.partial.given_ordinal)] = (
            self.partial.given_iou
        )
        return _Given(
            ordinal=ordinal,
            image=image[rows].astype(np.int64),
            category=category[rows].astype(np.int64),
            is_in_range=roles[rows, :-1],
            iou=iou,
        )

    def _mean_iou(
        self, category_ids: Iterable[Any] | None, area: int | None
    ) -> float | None:
        """Of `given_box_ious` in some categories; None: in all."""
        if not self.has_given_boxes:
            return None
        _, category, iou = self.given_box_ious(area)
        if category_ids is not None:
            iou = iou[np.isin(category, self.columns(category_ids))]
        return _exact_mean(iou)

    @functools.cached_property
    def num_truths(self) -> np.ndarray:
        """int64 [K, A], annotations that count in each category and range."""
        return count_by_category(self.partial, self.parameters, self.scope)

    @functools.cached_property
    def _truths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of G annotations: int [G] image and category, bool [G, A + 1] roles."""
        partial, num_ranges = self.partial, len(self.parameters.area_ranges)
        roles = unpack_bits(partial.truth_roles, num_ranges + 1)
        return partial.truth_image, partial.truth_category, roles

    def columns(self, category_ids: Iterable[Any]) -> np.ndarray:
        """int64 [..], ascending positions of some categories."""
        index = self.scope.category_index
        return np.array(sorted(index[c] for c in category_ids), np.int64)


class _Given(NamedTuple):
    """The N annotations that predictions for given boxes are compared with."""

    ordinal: np.ndarray  # int64 [N]
    image: np.ndarray  # int64 [N]
    category: np.ndarray  # int64 [N]
    is_in_range: np.ndarray  # bool [N, A]
    iou: np.ndarray  # float64 [N], NaN without a prediction


def _exact_mean(iou: np.ndarray) -> float | None:
    """Mean with NaN as 0. The exactly rounded sum does not depend on the order of the images."""
    return math.fsum(np.nan_to_num(iou)) / len(iou) if len(iou) else None


def coco_stats(
    curves: Curves, parameters: Parameters, categories: np.ndarray | None = None
) -> dict[str, float]:
    """The COCO numbers by name, equal to the reference bit by bit; -1 where there is nothing.

    With three limits the first twelve are the reference's `stats`, in its order. `AP` looks for a
    limit of 100 literally; where it is not among the limits, `AP@N` has the value at the largest,
    N. The other precisions are at the third limit, or the last of fewer. Area ranges of other
    names than COCO's give `AP_name` and `AR_name`.

    Args:
        curves: of all categories.
        parameters: of the evaluation.
        categories: int [..], positions of those to average over, ascending; None: all.
    """
    if categories is not None:
        curves = Curves(
            curves.precision[:, :, categories],
            curves.recall[:, categories],
            curves.scores[:, :, categories],
        )
    return {
        f.name: _mean(
            _select(
                curves.precision if f.is_precision else curves.recall, parameters, f
            )
        )
        for f in coco_figures(parameters)
    }


class Figure(NamedTuple):
    """A COCO number: a mean over categories, and over IoU thresholds unless one is named.

    Attributes:
        name: of it.
        is_precision: of precision, over recall thresholds too; else of recall.
        limit: of detections an image and category.
        area: label of the range.
        iou: the threshold, None for all.
    """

    name: str
    is_precision: bool
    limit: int
    area: str = "all"
    iou: float | None = None


def coco_figures(parameters: Parameters) -> list[Figure]:
    """The numbers that `coco_stats` gives, in its order."""
    limits = parameters.max_dets
    limit = limits[:3][-1]
    figures = [
        Figure("AP", True, 100),
        Figure("AP50", True, limit, iou=0.5),
        Figure("AP75", True, limit, iou=0.75),
        Figure("APs", True, limit, "small"),
        Figure("APm", True, limit, "medium"),
        Figure("APl", True, limit, "large"),
        *(Figure(f"AR{n}", False, n) for n in limits[:3]),
        Figure("ARs", False, limit, "small"),
        Figure("ARm", False, limit, "medium"),
        Figure("ARl", False, limit, "large"),
    ]
    if 100 not in limits:
        figures.append(Figure(f"AP@{limits[-1]}", True, limits[-1]))
    for label in _own_labels(parameters):
        figures += [
            Figure(f"AP_{label}", True, limit, label),
            Figure(f"AR_{label}", False, limit, label),
        ]
    return figures


def main_figure(parameters: Parameters) -> str:
    """Name of the one number that stands for all.

    AP, or, where that is -1 by definition: that of the first area range if none is called `all`,
    else that at the largest limit.
    """
    if all(a.label != "all" for a in parameters.area_ranges):
        first = parameters.area_ranges[0].label
        figures = coco_figures(parameters)
        return next(f.name for f in figures if f.is_precision and f.area == first)
    return "AP" if 100 in parameters.max_dets else f"AP@{parameters.max_dets[-1]}"


def given_iou_figures(parameters: Parameters) -> dict[str, int | None]:
    """Name of each mean IoU at given boxes -> position of its area range, None for any size."""
    sizes = {
        f"{GIVEN_IOU}_{r.label}": a
        for a, r in enumerate(parameters.area_ranges)
        if r.label != "all"
    }
    return {GIVEN_IOU: None, **sizes}


def _own_labels(parameters: Parameters) -> Sequence[str]:
    known = {a.label for a in COCO_AREAS}
    return [a.label for a in parameters.area_ranges if a.label not in known]


def _select(array: np.ndarray, parameters: Parameters, figure: Figure) -> np.ndarray:
    """The entries of a figure, in their own order."""
    thresholds, area, limit = places(figure, parameters)
    if area is None or limit is None:
        return array[..., :0, :0]
    # Only a mask copies, and only where not all are meant: memory order is part of the sum.
    if len(thresholds) < len(parameters.iou_thresholds):
        array = array[thresholds]
    return array[..., area, limit]


def places(
    figure: Figure, parameters: Parameters
) -> tuple[list[int], int | None, int | None]:
    """Positions of a figure's IoU thresholds, area range and limit; None for what is not there."""
    thresholds = [
        i
        for i, t in enumerate(parameters.iou_thresholds)
        if figure.iou is None or t == figure.iou
    ]
    areas = [i for i, a in enumerate(parameters.area_ranges) if a.label == figure.area]
    limits = [i for i, n in enumerate(parameters.max_dets) if n == figure.limit]
    return thresholds, next(iter(areas), None), next(iter(limits), None)


def _mean(entries: np.ndarray) -> float:
    """Mean of the entries above -1, -1 if there are none.

    One sum over all of them: averaging the averages of categories gives other last bits.
    """
    entries = entries[entries > -1]
    return float(np.mean(entries)) if entries.size else -1.0
