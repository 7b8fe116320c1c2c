"""What two files of weights differ in: variables, shapes, values, and the networks they tell of."""

import collections
import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from deepmac.checkpoint.facts import Shapes, infer_embedding_kernel, infer_settings
from deepmac.checkpoint.load import Weights
from deepmac.checkpoint.report import Shape, aligned, grouped, shape_text


class Kind(enum.StrEnum):
    """How a variable differs."""

    ONLY_IN_FIRST = "only in first"
    ONLY_IN_SECOND = "only in second"
    SHAPE = "shape"
    VALUE = "value"


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    """How far apart two arrays of one shape are.

    Attributes:
        count: elements that differ by more than the tolerance, or of which one is no number.
        size: elements in all.
        absolute: the largest |a - b| of these; infinite if only one of two is a finite number.
        relative: the largest |a - b| / max(|a|, |b|) of these; likewise.
    """

    count: int
    size: int
    absolute: float
    relative: float


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One variable that is not the same in both files, by reference name."""

    name: str
    kind: Kind
    first: Shape | None
    second: Shape | None
    gap: Gap | None = None  # of values


@dataclasses.dataclass(frozen=True, slots=True)
class Differences:
    """All that two files differ in.

    Attributes:
        variables: sorted by name.
        num_equal: variables that are the same.
        settings: field -> its value in either network, where the shapes tell different ones; None
            where they tell nothing.
    """

    variables: tuple[Difference, ...]
    num_equal: int
    settings: Mapping[str, tuple[object, object]]

    def __bool__(self) -> bool:
        return bool(self.variables)

    def summary(self) -> str:
        """`230 equal, 12 value`: the counts that are not zero."""
        counts = collections.Counter(d.kind for d in self.variables)
        texts = [f"{self.num_equal} equal"]
        for kind in Kind:
            differs = " differs" if kind in (Kind.SHAPE, Kind.VALUE) else ""
            if counts[kind]:
                texts.append(f"{counts[kind]} {kind}{differs}")
        return ", ".join(texts)

    def table(self, max_rows: int = 12) -> str:
        """The variables that differ; where there are many of a kind, groups with one prefix."""
        if not self.variables:
            return ""
        header = ("differs", "count", "first", "second", *_GAP_COLUMNS, "variables")
        rows = [header]
        for kind in Kind:
            of_kind = [d for d in self.variables if d.kind is kind]
            rows += [_row(name, m) for name, m in grouped(of_kind, max_rows).items()]
        return aligned(rows)

    def settings_table(self) -> str:
        """The fields of a configuration in which the two networks differ."""
        return aligned(
            [
                ("first", "second", "field"),
                *((_text(a), _text(b), name) for name, (a, b) in self.settings.items()),
            ]
        )


_GAP_COLUMNS = ("elements", "max abs", "max rel")


def differences(
    first: Weights, second: Weights, *, tolerance: float = 0.0
) -> Differences:
    """Compares all variables of two files; one of each is in memory at a time.

    Args:
        first, second: from `open_weights`, of any kind.
        tolerance: the largest |a - b| that counts as no difference.

    Raises:
        CheckpointError: a value cannot be read.
    """
    found: list[Difference] = []
    names = sorted(first.variables.keys() | second.variables.keys())
    for name in names:
        a, b = (
            None if stored is None else stored.shape
            for stored in (first.variables.get(name), second.variables.get(name))
        )
        gap = None
        if a is None:
            kind = Kind.ONLY_IN_SECOND
        elif b is None:
            kind = Kind.ONLY_IN_FIRST
        elif a != b:
            kind = Kind.SHAPE
        else:
            kind = Kind.VALUE
            gap = gap_between(first.read(name), second.read(name), tolerance)
            if not gap.count:
                continue
        found.append(Difference(name, kind, a, b, gap))
    settings = _differing_settings(_shapes(first), _shapes(second))
    return Differences(tuple(found), len(names) - len(found), settings)


def gap_between(a: np.ndarray, b: np.ndarray, tolerance: float = 0.0) -> Gap:
    """How far apart two arrays of one shape are. What is no number equals only its like."""
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    with np.errstate(invalid="ignore"):
        distance = np.abs(a - b)
    # inf - inf and anything with a NaN are NaN here
    distance[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    distance[np.isnan(distance)] = np.inf
    differs = distance > tolerance
    if not differs.any():
        return Gap(0, a.size, 0.0, 0.0)
    distance = distance[differs]
    scale = np.maximum(np.abs(a[differs]), np.abs(b[differs]))
    finite = np.isfinite(distance)
    relative = np.full(len(distance), np.inf)
    relative[finite] = distance[finite] / scale[finite]
    return Gap(len(distance), a.size, float(distance.max()), float(relative.max()))


def _row(name: str, members: Sequence[Difference]) -> tuple[str, ...]:
    alone = members[0] if len(members) == 1 else None
    gaps = [d.gap for d in members if d.gap is not None]
    columns = ("", "", "")
    if gaps:
        columns = (
            f"{sum(g.count for g in gaps):,} of {sum(g.size for g in gaps):,}",
            f"{max(g.absolute for g in gaps):.3g}",
            f"{max(g.relative for g in gaps):.3g}",
        )
    return (
        str(members[0].kind),
        str(len(members)),
        shape_text(alone.first) if alone else "",
        shape_text(alone.second) if alone else "",
        *columns,
        name,
    )


def _shapes(weights: Weights) -> Shapes:
    return {name: stored.shape for name, stored in weights.variables.items()}


def _differing_settings(
    first: Shapes, second: Shapes
) -> dict[str, tuple[object, object]]:
    a, b = infer_settings(first), infer_settings(second)
    a["embedding_head_kernel"] = infer_embedding_kernel(first)
    b["embedding_head_kernel"] = infer_embedding_kernel(second)
    fields: Iterable[str] = dict.fromkeys([*a, *b])
    return {f: (a.get(f), b.get(f)) for f in fields if a.get(f) != b.get(f)}


def _text(value: object) -> str:
    return "-" if value is None else json.dumps(value)
