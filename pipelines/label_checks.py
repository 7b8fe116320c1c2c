"""What can be found wrong with a `label` job before any work."""

import os
from collections.abc import Callable

from deepmac.data.image_source import ImageSource
from deepmac.errors import OptionError
from deepmac.predictors.checked import CheckedPredictor
from pipelines.label_options import Options, model_options, open_records
from pipelines.label_work import check_boxes, open_shared
from pipelines.preflight import (
    Problems,
    check_fraction,
    check_output,
    check_readable,
)


def check(
    options: Options, precision: str, look_into_files: Callable[[], object]
) -> CheckedPredictor | None:
    """Finds all that can be found before any work; returns the predictor if it opens here.

    Args:
        options: of the job.
        precision: what the network is to be opened in.
        look_into_files: plans the job for the sake of what that complains about.

    Raises:
        ProblemsFound: names everything that is wrong.
    """
    problems = Problems()
    for check_some in (
        _check_input,
        _check_numbers,
        _check_exports,
        _check_model_on_workers,
    ):
        with problems.noting():
            check_some(options)
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
            open_records(options)
    predictor = None
    with problems.noting():
        if not options.model_on_workers:
            predictor = open_model(options, precision)
    if problems and options.annotations and options.images:
        # The job will not run; what is wrong inside the file is worth telling all the same.
        with problems.noting():
            look_into_files()
    problems.raise_any()
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
    predictor = open_shared(options.model, model_options(options, precision))
    check_boxes(predictor, detect=options.boxes == "detect")
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


def _check_model_on_workers(options: Options) -> None:
    if not options.model_on_workers:
        return
    if options.precision != "float32":
        raise OptionError(
            f"--precision={options.precision} is tried out on this machine, which "
            f"--model_on_workers says not to open the model"
        )
    for flag in ("model", "checkpoint"):
        path = getattr(options, flag) or ""
        if os.sep in path and not (os.path.isabs(path) or "://" in path):
            raise OptionError(
                f"--{flag}={path}: with --model_on_workers a path begins with /, as workers have "
                f"other folders to start from"
            )


def _check_exports(options: Options) -> None:
    if not options.write_annotations:
        return
    if options.boxes == "detect":
        raise OptionError("--write_annotations: detections belong to no annotation")
    if options.annotations is None:
        raise OptionError("--write_annotations: records have no annotation file")
