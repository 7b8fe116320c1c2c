"""Charts as SVG text: axes, and the marks placed on them.

Colours are whatever SVG takes: `#1f5fa8` in a file, `var(--c1)` on a page that has it. A page may
set the look of `.grid`, `.axis` and `text` too.
"""

import dataclasses
import html
import math
from collections.abc import Iterable, Sequence

_GRID = "#e5e5e5"
_LINE = 15  # of text, in pixels

Tick = tuple[float, str]
"""A value of an axis, and what is written there."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Where values lie in a picture.

    Attributes:
        x, y: first and last value of each axis.
        width, height: of the picture, in pixels.
        left, right, top, bottom: pixels around the area of the values.
        is_log: the first axis is logarithmic; its values are above 0.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    height: int
    left: int = 52
    right: int = 16
    top: int = 12
    bottom: int = 44
    is_log: bool = False

    def across(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.x
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        share = (value - low) / (high - low)
        return self.left + share * (self.width - self.left - self.right)

    def down(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.y
        share = (high - value) / (high - low)
        return self.top + share * (self.height - self.top - self.bottom)

    @property
    def end(self) -> float:
        """Pixels from the left to the right edge of the area."""
        return self.width - self.right

    @property
    def floor(self) -> float:
        """Pixels from the top to the bottom of the area."""
        return self.height - self.bottom


def document(parts: Iterable[str], width: int, height: int, font_size: int = 13) -> str:
    """A picture as a file of its own, on white."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="{font_size}">'
    )
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"


def embedded(
    parts: Iterable[str], width: int, height: int, label: str, more: str = ""
) -> str:
    """A picture within a page, as wide as there is room for.

    Args:
        parts, width, height: of it.
        label: what it shows, for who does not see it.
        more: attributes.
    """
    inner = "".join(parts)
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" font-size="12" '
        f'aria-label="{html.escape(label)}"{more}>{inner}</svg>'
    )


def grid(
    axes: Axes,
    x_ticks: Sequence[Tick],
    y_ticks: Sequence[Tick],
    x_label: str = "",
    y_label: str = "",
) -> list[str]:
    """Lines across the area at the ticks of y, and the words beside both axes."""
    parts = []
    for value, words in y_ticks:
        parts += [
            line(
                axes.left, axes.down(value), axes.end, axes.down(value), _GRID, "grid"
            ),
            text(axes.left - 8, axes.down(value) + 4, words, "end"),
        ]
    parts += [
        text(axes.across(value), axes.floor + 18, words, "middle")
        for value, words in x_ticks
    ]
    if x_label:
        middle = (axes.left + axes.end) / 2
        parts.append(text(middle, axes.height - 8, x_label, "middle"))
    if y_label:
        turned = f"translate(14 {(axes.top + axes.floor) / 2:.1f}) rotate(-90)"
        parts.append(
            f'<text transform="{turned}" text-anchor="middle">{html.escape(y_label)}</text>'
        )
    return parts


def line(
    x1: float, y1: float, x2: float, y2: float, colour: str, kind: str = "", **more: str
) -> str:
    """A straight line, in pixels.

    Args:
        x1, y1, x2, y2: its ends.
        colour: of it.
        kind: its class.
        more: attributes, with `_` for `-`.
    """
    start = f'<line class="{kind}"' if kind else "<line"
    return (
        f'{start} x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"'
        f"{_attributes(more)}/>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", **more: str) -> str:
    """Words at a place in pixels, which they start, end or have in their middle."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{_attributes(more)}>'
        f"{html.escape(words)}</text>"
    )


def curve(
    axes: Axes,
    xs: Iterable[float],
    ys: Iterable[float],
    colour: str,
    **more: str,
) -> str:
    """A line through points."""
    points = " ".join(
        f"{axes.across(x):.1f},{axes.down(y):.1f}" for x, y in zip(xs, ys, strict=True)
    )
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"'
        f"{_attributes(more)}/>"
    )


def steps(
    axes: Axes, edges: Sequence[float], heights: Sequence[float], colour: str
) -> str:
    """The outline of a histogram of B bins, with B + 1 edges."""
    xs = [edge for edge in edges for _ in range(2)]
    ys = [axes.y[0], *(h for height in heights for h in (height, height)), axes.y[0]]
    return curve(axes, xs, ys, colour)


def dot(axes: Axes, x: float, y: float, colour: str, fill: str | None = None) -> str:
    """A point; hollow with another fill than its colour."""
    return (
        f'<circle cx="{axes.across(x):.1f}" cy="{axes.down(y):.1f}" r="4" stroke="{colour}" '
        f'fill="{fill or colour}"/>'
    )


def box(
    x1: float, y1: float, x2: float, y2: float, colour: str, title: str = "", **more
) -> str:
    """A filled rectangle between two corners in pixels; the title shows under the pointer."""
    inner = f"<title>{html.escape(title)}</title>" if title else ""
    return (
        f'<rect x="{min(x1, x2):.1f}" y="{min(y1, y2):.1f}" width="{abs(x2 - x1):.1f}" '
        f'height="{abs(y2 - y1):.1f}" fill="{colour}"{_attributes(more)}>{inner}</rect>'
    )


def whisker(x1: float, x2: float, y: float, colour: str) -> list[str]:
    """An interval as a horizontal line with ends, in pixels."""
    return [
        line(x1, y, x2, y, colour, "axis"),
        *(line(x, y - 4, x, y + 4, colour, "axis") for x in (x1, x2)),
    ]


def apart(heights: Sequence[float]) -> list[float]:
    """Heights of words, moved down where they would cover each other."""
    moved, last = [0.0] * len(heights), -math.inf
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        moved[i] = last = max(heights[i], last + _LINE)
    return moved


def even_ticks(low: float, high: float, step: float, form: str) -> list[Tick]:
    """Ticks from `low` on, written by a format such as `.1f`."""
    number = math.floor((high - low) / step + 1e-9)
    return [(low + i * step, format(low + i * step, form)) for i in range(number + 1)]


def _attributes(more: dict[str, str]) -> str:
    return "".join(
        f' {name.replace("_", "-")}="{value}"' for name, value in more.items()
    )
