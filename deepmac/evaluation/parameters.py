"""What is evaluated and how, with the defaults of COCO; which images and categories are meant."""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from deepmac.errors import DataError, OptionError, did_you_mean, one_of
from deepmac.text import short

IOU_TYPES = ("segm", "bbox")
"""What is compared: masks, boxes."""


SWITCHES: dict[str, tuple[str, ...]] = {
    "id_zero": ("reference", "match"),
    "duplicate_ids": ("error", "reference"),
    "wrong_size": ("error", "reference"),
    "result_area": ("reference", "mask"),
    "ignore_field": ("reference", "honour"),
}
"""What to do about data that pycocotools takes silently; `reference`: as pycocotools does."""


@dataclasses.dataclass(frozen=True, slots=True)
class AreaRange:
    """Objects of `low` to `high` pixels, both included, under a name."""

    label: str
    low: float
    high: float


COCO_AREAS = (
    AreaRange("all", 0.0, 1e10),
    AreaRange("small", 0.0, 1024.0),
    AreaRange("medium", 1024.0, 9216.0),
    AreaRange("large", 9216.0, 1e10),
)

# np.linspace, not 0.05 * i or k / 100: several of these differ from the typed numbers in the last
# bit, and results are compared with `==`.
COCO_IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
COCO_RECALL_THRESHOLDS = tuple(np.linspace(0.0, 1.0, 101).tolist())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How to evaluate. The defaults give the twelve COCO numbers, bit by bit.

    The last five fields are `SWITCHES`.
    """

    iou_type: str = "segm"
    iou_thresholds: tuple[float, ...] = COCO_IOU_THRESHOLDS  # T, in (0, 1]
    recall_thresholds: tuple[float, ...] = COCO_RECALL_THRESHOLDS  # R, ascending
    area_ranges: tuple[AreaRange, ...] = COCO_AREAS  # A
    max_dets: tuple[int, ...] = (1, 10, 100)  # M, per image and category; sorted
    use_categories: bool = True  # False: a detection may match any category

    id_zero: str = "reference"
    """A ground truth with id 0 takes a detection that still counts as unmatched; or is normal."""

    duplicate_ids: str = "error"
    """Annotations that share an id: refuse, or use the last once for each of them."""

    wrong_size: str = "error"
    """Masks of another size than the image: refuse, or never match."""

    result_area: str = "reference"
    """Size of a detection that has box and mask: that of the box if the first has one; or the mask's."""

    ignore_field: str = "reference"
    """`ignore` of a ground truth: without effect; or neither hit nor miss, as a crowd."""

    def __post_init__(self):
        for name in ("iou_thresholds", "recall_thresholds", "area_ranges", "max_dets"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "max_dets", tuple(sorted(self.max_dets)))
        for name, choices in {"iou_type": IOU_TYPES, **SWITCHES}.items():
            value = getattr(self, name)
            if value not in choices:
                raise OptionError(
                    f"{name} is one of {one_of(choices)}, got '{value}'"
                    f"{did_you_mean(str(value), choices)}"
                )
        if not self.iou_thresholds or not all(0 < t <= 1 for t in self.iou_thresholds):
            raise OptionError(
                f"iou_thresholds lie above 0 and up to 1, got {one_of(self.iou_thresholds)}"
            )
        limits = self.max_dets
        if not limits or limits[0] < 1 or len(set(limits)) < len(limits):
            raise OptionError(
                f"max_dets are different numbers of at least 1, got {one_of(limits)}"
            )
        if limits[-1] >= 2**31:
            raise OptionError(f"max_dets are less than 2**31, got {one_of(limits)}")
        labels = [a.label for a in self.area_ranges]
        if not labels or len(set(labels)) < len(labels):
            raise OptionError(
                f"area ranges need labels of their own, got {one_of(labels)}"
            )
        for a in self.area_ranges:
            if not a.low <= a.high or math.isinf(a.low):
                raise OptionError(
                    f"area range '{a.label}' runs from {a.low} to {a.high}: the first must be the "
                    f"smaller"
                )

    @property
    def lowest_threshold(self) -> float:
        """The smallest IoU that can matter."""
        return min(self.effective_thresholds)

    @property
    def effective_thresholds(self) -> tuple[float, ...]:
        """As the matching compares them: a threshold of 1 admits the last rounding error."""
        return tuple(min(t, 1 - 1e-10) for t in self.iou_thresholds)


