"""How the variables of a file and of a model fit together, one line for each or for a group."""

import collections
import dataclasses
import enum
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from deepmac.errors import CheckpointError, did_you_mean

Shape = tuple[int, ...]


class Status(enum.StrEnum):
    """What became of a variable."""

    LOADED = "loaded"
    MISSING = "missing"  # in the model, not in the file: keeps its initial value
    SHAPE_DIFFERS = "shape differs"  # in both: keeps its initial value
    UNUSED = "unused"  # in the file, not in the model


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One variable, by reference name, with its shape on both sides."""

    name: str
    status: Status
    in_file: Shape | None
    in_model: Shape | None


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Every variable of a file and of a model.

    Attributes:
        path: of the file.
        entries: sorted by name.
    """

    path: str
    entries: tuple[Entry, ...]

    @property
    def counts(self) -> dict[Status, int]:
        """How many variables have each status; zeros included."""
        found = collections.Counter(entry.status for entry in self.entries)
        return {status: found[status] for status in Status}

    def unmatched(self, accepted: Sequence[str] = ()) -> list[Entry]:
        """The variables that are not loaded and that no pattern of `accepted` names.

        Args:
            accepted: names, or patterns such as `_mask_net/*`.

        Raises:
            CheckpointError: a pattern names nothing that is unmatched: a typing error, most
                likely.
        """
        open_entries = [e for e in self.entries if e.status is not Status.LOADED]
        names = [entry.name for entry in open_entries]
        for pattern in accepted:
            if names and not fnmatch.filter(names, pattern):
                raise CheckpointError(
                    f"{self.path}: '{pattern}' is no variable that is missing, unused or of "
                    f"another shape{did_you_mean(pattern, names)}"
                )
        return [
            entry
            for entry in open_entries
            if not any(fnmatch.fnmatchcase(entry.name, p) for p in accepted)
        ]

    def summary(self) -> str:
        """`402 loaded, 12 missing`: the counts that are not zero."""
        counts = [f"{count} {status}" for status, count in self.counts.items() if count]
        return ", ".join(counts) or "no variable"

    def table(self, max_rows: int = 12) -> str:
        """The variables that are not loaded; where there are many, groups with one prefix."""
        rows = [
            row
            for status in Status
            if status is not Status.LOADED
            for row in _rows([e for e in self.entries if e.status is status], max_rows)
        ]
        if not rows:
            return ""
        return aligned([("status", "count", "file", "model", "variables"), *rows])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words as a table; the last column is as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows
    )


def compare(path: str, file: Mapping[str, Shape], model: Mapping[str, Shape]) -> Report:
    """How a file with these shapes fits a model with those, both by reference name."""
    entries = []
    for name in sorted(file.keys() | model.keys()):
        in_file, in_model = file.get(name), model.get(name)
        if in_model is None:
            status = Status.UNUSED
        elif in_file is None:
            status = Status.MISSING
        else:
            same = in_file == in_model
            status = Status.LOADED if same else Status.SHAPE_DIFFERS
        entries.append(Entry(name, status, in_file, in_model))
    return Report(path, tuple(entries))


def _rows(entries: Sequence[Entry], max_rows: int) -> Iterable[tuple[str, ...]]:
    """Rows (status, count, shape in the file, in the model, name or prefix), at most `max_rows`."""
    for name, members in grouped(entries, max_rows).items():
        first = members[0]
        alone = len(members) == 1
        yield (
            str(first.status),
            str(len(members)),
            shape_text(first.in_file) if alone else "",
            shape_text(first.in_model) if alone else "",
            name,
        )


class Named(Protocol):
    """Something about one variable."""

    @property
    def name(self) -> str: ...


AnyNamed = TypeVar("AnyNamed", bound=Named)


def grouped(entries: Sequence[AnyNamed], max_rows: int) -> dict[str, list[AnyNamed]]:
    """What concerns variables with one prefix together, as deep as gives at most `max_rows` groups.

    Returns:
        By `prefix/*`, or by the name where there is one alone; in the order of the entries.
    """
    depth = max((entry.name.count("/") + 1 for entry in entries), default=1)
    while len(groups := _groups(entries, depth)) > max_rows and depth > 1:
        depth -= 1
    return {
        members[0].name if len(members) == 1 else f"{prefix}/*": members
        for prefix, members in groups.items()
    }


def _groups(entries: Sequence[AnyNamed], depth: int) -> dict[str, list[AnyNamed]]:
    groups: dict[str, list[AnyNamed]] = {}
    for entry in entries:
        prefix = "/".join(entry.name.split("/")[:depth])
        groups.setdefault(prefix, []).append(entry)
    return groups


def shape_text(shape: Shape | None) -> str:
    """`3x3x16x8`; `-` where there is none."""
    if shape is None:
        return "-"
    return "x".join(map(str, shape)) or "scalar"
