"""The curve of quality against depth as a small SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.partial_supervision.statistics import Estimate

_WIDTH, _HEIGHT = 560, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 116, 24, 52
_STEP = 0.05
_LINE = 15  # of text, in pixels


class Point(NamedTuple):
    """A mask head.

    Attributes:
        depth: convolutions.
        figures: mean IoU with its interval.
        label: in what it differs from the others besides depth; empty: in nothing.
    """

    depth: int
    figures: Estimate
    label: str = ""


def draw(points: Sequence[Point], levels: Mapping[str, float]) -> str:
    """An SVG document.

    Args:
        points: at least one. Those without a label are joined by a line. Those of fewer instances
            than others are drawn hollow.
        levels: mean IoU of what has learned nothing, by name: dashed lines.
    """
    figures = [point.figures for point in points]
    values = [v for e in figures for v in (e.low, e.high)] + list(levels.values())
    bottom = math.floor(min(values) / _STEP) * _STEP
    top = math.ceil(max(values) / _STEP) * _STEP
    depths = [point.depth for point in points]
    first, last = math.log(min(depths) * 0.8), math.log(max(depths) * 1.25)

    def x(depth: float) -> float:
        across = (math.log(depth) - first) / (last - first)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (top - value) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for i in range(round((top - bottom) / _STEP) + 1):
        value = bottom + i * _STEP
        parts += [
            _line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "#e5e5e5"),
            _text(_LEFT - 8, y(value) + 4, f"{value:.2f}", "end"),
        ]
    heights = _apart([y(value) for value in levels.values()])
    for (name, value), height in zip(levels.items(), heights, strict=True):
        dashes = ' stroke-dasharray="5 4"'
        parts += [
            _line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "#888", dashes),
            _text(_WIDTH - _RIGHT + 6, height + 4, name, "start"),
        ]
    ordered = sorted(points)
    path = " ".join(
        f"{x(depth):.1f},{y(e.mean):.1f}" for depth, e, label in ordered if not label
    )
    parts.append(
        f'<polyline points="{path}" fill="none" stroke="#1f5fa8" stroke-width="2"/>'
    )
    most = max(e.num_instances for e in figures)
    for depth, e, label in ordered:
        fill = "#1f5fa8" if e.num_instances == most else "white"
        parts += [
            _line(x(depth), y(e.low), x(depth), y(e.high), "#1f5fa8"),
            f'<circle cx="{x(depth):.1f}" cy="{y(e.mean):.1f}" r="4" stroke="#1f5fa8" fill="{fill}"/>',
            _text(x(depth), _HEIGHT - _BOTTOM + 18, str(depth), "middle"),
        ]
        if label:
            parts.append(_text(x(depth) - 8, y(e.mean) + 4, label, "end"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts += [
        _text(middle, _HEIGHT - 12, "convolutions of the mask head", "middle"),
        f'<text transform="translate(16 {(_HEIGHT - _BOTTOM + _TOP) / 2}) rotate(-90)" '
        f'text-anchor="middle">mean IoU, unseen categories</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights of labels, moved down where they would cover each other."""
    moved, last = [0.0] * len(heights), -math.inf
    for i in sorted(range(len(heights)), key=lambda i: heights[i]):
        moved[i] = last = max(heights[i], last + _LINE)
    return moved


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, more: str = ""
) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
