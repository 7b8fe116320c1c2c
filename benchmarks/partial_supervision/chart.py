"""The curve of quality against depth as a small SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.partial_supervision.statistics import Estimate
from deepmac import charts

_WIDTH, _HEIGHT = 560, 340
_STEP = 0.05
_BLUE = "#1f5fa8"


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
    axes = charts.Axes(
        x=(min(depths) * 0.8, max(depths) * 1.25),
        y=(bottom, top),
        width=_WIDTH,
        height=_HEIGHT,
        left=64,
        right=116,
        top=24,
        bottom=52,
        is_log=True,
    )
    parts = charts.grid(
        axes,
        [(depth, str(depth)) for depth in depths],
        charts.even_ticks(bottom, top, _STEP, ".2f"),
        "convolutions of the mask head",
        "mean IoU, unseen categories",
    )
    heights = charts.apart([axes.down(value) for value in levels.values()])
    for (name, value), height in zip(levels.items(), heights, strict=True):
        y = axes.down(value)
        parts += [
            charts.line(axes.left, y, axes.end, y, "#888", stroke_dasharray="5 4"),
            charts.text(axes.end + 6, height + 4, name),
        ]
    ordered = sorted(points)
    joined = [(depth, e.mean) for depth, e, label in ordered if not label]
    if joined:
        parts.append(charts.curve(axes, *zip(*joined, strict=True), _BLUE))
    most = max(e.num_instances for e in figures)
    for depth, e, label in ordered:
        x, fill = axes.across(depth), None if e.num_instances == most else "white"
        parts += [
            charts.line(x, axes.down(e.low), x, axes.down(e.high), _BLUE),
            charts.dot(axes, depth, e.mean, _BLUE, fill),
        ]
        if label:
            parts.append(charts.text(x - 8, axes.down(e.mean) + 4, label, "end"))
    return charts.document(parts, _WIDTH, _HEIGHT)
