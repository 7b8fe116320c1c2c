"""The page itself: everything that an evaluation found, in the order in which one asks for it."""

import base64
import dataclasses
import hashlib
import html
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

from deepmac.evaluation.summary import Evaluation
from deepmac.evaluation_page.cards import (
    LEGEND,
    DrawnGallery,
    NotShown,
    galleries_html,
    not_shown_html,
)
from deepmac.evaluation_page.distribution_figures import calibration, overlaps
from deepmac.evaluation_page.figures import bars, precision
from deepmac.evaluation_page.tables import categories, headline, pairs
from deepmac.evaluation_page.view import View
from deepmac.gallery import BASE_STYLE

_TITLES = {"segm": "Masks", "bbox": "Boxes"}
_NOUNS = {"segm": "mask", "bbox": "box"}


@dataclasses.dataclass(frozen=True, slots=True)
class Produced:
    """How a report came about.

    Attributes:
        ground_truth, predictions: as they were named.
        command: that makes it again.
        facts: names and values, such as the version.
        options: all of them, with their values.
    """

    ground_truth: str
    predictions: str
    command: str
    facts: Sequence[tuple[str, str]]
    options: Sequence[tuple[str, str]]


def render_report(
    document: Mapping[str, Any],
    evaluations: Mapping[str, Evaluation],
    groups: Mapping[str, Sequence[Any]],
    produced: Produced,
    *,
    galleries: Mapping[str, Sequence[DrawnGallery]],
    not_shown: Sequence[NotShown] = (),
    note: str = "",
) -> str:
    """The page as HTML. May hold halves of surrogate pairs where names do.

    Args:
        document: what metrics.json holds.
        evaluations: by what was compared.
        groups: name of each -> its category ids.
        produced: how.
        galleries: of each kind.
        not_shown: what was chosen for them and cannot be shown.
        note: why there are no pictures, if so.
    """
    style = BASE_STYLE + _file("report.css")
    script = _file("report.js")
    kinds = "".join(
        _kind(document, evaluation, groups, galleries.get(kind, ()), note)
        for kind, evaluation in evaluations.items()
    )
    links = [(kind, _TITLES[kind]) for kind in evaluations]
    links.append(("produced", "How it was made"))
    return _PAGE.format(
        policy=_policy(style, script),
        style=style,
        script=script,
        title=html.escape(
            f"{produced.predictions} on {produced.ground_truth}: evaluation"
        ),
        predictions=html.escape(produced.predictions),
        ground_truth=html.escape(produced.ground_truth),
        lead=html.escape(_lead(document["counts"])),
        links="".join(f'<a href="#{name}">{title}</a>' for name, title in links),
        warnings=_warnings(document["warnings"]),
        kinds=kinds,
        not_shown=_section(not_shown_html(not_shown)),
        counts=pairs(
            [(_words(name), f"{n:,}") for name, n in document["counts"].items()]
        ),
        command=html.escape(produced.command),
        options=pairs(produced.options),
        facts=pairs([*produced.facts, *_bootstrap_facts(document)]),
    )


def _kind(
    document: Mapping[str, Any],
    evaluation: Evaluation,
    groups: Mapping[str, Sequence[Any]],
    galleries: Sequence[DrawnGallery],
    note: str,
) -> str:
    kind = evaluation.parameters.iou_type
    figures = document[kind]
    view = View(evaluation, figures, groups, document["area_ranges"])
    legend = view.legend()
    rows = figures["per_category"]
    pictures = galleries_html(galleries, kind, _NOUNS[kind], evaluation.has_given_boxes)
    parts = [
        f"<h2>{_TITLES[kind]}</h2>",
        _intervals_note(document),
        headline(figures, document["area_ranges"]),
        _part("Groups" if groups else "Main figures", bars(view)),
        _part(
            "Precision and recall",
            f"{legend}{precision(view)}",
            "Mean over the categories. The further a curve reaches to the right before it falls, "
            "the more objects are found before mistakes come.",
        ),
        _part("IoU", f"{legend}{overlaps(view)}"),
        _part(
            "Score calibration",
            f"{legend}{calibration(view)}",
            "On the dashed line a score is the probability of being right. Points below it are "
            "scores that promise too much.",
        ),
        _part("Categories", categories(rows, f"{_TITLES[kind]}: categories"))
        if rows
        else "",
        _part("Pictures", (LEGEND + pictures) if pictures else _quiet(note)),
    ]
    return f"<section class=kind id={kind}>{''.join(parts)}</section>\n"


def _part(title: str, inner: str, meaning: str = "") -> str:
    if not inner:
        return ""
    return f"<div class=part><h3>{title}</h3>{_quiet(meaning)}{inner}</div>\n"


def _quiet(words: str) -> str:
    return f"<p class=note>{html.escape(words)}</p>" if words else ""


def _section(inner: str) -> str:
    return f"<section>{inner}</section>" if inner else ""


def _lead(counts: Mapping[str, int]) -> str:
    names = ("images", "categories", "annotations", "predictions")
    return ", ".join(f"{counts[n]:,} {n}" for n in names if n in counts) + "."


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{html.escape(w)}</li>" for w in warnings)
    return f'<section class=warnings aria-label="warnings"><h2>Warnings</h2><ul>{items}</ul></section>'


def _intervals_note(document: Mapping[str, Any]) -> str:
    bootstrap = document.get("bootstrap")
    if not bootstrap or not bootstrap["draws"]:
        return ""
    return _quiet(
        f"In brackets and as whiskers: {bootstrap['interval']:.0%} intervals of the bootstrap over "
        f"images: how far the figures would differ on other images of the same kind, cut at 0 and "
        f"1. What training again would change is not in them."
    )


def _bootstrap_facts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    bootstrap = document.get("bootstrap")
    if not bootstrap or not bootstrap["draws"]:
        return []
    told = f"{bootstrap['draws']:,} bootstrap draws of the images, seed {bootstrap['seed']}"
    return [("intervals", told)]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _policy(style: str, script: str) -> str:
    """What the page may do: what is on it, and nothing else."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    folder = importlib.resources.files("deepmac.evaluation_page")
    return folder.joinpath(name).read_text(encoding="utf-8")


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1>Evaluation report</h1>
<p class=lead><b>{predictions}</b> against <b>{ground_truth}</b>: {lead}</p>
<nav aria-label="sections">{links}</nav>
</header>
{warnings}
{kinds}
{not_shown}
<section id=produced>
<h2>How it was made</h2>
<pre><code>{command}</code></pre>
<details><summary>All options</summary>{options}</details>
<div class=beside><div><h3>Run</h3>{facts}</div><div><h3>Counts</h3>{counts}</div></div>
</section>
</main>
<script>{script}</script>
</body>
</html>
"""
