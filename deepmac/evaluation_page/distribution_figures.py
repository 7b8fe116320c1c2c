"""The charts of the IoU of matches, and of the scores of detections."""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from deepmac import charts
from deepmac.evaluation.distributions import (
    Reliability,
    histogram,
    iou_by_size,
    reliability,
)
from deepmac.evaluation.report import GIVEN_IOU_BY_SIZE
from deepmac.evaluation_page.tables import columns_of
from deepmac.evaluation_page.view import (
    TENTHS,
    View,
    charts_html,
    colour,
    cut,
    figure,
    square,
)

_FEWEST = 5  # detections of a bin whose share says something


def overlaps(view: View) -> str:
    """Histograms of the IoU, and its mean by the size of the object."""
    drawn, evaluation = [], view.evaluation
    if evaluation.has_given_boxes:
        _, category, iou = evaluation.given_box_ious()
        drawn.append(
            _histogram(
                view,
                "IoU at the given boxes",
                "every object, with the mask predicted for its box; 0 without one",
                np.nan_to_num(iou),
                category,
                0,
            )
        )
        drawn.append(_sizes(view, *_given_by_size(view)))
    lowest = min(evaluation.parameters.iou_thresholds)
    drawn.append(
        _histogram(
            view,
            "IoU of the matches",
            f"detections that match an object at IoU {lowest:.2f} or more",
            view.hits.iou,
            view.hits.category,
            lowest,
        )
    )
    by_size = {
        name: iou_by_size(evaluation, view.hits, view.places.get(name))
        for name in view.series
    }
    values = {
        name: {size: entry and entry[0] for size, entry in found.items()}
        for name, found in by_size.items()
    }
    drawn.append(_sizes(view, "Mean IoU of the matches, by size", values))
    return charts_html(drawn)


def _given_by_size(view: View) -> tuple[str, dict[str, dict[str, float | None]]]:
    columns = columns_of(view.figures)
    values = {name: columns[name].get(GIVEN_IOU_BY_SIZE) or {} for name in view.series}
    return "Mean IoU at the given boxes, by size", values


def _histogram(
    view: View,
    title: str,
    meaning: str,
    iou: np.ndarray,
    category: np.ndarray,
    low: float,
) -> str:
    if low >= 1:
        return ""
    if not len(iou):
        return figure(f"<b>{title}</b> {meaning}: none", "")
    num_bins = max(round((1 - low) / 0.05), 1)
    shares = []
    for name in view.outlined:
        own = iou
        if name in view.places:
            own = iou[np.isin(category, view.places[name])]
        edges, numbers = histogram(own, low, num_bins)
        shares.append(numbers / max(len(own), 1))
    top = math.ceil(max(s.max() for s in shares) * 10) / 10
    axes = square("IoU", "share", x=(low, 1), y=(0, top))
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
                    colour(0),
                    told,
                    opacity="0.3",
                )
            )
    parts += [
        charts.steps(axes, edges.tolist(), share.tolist(), colour(number))
        for number, share in list(enumerate(shares))[1:]
    ]
    # The exactly rounded sum does not depend on the order.
    mean = math.fsum(iou) / len(iou)
    label = f"{title}: histogram of {len(iou):,}, mean {mean:.3f}"
    svg = charts.embedded(parts, axes.width, axes.height, label)
    return figure(f"<b>{title}</b> {meaning}; mean {mean:.3f}.{view.left_out()}", svg)


