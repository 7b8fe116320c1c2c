"""The whole main job on a small generated set: one table, and a page of pictures.

generate -> build split records -> label with every predictor -> evaluate seen and unseen
"""

import contextlib
import dataclasses
import io
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
from rich import box
from rich.console import Console
from rich.table import Table as TerminalTable

from deepmac.commands import command_line, from_options, option, run
from deepmac.data.paths import require_local
from deepmac.errors import DataError, OptionError, one_of
from deepmac.evaluation.summary import GIVEN_IOU
from deepmac.gallery import Step, Table, render_page
from deepmac.predictors import CLASSICAL
from deepmac.samples import ShapesPaths, write_shapes
from deepmac.terminal import announce
from pipelines import build_dataset, evaluate, infer, label_checks, launch
from pipelines.quickstart_pictures import draw_pictures
from pipelines.storage import refusals_told

_MARKER, _PAGE = "quickstart.json", "index.html"
_TINY = "center_net_deepmac_tiny"  # made for these pictures
_SIDE = 256  # pixels
_NUM_SHARDS = 8  # of the records; enough for several workers to share
_NUM_SHOWN = 8  # pictures on the page


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Runs everything once on a small generated set.

    Generates pictures of 24 categories with exact masks, builds records in which half of the
    categories keep their masks, makes a mask for every box with every predictor at hand, and
    evaluates the seen and the unseen categories. Prints one table and writes a page of pictures.
    A run that was stopped goes on where it was when the same command is given again.
    """

    out: str = option("Directory to write to.", default="quickstart", metavar="DIR")
    num_images: int = option("Pictures to generate.", default=20)
    seed: int = option("Decides the pictures.", default=0)
    model: str | None = option(
        "The last predictor: the configuration of --checkpoint, by default "
        "center_net_deepmac_tiny, or package.module:factory.",
        default=None,
        metavar="NAME|PATH",
    )
    checkpoint: str | None = option(
        "Weights of the network; default: those that come with it.",
        default=None,
        metavar="PATH",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A predictor of the table: its name there, and how `label` runs it."""

    name: str
    model: str
    checkpoint: str | None = None
    beam_args: tuple[str, ...] = ()


def execute(options: Options, beam_args: list[str]) -> int:
    """Does every step that is not done yet; returns the exit status."""
    started = time.monotonic()
    launch.parse_beam_args(beam_args, Options)
    rows = _rows(options, beam_args)
    out = Path(require_local(options.out))
    for row in rows:
        if row.model not in CLASSICAL:  # they cannot be wrong
            label_checks.open_model(_label_options(row, out))
    with refusals_told(options.out):
        return _run(options, rows, out, started)


def _run(options: Options, rows: Sequence[_Row], out: Path, started: float) -> int:
    _claim(out)
    script = _Script()
    shapes = _generate(script, options, out)
    _build(script, shapes, out)
    # The user's own first: a slip in its options should not wait for the others.
    figures = {
        row.name: _label_and_evaluate(script, row, shapes, out)
        for row in sorted(rows, key=lambda row: row.model in CLASSICAL)
    }
    table = _table({row.name: figures[row.name] for row in rows}, options)
    with announce("drawing"):
        columns, pictures = draw_pictures(
            shapes,
            {row.name: _predictions(out, row) for row in rows},
            out / "pictures",
            _NUM_SHOWN,
        )
    page = render_page(
        "deepmac quickstart",
        _introduction(options),
        table,
        columns,
        pictures,
        script.steps,
    )
    (out / _PAGE).write_text(page, encoding="utf-8")
    _print_table(table)
    print(f"{time.monotonic() - started:.0f} s; pictures and commands: {out / _PAGE}")
    return script.status


command = from_options("quickstart", Options, execute)


def main(argv: list[str] | None = None) -> int:
    """`python -m pipelines.quickstart`: the options of the quickstart and Beam's, mixed."""
    mixed = from_options("quickstart", Options, execute, mix_in_unknown=True)
    return run(mixed, argv, "python -m pipelines.quickstart")


class _Script:
    """Runs the steps, says each in a line, and keeps them for the page."""

    def __init__(self):
        self.steps: list[Step] = []
        self.status = 0

    def begin(self, title: str, command: str) -> None:
        """Says what is about to run, and the command that does just that."""
        self.steps.append(Step(title, command))
        print(f"{title}:  {command}", flush=True)

    def job(
        self,
        title: str,
        module: ModuleType,
        options: Any,
        beam_args: Sequence[str] = (),
    ) -> None:
        """Runs a job as its command would. Its own words are shown only when it does not end well."""
        name = module.command.name
        self.begin(title, command_line(f"deepmac {name}", options, beam_args))
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            status = module.execute(options, list(beam_args))
        if status:
            print(said.getvalue(), end="")
            self.status = max(self.status, status)


# Before the work.


