"""A web page of pictures in rows and columns, with a table above: one file, read from disk.

No script, no font and no picture from elsewhere; light or dark as the reader's system is.
"""

import dataclasses
import html
import urllib.parse
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One picture: its path relative to the page, and a line below it."""

    path: str
    caption: str


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """What was done, and the command that does it again."""

    title: str
    command: str


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns; the first column names the rows.

    Attributes:
        groups: headings above the columns, (text, number of columns) each; together as many
            columns as `columns` has.
        columns: one heading each.
        rows: cells of each row.
        notes: sentences below the table.
    """

    groups: Sequence[tuple[str, int]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def render_page(
    title: str,
    introduction: str,
    table: Table,
    columns: Sequence[str],
    pictures: Sequence[Sequence[Cell]],
    steps: Sequence[Step],
) -> str:
    """The page as HTML.

    Args:
        title: heading of the page and of the window.
        introduction: a paragraph of plain text.
        table: the numbers.
        columns: what the pictures of each column show.
        pictures: rows of as many cells as `columns` has.
        steps: how it all came about.
    """
    return _PAGE.format(
        title=html.escape(title),
        style=BASE_STYLE + _STYLE,
        introduction=html.escape(introduction),
        table=_table(table),
        count=len(columns),
        headings="".join(f"<h3>{html.escape(c)}</h3>" for c in columns),
        pictures="".join(_figure(cell) for row in pictures for cell in row),
        steps="".join(_step(step) for step in steps),
    )


def _table(table: Table) -> str:
    groups = "".join(
        f'<th scope="colgroup" colspan="{span}">{html.escape(text)}</th>'
        for text, span in table.groups
    )
    columns = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(value)}</td>" for value in row[1:])
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in table.notes)
    return (
        f"<div class=scroll><table><thead><tr class=groups>{groups}</tr><tr>{columns}</tr>"
        f"</thead><tbody>{rows}</tbody></table></div>{notes}"
    )


def _figure(cell: Cell) -> str:
    path, caption = urllib.parse.quote(cell.path), html.escape(cell.caption)
    return (
        f'<figure><a href="{path}"><img src="{path}" alt="{caption}" loading="lazy"></a>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _step(step: Step) -> str:
    return f"<li>{html.escape(step.title)}<pre><code>{html.escape(step.command)}</code></pre></li>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class=lead>{introduction}</p>
<section>{table}</section>
<section>
<h2>Pictures</h2>
<div class=grid style="--columns: {count}">{headings}{pictures}</div>
</section>
<section>
<h2>Each step by hand</h2>
<ol>{steps}</ol>
</section>
</main>
</body>
</html>
"""

BASE_STYLE = """
:root { --text: #1c2024; --quiet: #60646c; --line: #d9d9e0; --paper: #fcfcfd; --panel: #f2f2f5; }
@media (prefers-color-scheme: dark) {
  :root { --text: #edeef0; --quiet: #a9abb3; --line: #363a3f; --paper: #141517; --panel: #1e2023; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--text);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 86rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.02em; }
h2 { font-size: 1.2rem; margin: 0 0 1rem; }
h3 { font-size: .9rem; margin: 0; align-self: end; }
section { margin-top: 2.75rem; }
.lead { max-width: 46rem; margin: 0; color: var(--quiet); }
.note { max-width: 46rem; margin: .75rem 0 0; font-size: .9rem; color: var(--quiet); }
"""
"""Colours, type and headings that our pages share."""

_STYLE = """
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem 1.1rem; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; }
thead th { font-weight: 500; font-size: .9rem; color: var(--quiet); }
thead .groups th { text-align: center; padding-bottom: 0; color: var(--text); }
tbody tr { border-top: 1px solid var(--line); }
tbody tr:last-child { border-bottom: 1px solid var(--line); }
tbody th { font-weight: 600; }
.grid { display: grid; grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); gap: .75rem; }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--panel); }
figcaption { font-size: .8rem; color: var(--quiet); margin-top: .3rem; min-height: 1.55em; }
ol { padding-left: 1.4rem; max-width: 60rem; }
li { margin-bottom: .9rem; }
pre { margin: .35rem 0 0; padding: .6rem .8rem; background: var(--panel); border-radius: 6px;
      white-space: pre-wrap; overflow-wrap: anywhere; font: .82rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
@media (max-width: 46rem) { .grid { gap: .35rem; } h3, figcaption { font-size: .65rem; } }
"""
