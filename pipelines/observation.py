"""What a run was seen to do: counters, and distributions of how long its stages took.

Facts of a run, kept in run.json and printed at its end. What a job amounts to is never taken from
here but from its commit records: runners may lose what a worker has told them, and some tell none.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Column, Table

from deepmac.stage_times import StageTimes

COMMITTED = "units_committed"
"""The counter of units that were done, each by whoever committed it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Distribution:
    """Of some numbers: how many there are, their sum, the least and the greatest."""

    count: int
    sum: int
    min: int
    max: int

    @classmethod
    def of(cls, values: Iterable[int]) -> "Distribution":
        """The distribution of numbers, of which there is at least one."""
        values = list(values)
        return cls(len(values), sum(values), min(values), max(values))

    def __add__(self, other: "Distribution") -> "Distribution":
        return Distribution(
            self.count + other.count,
            self.sum + other.sum,
            min(self.min, other.min),
            max(self.max, other.max),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observation:
    """Counters and distributions by name; those of times are in whole microseconds."""

    counters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    distributions: Mapping[str, Distribution] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, counters: Mapping[str, int], times: StageTimes) -> "Observation":
        """That of a process by itself."""
        named = {time_name(stage): Distribution.of(values) for stage, values in times}
        return cls(counters=counters, distributions=named)

    def __add__(self, other: "Observation") -> "Observation":
        counters = collections.Counter(self.counters)
        counters.update(other.counters)
        distributions = dict(self.distributions)
        for name, theirs in other.distributions.items():
            mine = distributions.get(name)
            distributions[name] = mine + theirs if mine else theirs
        return Observation(counters=counters, distributions=distributions)

    def as_json(self) -> dict[str, Any]:
        named = sorted(self.distributions.items())
        return {
            "counters": dict(sorted(self.counters.items())),
            "distributions": {name: dataclasses.asdict(d) for name, d in named},
        }

    def table(self) -> Table | None:
        """Mean and longest time of each stage, in milliseconds; None where none was told."""
        times = {
            stage: self.distributions[name]
            for stage in _STAGES
            if (name := time_name(stage)) in self.distributions
        }
        if not times:
            return None
        right = (
            Column(name, justify="right") for name in ("number", "mean", "longest")
        )
        table = Table("time (ms)", *right, box=None, pad_edge=False)
        for stage, found in times.items():
            mean, longest = found.sum / found.count / 1000, found.max / 1000
            table.add_row(stage, str(found.count), f"{mean:.2f}", f"{longest:.2f}")
        return table


_STAGES = (
    *("read", "check", "decode", "predict", "paste", "encode", "match", "merge"),
    *("figures", "write", "commit", "unit", "image"),
)


def time_name(stage: str) -> str:
    """Name of the distribution of a stage's times."""
    return "seconds_per_image_us" if stage == "image" else f"{stage}_us"
