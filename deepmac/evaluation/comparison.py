"""Two evaluations of the same images: which is better, on what, and how sure that is."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from deepmac.errors import DataError, one_of
from deepmac.evaluation.bootstrap import Resampled, draw_images, interval, resample
from deepmac.evaluation.parameters import Scope
from deepmac.evaluation.state import unpack_bits
from deepmac.evaluation.summary import Evaluation


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two evaluations.

    Attributes:
        first, second: the figure of each; None where there is nothing to say.
        interval: of second - first, 95 %, over draws of the images; None without figures, without
            draws, or where too few images have such objects.
        share_better: of the draws in which the second is better; None as well.
    """

    first: float | None
    second: float | None
    interval: tuple[float, float] | None = None
    share_better: float | None = None

    @property
    def value(self) -> float | None:
        """second - first."""
        if self.first is None or self.second is None:
            return None
        return self.second - self.first

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval is not None and not (
            self.interval[0] <= 0 <= self.interval[1]
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ImageChange:
    """What became of an image.

    Attributes:
        image_id, name: of it; its file name, None where unknown.
        first, second: its scores, see `image_scores`.
    """

    image_id: Any
    name: str | None
    first: float
    second: float


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` finds.

    Attributes:
        groups: name of a group of categories, `all` the first -> figure -> difference.
        categories: category id -> figure -> difference; empty where categories are not used.
        images: those whose scores differ, the largest change first.
        at_given_boxes: the scores of images are mean IoU at given boxes, see `image_scores`.
    """

    groups: Mapping[str, Mapping[str, Difference]]
    categories: Mapping[Any, Mapping[str, Difference]]
    images: Sequence[ImageChange]
    at_given_boxes: bool


def compare(
    first: Evaluation,
    second: Evaluation,
    groups: Mapping[str, Collection[Any]],
    *,
    num_draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """The differences of two evaluations, with the bootstrap over images paired.

    Both are drawn the same images, so what makes an image hard for both cancels.

    Args:
        first, second: of the same ground truth, in the same way; see `check_comparable`.
        groups: of categories, by name.
        num_draws: of the images.
        seed: of the draws.

    Raises:
        DataError: they are not of the same, naming what differs.
    """
    check_comparable(first, second)
    weights = draw_images(len(first.scope.image_ids), num_draws, seed)
    pair = _Pair(first, second, resample(first, weights), resample(second, weights))
    uses_categories = first.parameters.use_categories
    category_ids = first.scope.category_ids if uses_categories else ()
    at_given_boxes = first.has_given_boxes and second.has_given_boxes
    return Comparison(
        groups={
            "all": pair.differences(None),
            **{name: pair.differences(ids) for name, ids in groups.items()},
        },
        categories={c: pair.differences([c]) for c in category_ids},
        images=_changes(first, second, at_given_boxes),
        at_given_boxes=at_given_boxes,
    )


def check_comparable(first: Evaluation, second: Evaluation) -> None:
    """Raises DataError, naming what differs, unless both evaluate the same in the same way."""
    _check_ids(first.scope, second.scope, "image")
    _check_ids(first.scope, second.scope, "category")
    ours, theirs = map(dataclasses.asdict, (first.parameters, second.parameters))
    for name in ours:
        if ours[name] != theirs[name]:
            values = (_shown(p[name]) for p in (ours, theirs))
            raise DataError(
                "the two are not evaluated in the same way: {} is {} in A and {} in B".format(
                    name, *values
                )
            )
    for name, what in (
        ("truth_image", "images"),
        ("truth_category", "categories"),
        ("truth_roles", "sizes, or in which are crowds"),
    ):
        a, b = (getattr(_in_order(e), name) for e in (first, second))
        if len(a) != len(b):
            raise DataError(
                f"the ground truths differ: {len(a)} annotations in A, {len(b)} in B"
            )
        if not np.array_equal(a, b):
            raise DataError(
                f"the ground truths differ in the {what} of the annotations"
            )


def image_scores(evaluation: Evaluation, *, at_given_boxes: bool) -> np.ndarray:
    """How well the objects of each image are met, float64 [I] in [0, 1]; NaN without any.

    Args:
        evaluation: of them.
        at_given_boxes: the mean IoU at given boxes; else the share of the objects that count and
            were found, averaged over the IoU thresholds.
    """
    num_images = len(evaluation.scope.image_ids)
    partial, parameters = evaluation.partial, evaluation.parameters
    if at_given_boxes:
        image, _, iou = evaluation.given_box_ious()
        number = np.bincount(image, minlength=num_images)
        total = np.bincount(image, np.nan_to_num(iou), minlength=num_images)
    else:
        num_ranges = len(parameters.area_ranges)
        num_thresholds = len(parameters.iou_thresholds)
        # The first range: COCO's `all`.
        counts = unpack_bits(partial.truth_roles, num_ranges + 1)[:, 0]
        number = np.bincount(partial.truth_image[counts], minlength=num_images)
        hits = unpack_bits(partial.hits, num_ranges, num_thresholds)[:, 0].sum(axis=1)
        image = partial.image[partial.matched]
        # Whole numbers, whose sum does not depend on the order.
        total = np.bincount(image, hits, minlength=num_images) / num_thresholds
    nothing = np.full(num_images, np.nan)
    return np.divide(total, number, out=nothing, where=number > 0)


@dataclasses.dataclass(frozen=True, slots=True)
class _Pair:
    first: Evaluation
    second: Evaluation
    first_drawn: Resampled
    second_drawn: Resampled

    def differences(
        self, category_ids: Collection[Any] | None
    ) -> dict[str, Difference]:
        """Name of a figure -> its difference, over some categories; None: all."""
        first, second = (e.figures(category_ids) for e in (self.first, self.second))
        drawn = (self.first_drawn, self.second_drawn)
        ours, theirs = (d.deviations(category_ids) for d in drawn)
        found = {}
        for name, value in first.items():
            difference = Difference(value, second[name])
            if (
                difference.value is not None
                and len(ours.get(name, ())) > 0
                and name in theirs
            ):
                # The same draws have objects: both know the same ones.
                change = theirs[name] - ours[name]
                difference = dataclasses.replace(
                    difference,
                    interval=interval(difference.value, change),
                    share_better=float((difference.value + change > 0).mean()),
                )
            found[name] = difference
        return found


def _changes(
    first: Evaluation, second: Evaluation, at_given_boxes: bool
) -> list[ImageChange]:
    before, after = (
        image_scores(e, at_given_boxes=at_given_boxes) for e in (first, second)
    )
    change = np.abs(np.nan_to_num(after - before))
    order = np.argsort(-change, kind="stable")[: np.count_nonzero(change)]
    ids = first.scope.image_ids
    names = first.scope.image_names or (None,) * len(ids)
    return [
        ImageChange(ids[i], names[i], float(before[i]), float(after[i]))
        for i in order.tolist()
    ]


def _check_ids(first: Scope, second: Scope, what: str) -> None:
    name = f"{what}_ids"
    a, b = getattr(first, name), getattr(second, name)
    if a == b:
        return
    in_a, in_b = set(a), set(b)
    only = [
        f"only {whose} has {one_of(map(repr, some), limit=4)}"
        for whose, some in (
            ("A", [i for i in a if i not in in_b]),
            ("B", [i for i in b if i not in in_a]),
        )
        if some
    ]
    plural = "images" if what == "image" else "categories"
    raise DataError(
        f"the two do not evaluate the same {plural} ({len(a)} in A, {len(b)} in B): "
        f"{'; '.join(only)}"
    )


def _in_order(evaluation: Evaluation) -> Any:
    """Its partial result with the annotations by number."""
    partial = evaluation.partial
    rows = np.argsort(partial.truth_ordinal)
    names = ("truth_image", "truth_category", "truth_roles")
    return dataclasses.replace(partial, **{n: getattr(partial, n)[rows] for n in names})


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return one_of(map(_shown, value)) or "none"
    if isinstance(value, dict):
        return ":".join(map(_shown, value.values()))
    return f"{value:g}" if isinstance(value, float) else str(value)
