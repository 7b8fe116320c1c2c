"""Two evaluations -> which is better, on what, and how sure that is."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from deepmac.categories import Category
from deepmac.data.files import exists, is_folder, join, list_folder
from deepmac.data.json_file import read_bytes
from deepmac.errors import DataError, OptionError, one_of
from deepmac.evaluation.comparison import compare
from deepmac.evaluation.comparison_report import (
    Compared,
    conclusions,
    csv_of,
    document_of,
    markdown,
    notes,
    tables_of,
)
from deepmac.evaluation.groups import named_groups
from deepmac.evaluation.parameters import IOU_TYPES
from deepmac.evaluation.saved import from_bytes
from deepmac.evaluation.summary import Evaluation
from deepmac.evaluation.tables import for_terminal
from deepmac.terminal import announce
from pipelines.evaluate import METRICS, STATES
from pipelines.preflight import Problems, check_output
from pipelines.storage import hold_output
from pipelines.unit_files import JOB

OUTPUTS = ("comparison.md", "comparison.csv", "comparison.json")


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--iou_type",
    type=click.Choice(IOU_TYPES),
    help="Compare masks or boxes. By default masks, where both have them.",
)
@click.option(
    "--group",
    multiple=True,
    metavar="GROUP",
    help="More categories to compare apart, as for `deepmac evaluate`. Those that A and B were "
    "evaluated with are there anyway. Repeatable.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Draws of the images, for the intervals; 0 for none.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of the draws.",
)
@click.option(
    "--images",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="List so many of the images that changed most.",
)
@click.option(
    "--out",
    metavar="DIR",
    help=f"Also write {', '.join(OUTPUTS)} to a directory.",
)
def command(
    first: str,
    second: str,
    iou_type: str | None,
    group: tuple[str, ...],
    draws: int,
    seed: int,
    images: int,
    out: str | None,
) -> None:
    """Say which of two evaluations is better, on what, and how sure that is.

    A and B are directories that `deepmac evaluate` has written, with the same ground truth and the
    same options, or evaluation-*.npz files in them. Both are drawn the same images, again and
    again: how much B - A varies with that tells a difference from chance.
    """
    problems = Problems()
    saved = []
    for path in (first, second):
        with problems.noting():
            saved.append(_found(path))
    if out is not None:
        with problems.noting():
            check_output(out)
    problems.raise_any()
    files = _of_one_kind((first, second), saved, iou_type)
    (a, groups), (b, other_groups) = (_read(file) for file in files)
    groups = _all_groups(a, _common(groups, other_groups), group)
    with announce("drawing images"):
        comparison = compare(a, b, groups, num_draws=draws, seed=seed)
    compared = Compared(
        first=first,
        second=second,
        comparison=comparison,
        parameters=a.parameters,
        scope=a.scope,
        groups=groups,
        num_draws=draws,
        seed=seed,
        num_images=images,
    )
    if out is not None:
        _write(out, compared)
    _print(compared, out)


def _found(path: str) -> dict[str | None, str]:
    """Kind -> file of each saved evaluation at a path; a file of its own may be of any kind.

    Raises:
        DataError: there is none.
    """
    if exists(path):
        return {None: path}
    if not is_folder(path):
        raise DataError(f"{path}: no such directory or file")
    there = list_folder(path)
    found: dict[str | None, str] = {
        kind: join(path, name) for kind, name in STATES.items() if name in there
    }
    if found:
        return found
    why = (
        f"it has {METRICS} alone, of an older deepmac; run the evaluation again"
        if METRICS in there
        else "name a directory that `deepmac evaluate` has written"
    )
    raise DataError(f"{path}: holds no {' or '.join(STATES.values())}: {why}")


def _of_one_kind(
    paths: Sequence[str],
    saved: Sequence[Mapping[str | None, str]],
    iou_type: str | None,
) -> list[str]:
    """A file of each, for `iou_type`, or by default the first kind that both have."""
    kinds = [iou_type] if iou_type else IOU_TYPES
    for kind in kinds:
        files = [some.get(kind, some.get(None)) for some in saved]
        if all(files):
            return [file for file in files if file is not None]
    have = "; ".join(
        f"{path} has {one_of(k for k in some if k)}"
        for path, some in zip(paths, saved, strict=True)
        if None not in some
    )
    wanted = f"evaluation of {iou_type}" if iou_type else "kind of evaluation in common"
    raise OptionError(f"there is no {wanted}: {have} (--iou_type)")


def _read(file: str) -> tuple[Evaluation, dict[str, list[Any]]]:
    data = read_bytes(file)
    try:
        return from_bytes(data)
    except DataError as e:
        raise DataError(f"{file}: {e}") from None


def _common(
    ours: Mapping[str, Collection[Any]], theirs: Mapping[str, Collection[Any]]
) -> dict[str, Collection[Any]]:
    """The groups of both, which may not contradict each other."""
    for name in (n for n in ours if n in theirs):
        if set(ours[name]) != set(theirs[name]):
            odd = sorted(map(str, set(ours[name]) ^ set(theirs[name])))
            raise DataError(
                f"group '{name}' has other categories in A than in B (ids {one_of(odd)}); evaluate "
                f"both with the same"
            )
    return {name: ids for name, ids in {**ours, **theirs}.items() if ids}


def _all_groups(
    evaluation: Evaluation, groups: Mapping[str, Collection[Any]], texts: Sequence[str]
) -> dict[str, Collection[Any]]:
    scope = evaluation.scope
    if not texts:
        return dict(groups)
    if not evaluation.parameters.use_categories:
        raise OptionError(
            "--group needs categories, A and B were evaluated with --no_use_categories"
        )
    if "supercategories" in texts:
        raise OptionError(
            "--group supercategories: a saved evaluation does not keep them; say it to "
            "`deepmac evaluate`, and they are compared here"
        )
    categories = [Category(i, scope.category_names[i]) for i in scope.category_ids]
    return dict(groups) | named_groups(texts, categories, {}, taken=groups)


def _write(out: str, compared: Compared) -> None:
    document = document_of(compared)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    contents = (
        markdown(compared).encode(),
        csv_of(compared),
        orjson.dumps(document, option=options),
    )
    with hold_output(out) as output:
        if output.read(JOB) is not None:
            raise OptionError(
                f"--out {out} holds what `build` or `label` made; name another"
            )
        for (
            name
        ) in OUTPUTS:  # of an earlier run, of which none shall stay beside a new one
            output.remove(name)
        for name, data in zip(OUTPUTS, contents, strict=True):
            output.write(name, data)


def _print(compared: Compared, out: str | None) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=100)
    kind = "masks" if compared.parameters.iou_type == "segm" else "boxes"
    num_images = len(compared.scope.image_ids)
    console.print(Text(f"A: {compared.first}\nB: {compared.second}"), soft_wrap=True)
    console.print(Text(f"{kind}, {num_images} images\n", style="bold"))
    for sentence in conclusions(compared):
        console.print(Text(sentence), soft_wrap=True)
    for table in tables_of(compared):
        console.print()
        console.print(for_terminal(table))
    for note in notes(compared):
        console.print(Text(note), soft_wrap=True)
    if out is not None:
        console.print(Text(f"{out}/{OUTPUTS[-1]}"), soft_wrap=True)
