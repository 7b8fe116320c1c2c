"""The document of an evaluation as tables: for the terminal, as Markdown, as CSV."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table as TerminalTable
from rich.text import Text

from deepmac.evaluation.meanings import AreaRanges, label, meaning_of
from deepmac.evaluation.report import GIVEN_IOU_BY_SIZE
from deepmac.evaluation.summary import GIVEN_AP, GIVEN_IOU
from deepmac.text import one_line

_SHORT = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # of a row for each category
_MOST_COLUMNS = 3  # groups beside each other; more become rows


class Table(NamedTuple):
    """Text in rows and columns.

    Attributes:
        title: of it.
        columns: their names.
        rows: of as many cells.
        num_words: of the first columns, which hold words; the others hold numbers.
        notes: the last column holds words as well, which are said in passing.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_words: int = 1
    notes: bool = False


def tables(document: Mapping[str, Any], kind: str) -> Group:
    """The figures of one kind for the terminal."""
    note = _notes(document, kind)
    return Group(
        Text(_title(document["counts"], kind), style="bold"),
        *(for_terminal(table) for table in tables_of(document, kind)),
        *map(Text, note),
    )


def markdown(document: Mapping[str, Any], kinds: Iterable[str]) -> str:
    """The figures of several kinds, with the warnings, as a Markdown page."""
    parts = ["# Evaluation"]
    for kind in kinds:
        parts.append(f"## {_title(document['counts'], kind).capitalize()}")
        parts += map(as_markdown, tables_of(document, kind))
        parts += _notes(document, kind)
    if document["warnings"]:
        parts.append("## Warnings")
        parts.append("\n".join(f"* {escaped(w)}" for w in document["warnings"]))
    return "\n\n".join(parts) + "\n"


def per_category_csv(document: Mapping[str, Any], kinds: Sequence[str]) -> bytes:
    """A row for each kind and category: id, name, groups (`;` between them), figures."""
    rows = [
        {
            "kind": kind,
            "id": row["id"],
            "name": row["name"],
            "groups": ";".join(row["groups"]),
            "annotations": row["annotations"],
            **_plain(row),
        }
        for kind in kinds
        for row in document[kind]["per_category"]
    ]
    return as_csv(rows, ("kind", "id", "name", "groups", "annotations"))


def groups_csv(document: Mapping[str, Any], kinds: Sequence[str]) -> bytes:
    """A row for each kind and group, `all` first: figures, each with the ends of its interval."""
    rows = []
    for kind in kinds:
        for name, group in _columns(document, kind).items():
            row: dict[str, Any] = {"kind": kind, "group": name}
            row["categories"] = group["categories"]
            for figure, value in _plain(group).items():
                row[figure] = value
                if figure in group["intervals"]:
                    row[f"{figure}_low"], row[f"{figure}_high"] = group["intervals"][
                        figure
                    ]
            rows.append(row)
    return as_csv(rows, ("kind", "group", "categories"))


def tables_of(document: Mapping[str, Any], kind: str) -> list[Table]:
    """The headline, the groups that have no room there, and the categories."""
    columns = _columns(document, kind)
    beside = beside_each_other(list(columns))
    rest = {name: group for name, group in columns.items() if name not in beside}
    ranges = document["area_ranges"]
    found = [_headline({name: columns[name] for name in beside}, ranges)]
    if rest:
        found.append(_groups({"all": columns["all"], **rest}))
    if document[kind]["per_category"]:
        found.append(_categories(document[kind]["per_category"]))
    return found


def beside_each_other(names: Sequence[str]) -> list[str]:
    """The groups, `all` among them, that are columns; the others have no room and become rows."""
    if len(names) - 1 <= _MOST_COLUMNS:
        return list(names)
    return [name for name in names if name in ("all", "seen", "unseen")]


def for_terminal(table: Table) -> Group:
    """A table for a `rich` console, under its title."""
    shown = TerminalTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(table.columns):
        if table.notes and i == len(table.columns) - 1:
            shown.add_column(Text(name), style="dim")
        elif i < table.num_words:
            shown.add_column(Text(name), overflow="fold")
        else:
            shown.add_column(Text(name), justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*map(Text, map(one_line, row)))
    title = [Text(table.title, style="bold")] if table.title else []
    return Group(*title, shown)


def as_markdown(table: Table) -> str:
    """A table in Markdown, under its title."""
    last = len(table.columns) - 1 if table.notes else len(table.columns)
    rules = [
        "---" if i < table.num_words or i == last else "---:"
        for i in range(len(table.columns))
    ]
    lines = [table.columns, rules, *table.rows]
    cells = [[escaped(cell.strip()) for cell in line] for line in lines]
    text = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    return f"### {table.title}\n\n{text}" if table.title else text


