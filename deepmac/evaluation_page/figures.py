"""The charts of the figures of each group, and of precision against recall."""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deepmac import charts
from deepmac.evaluation.distributions import PrecisionCurves, precision_curves
from deepmac.evaluation.meanings import label as name_of
from deepmac.evaluation.meanings import meaning_of
from deepmac.evaluation.summary import GIVEN_IOU, main_figure
from deepmac.evaluation_page.tables import columns_of, interval_of, is_there
from deepmac.evaluation_page.view import (
    OTHERS,
    TENTHS,
    View,
    charts_html,
    colour,
    cut,
    figure,
    square,
)

_ROW = 26  # pixels, of a bar
_NAME = 20  # characters, of a bar's name
_NOTHING = 255  # in the packed curves: no objects


def bars(view: View) -> str:
    """The main figures of all categories and each group, with intervals."""
    columns = columns_of(view.figures)
    keys = [GIVEN_IOU, main_figure(view.evaluation.parameters), "AP50", "AP75"]
    drawn = [
        _bars_of(view, key, columns)
        for key in keys
        if any(is_there(c.get(key)) for c in columns.values())
    ]
    return charts_html(drawn)


def _bars_of(view: View, key: str, columns: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (name, column[key], interval_of(column, key))
        for name, column in columns.items()
        if is_there(column.get(key))
    ]
    highest = max(max(v, *(i or ())) if i else v for _, v, i in rows)
    top = max(math.ceil(highest * 10) / 10, 0.1)
    axes = charts.Axes(
        x=(0, top),
        y=(0, 1),
        width=360,
        height=_ROW * len(rows) + 34,
        left=_name_width(columns),
        right=52,
        top=6,
        bottom=28,
    )
    ticks = charts.even_ticks(0, top, 0.1 if top <= 0.5 else 0.2, ".1f")
    parts = charts.grid(axes, ticks, [])
    parts += [
        charts.line(
            axes.across(v), axes.top, axes.across(v), axes.floor, "#ddd", "grid"
        )
        for v, _ in ticks
    ]
    for number, (name, value, interval) in enumerate(rows):
        middle = axes.top + (number + 0.5) * _ROW
        end = axes.across(value)
        own = colour(view.series.index(name)) if name in view.series else OTHERS
        parts += [
            charts.text(axes.left - 8, middle + 4, cut(name, _NAME), "end"),
            charts.box(
                axes.left,
                middle - 8,
                end,
                middle + 8,
                own,
                f"{name}: {value:.4f}",
            ),
            charts.text(axes.end + 8, middle + 4, f"{value:.3f}"),
        ]
        if interval:
            low, high = map(axes.across, interval)
            parts += charts.whisker(low, high, middle, "#000")
    label = f"{name_of(key)}: " + ", ".join(f"{n} {v:.3f}" for n, v, _ in rows)
    svg = charts.embedded(parts, axes.width, axes.height, label)
    return figure(
        f"<b>{name_of(key)}</b> {html.escape(meaning_of(key, view.area_ranges))}", svg
    )


def _name_width(names: Iterable[str]) -> int:
    """Pixels to the left of bars, for their names."""
    longest = max(len(cut(name, _NAME)) for name in names)
    return max(86, 14 + 7 * longest)


def precision(view: View) -> str:
    """A panel for each threshold; a group or category to be chosen is drawn by the script."""
    curves = precision_curves(view.evaluation)
    means = [curves.mean(view.places.get(name)) for name in view.series]  # [P, R] each
    panels = "".join(
        _panel(view, curves, label, [m[p] for m in means])
        for p, label in enumerate(curves.labels)
    )
    return f"{_choice(view, curves)}<div class='charts curves'>{panels}</div>"


def _panel(
    view: View, curves: PrecisionCurves, label: str, means: Sequence[np.ndarray]
) -> str:
    axes = square("recall", "precision")
    parts = charts.grid(axes, TENTHS, TENTHS, "recall", "precision")
    told = []
    for number, (name, values) in enumerate(zip(view.series, means, strict=True)):
        if np.isnan(values).any():
            continue
        parts.append(charts.curve(axes, curves.recalls, values, colour(number)))
        told.append(f"{name} {values.mean():.3f}")
    area = f"{axes.left} {axes.top} {axes.end - axes.left} {axes.floor - axes.top}"
    parts.append(f'<g class="chosen" data-area="{area}"></g>')
    words = f"precision against recall, {label}: mean precision {', '.join(told)}"
    svg = charts.embedded(parts, axes.width, axes.height, words)
    return figure(f"<b>{html.escape(label)}</b>", svg)


def _choice(view: View, curves: PrecisionCurves) -> str:
    """A list to choose from, with all curves in a byte a point."""
    scope = view.evaluation.scope
    rows = [curves.mean(places) for places in view.places.values()]
    options = [_options("groups", list(view.places), 0)]
    if view.evaluation.parameters.use_categories:
        names = [scope.category_names[c] for c in scope.category_ids]
        options.append(_options("categories", names, len(rows)))
        rows += list(np.moveaxis(curves.precision, -1, 0))
    if not rows:
        return ""
    stacked = np.stack(rows)  # [N, P, R]
    packed = np.where(np.isnan(stacked), _NOTHING, np.rint(stacked * 250))
    data = base64.b64encode(packed.astype(np.uint8).tobytes()).decode("ascii")
    recalls = " ".join(f"{r:g}" for r in curves.recalls)
    return (
        f'<p class=choice hidden><label>Draw also <select class=curve data-recalls="{recalls}" '
        f'data-curves="{data}"><option value="">nothing</option>{"".join(options)}</select>'
        f"</label> <span class=told aria-live=polite></span></p>"
    )


def _options(label: str, names: Sequence[str], first: int) -> str:
    if not names:
        return ""
    inner = "".join(
        f'<option value="{first + i}">{html.escape(name)}</option>'
        for i, name in enumerate(names)
    )
    return f'<optgroup label="{label}">{inner}</optgroup>'