def _rows(options: Options, beam_args: Sequence[str]) -> list[_Row]:
    """The predictors of the table; Beam's flags, if given, are for all of them."""
    rows = [_Row("box", "box"), _Row("ellipse", "ellipse")]
    rows.append(_Row("grabcut", "grabcut", beam_args=one_thread_each_processor()))
    model = options.model or _TINY
    if model in CLASSICAL:
        raise OptionError(f"--model={model}: is in the table anyway")
    is_own = ":" in model and options.checkpoint is None
    name = model.rpartition(":")[2] if is_own else "deepmac"
    rows.append(_Row(name, model, options.checkpoint))
    if beam_args:
        rows = [dataclasses.replace(row, beam_args=tuple(beam_args)) for row in rows]
    return rows


def _claim(out: Path) -> None:
    """Makes the directory ours, or refuses one that holds something else."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is not a directory; name another --out")
    entries = sorted(e.name for e in out.iterdir()) if out.exists() else []
    if entries and _MARKER not in entries:
        raise DataError(
            f"{out}: holds {one_of(entries, limit=3)} and no earlier quickstart; name another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARKER).write_text('{"made_by": "deepmac quickstart"}\n')


def one_thread_each_processor() -> tuple[str, ...]:
    """For what computes outside of Python's lock, on one processor at a time."""
    num_workers = os.cpu_count() or 1
    if num_workers == 1:
        return ()
    workers = f"--direct_num_workers={num_workers}"
    return workers, "--direct_running_mode=multi_threading"


# The steps.


def _generate(script: _Script, options: Options, out: Path) -> ShapesPaths:
    words = ["python", "-m", "deepmac.samples", "--out", str(out / "shapes")]
    words += ["--num_images", str(options.num_images), "--seed", str(options.seed)]
    script.begin("generate pictures", shlex.join(words))
    with announce("generating"):
        return write_shapes(
            out / "shapes", options.num_images, size=_SIDE, seed=options.seed
        )


def _build(script: _Script, shapes: ShapesPaths, out: Path) -> None:
    options = build_dataset.Options(
        annotations=str(shapes.annotations),
        images=str(shapes.images),
        out=str(out / "records"),
        split=f"@{shapes.seen}",
        num_shards=_NUM_SHARDS,
    )
    script.job("build records", build_dataset, options)


def _label_and_evaluate(
    script: _Script, row: _Row, shapes: ShapesPaths, out: Path
) -> dict[str, Any]:
    """Masks for all boxes by one predictor; returns the figures about them."""
    script.job(f"label with {row.name}", infer, _label_options(row, out), row.beam_args)
    metrics = out / "metrics" / row.name
    score = evaluate.Options(
        ground_truth=str(shapes.annotations),
        predictions=str(_predictions(out, row)),
        out=str(metrics),
        seen=f"@{shapes.seen}",
        images=str(shapes.images),
    )
    script.job(f"evaluate {row.name}", evaluate, score)
    return orjson.loads((metrics / "metrics.json").read_bytes())["segm"]


def _label_options(row: _Row, out: Path) -> infer.Options:
    return infer.Options(
        records=str(out / "records"),
        model=row.model,
        checkpoint=row.checkpoint,
        out=str(_predictions(out, row)),
    )


def _predictions(out: Path, row: _Row) -> Path:
    return out / "predictions" / row.name


# What is shown.


def _introduction(options: Options) -> str:
    return (
        f"{options.num_images} generated pictures of {_SIDE} pixels, a mask for every box. In the "
        f"records the seen categories keep their masks; the unseen ones have boxes only."
    )


def _table(figures: Mapping[str, Mapping[str, Any]], options: Options) -> Table:
    rows = []
    for name, segm in figures.items():
        groups = [
            {**segm["stats"], GIVEN_IOU: segm[GIVEN_IOU]},
            segm["groups"]["seen"],
            segm["groups"]["unseen"],
        ]
        cells = [f"{group[key]:.3f}" for key in (GIVEN_IOU, "AP") for group in groups]
        rows.append([name, *cells])
    notes = [
        "IoU at boxes: of each object's mask with the true one, given its box; the mean. AP is "
        "COCO's; box, ellipse and grabcut have no scores to rank by, so it says less of them."
    ]
    if options.model is None and options.checkpoint is None:
        notes.append(
            f"deepmac is {_TINY} with the weights that come with it: trained on other pictures of "
            f"this kind, with the masks of the seen categories alone (docs/tiny_model.md)."
        )
    return Table(
        groups=(("", 1), ("IoU at boxes", 3), ("mask AP", 3)),
        columns=("predictor", *("all", "seen", "unseen") * 2),
        rows=rows,
        notes=notes,
    )


def _print_table(table: Table) -> None:
    """The same table for the terminal."""
    shown = TerminalTable(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = [h for text, span in table.groups for h in (text, *[""] * (span - 1))]
    for heading, name in zip(headings, table.columns, strict=True):
        justify = "right" if shown.columns else "left"
        shown.add_column(f"{heading}\n{name}", justify=justify, no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    console = Console(highlight=False)
    console.print(shown)
    for note in table.notes:
        console.print(note, markup=False)


if __name__ == "__main__":
    # What travels to workers must come from the module of that name, not from `__main__`.
    from pipelines.quickstart import main as start

    sys.exit(start())
