"""Everything that an evaluation reads before it computes; what is wrong is told all at once."""

import collections
import contextlib
import dataclasses
import os
import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepmac.data.files import absolute, is_folder, read_text
from deepmac.errors import DataError, OptionError
from deepmac.evaluation.detections import Form, read_detections
from deepmac.evaluation.ground_truth import GroundTruth, read_ground_truth, read_scope
from deepmac.evaluation.groups import (
    SPLIT,
    categories_of,
    groups_evaluated,
    ids_named,
    named_groups,
)
from deepmac.evaluation.parameters import (
    COCO_AREAS,
    COCO_IOU_THRESHOLDS,
    AreaRange,
    Parameters,
    Scope,
    check_draws,
)
from deepmac.evaluation.prediction_units import (
    Directory,
    Predictions,
    predictions_at,
)
from deepmac.evaluation.results_file import ResultsFile, Scattered
from deepmac.evaluation_truth import OpenedTruth, open_truth
from deepmac.processors import give_back_freed_memory
from deepmac.terminal import announce
from pipelines.evaluation_report import check_report
from pipelines.preflight import Problems, check_output

if TYPE_CHECKING:
    from pipelines.evaluate import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of evaluation, ready to run.

    Attributes:
        parameters: of it.
        ground_truth: all of it.
        counts: events met while it was read, or when the predictions were made.
        groups: name of a group to report -> its category ids.
        known: every image and category of the data set.
        source: the results: a file, or the units of a directory.
        form: of the results.
    """

    parameters: Parameters
    ground_truth: GroundTruth
    counts: collections.Counter[str]
    groups: Mapping[str, Collection[Any]]
    known: Scope
    source: ResultsFile | Directory
    form: Form


def prepare(options: "Options", beam_args: Sequence[str]) -> list[Task]:
    """Reads the ground truth and looks at the rest; returns a task for each kind of evaluation.

    Raises:
        ProblemsFound: names everything that is wrong.
    """
    problems = Problems()
    kinds: list[Parameters] = []
    truth = predictions = None
    for read in (_thresholds_of, _area_ranges_of, _max_dets_of):
        with problems.noting():
            read(options)
    for iou_type in dict.fromkeys(options.iou_type) if not problems else ():
        with problems.noting():
            kinds.append(parameters_of(options, iou_type))
    for check in (_check_arrays, _check_numbers, _check_draws, check_report):
        with problems.noting():
            check(options)
    with problems.noting():
        check_output(options.out)
    with problems.noting():
        _check_beam(beam_args, options)
    with problems.noting(), announce(f"reading {options.ground_truth}"):
        truth = open_truth(
            options.ground_truth,
            options.label_map,
            with_masks="segm" in options.iou_type,
        )
    with problems.noting():
        predictions = predictions_at(options.predictions)
    tasks = []
    for parameters in kinds if truth else ():
        with problems.noting():
            tasks.append(_task(options, parameters, truth, predictions, problems))
    problems.raise_any()
    del truth  # as read, it takes several times what is kept of it
    give_back_freed_memory()
    return [task for task in tasks if task]


def parameters_of(options: "Options", iou_type: str) -> Parameters:
    """The parameters that the options ask for.

    Raises:
        OptionError: one of them makes no sense.
    """
    if iou_type == "boundary":
        raise OptionError("--iou_type boundary is not available yet; use segm or bbox")
    return Parameters(
        iou_type=iou_type,
        iou_thresholds=_thresholds_of(options),
        area_ranges=_area_ranges_of(options),
        max_dets=_max_dets_of(options),
        use_categories=options.use_categories,
        id_zero=options.id_zero,
        duplicate_ids=options.duplicate_ids,
        wrong_size=options.wrong_size,
        result_area=options.result_area,
        ignore_field=options.ignore_field,
    )


# The ground truth.


def _groups(
    options: "Options", known: Scope, scope: Scope, truth: OpenedTruth
) -> dict[str, list[Any]]:
    """Ids of the categories of each group, see `groups_evaluated`."""
    categories = categories_of(known)
    has_seen = options.seen is not None
    if (has_seen or options.group) and not options.use_categories:
        flag = "--seen" if has_seen else "--group"
        raise OptionError(
            f"{flag} needs categories, --no_use_categories takes them away"
        )
    seen = truth.supervised_ids if options.use_categories else None
    if options.seen is not None:
        seen = ids_named(options.seen, categories, "--seen")
    named = named_groups(
        options.group,
        categories,
        _supercategories(truth, scope),
        taken=() if seen is None else SPLIT,
    )
    return groups_evaluated(seen, named, known, scope)


def _supercategories(truth: OpenedTruth, scope: Scope) -> dict[Any, str]:
    """Category id -> super-category, of the categories evaluated that have one."""
    return {
        c["id"]: c["supercategory"]
        for c in truth.dataset["categories"]
        if c["id"] in scope.category_index and isinstance(c.get("supercategory"), str)
    }


def _image_ids(text: str, known: Scope) -> list[Any]:
    lines = text.split(",")
    if text.startswith("@"):
        try:
            lines = read_text(text[1:]).splitlines()
        except DataError as e:
            raise OptionError(f"--image_ids @FILE: {e}") from None
    names = {str(i): i for i in known.image_ids}
    return [names.get(line.strip(), line.strip()) for line in lines if line.strip()]


# Both together.


def _task(
    options: "Options",
    parameters: Parameters,
    truth: OpenedTruth,
    predictions: Predictions | None,
    problems: Problems,
) -> Task | None:
    """One kind of evaluation; None, with problems, where something is wrong."""
    known = read_scope(truth.dataset, parameters, truth.where)
    scope, groups, read = known, {}, None
    with problems.noting():
        scope = _restricted(options, known)
    with problems.noting():
        groups = _groups(options, known, scope, truth)
    with problems.noting():
        read = read_ground_truth(truth.dataset, parameters, truth.where, scope)
    if predictions is None:
        return None
    source, form = predictions.source(parameters, known)
    if problems or read is None:
        # The run is off; what is wrong in a results file is worth telling all the same.
        if isinstance(source, ResultsFile):
            with contextlib.suppress(Scattered):
                for results, place in source.in_order():
                    read_detections(results, scope, known, parameters, form, place)
        return None
    ground_truth, counts = read
    return Task(
        parameters=parameters,
        ground_truth=ground_truth,
        counts=counts + collections.Counter(predictions.counts),
        groups=groups,
        known=known,
        source=source,
        form=form,
    )


def _restricted(options: "Options", known: Scope) -> Scope:
    """The images and categories that are asked for."""
    image_ids = category_ids = None
    if options.image_ids is not None:
        image_ids = _image_ids(options.image_ids, known)
    if options.categories is not None:
        category_ids = ids_named(
            options.categories, categories_of(known), "--categories"
        )
    return known.restricted(image_ids, category_ids)


# Options that are texts.


def _thresholds_of(options: "Options") -> tuple[float, ...]:
    if options.iou_thresholds is None:
        return COCO_IOU_THRESHOLDS
    return tuple(_numbers(options.iou_thresholds, float, "iou_thresholds"))


def _max_dets_of(options: "Options") -> tuple[int, ...]:
    return tuple(_numbers(options.max_dets, int, "max_dets"))


def _area_ranges_of(options: "Options") -> tuple[AreaRange, ...]:
    if options.area_ranges is None:
        return COCO_AREAS
    ranges = []
    for part in options.area_ranges.split(","):
        label, *limits = part.strip().split(":")
        try:
            low, high = map(float, limits)
        except ValueError:
            raise OptionError(
                f"--area_ranges: '{part}' is not name:low:high, such as small:0:1024"
            ) from None
        ranges.append(AreaRange(label, low, high))
    return tuple(ranges)


def _numbers(text: str, kind: type, name: str) -> list[Any]:
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"--{name}: '{text}' is not numbers with commas") from None
    return values


def _check_arrays(options: "Options") -> None:
    if options.arrays is None:
        return
    if not options.arrays.endswith(".npz"):
        raise OptionError(f"--arrays: {options.arrays} must end in .npz")
    for file in array_files(options.arrays, options.iou_type).values():
        if is_folder(file):
            raise OptionError(f"--arrays: {file} is a directory")
        check_output(posixpath.dirname(file))


def array_files(path: str, kinds: Iterable[str]) -> dict[str, str]:
    """Kind of evaluation -> its file of arrays; of several kinds, `NAME-segm.npz` and so on."""
    file = absolute(path)
    several = list(dict.fromkeys(kinds))
    if len(several) == 1:
        return {several[0]: file}
    return {kind: f"{file.removesuffix('.npz')}-{kind}.npz" for kind in several}


def _check_numbers(options: "Options") -> None:
    for name in ("unit_images", "num_processes"):
        if (number := getattr(options, name)) < 1:
            raise OptionError(f"--{name} must be positive, got {number}")


def _check_draws(options: "Options") -> None:
    check_draws(options.draws, options.seed, flag="--")


def _check_beam(beam_args: Sequence[str], options: "Options") -> None:
    if not beam_args:
        return
    from pipelines import dataflow
    from pipelines.launch import parse_beam_args

    beam_options = parse_beam_args(beam_args, type(options))
    paths = {"out": options.out}
    if os.path.isdir(options.predictions):  # a file is sorted into --out
        paths["predictions"] = options.predictions
    dataflow.check_paths(beam_options, paths)
    if dataflow.is_left_alone(beam_options) and not dataflow.template(beam_options):
        raise OptionError(
            "--no_wait_until_finish: the launcher of an evaluation makes the figures in the end"
        )
    if options.num_processes > 1:
        raise OptionError(
            f"--num_processes {options.num_processes} is for an evaluation without Beam, which has "
            f"flags of its own, such as --direct_num_workers; give one of them"
        )
