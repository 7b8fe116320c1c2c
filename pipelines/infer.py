"""Images and boxes -> one mask for each box, in units that commit themselves."""

import dataclasses
import functools
import gc
import sys
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import deepmac
from deepmac.commands import command_line, from_options, run
from deepmac.data.assemble import Assembly
from deepmac.data.manifest import PREDICTIONS
from deepmac.errors import DataError
from deepmac.instances import Example, Precision
from deepmac.label import Settings
from deepmac.terminal import announce
from pipelines import launch
from pipelines.build_plan import NoWriter, Writer
from pipelines.dead_letters import conclude
from pipelines.label_checks import check, open_model
from pipelines.label_exports import write_annotations, write_results
from pipelines.label_options import (
    Options,
    identity_of,
    inputs_of,
    model_options,
    open_records,
)
from pipelines.label_plan import plan_boxes, plan_images, plan_records
from pipelines.label_precision import settle, settled_before
from pipelines.label_review import images_of_files, images_of_records, write_review
from pipelines.label_work import LabelWork, open_shared
from pipelines.storage import Output, hold_output
from pipelines.unit_files import JOB
from pipelines.unit_plan import SETTLED
from pipelines.unit_task import read_plan
from pipelines.units import PlanWriter, Totals, Unit, finish, run_units


def execute(options: Options, beam_args: list[str]) -> int:
    """Labels the images; returns the exit status."""
    # A slip there need not wait for the model to load.
    beam_options = launch.parse_beam_args(beam_args, Options)
    look_into_files = functools.partial(
        _plan, dataclasses.replace(options, unit_images=None), NoWriter()
    )
    # The predictor is not kept: another precision may take its place, and its memory.
    identity = identity_of(
        options, check(options, settled_before(options.out), look_into_files)
    )
    with hold_output(options.out) as output:
        totals = run_units(
            output,
            job="label",
            plan=functools.partial(_plan_and_settle, options, output),
            work=functools.partial(_begin, options),
            options=identity,
            inputs=inputs_of(options),
            beam_options=beam_options,
            command=command_line("deepmac label", options, beam_args),
            verbose=options.verbose,
        )
        if options.write_coco_results:
            write_results(output, totals)
        if options.write_annotations and options.annotations is not None:
            filled = write_annotations(output, totals, options.annotations)
            print(f"annotations.json: {filled.in_words()}")
        if options.review:
            print(_write_review(options, output, totals))
        finish(output, make_manifest(identity, totals))
    return conclude(totals, options.max_failed_fraction, out=options.out)


command = from_options("label", Options, execute)


def main(argv: list[str] | None = None) -> int:
    """`python -m pipelines.infer`: the job's options and Beam's, mixed."""
    mixed = from_options("infer", Options, execute, mix_in_unknown=True)
    return run(mixed, argv, "python -m pipelines.infer")


def make_manifest(identity: Mapping[str, Any], totals: Totals) -> dict[str, Any]:
    """What the directory holds: a function of the input, the options and the package version."""
    return {
        **PREDICTIONS.head(),
        "deepmac": deepmac.__version__,
        "options": dict(identity),
        "precision": {
            k: v for k, v in totals.context["precision"].items() if k != "summary"
        },
        "categories": [
            {"id": i, "name": name} for i, name in totals.context["categories"]
        ],
        "counts": totals.counts,
        PREDICTIONS.files: [
            PREDICTIONS.entry(
                unit.data_name, unit.data_bytes, unit.data_sha256, unit.counts
            )
            for unit in totals.units
        ],
    }


def _write_review(options: Options, output: Output, totals: Totals) -> str:
    if options.records is not None:
        read_images = images_of_records(open_records(options), totals)
    else:
        assert options.annotations
        assert options.images
        read_images = images_of_files(options.annotations, options.images)
    return write_review(
        output,
        totals,
        read_images,
        limit=options.review_max,
        max_pixels=options.max_pixels,
    )


def _plan(options: Options, writer: Writer) -> dict[str, Any]:
    if options.records is not None:
        return plan_records(open_records(options), writer)
    assert options.annotations
    assert options.images
    with announce(f"reading {options.annotations}"):
        if options.boxes == "detect":
            return plan_images(
                options.annotations, options.images, options.unit_images, writer
            )
        return plan_boxes(
            options.annotations, options.images, options.unit_images, writer
        )


def _plan_and_settle(
    options: Options, output: Output, writer: PlanWriter
) -> dict[str, Any]:
    """The plan's context, and in it what the network computes in: see `settle`."""
    context = _plan(options, writer)
    writer.flush()

    def first_examples() -> Iterator[Example]:
        work = make_work(options, context, "float32")
        for name, num_items in sorted(writer.num_items.items()):
            unit = Unit(name, read_plan(output, name, num_items))
            yield from work.examples(unit, Assembly())

    settled = settle(
        options.precision,
        functools.partial(open_model, options),
        first_examples,
        detect=options.boxes == "detect",
        mask_threshold=options.mask_threshold,
        max_pixels=options.max_pixels,
    )
    if settled["comparison"] and settled["precision"] == "float32":
        open_shared.cache_clear()  # holds the other one
    # A network and its compiled functions hold each other: gigabytes, until they are looked for.
    gc.collect()
    return context | {"precision": settled, SETTLED: [settled["precision"]]}


def _begin(options: Options, context: Mapping[str, Any]) -> LabelWork:
    settled = context.get("precision", {})
    if settled.get("precision") not in get_args(Precision):
        raise DataError(
            f"{options.out}/{JOB}: damaged, its plan does not say in what precision; use another "
            f"--out, or delete that one"
        )
    if options.precision != "float32":
        print(settled["summary"])
    return make_work(options, context, settled["precision"])


def make_work(
    options: Options, context: Mapping[str, Any], precision: str
) -> LabelWork:
    """What workers do."""
    paths = inputs_of(options)
    return LabelWork(
        model=options.model,
        model_options=model_options(options, precision),
        settings=Settings(
            detect=options.boxes == "detect",
            micro_batch=options.micro_batch,
            mask_threshold=options.mask_threshold,
            min_score=options.min_score,
            max_detections=options.max_detections,
            max_pixels=options.max_pixels,
            reference_quirks=options.reference_quirks or None,
        ),
        images=paths.get("images"),
        from_records=options.records is not None,
        category_names=dict(context["categories"]),
        repeats=frozenset(context["repeats"]),
        out_of_bounds=options.out_of_bounds,
    )


if __name__ == "__main__":
    # What travels to workers must come from the module of that name, not from `__main__`.
    from pipelines.infer import main as start

    sys.exit(start())
