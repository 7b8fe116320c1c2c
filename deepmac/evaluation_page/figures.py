"""The charts of the report."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmac import charts
from deepmac.evaluation.distributions import (
    PrecisionCurves,
    Reliability,
    histogram,
    hits_of,
    iou_by_size,
    precision_curves,
    reliability,
)
from deepmac.evaluation.meanings import GIVEN_AP, GIVEN_IOU, meaning_of
from deepmac.evaluation.selection import is_for_given_boxes
from deepmac.evaluation.summary import Evaluation
from deepmac.evaluation_page.tables import (
    BY_SIZE,
    columns_of,
    interval_of,
    is_there,
    name_of,
)

MOST_SERIES = 8
"""All categories and the first groups: what is drawn of more could not be told apart."""

_ROW = 26  # pixels, of a bar
_TENTHS = charts.even_ticks(0, 1, 0.2, ".1f")
_NOTHING = 255  # in the packed curves: no objects


class Figures:
    """The charts of one kind of evaluation.

    Args:
        evaluation: to be shown.
        figures: of the same kind, of the document that becomes metrics.json.
        groups: name of each -> its category ids.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        figures: Mapping[str, Any],
        groups: Mapping[str, Sequence[Any]],
    ):
        index = evaluation.scope.category_index
        self._evaluation, self._figures = evaluation, figures
        self._groups = dict(list(groups.items())[: MOST_SERIES - 1])
        self._all_groups = groups
        self._hits = hits_of(evaluation)
        self._places = {name: [index[c] for c in ids] for name, ids in groups.items()}

    @property
    def series(self) -> list[str]:
        """Names of what is drawn, in the order of the colours."""
        return ["all", *self._groups]

    def legend(self) -> str:
        """Which colour is what; nothing where there is one."""
        if len(self.series) == 1:
            return ""
        inner = "".join(
            f"<span><i class=c{i}></i>{html.escape(name)}</span>"
            for i, name in enumerate(self.series)
        )
        left = len(self._all_groups) - len(self._groups)
        more = (
            f"<span>and {left} more groups, in the tables alone</span>" if left else ""
        )
        return f"<p class=legend>{inner}{more}</p>"

    # Figures of the groups, as bars.

    def bars(self) -> str:
        """The main figures of all categories and each group, with intervals."""
        columns = columns_of(self._figures)
        stats = self._figures["stats"]
        at_limit = [key for key in stats if key.startswith("AP@")]
        keys = [GIVEN_IOU, GIVEN_AP, "AP", *at_limit, "AP50", "AP75"]
        drawn = [
            self._bars_of(key, columns)
            for key in keys
            if any(is_there(c.get(key)) for c in columns.values())
        ]
        return f"<div class=charts>{''.join(drawn)}</div>"

    def _bars_of(self, key: str, columns: Mapping[str, Mapping[str, Any]]) -> str:
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
            left=86,
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
            colour = _colour(self.series.index(name) if name in self.series else 0)
            parts += [
                charts.text(axes.left - 8, middle + 4, _cut(name, 12), "end"),
                charts.box(
                    axes.left,
                    middle - 8,
                    end,
                    middle + 8,
                    colour,
                    f"{name}: {value:.4f}",
                ),
                charts.text(axes.end + 8, middle + 4, f"{value:.3f}"),
            ]
            if interval:
                low, high = (axes.across(min(max(v, 0), top)) for v in interval)
                parts += charts.whisker(low, high, middle, "#000")
        label = f"{name_of(key)}: " + ", ".join(f"{n} {v:.3f}" for n, v, _ in rows)
        svg = charts.embedded(parts, axes.width, axes.height, label)
        return _figure(f"<b>{name_of(key)}</b> {meaning_of(key)}", svg)

    # Precision against recall.

    def precision(self) -> str:
        """A panel for each threshold; a group or category to be chosen is drawn by the script."""
        curves = precision_curves(self._evaluation)
        means = [
            curves.mean(self._places.get(name)) for name in self.series
        ]  # [P, R] each
        panels = "".join(
            self._panel(curves, label, [m[p] for m in means])
            for p, label in enumerate(curves.labels)
        )
        return f"{self._choice(curves)}<div class='charts curves'>{panels}</div>"

    def _panel(
        self, curves: PrecisionCurves, label: str, means: Sequence[np.ndarray]
    ) -> str:
        axes = _square("recall", "precision")
        parts = charts.grid(axes, _TENTHS, _TENTHS, "recall", "precision")
        told = []
        for number, (name, values) in enumerate(zip(self.series, means, strict=True)):
            if np.isnan(values).any():
                continue
            parts.append(charts.curve(axes, curves.recalls, values, _colour(number)))
            told.append(f"{name} {values.mean():.3f}")
        area = f"{axes.left} {axes.top} {axes.end - axes.left} {axes.floor - axes.top}"
        parts.append(f'<g class="chosen" data-area="{area}"></g>')
        words = f"precision against recall, {label}: mean precision {', '.join(told)}"
        svg = charts.embedded(parts, axes.width, axes.height, words)
        return _figure(f"<b>{html.escape(label)}</b>", svg)

    def _choice(self, curves: PrecisionCurves) -> str:
        """A list to choose from, with all curves in a byte a point."""
        scope = self._evaluation.scope
        rows = [curves.mean(places) for places in self._places.values()]
        options = [_options("groups", list(self._places), 0)]
        if self._evaluation.parameters.use_categories:
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

    # IoU of the matches.

    def overlaps(self) -> str:
        """Histograms of the IoU, and its mean by the size of the object."""
        drawn, evaluation = [], self._evaluation
        if is_for_given_boxes(evaluation):
            _, category, iou = evaluation.given_box_ious()
            drawn.append(
                self._histogram(
                    "IoU at the given boxes",
                    "every object, with the mask predicted for its box; 0 without one",
                    np.nan_to_num(iou),
                    category,
                    0,
                )
            )
            drawn.append(self._sizes(*self._given_by_size()))
        lowest = min(evaluation.parameters.iou_thresholds)
        drawn.append(
            self._histogram(
                "IoU of the matches",
                f"detections that match an object at IoU {lowest:.2f} or more",
                self._hits.iou,
                self._hits.category,
                lowest,
            )
        )
        by_size = {
            name: iou_by_size(evaluation, self._hits, self._places.get(name))
            for name in self.series
        }
        values = {
            name: {size: entry and entry[0] for size, entry in found.items()}
            for name, found in by_size.items()
        }
        drawn.append(self._sizes("Mean IoU of the matches, by size", values))
        return f"<div class=charts>{''.join(drawn)}</div>"

    def _given_by_size(self) -> tuple[str, dict[str, dict[str, float | None]]]:
        columns = columns_of(self._figures)
        values = {name: columns[name].get(BY_SIZE) or {} for name in self.series}
        return "Mean IoU at the given boxes, by size", values

    def _histogram(
        self,
        title: str,
        meaning: str,
        iou: np.ndarray,
        category: np.ndarray,
        low: float,
    ) -> str:
        if low >= 1 or not len(iou):
            return _figure(f"<b>{title}</b> {meaning}: none", "")
        num_bins = max(round((1 - low) / 0.05), 1)
        shares = []
        for name in self.series:
            own = iou
            if name in self._places:
                own = iou[np.isin(category, self._places[name])]
            edges, numbers = histogram(own, low, num_bins)
            shares.append(numbers / max(len(own), 1))
        top = math.ceil(max(s.max() for s in shares) * 10) / 10
        axes = _square("IoU", "share", x=(low, 1), y=(0, top))
        x_ticks = [t for t in charts.even_ticks(0, 1, 0.1, ".1f") if t[0] >= low - 1e-9]
        parts = charts.grid(
            axes, x_ticks, _percent_ticks(top), "IoU", f"share of {len(iou):,}"
        )
        for start, end, share in zip(edges[:-1], edges[1:], shares[0], strict=True):
            if share:
                told = f"IoU {start:.2f} to {end:.2f}: {share:.1%}"
                x1, x2 = axes.across(start) + 0.5, axes.across(end) - 0.5
                parts.append(
                    charts.box(
                        x1,
                        axes.down(share),
                        x2,
                        axes.floor,
                        _colour(0),
                        told,
                        opacity="0.3",
                    )
                )
        parts += [
            charts.steps(axes, edges.tolist(), share.tolist(), _colour(number))
            for number, share in list(enumerate(shares))[1:]
        ]
        # The exactly rounded sum does not depend on the order.
        mean = math.fsum(iou) / len(iou)
        label = f"{title}: histogram of {len(iou):,}, mean {mean:.3f}"
        svg = charts.embedded(parts, axes.width, axes.height, label)
        return _figure(f"<b>{title}</b> {meaning}; mean {mean:.3f}", svg)

    def _sizes(
        self, title: str, values: Mapping[str, Mapping[str, float | None]]
    ) -> str:
        sizes = list(dict.fromkeys(s for found in values.values() for s in found))
        if not sizes:
            return ""
        axes = _square("", "IoU", x=(0, len(sizes)), y=(0, 1))
        ticks = [(i + 0.5, _cut(size, 14)) for i, size in enumerate(sizes)]
        parts = charts.grid(axes, ticks, _TENTHS, "", "mean IoU")
        step, told = 0.8 / len(values), []
        for number, (name, found) in enumerate(values.items()):
            for place, size in enumerate(sizes):
                value = found.get(size)
                if value is None:
                    continue
                left = place + 0.1 + number * step
                x1, x2 = axes.across(left) + 1, axes.across(left + step) - 1
                words = f"{name}, {size}: {value:.3f}"
                parts.append(
                    charts.box(
                        x1, axes.down(value), x2, axes.floor, _colour(number), words
                    )
                )
                if x2 - x1 > 22:
                    middle = (x1 + x2) / 2
                    parts.append(
                        charts.text(
                            middle, axes.down(value) - 4, f"{value:.2f}", "middle"
                        )
                    )
                told.append(words)
        svg = charts.embedded(
            parts, axes.width, axes.height, f"{title}: {'; '.join(told)}"
        )
        return _figure(f"<b>{title}</b> of the object", svg)

    # Scores.

    def calibration(self) -> str:
        """How often detections of a score are right, and how many there are of it."""
        found = {"all": reliability(self._evaluation)}
        found |= {
            name: reliability(self._evaluation, ids)
            for name, ids in self._groups.items()
        }
        everything = found["all"]
        if not everything.number.sum():
            return "<p class=quiet>There are no detections to look at.</p>"
        low, high = everything.edges[0], everything.edges[-1]
        axes = _square("score", "share", x=(low, high), y=(0, 1))
        x_ticks = _score_ticks(low, high)
        what = f"right at IoU {everything.iou:.2f}"
        parts = charts.grid(axes, x_ticks, _TENTHS, "score", f"share {what}")
        is_probability = (low, high) == (0, 1)
        if is_probability:
            ends = axes.across(0), axes.down(0), axes.across(1), axes.down(1)
            parts.append(charts.line(*ends, "#888", "ideal", stroke_dasharray="5 4"))
        told = []
        for number, (name, some) in enumerate(found.items()):
            filled = np.flatnonzero(some.number)
            if not len(filled):
                continue
            points = some.score[filled], some.share[filled]
            parts.append(charts.curve(axes, *points, _colour(number)))
            parts += [
                charts.dot(axes, x, y, _colour(number))
                for x, y in zip(*points, strict=True)
            ]
            if is_probability:
                told.append(f"{name} {some.error:.3f}")
        label = f"share of the detections {what} against their score"
        error = f" Mean distance to the dashed line: {', '.join(told)}." if told else ""
        drawn = [
            _figure(
                f"<b>Share that is {what}</b> by score.{html.escape(error)}",
                charts.embedded(parts, axes.width, axes.height, label + error),
            ),
            self._score_counts(everything, x_ticks),
        ]
        return f"<div class=charts>{''.join(drawn)}</div>"

    def _score_counts(
        self, everything: Reliability, x_ticks: Sequence[charts.Tick]
    ) -> str:
        number, edges = everything.number, everything.edges
        top = 10 ** math.ceil(math.log10(max(number.max(), 10)))
        axes = _square("score", "detections", x=(edges[0], edges[-1]), y=(0, 1))
        decades = round(math.log10(top))
        y_ticks = [(d / decades, f"{10**d:,}") for d in range(decades + 1)]
        parts = charts.grid(axes, x_ticks, y_ticks, "score", "")
        bins = zip(edges[:-1], edges[1:], number, everything.right, strict=True)
        for start, end, n, right in bins:
            x1, x2 = axes.across(start) + 0.5, axes.across(end) - 0.5
            told = f"score {start:.2f} to {end:.2f}: {n:,} detections, {right:,} right"
            for count, opacity in ((n, "0.3"), (right, "0.8")):
                if count:
                    height = max(math.log10(count) / decades, 0.01)
                    parts.append(
                        charts.box(
                            x1,
                            axes.down(height),
                            x2,
                            axes.floor,
                            _colour(0),
                            told,
                            opacity=opacity,
                        )
                    )
        label = "; ".join(
            f"score {s:.2f} to {e:.2f}: {n}"
            for s, e, n in zip(edges[:-1], edges[1:], number, strict=True)
        )
        svg = charts.embedded(parts, axes.width, axes.height, f"detections: {label}")
        return _figure(
            f"<b>Detections</b> by score, {number.sum():,} in all; full: those that are right "
            f"(logarithmic)",
            svg,
        )


def _square(
    x_label: str,
    y_label: str,
    x: tuple[float, float] = (0, 1),
    y: tuple[float, float] = (0, 1),
) -> charts.Axes:
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


def _figure(caption: str, svg: str) -> str:
    return f"<figure class=plot><figcaption>{caption}</figcaption>{svg}</figure>"


def _options(label: str, names: Sequence[str], first: int) -> str:
    if not names:
        return ""
    inner = "".join(
        f'<option value="{first + i}">{html.escape(name)}</option>'
        for i, name in enumerate(names)
    )
    return f'<optgroup label="{label}">{inner}</optgroup>'


def _percent_ticks(top: float) -> list[charts.Tick]:
    step = 0.1 if top <= 0.5 else 0.2
    return [(v, f"{v:.0%}") for v, _ in charts.even_ticks(0, top, step, ".1f")]


def _score_ticks(low: float, high: float) -> list[charts.Tick]:
    if (low, high) == (0, 1):
        return _TENTHS
    return charts.even_ticks(low, high, (high - low) / 4, ".3g")


def _colour(number: int) -> str:
    return f"var(--c{number})"


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
