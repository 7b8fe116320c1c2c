"""What the charts of one kind of evaluation have in common: what is drawn, in which colours."""

import dataclasses
import functools
import html
from collections.abc import Mapping, Sequence
from typing import Any

from deepmac import charts
from deepmac.evaluation.distributions import Hits, hits_of
from deepmac.evaluation.meanings import AreaRanges
from deepmac.evaluation.summary import Evaluation

_MOST_SERIES = 8  # more could not be told apart
_MOST_OUTLINES = 5  # of lines that cross each other everywhere

TENTHS = charts.even_ticks(0, 1, 0.2, ".1f")
"""Ticks from 0 to 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """One kind of evaluation, to be drawn.

    Attributes:
        evaluation: of it.
        figures: of it, from the document that becomes metrics.json.
        all_groups: name of each group -> its category ids.
        area_ranges: of the document.
    """

    evaluation: Evaluation
    figures: Mapping[str, Any]
    all_groups: Mapping[str, Sequence[Any]]
    area_ranges: AreaRanges

    @property
    def groups(self) -> dict[str, Sequence[Any]]:
        """Those that have colours."""
        return dict(list(self.all_groups.items())[: _MOST_SERIES - 1])

    @property
    def series(self) -> list[str]:
        """Names of what is drawn, in the order of the colours."""
        return ["all", *self.groups]

    @property
    def outlined(self) -> list[str]:
        """Those of the series that are drawn where lines cross each other everywhere."""
        return self.series[:_MOST_OUTLINES]

    def left_out(self) -> str:
        """A sentence on the series that are not among `outlined`; nothing if all are."""
        if len(self.outlined) == 1 + len(self.all_groups):
            return ""
        return f" Lines: the first {len(self.outlined) - 1} groups."

    @functools.cached_property
    def places(self) -> dict[str, list[int]]:
        """Name of each group -> positions of its categories."""
        index = self.evaluation.scope.category_index
        return {name: [index[c] for c in ids] for name, ids in self.all_groups.items()}

    @functools.cached_property
    def hits(self) -> Hits:
        """The detections that match."""
        return hits_of(self.evaluation)

    def legend(self) -> str:
        """Which colour is what; nothing where there is one."""
        if not self.groups:
            return ""
        inner = "".join(
            f"<span><i class=c{i}></i>{html.escape(name)}</span>"
            for i, name in enumerate(self.series)
        )
        left = len(self.all_groups) - len(self.groups)
        more = (
            f"<span>and {left} more groups, in the tables and as bars</span>"
            if left
            else ""
        )
        return f"<p class=legend>{inner}{more}</p>"


def square(
    x_label: str,
    y_label: str,
    x: tuple[float, float] = (0, 1),
    y: tuple[float, float] = (0, 1),
) -> charts.Axes:
    """The axes of an ordinary chart."""
    return charts.Axes(
        x=x,
        y=y,
        width=360,
        height=270,
        left=58,
        bottom=44 if x_label else 28,
        right=14,
        top=14 if y_label else 8,
    )


def charts_html(figures: Sequence[str]) -> str:
    """Charts beside each other, of which none stands alone in a row where there are four."""
    there = [figure for figure in figures if figure]
    kind = "'charts by-two'" if len(there) == 4 else "charts"
    return f"<div class={kind}>{''.join(there)}</div>"


def figure(caption: str, svg: str) -> str:
    """A chart below its caption, both HTML."""
    return f"<figure class=plot><figcaption>{caption}</figcaption>{svg}</figure>"


OTHERS = "var(--others)"
"""The colour of groups that have none of their own."""


def colour(number: int) -> str:
    """Of the series of that number."""
    return f"var(--c{number})"


def cut(name: str, most: int) -> str:
    """A name of at most so many characters."""
    return name if len(name) <= most else name[: most - 1] + "…"
