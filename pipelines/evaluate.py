"""Predictions and ground truth -> exact COCO figures: metrics.json and a table.

The figures are made by `deepmac.evaluation`. Without Beam flags all of it runs in this process;
with them the results are matched on Beam's workers, to the same figures bit by bit.
"""

import dataclasses
import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from rich.console import Console

from deepmac.commands import command_line, from_options, option, run, without_secrets
from deepmac.data.files import write_file
from deepmac.errors import OptionError
from deepmac.evaluation import saved
from deepmac.evaluation.parameters import IOU_TYPES, SWITCHES
from deepmac.evaluation.report import metrics
from deepmac.evaluation.summary import Evaluation
from deepmac.evaluation.tables import groups_csv, markdown, per_category_csv, tables
from deepmac.terminal import announce
from pipelines.evaluation_inputs import Task, array_files, prepare
from pipelines.evaluation_report import REPORT, write_report
from pipelines.evaluation_runs import evaluate_here, evaluate_on_beam
from pipelines.observation import Observation
from pipelines.storage import Output, hold_output, refusals_told
from pipelines.unit_files import JOB, note_run

METRICS = "metrics.json"
STATES = {kind: f"evaluation-{kind}.npz" for kind in IOU_TYPES}
OUTPUTS = (METRICS, "metrics.md", "groups.csv", "per_category.csv", *STATES.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Evaluates masks or boxes, exactly as pycocotools does, on one machine or on many.

    Prints the figures of all categories, of groups of them, and of each, and writes them as
    metrics.json, metrics.md, groups.csv and per_category.csv; `deepmac compare` reads what else it
    writes. With flags of Apache Beam the matching is shared out to Beam's workers.
    """

    ground_truth: str = option(
        "COCO annotations (JSON), or a directory of records.", metavar="FILE|DIR"
    )
    label_map: str | None = option(
        "Ids of the categories, for a ground truth of records that other programs wrote without "
        "ids.",
        metavar="FILE",
        default=None,
    )
    predictions: str = option(
        "COCO results (JSON), or a directory that `deepmac label` made.",
        metavar="FILE|DIR",
    )
    out: str = option("Directory to write to.", metavar="DIR")
    iou_type: tuple[str, ...] = option(
        "What to compare; give it twice for masks and boxes.",
        default=("segm",),
        choices=(*IOU_TYPES, "boundary"),
    )
    seen: str | None = option(
        "Categories to report apart from the rest: voc, non_voc, names with commas, or @FILE. By "
        "default those that keep their masks in the records.",
        default=None,
    )
    group: tuple[str, ...] = option(
        "More categories to report apart: voc, non_voc, supercategories, NAME=CATEGORIES (as for "
        "--seen), or @FILE.json with a list of categories for each name. Give it as often as you "
        "like; groups may overlap.",
        default=(),
        metavar="GROUP",
    )
    categories: str | None = option("Evaluate these only: as for --seen.", default=None)
    image_ids: str | None = option(
        "Evaluate these images only: ids with commas, or @FILE with one a line.",
        default=None,
    )
    use_categories: bool = option(
        "A prediction matches objects of its own category only.", default=True
    )
    max_dets: str = option(
        "Limits of predictions an image and category.", default="1,10,100"
    )
    iou_thresholds: str | None = option(
        "IoU thresholds with commas. By default 0.50 to 0.95 in steps of 0.05.",
        default=None,
    )
    area_ranges: str | None = option(
        "Ranges of object size in pixels, as name:low:high with commas. By default COCO's all, "
        "small, medium and large.",
        default=None,
    )
    id_zero: str = option(
        "A match with the annotation of id 0 counts as a miss, or as a match.",
        default="reference",
        choices=SWITCHES["id_zero"],
    )
    duplicate_ids: str = option(
        "Ids given twice in the ground truth are an error, or the last one stands for all.",
        default="error",
        choices=SWITCHES["duplicate_ids"],
    )
    wrong_size: str = option(
        "Masks of another size than the image are an error, or never match.",
        default="error",
        choices=SWITCHES["wrong_size"],
    )
    result_area: str = option(
        "Size of a prediction that has box and mask: the box's if the first one has a box, or the "
        "mask's.",
        default="reference",
        choices=SWITCHES["result_area"],
    )
    ignore_field: str = option(
        "A stored `ignore` has no effect, or leaves the annotation out.",
        default="reference",
        choices=SWITCHES["ignore_field"],
    )
    draws: int = option(
        "Draws of the images, for the intervals of the figures; 0 for none.",
        default=1000,
    )
    seed: int = option("Of the draws.", default=0)
    arrays: str | None = option(
        "Also write precision, recall and scores in pycocotools' layout; with several --iou_type "
        "to FILE-segm.npz and FILE-bbox.npz.",
        default=None,
        metavar="FILE.npz",
    )
    report: bool = option(
        "Write report.html: figures, charts and pictures on one page.", default=True
    )
    images: str | None = option(
        "Directory or pattern of the images, for the pictures of the report; a ground truth of "
        "records holds them.",
        default=None,
        metavar="DIR|GLOB",
    )
    gallery: int = option("Pictures in each gallery of the report.", default=12)
    num_processes: int = option(
        "Processes that match, on this machine and without Beam. Worth it for predictions in a "
        "directory; a results file must be sorted first.",
        default=1,
    )
    unit_images: int = option(
        "On Beam and with several processes, images of a results file in one piece of work.",
        default=500,
    )
    verbose: bool = option("Show what Beam logs.", default=False)


def execute(options: Options, beam_args: list[str]) -> int:
    """Evaluates and reports; returns the exit status."""
    started = time.time()
    tasks = prepare(options, beam_args)
    with hold_output(options.out) as output:
        if output.read(JOB) is not None:
            raise OptionError(
                f"--out {options.out} holds what `build` or `label` made; name another"
            )
        # Of an earlier run, which a failure would leave standing
        for name in (*OUTPUTS, REPORT):
            output.remove(name)
        with announce("evaluating"):
            evaluations, observed = _evaluate(tasks, output, options, beam_args)
        ids = tasks[0].ground_truth.annotation_ids
        groups = tasks[0].groups
        with announce("drawing images"):
            document = metrics(
                evaluations, groups, ids, num_draws=options.draws, seed=options.seed
            )
        if options.arrays:
            _write_arrays(options.arrays, evaluations)
        for kind, evaluation in evaluations.items():
            with output.new_file(STATES[kind]) as file:
                saved.write(file, evaluation, groups)
                file.publish()
        for name, data in _files(document, list(evaluations)).items():
            output.write(name, data)
        if options.report:
            with announce("drawing the report"):
                write_report(
                    output, tasks, evaluations, document, options, beam_args, started
                )
        facts = {
            "command": command_line("deepmac evaluate", options, beam_args),
            "directory": os.getcwd(),
            "options": dataclasses.asdict(options),
            "beam": without_secrets(beam_args),
            "metrics": observed.as_json(),
        }
        note_run(output, "evaluate", started, facts)
    names = [REPORT, METRICS] if options.report else [METRICS]
    _print(document, list(evaluations), options.out, names, observed)
    return 0


command = from_options("evaluate", Options, execute)


def main(argv: list[str] | None = None) -> int:
    """`python -m pipelines.evaluate`: the same options with Beam's flags mixed in."""
    name = "python -m pipelines.evaluate"
    mixed = from_options(name, Options, execute, mix_in_unknown=True)
    return run(mixed, argv, prog_name=name)


def _evaluate(
    tasks: Sequence[Task],
    output: Output,
    options: Options,
    beam_args: Sequence[str],
) -> tuple[dict[str, Evaluation], Observation]:
    if beam_args:
        return evaluate_on_beam(
            tasks,
            output,
            beam_args,
            unit_images=options.unit_images,
            verbose=options.verbose,
        )
    evaluations, observed = {}, Observation()
    for task in tasks:
        evaluations[task.parameters.iou_type], seen = evaluate_here(
            task,
            output,
            unit_images=options.unit_images,
            num_processes=options.num_processes,
        )
        observed += seen
    return evaluations, observed


def _files(document: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, bytes]:
    """Contents of the files with the figures, by name."""
    return {
        "metrics.md": markdown(document, kinds).encode(),
        "groups.csv": groups_csv(document, kinds),
        "per_category.csv": per_category_csv(document, kinds),
        METRICS: _dump(document),
    }


def _dump(document: Mapping[str, Any]) -> bytes:
    """JSON in the order of the figures, every float64 exactly."""
    return orjson.dumps(
        document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )


def _write_arrays(path: str, evaluations: Mapping[str, Evaluation]) -> None:
    for kind, file in array_files(path, list(evaluations)).items():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **dataclasses.asdict(evaluations[kind].curves))
        with refusals_told(file):
            write_file(file, buffer.getvalue())


def _print(
    document: Mapping[str, Any],
    kinds: Sequence[str],
    out: str,
    names: Sequence[str],
    observed: Observation,
) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=100)
    for kind in kinds:
        console.print(tables(document, kind))
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if (times := observed.table()) is not None:
        console.print(times)
    for name in names:
        console.print(f"{out}/{name}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    # What travels to workers must come from the module of that name, not from `__main__`.
    from pipelines.evaluate import main as start

    sys.exit(start())
