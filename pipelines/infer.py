"""Images and boxes -> one mask for each box, in units that commit themselves."""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import deepmac
from deepmac.commands import from_options, option, run
from deepmac.data.assemble import Assembly
from deepmac.data.coco import OUT_OF_BOUNDS
from deepmac.data.decode import MAX_PIXELS
from deepmac.data.directory import RecordDirectory
from deepmac.data.foreign import open_with_categories
from deepmac.data.image_source import ImageSource
from deepmac.data.manifest import PREDICTIONS, file_sha256
from deepmac.errors import OptionError
from deepmac.instances import Example
from deepmac.label import Settings
from deepmac.paste import THRESHOLD
from deepmac.predictors.checked import CheckedPredictor
from deepmac.terminal import announce
from pipelines import launch
from pipelines.build_plan import NoWriter, Writer
from pipelines.dead_letters import conclude
from pipelines.json_lines import load_line
from pipelines.label_exports import write_annotations, write_results
from pipelines.label_plan import plan_boxes, plan_images, plan_records, records_digest
from pipelines.label_precision import REQUESTS, settle
from pipelines.label_review import images_of_files, images_of_records, write_review
from pipelines.label_work import LabelWork, open_shared
from pipelines.preflight import (
    Problems,
    check_fraction,
    check_output,
    check_readable,
)
from pipelines.storage import LocalOutput, hold_output
from pipelines.unit_files import JOB
from pipelines.unit_plan import SETTLED
from pipelines.unit_task import read_plan
from pipelines.units import PlanWriter, Totals, Unit, finish, run_units


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Makes a mask for every box, or for everything that the model detects.

    Input is a COCO annotation file with its images, or records. A job that was stopped goes on
    where it was when the same command is given again.
    """

    annotations: str | None = option(
        "COCO annotation file with the boxes (JSON).", metavar="FILE", default=None
    )
    images: str | None = option(
        "Directory of the image files, or a pattern of directories or files.",
        metavar="DIR|GLOB",
        default=None,
    )
    records: str | None = option(
        "Directory of records instead of annotations and images.",
        metavar="DIR",
        default=None,
    )
    label_map: str | None = option(
        "Ids of the categories, for --records that other programs wrote without ids.",
        metavar="FILE",
        default=None,
    )
    out: str = option("Directory to write to.", metavar="DIR")
    model: str = option(
        "A configuration, by name or path; the directory of a SavedModel; grabcut, box or "
        "ellipse; or package.module:factory.",
        metavar="NAME|PATH",
    )
    checkpoint: str | None = option(
        "Weights of the model.", metavar="PATH", default=None
    )
    set: tuple[str, ...] = option(
        "Changes a value of the configuration; may be given several times.",
        metavar="FIELD=VALUE",
        default=(),
    )
    accept: tuple[str, ...] = option(
        "Variables of the model, by name or pattern, that the checkpoint need not fit.",
        metavar="PATTERN",
        default=(),
    )
    precision: str = option(
        "What a network computes in. bfloat16 is several times faster where the processor has matrix "
        "units for it, and is compared with float32 on the first images; auto takes it where it is "
        "both faster and the same.",
        default="float32",
        choices=REQUESTS,
    )
    boxes: str = option(
        "Masks for the boxes of the input, or for those that the model detects.",
        default="given",
        choices=("given", "detect"),
    )
    mask_threshold: float = option(
        "A pixel belongs to the object when its probability is above this.",
        default=THRESHOLD,
    )
    min_score: float = option(
        "Detections with a lower score are left out.", default=0.0
    )
    max_detections: int = option("Detections of an image that are kept.", default=100)
    out_of_bounds: str = option(
        "Boxes that reach beyond the image: cut them, or let them fail.",
        default="clip",
        choices=OUT_OF_BOUNDS,
    )
    reference_quirks: bool = option(
        "Do everything as the reference does, also what it does wrongly.", default=False
    )
    unit_images: int | None = option(
        "Images in one output file, and the most that a stop can cost. By default a thirty-second "
        "of them, from 4 to 256.",
        default=None,
    )
    micro_batch: int = option("Images predicted together.", default=4)
    max_pixels: int = option("Images with more pixels fail.", default=MAX_PIXELS)
    write_coco_results: bool = option(
        "Write predictions.json too, a plain COCO results file.", default=False
    )
    write_annotations: bool = option(
        "Write annotations.json too: the input with its missing segmentations filled in.",
        default=False,
    )
    review: bool = option(
        "Write review.html too: pictures of the lowest-scored twentieth of the masks and of a "
        "random sample, with ids.",
        default=False,
    )
    review_max: int = option(
        "The most of the lowest-scored masks that --review shows.", default=200
    )
    max_failed_fraction: float = option(
        "Exit with status 3 when more of the images fail.", default=0.01
    )
    verbose: bool = option("Show what Beam logs.", default=False)


def execute(options: Options, beam_args: list[str]) -> int:
    """Labels the images; returns the exit status."""
    # A slip there need not wait for the model to load.
    beam_options = launch.parse_beam_args(beam_args, Options)
    identity = _identity(options, _check(options))
    with hold_output(options.out) as output:
        totals = run_units(
            output,
            job="label",
            plan=functools.partial(_plan_and_settle, options, output),
            work=functools.partial(_begin, options),
            options=identity,
            inputs=_inputs(options),
            beam_options=beam_options,
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


def _check(options: Options) -> CheckedPredictor:
    """Finds all that can be found before any work; returns the predictor."""
    problems = Problems()
    for check in (_check_input, _check_numbers, _check_exports):
        with problems.noting():
            check(options)
    with problems.noting():
        check_output(options.out)
    if options.annotations is not None:
        with problems.noting():
            check_readable(options.annotations)
    if options.images is not None:
        with problems.noting():
            ImageSource(options.images)
    if options.records is not None:
        with problems.noting():
            _open_records(options)
    predictor = None
    with problems.noting():
        predictor = open_model(options, settled_before(options.out))
    if problems and options.annotations and options.images:
        # The job will not run; what is wrong inside the file is worth telling all the same.
        with problems.noting():
            _plan(dataclasses.replace(options, unit_images=None), NoWriter())
    problems.raise_any()
    assert predictor
    return predictor


def open_model(options: Options, precision: str = "float32") -> CheckedPredictor:
    """The predictor that the options ask for; the job finds it open in this process.

    Args:
        options: of the job.
        precision: what the network computes in; `options.precision` is only what was asked for.

    Raises:
        OptionError: there is none of that name, or it cannot do what is asked for.
        DeepmacError: from opening it.
    """
    predictor = open_shared(options.model, _model_options(options, precision))
    if options.boxes == "detect" and not predictor.can_detect:
        raise OptionError(
            f"--boxes=detect: '{options.model}' has no detector of its own; use --boxes=given"
        )
    if options.boxes == "given" and not predictor.takes_boxes:
        raise OptionError(
            f"--boxes=given: '{options.model}' takes no boxes; use --boxes=detect"
        )
    if options.precision == "bfloat16" and predictor.precision is None:
        raise OptionError(
            f"--precision=bfloat16: '{options.model}' is not the network of a configuration, which "
            f"alone has a choice; leave it out"
        )
    return predictor


def _check_input(options: Options) -> None:
    from_files = (options.annotations is not None, options.images is not None)
    if (options.records is not None) == any(from_files):
        raise OptionError(
            "name one input: either --annotations and --images, or --records"
        )
    if any(from_files) and not all(from_files):
        raise OptionError("--annotations and --images go together")
    if options.label_map is not None and options.records is None:
        raise OptionError("--label_map is for --records")
    if options.records is not None and options.out_of_bounds != "clip":
        raise OptionError(
            "--out_of_bounds is for --annotations: boxes in records lie inside the image already"
        )


def _open_records(options: Options) -> RecordDirectory:
    assert options.records
    return open_with_categories(options.records, options.label_map)


def _check_numbers(options: Options) -> None:
    problems = Problems()
    for name in ("mask_threshold", "min_score", "max_failed_fraction"):
        with problems.noting():
            check_fraction(name, getattr(options, name))
    for name in (
        "unit_images",
        "micro_batch",
        "max_detections",
        "max_pixels",
        "review_max",
    ):
        value = getattr(options, name)
        if value is not None and value < 1:
            problems.add(f"--{name} must be positive, got {value}")
        elif value is not None and value >= 2**63:
            problems.add(f"--{name} must be less than 2**63, got {value}")
    problems.raise_any()


def _check_exports(options: Options) -> None:
    if not options.write_annotations:
        return
    if options.boxes == "detect":
        raise OptionError("--write_annotations: detections belong to no annotation")
    if options.annotations is None:
        raise OptionError("--write_annotations: records have no annotation file")


def _write_review(options: Options, output: LocalOutput, totals: Totals) -> str:
    if options.records is not None:
        read_images = images_of_records(_open_records(options), totals)
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


def _model_options(options: Options, precision: str) -> tuple[tuple[str, Any], ...]:
    """The options of the predictor that are set."""
    given = {
        "checkpoint": options.checkpoint,
        "overrides": options.set,
        "accept": options.accept,
        "reference_quirks": options.reference_quirks,
        "precision": None if precision == "float32" else precision,
    }
    return tuple((name, value) for name, value in given.items() if value)


def _identity(options: Options, predictor: CheckedPredictor) -> dict[str, Any]:
    """The options that decide the results, with files as their digests.

    Not among them: `micro_batch`, so that a job that ran out of memory can go on with less. Sums
    in another order move a probability by 1e-6 or so.
    """
    identity: dict[str, Any] = {
        "model": Path(options.model).name,
        "model_fingerprint": predictor.fingerprint,
        "boxes": options.boxes,
        "precision": options.precision,
        "mask_threshold": options.mask_threshold,
        "reference_quirks": options.reference_quirks,
        "max_pixels": options.max_pixels,
    }
    # A predictor of the user's own may not tell by its fingerprint what it was given.
    if options.set:
        identity["set"] = list(options.set)
    if options.accept:
        identity["accept"] = sorted(options.accept)
    if options.boxes == "detect":
        identity["min_score"] = options.min_score
        identity["max_detections"] = options.max_detections
    if options.records is not None:
        identity["records_sha256"] = records_digest(_open_records(options))
        if options.label_map is not None:
            identity["label_map_sha256"] = file_sha256(options.label_map)
    elif options.annotations is not None:
        identity["annotations_sha256"] = file_sha256(options.annotations)
        identity["out_of_bounds"] = options.out_of_bounds
        identity["unit_images"] = options.unit_images
    return identity


def _inputs(options: Options) -> dict[str, Any]:
    """Where the input lies that the identity does not cover."""
    names = ("images", "records", "checkpoint")
    paths = {name: getattr(options, name) for name in names}
    return {name: str(Path(p).absolute()) for name, p in paths.items() if p is not None}


def _plan(options: Options, writer: Writer) -> dict[str, Any]:
    if options.records is not None:
        return plan_records(_open_records(options), writer)
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
    options: Options, output: LocalOutput, writer: PlanWriter
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
    return context | {"precision": settled, SETTLED: [settled["precision"]]}


def _begin(options: Options, context: Mapping[str, Any]) -> LabelWork:
    settled = context["precision"]
    if options.precision != "float32":
        print(settled["summary"])
    return make_work(options, context, settled["precision"])


def settled_before(out: str) -> str:
    """What the network computes in, as an earlier run into this directory settled it."""
    try:
        job = load_line((Path(out) / JOB).read_bytes())
        return job["plan"]["context"]["precision"]["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        return (
            "float32"  # a new job, or none of ours: whoever opens the directory tells
        )


def make_work(
    options: Options, context: Mapping[str, Any], precision: str
) -> LabelWork:
    """What workers do."""
    paths = _inputs(options)
    return LabelWork(
        model=options.model,
        model_options=_model_options(options, precision),
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