@dataclasses.dataclass(frozen=True, eq=False)
class Scope:
    """The images and categories that an evaluation is about, each in ascending order.

    An image's position here is its key in ties: equal scores are ranked by it. Text sorts as
    text, so '10' comes before '9'.

    Attributes:
        image_ids: I ids, all numbers or all text. Images without any object count too.
        image_sizes: int64 [I, 2], (height, width) in pixels; zeros where unknown.
        category_ids: K ids.
        category_names: name of each category id.
        image_names: I file names, None where unknown; empty where no image has one.
    """

    image_ids: tuple[Any, ...]
    image_sizes: np.ndarray
    category_ids: tuple[Any, ...]
    category_names: Mapping[Any, str]
    image_names: tuple[str | None, ...] = ()

    @functools.cached_property
    def image_index(self) -> dict[Any, int]:
        """Position of each image id."""
        return {value: i for i, value in enumerate(self.image_ids)}

    @functools.cached_property
    def category_index(self) -> dict[Any, int]:
        """Position of each category id."""
        return {value: i for i, value in enumerate(self.category_ids)}

    def restricted(
        self,
        image_ids: Iterable[Any] | None = None,
        category_ids: Iterable[Any] | None = None,
    ) -> "Scope":
        """The same for some of the images or categories.

        Raises:
            OptionError: one of them is not here.
        """
        scope = self
        if image_ids is not None:
            rows = _positions(image_ids, self.image_index, "image")
            scope = dataclasses.replace(
                scope,
                image_ids=tuple(self.image_ids[i] for i in rows),
                image_sizes=self.image_sizes[rows],
                image_names=tuple(
                    self.image_names[i] for i in rows if self.image_names
                ),
            )
        if category_ids is not None:
            rows = _positions(category_ids, self.category_index, "category")
            scope = dataclasses.replace(
                scope, category_ids=tuple(self.category_ids[i] for i in rows)
            )
        return scope

    def to_json(self) -> dict[str, Any]:
        """The scope as JSON values, of which `from_json` makes it again."""
        return {
            "image_ids": self.image_ids,
            "image_sizes": self.image_sizes.tolist(),
            "category_ids": self.category_ids,
            "category_names": list(self.category_names.items()),
            "image_names": self.image_names,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Scope":
        """The scope that `to_json` has described."""
        return cls(
            image_ids=tuple(stored["image_ids"]),
            image_sizes=np.array(stored["image_sizes"], np.int64).reshape(-1, 2),
            category_ids=tuple(stored["category_ids"]),
            category_names=dict(stored["category_names"]),
            image_names=tuple(stored["image_names"]),
        )

    @functools.cached_property
    def digest(self) -> tuple[str, str]:
        """What tells images and categories from others, to travel with every partial result."""
        return _digest(self.image_ids), _digest(self.category_ids)


def sorted_ids(ids: Iterable[Any], what: str) -> tuple[Any, ...]:
    """Each id once, ascending.

    Raises:
        DataError: numbers and text are mixed, or there is something else among them.
    """
    unique = set(ids)
    if not all(isinstance(i, int | float) for i in unique) and not all(
        isinstance(i, str) for i in unique
    ):
        raise DataError(
            f"{what} ids must be all numbers or all text, got {one_of(map(repr, list(unique)[:4]))}"
        )
    long = [i for i in unique if not isinstance(i, str) and not _is_exact(i)]
    if long:
        raise DataError(
            f"{what} id {short(long[0])} has more digits than a number keeps; store ids like it as text"
        )
    return tuple(sorted(unique))


def _is_exact(number: float) -> bool:
    """Whether a number is what was written, wherever it is kept; NaN is not."""
    if isinstance(number, float):
        return abs(number) < 2**53
    return -(2**63) <= number < 2**63


def terms_of(parameters: Parameters, scope: Scope) -> str:
    """Everything that two partial results must agree on, as JSON text."""
    return _terms(parameters, *scope.digest)


@functools.lru_cache(maxsize=8)  # as often as an image is matched
def _terms(parameters: Parameters, images: str, categories: str) -> str:
    terms = dataclasses.asdict(parameters) | {
        "images": images,
        "categories": categories,
    }
    return orjson.dumps(terms, option=orjson.OPT_SORT_KEYS).decode()


def other_kind(value: Any, known: Any) -> str:
    """The end of an error sentence where one id is text and the other a number."""
    if known is None or isinstance(value, str) == isinstance(known, str):
        return ""
    kind = "text" if isinstance(known, str) else "numbers"
    return f"; ids there are {kind}, as {known!r}"


def check_draws(num_draws: Any, seed: Any, *, flag: str = "") -> None:
    """Refuses a number of draws, or a seed, that is not a whole number of at least 0.

    Raises:
        OptionError: names it, after `flag`.
    """
    for name, value in {"draws": num_draws, "seed": seed}.items():
        if not is_whole(value):
            raise OptionError(f"{flag}{name} is {short(value)}, not a whole number")
        if value < 0:
            raise OptionError(f"{flag}{name} must not be negative, got {value}")


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, be it NumPy's; true and false are none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _positions(wanted: Iterable[Any], index: dict[Any, int], what: str) -> list[int]:
    wanted = list(wanted)
    missing = [w for w in wanted if w not in index]
    if missing:
        name, known = str(missing[0]), [str(i) for i in index]
        hint = did_you_mean(name, known)
        if name in known:
            hint = other_kind(missing[0], next(iter(index)))
        raise OptionError(
            f"the ground truth has no {what} with id {one_of(map(repr, missing))}{hint}"
        )
    return sorted({index[w] for w in wanted})


def _digest(ids: Sequence[Any]) -> str:
    text = hashlib.sha256(orjson.dumps(ids)).hexdigest()[:16]
    return f"{len(ids)} ({text})"
