"""The tables of the report."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from deepmac.evaluation.meanings import AreaRanges, label, meaning_of
from deepmac.evaluation.report import GIVEN_AP, GIVEN_IOU_BY_SIZE
from deepmac.evaluation.summary import GIVEN_IOU
from deepmac.evaluation.tables import beside_each_other, cut_interval

_PRECISIONS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

Column = Mapping[str, Any]
"""Figures by name, with `intervals`."""


def columns_of(figures: Mapping[str, Any]) -> dict[str, Column]:
    """The figures of all categories, and of each group, of one kind of a document."""
    own = {key: figures.get(key) for key in (GIVEN_IOU, GIVEN_AP, GIVEN_IOU_BY_SIZE)}
    everything = {**figures["stats"], **own, "intervals": figures.get("intervals", {})}
    columns = {"all": everything, **figures["groups"]}
    return {name: {**column, **_by_size(column)} for name, column in columns.items()}


def _by_size(column: Column) -> dict[str, float | None]:
    """IoU at boxes by size as figures of their own, named as their intervals are."""
    sizes = column.get(GIVEN_IOU_BY_SIZE) or {}
    return {f"{GIVEN_IOU}_{size}": value for size, value in sizes.items()}


def headline(figures: Mapping[str, Any], area_ranges: AreaRanges) -> str:
    """The figures of all categories and of each group of one kind, with their intervals.

    Groups that have no room beside each other are rows of a second table.
    """
    columns = columns_of(figures)
    beside = beside_each_other(list(columns))
    everything = columns["all"]
    sizes = list(_by_size(everything))
    given = [k for k in (GIVEN_IOU, GIVEN_AP) if is_there(everything.get(k))]
    heads = "".join(
        f'<th scope="col" class=number>{html.escape(name)}</th>' for name in beside
    )
    rows = [
        f'<tr><th scope="row">{html.escape(label(key))}</th>'
        f"{''.join(_cell(columns[name], key) for name in beside)}"
        f"<td class=meaning>{html.escape(meaning_of(key, area_ranges))}</td></tr>"
        for key in [*figures["stats"], *given[:1], *sizes, *given[1:]]
    ]
    table = (
        f"<div class=scroll tabindex=0><table class=headline><thead><tr><td></td>{heads}<td></td>"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    if len(beside) == len(columns):
        return table
    return table + _groups_as_rows(columns)


def _groups_as_rows(columns: Mapping[str, Column]) -> str:
    keys = [*_keys(columns["all"]), *_by_size(columns["all"])]
    keys = [k for k in keys if any(is_there(c.get(k)) for c in columns.values())]
    heads = "".join(
        f'<th scope="col" class=number>{html.escape(label(key))}</th>' for key in keys
    )
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        f"{''.join(_cell(column, key) for key in keys)}</tr>"
        for name, column in columns.items()
    )
    return (
        f"<div class=scroll tabindex=0><table class='headline groups'><thead><tr><td></td>{heads}"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell(column: Column, key: str) -> str:
    return f"<td>{shown(column.get(key))}{_interval(column, key)}</td>"


def categories(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """A row for each category, which a click on a heading sorts.

    Args:
        rows: `per_category` of one kind.
        name: what the table is called.
    """
    keys = [k for k in _keys(rows[0]) if any(is_there(r.get(k)) for r in rows)]
    sizes = list(
        next((r[GIVEN_IOU_BY_SIZE] for r in rows if r.get(GIVEN_IOU_BY_SIZE)), {})
    )
    has_groups = any(map(_groups, rows))
    heads = ["category", *(["groups"] if has_groups else []), "objects"]
    heads += [label(key) for key in keys] + [f"IoU {size}" for size in sizes]
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


def _keys(figures: Mapping[str, Any]) -> list[str]:
    """Those of a row: COCO's, of own area ranges, and IoU at boxes."""
    own = [key for key in figures if key.startswith("AP_")]
    return [*_PRECISIONS, *own, GIVEN_IOU]


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, as text."""
    inner = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<div class=scroll><table class=pairs><tbody>{inner}</tbody></table></div>"


def is_there(value: float | None) -> bool:
    """Whether a figure says anything: -1 is COCO's word for nothing."""
    return value is not None and value >= 0


def shown(value: float | None) -> str:
    """A figure in three digits."""
    return f"{value:.3f}" if value is not None and value >= 0 else "–"


def interval_of(column: Column, key: str) -> tuple[float, float] | None:
    """The interval of a figure as it is shown, where it has one."""
    found = (column.get("intervals") or {}).get(key)
    return cut_interval(found) if found else None


def _interval(column: Column, key: str) -> str:
    interval = interval_of(column, key)
    if interval is None:
        return ""
    return f"<small>[{interval[0]:.3f}, {interval[1]:.3f}]</small>"


def _groups(row: Mapping[str, Any]) -> str:
    return ", ".join(row["groups"])
