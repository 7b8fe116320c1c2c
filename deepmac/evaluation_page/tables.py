"""The tables of the report."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from deepmac.evaluation.meanings import meaning_of
from deepmac.evaluation.report import GIVEN_AP, GIVEN_IOU_BY_SIZE
from deepmac.evaluation.summary import GIVEN_IOU

_NAMES = {GIVEN_IOU: "IoU at boxes", GIVEN_AP: "AP at boxes"}
_PER_CATEGORY = ("AP", "AP50", "AP75", "APs", "APm", "APl", GIVEN_IOU)

Column = Mapping[str, Any]
"""Figures by name, with `intervals`."""


def columns_of(figures: Mapping[str, Any]) -> dict[str, Column]:
    """The figures of all categories, and of each group, of one kind of a document."""
    own = {key: figures.get(key) for key in (GIVEN_IOU, GIVEN_AP, GIVEN_IOU_BY_SIZE)}
    everything = {**figures["stats"], **own, "intervals": figures.get("intervals", {})}
    return {"all": everything, **figures["groups"]}


def headline(figures: Mapping[str, Any]) -> str:
    """The figures of all categories and of each group of one kind, with their intervals."""
    columns = columns_of(figures)
    heads = "".join(
        f'<th scope="col" class=number>{html.escape(name)}</th>' for name in columns
    )
    rows = []
    for key in [*figures["stats"], GIVEN_IOU, GIVEN_AP]:
        if not is_there(columns["all"].get(key)) and key in (GIVEN_IOU, GIVEN_AP):
            continue
        cells = "".join(
            f"<td>{shown(c.get(key))}{_interval(c, key)}</td>" for c in columns.values()
        )
        rows.append(
            f'<tr><th scope="row">{html.escape(name_of(key))}</th>{cells}'
            f"<td class=meaning>{html.escape(meaning_of(key))}</td></tr>"
        )
    return (
        f"<div class=scroll tabindex=0><table class=headline><thead><tr><td></td>{heads}<td></td>"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def categories(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """A row for each category, which a click on a heading sorts.

    Args:
        rows: `per_category` of one kind.
        name: what the table is called.
    """
    keys = [k for k in _PER_CATEGORY if any(is_there(r.get(k)) for r in rows)]
    sizes = list(
        next((r[GIVEN_IOU_BY_SIZE] for r in rows if r.get(GIVEN_IOU_BY_SIZE)), {})
    )
    has_groups = any(map(_groups, rows))
    heads = ["category", *(["groups"] if has_groups else []), "objects"]
    heads += [name_of(key) for key in keys] + [f"IoU {size}" for size in sizes]
    texts = 2 if has_groups else 1
    cells = "".join(
        f'<th scope="col" aria-sort="none"{"" if i < texts else " class=number"}>'
        f"<button type=button>{html.escape(head)}</button></th>"
        for i, head in enumerate(heads)
    )
    body = []
    for row in rows:
        values = [row.get(key) for key in keys]
        values += [(row.get(GIVEN_IOU_BY_SIZE) or {}).get(size) for size in sizes]
        groups = f"<td>{html.escape(_groups(row) or '–')}</td>" if has_groups else ""
        numbers = "".join(f"<td>{shown(value)}</td>" for value in values)
        body.append(
            f'<tr><th scope="row">{html.escape(str(row["name"]))}</th>{groups}'
            f"<td>{row['annotations']:,}</td>{numbers}</tr>"
        )
    return (
        f'<div class="scroll long" tabindex=0><table class=sortable aria-label="{html.escape(name)}">'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, as text."""
    inner = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<div class=scroll><table class=pairs><tbody>{inner}</tbody></table></div>"


def name_of(key: str) -> str:
    """What a figure is called on the page."""
    return _NAMES.get(key, key)


def is_there(value: float | None) -> bool:
    """Whether a figure says anything: -1 is COCO's word for nothing."""
    return value is not None and value >= 0


def shown(value: float | None) -> str:
    """A figure in three digits."""
    return f"{value:.3f}" if value is not None and value >= 0 else "–"


def interval_of(column: Column, key: str) -> tuple[float, float] | None:
    """The interval of a figure, where it has one."""
    found = (column.get("intervals") or {}).get(key)
    return (found[0], found[1]) if found else None


def _interval(column: Column, key: str) -> str:
    interval = interval_of(column, key)
    if interval is None:
        return ""
    return f"<small>[{interval[0]:.3f}, {interval[1]:.3f}]</small>"


def _groups(row: Mapping[str, Any]) -> str:
    return ", ".join(row["groups"])