def escaped(text: str) -> str:
    """Text as Markdown shows it, in one line."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", one_line(text))


def as_csv(rows: Sequence[Mapping[str, Any]], first: Sequence[str]) -> bytes:
    """Rows as CSV with a heading, UTF-8, lines ended by LF; cells that are None are empty.

    Args:
        rows: column -> cell.
        first: columns that are there even without any row, in front.
    """
    columns = dict.fromkeys([*first, *(name for row in rows for name in row)])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def with_interval(
    value: float | None, interval: Sequence[float] | None, *, sign: bool = False
) -> str:
    """`0.352 ± 0.012`; `0.352` where there is no interval, `-` where there is nothing.

    `0.052 [0, 0.131]` where the interval reaches beyond what the figure can be, and is cut.

    Args:
        value, interval: of it.
        sign: it is a difference, which may be negative, and is shown with its sign.
    """
    if value is None or (value < 0 and not sign):
        return "-"
    text = f"{value:+.3f}" if sign else f"{value:.3f}"
    if interval is None:
        return text
    low, high = interval
    if not sign and (low < 0 or high > 1):
        first = "0" if low < 0 else f"{low:.3f}"
        last = "1" if high > 1 else f"{high:.3f}"
        return f"{text} [{first}, {last}]"
    return f"{text} ± {(high - low) / 2:.3f}"


def cut_interval(interval: Sequence[float]) -> tuple[float, float]:
    """An interval of a figure that is a share, without what lies beyond 0 and 1."""
    low, high = interval
    return max(low, 0.0), min(high, 1.0)


def _title(counts: Mapping[str, int], kind: str) -> str:
    return (
        f"{'masks' if kind == 'segm' else 'boxes'}: {counts['images']} images, "
        f"{counts['annotations']} annotations, {counts['predictions']} predictions"
    )


def _notes(document: Mapping[str, Any], kind: str) -> list[str]:
    notes = []
    figures, bootstrap = document[kind], document["bootstrap"]
    if figures["intervals"]:
        columns = _columns(document, kind).values()
        intervals = [i for c in columns for i in c["intervals"].values()]
        is_cut = any(cut_interval(i) != tuple(i) for i in intervals)
        notes.append(
            f"±: half of the interval that holds {bootstrap['interval']:.0%} of "
            f"{bootstrap['draws']} draws of the images; what training would change is not in it."
            + (" In brackets: such an interval, cut at 0 and 1." if is_cut else "")
        )
    if figures[GIVEN_AP] is not None:
        notes.append(
            "Every prediction was made for the box of an annotation: AP is that of the masks, "
            "given the true boxes."
        )
    return notes


def _columns(document: Mapping[str, Any], kind: str) -> dict[str, Mapping[str, Any]]:
    """Name of a group -> its figures, `all` the first."""
    figures = document[kind]
    number = {"categories": document["counts"]["categories"]}
    return {"all": {**figures, **figures["stats"], **number}, **figures["groups"]}


def _names(figures: Mapping[str, Any]) -> list[str]:
    """Names of the figures of a group that are one number each."""
    return [n for n in figures if re.match("A[PR]", n)] + [GIVEN_IOU]


def _plain(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """Every figure as one number, those by size under names of their own; None for nothing."""
    values = {n: figures[n] for n in _names(figures)}
    for size, value in (figures[GIVEN_IOU_BY_SIZE] or {}).items():
        values[f"{GIVEN_IOU}_{size}"] = value
    if GIVEN_AP in figures:
        values[GIVEN_AP] = figures[GIVEN_AP]
    return {n: None if v is None or v < 0 else v for n, v in values.items()}


def _headline(
    columns: Mapping[str, Mapping[str, Any]], area_ranges: AreaRanges
) -> Table:
    """A row for each figure, a column for each group."""
    everything = columns["all"]
    values = {group: _plain(c) for group, c in columns.items()}
    rows = []
    for name in values["all"]:
        if name in (GIVEN_IOU, GIVEN_AP) and everything[name] is None:
            continue
        cells = [
            with_interval(values[group][name], c["intervals"].get(name))
            for group, c in columns.items()
        ]
        rows.append([label(name), *cells, meaning_of(name, area_ranges)])
    return Table("", ["", *columns, ""], rows, notes=True)


def _groups(columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each group."""
    shown = _shown_figures(columns.values())
    rows = [
        [
            name,
            str(group["categories"]),
            *(
                with_interval(
                    group[n],
                    group["intervals"].get(n) if n in ("AP", GIVEN_IOU) else None,
                )
                for n in shown
            ),
        ]
        for name, group in columns.items()
    ]
    return Table("", ["group", "categories", *map(_label, shown)], rows)


def _categories(categories: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each category."""
    shown = _shown_figures(categories)
    has_groups = any(row["groups"] for row in categories)
    rows = [
        [
            row["name"],
            *([", ".join(row["groups"]) or "-"] if has_groups else []),
            str(row["annotations"]),
            *(with_interval(row[n], None) for n in shown),
        ]
        for row in categories
    ]
    words = ["category", "groups"] if has_groups else ["category"]
    return Table("", [*words, "objects", *map(_label, shown)], rows, len(words))


def _shown_figures(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of a row's figures. COCO's that say nothing make room for those of own ranges."""
    rows = list(rows)
    own = [n for n in rows[0] if n.startswith("AP_")]
    names = (*_SHORT, *own, GIVEN_IOU)
    least = 0 if own else -1
    return [n for n in names if any(r[n] is not None and r[n] >= least for r in rows)]


def _label(name: str) -> str:
    return "IoU" if name == GIVEN_IOU else name