def _sizes(
    view: View, title: str, values: Mapping[str, Mapping[str, float | None]]
) -> str:
    sizes = list(dict.fromkeys(s for found in values.values() for s in found))
    if not sizes:
        return ""
    axes = square("", "IoU", x=(0, len(sizes)), y=(0, 1))
    ticks = [(i + 0.5, cut(size, 14)) for i, size in enumerate(sizes)]
    parts = charts.grid(axes, ticks, TENTHS, "", "mean IoU")
    step, told = 0.8 / len(values), []
    for place, size in enumerate(sizes):
        if all(found.get(size) is None for found in values.values()):
            parts.append(
                charts.text(axes.across(place + 0.5), axes.floor - 6, "none", "middle")
            )
    for number, (name, found) in enumerate(values.items()):
        for place, size in enumerate(sizes):
            value = found.get(size)
            if value is None:
                continue
            left = place + 0.1 + number * step
            x1, x2 = axes.across(left) + 1, axes.across(left + step) - 1
            words = f"{name}, {size}: {value:.3f}"
            parts.append(
                charts.box(x1, axes.down(value), x2, axes.floor, colour(number), words)
            )
            if x2 - x1 > 22:
                middle = (x1 + x2) / 2
                parts.append(
                    charts.text(
                        middle,
                        axes.down(value) - 4,
                        f"{value:.2f}",
                        "middle",
                        font_size="10",
                    )
                )
            told.append(words)
    svg = charts.embedded(parts, axes.width, axes.height, f"{title}: {'; '.join(told)}")
    return figure(f"<b>{title}</b> of the object", svg)


def calibration(view: View) -> str:
    """How often detections of a score are right, and how many there are of it."""
    found = {"all": reliability(view.evaluation)}
    found |= {
        name: reliability(view.evaluation, view.groups[name])
        for name in view.outlined[1:]
    }
    everything = found["all"]
    if not everything.number.sum():
        return "<p class=quiet>There are no detections to look at.</p>"
    low, high = everything.edges[0], everything.edges[-1]
    axes = square("score", "share", x=(low, high), y=(0, 1))
    x_ticks = _score_ticks(low, high)
    what = f"right at IoU {everything.iou:.2f}"
    parts = charts.grid(axes, x_ticks, TENTHS, "score", f"share {what}")
    is_probability = (low, high) == (0, 1)
    if is_probability:
        ends = axes.across(0), axes.down(0), axes.across(1), axes.down(1)
        parts.append(charts.line(*ends, "#888", "ideal", stroke_dasharray="5 4"))
    told = []
    for number, (name, some) in enumerate(found.items()):
        filled = np.flatnonzero(some.number >= _FEWEST)
        if is_probability and some.error is not None:
            told.append(f"{name}: {some.error:.3f}")
        if not len(filled):
            continue
        points = some.score[filled], some.share[filled]
        parts.append(charts.curve(axes, *points, colour(number)))
        parts += [
            charts.dot(axes, x, y, colour(number)) for x, y in zip(*points, strict=True)
        ]
    label = f"share of the detections {what} against their score"
    error = f" Mean distance to the dashed line: {', '.join(told)}." if told else ""
    error += view.left_out()
    if any(((s.number > 0) & (s.number < _FEWEST)).any() for s in found.values()):
        error += f" Bins of fewer than {_FEWEST} detections have no point."
    drawn = [
        figure(
            f"<b>Share that is {what}</b> by score.{html.escape(error)}",
            charts.embedded(parts, axes.width, axes.height, label + error),
        ),
        _score_counts(view, everything, x_ticks),
    ]
    return charts_html(drawn)


def _score_counts(
    view: View, everything: Reliability, x_ticks: Sequence[charts.Tick]
) -> str:
    number, edges = everything.number, everything.edges
    top = 10 ** math.ceil(math.log10(max(number.max(), 10)))
    axes = square("score", "detections", x=(edges[0], edges[-1]), y=(0, 1))
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
                        colour(0),
                        told,
                        opacity=opacity,
                    )
                )
    label = "; ".join(
        f"score {s:.2f} to {e:.2f}: {n}"
        for s, e, n in zip(edges[:-1], edges[1:], number, strict=True)
    )
    svg = charts.embedded(parts, axes.width, axes.height, f"detections: {label}")
    return figure(
        f"<b>Detections</b> by score, {number.sum():,} in all; full: those that are right "
        f"(logarithmic)",
        svg,
    )


def _percent_ticks(top: float) -> list[charts.Tick]:
    step = 0.1 if top <= 0.5 else 0.2
    return [(v, f"{v:.0%}") for v, _ in charts.even_ticks(0, top, step, ".1f")]


def _score_ticks(low: float, high: float) -> list[charts.Tick]:
    if (low, high) == (0, 1):
        return TENTHS
    return charts.even_ticks(low, high, (high - low) / 4, ".3g")
