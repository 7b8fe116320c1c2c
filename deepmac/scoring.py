"""`deepmac.evaluate`: the exact COCO figures of predictions, from Python."""

import collections
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepmac.errors import DataError, OptionError, did_you_mean
from deepmac.evaluation import engine
from deepmac.evaluation.detections import Form, form_of
from deepmac.evaluation.engine import Results
from deepmac.evaluation.ground_truth import GroundTruth, read_ground_truth, read_scope
from deepmac.evaluation.groups import (
    SPLIT,
    categories_of,
    groups_evaluated,
    ids_named,
)
from deepmac.evaluation.parameters import (
    COCO_AREAS,
    COCO_IOU_THRESHOLDS,
    AreaRange,
    Parameters,
    Scope,
    check_draws,
    is_whole,
    other_kind,
)
from deepmac.evaluation.plain import plain
from deepmac.evaluation.prediction_units import Directory, predictions_at
from deepmac.evaluation.report import metrics
from deepmac.evaluation.results_file import ResultsFile, Scattered, place_of
from deepmac.evaluation.summary import Evaluation
from deepmac.evaluation_result import EvaluationResult
from deepmac.evaluation_truth import OpenedTruth, open_truth
from deepmac.text import short

Choice = str | Iterable[Any]
"""Categories: their names and ids, or a text as for `deepmac evaluate --seen`."""


def evaluate(
    ground_truth: str | os.PathLike[str] | Mapping[str, Any],
    predictions: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    *,
    iou_type: str = "segm",
    seen: Choice | None = None,
    groups: Mapping[str, Choice] | None = None,
    categories: Choice | None = None,
    image_ids: Iterable[Any] | None = None,
    use_categories: bool = True,
    max_dets: Sequence[int] = (1, 10, 100),
    iou_thresholds: Iterable[float] | None = None,
    area_ranges: Mapping[str, tuple[float, float]] | None = None,
    id_zero: str = "reference",
    duplicate_ids: str = "error",
    wrong_size: str = "error",
    result_area: str = "reference",
    ignore_field: str = "reference",
    label_map: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> EvaluationResult:
    """Evaluates masks or boxes, exactly as pycocotools does.

    Args:
        ground_truth: path of a COCO JSON file (`.gz` too) or of a directory of records; or what
            such a file holds.
        predictions: path of a COCO results file (`.gz` too) or of a directory that `deepmac
            label` made; or a list of results, in which NumPy's numbers and arrays are welcome: a
            mask may be bool [height, width]. A file in which the results of each image stand
            together is read a piece at a time; of another, all results are held in memory at
            once, where the command sorts them on disk.
        iou_type: `segm` compares masks, `bbox` boxes.
        seen: categories to report apart from the rest, as groups `seen` and `unseen`; by default
            those that keep their masks in the records.
        groups: further groups of categories to average over, by name.
        categories, image_ids: evaluate these only.
        use_categories: a prediction matches objects of its own category only.
        max_dets: limits of predictions an image and category.
        iou_thresholds: in (0, 1]; by default 0.50 to 0.95 in steps of 0.05.
        area_ranges: label -> (low, high) in pixels, both included; by default COCO's all, small,
            medium and large.
        id_zero, duplicate_ids, wrong_size, result_area, ignore_field: see `Parameters`.
        label_map: ids of the categories, for records that other programs wrote without ids.
        draws: of the bootstrap over images that gives the intervals; 0 for none.
        seed: of the bootstrap.

    Raises:
        DataError: the input cannot be evaluated; names what and why, in one sentence.
        OptionError: an argument makes no sense.
    """
    check_draws(draws, seed)
    parameters = Parameters(
        iou_type=iou_type,
        iou_thresholds=_thresholds(iou_thresholds),
        area_ranges=_area_ranges(area_ranges),
        max_dets=_limits(max_dets),
        use_categories=bool(use_categories),
        id_zero=id_zero,
        duplicate_ids=duplicate_ids,
        wrong_size=wrong_size,
        result_area=result_area,
        ignore_field=ignore_field,
    )
    opened = _opened(ground_truth, label_map, with_masks=iou_type == "segm")
    known = read_scope(opened.dataset, parameters, opened.where)
    scope = known.restricted(
        None if image_ids is None else _image_ids(image_ids),
        None if categories is None else _ids_of(categories, known, "categories"),
    )
    if use_categories:
        named = _groups(seen, groups, known, scope, opened.supervised_ids)
    elif seen is None and not groups:
        named = {}
    else:
        raise OptionError("seen and groups need categories; use_categories is False")
    truth, counts = read_ground_truth(opened.dataset, parameters, opened.where, scope)
    evaluation = _evaluation(predictions, truth, known, parameters, counts)
    document = metrics(
        {iou_type: evaluation},
        named,
        truth.annotation_ids,
        num_draws=int(draws),
        seed=int(seed),
    )
    return EvaluationResult(evaluation, document, named)


# The ground truth.


def _opened(
    ground_truth: Any, label_map: str | None, *, with_masks: bool
) -> OpenedTruth:
    if isinstance(ground_truth, str | os.PathLike):
        return open_truth(os.fspath(ground_truth), label_map, with_masks=with_masks)
    if isinstance(ground_truth, Mapping):
        return OpenedTruth(plain(dict(ground_truth)), "ground_truth", None)
    raise DataError(
        f"ground_truth is {short(ground_truth)}, neither a path nor a COCO data set"
    )


def _groups(
    seen: Choice | None,
    groups: Mapping[str, Choice] | None,
    known: Scope,
    scope: Scope,
    supervised: frozenset[int] | None,
) -> dict[str, list[Any]]:
    """Ids of the categories of each group, see `groups_evaluated`."""
    seen_ids = supervised if seen is None else _ids_of(seen, known, "seen")
    groups = {} if groups is None else groups
    if not isinstance(groups, Mapping):
        raise OptionError(
            f"groups is {short(groups)}, not categories by the name of their group, such as "
            f"{{'pets': ['cat', 'dog']}}"
        )
    taken = ("all", *(() if seen_ids is None else SPLIT))
    named = {}
    for name, choice in groups.items():
        if not isinstance(name, str) or not name:
            raise OptionError(f"groups: the name of a group is text, got {short(name)}")
        if name in taken:
            raise OptionError(
                f"groups: there is a group '{name}' already; give another name"
            )
        named[name] = _ids_of(choice, known, f"groups['{name}']")
    return groups_evaluated(seen_ids, named, known, scope)


def _ids_of(choice: Choice, known: Scope, argument: str) -> frozenset[Any]:
    """Ids of categories given by name or id.

    Raises:
        OptionError: there is none of that name or id.
    """
    if isinstance(choice, str):
        return ids_named(choice, categories_of(known), argument)
    if not isinstance(choice, Iterable):
        raise OptionError(
            f"{argument} is {short(choice)}, neither a list of categories nor a text such as 'voc'"
        )
    names: dict[Any, Any] = {known.category_names[i]: i for i in known.category_ids}
    ids = set()
    for value in plain(list(choice)):
        is_simple = isinstance(value, int | float | str) and not isinstance(value, bool)
        is_id = is_simple and value in known.category_index
        if not is_id and not (is_simple and value in names):
            written = [str(i) for i in known.category_ids]
            hint = did_you_mean(str(value), [*names, *written])
            if str(value) in written:
                hint = other_kind(value, known.category_ids[0])
            raise OptionError(
                f"{argument}: the ground truth has no category {value!r}{hint}"
            )
        ids.add(value if is_id else names[value])
    return frozenset(ids)


# The predictions.


def _evaluation(
    predictions: Any,
    truth: GroundTruth,
    known: Scope,
    parameters: Parameters,
    counts: collections.Counter[str],
) -> Evaluation:
    def over(units: Iterable[Results], form: Form) -> Evaluation:
        return engine.evaluate(truth, known, units, form, parameters, counts)

    if not isinstance(predictions, str | os.PathLike):
        results = _list_of(predictions)
        place = place_of(results, lambda i: f"predictions: result {i}")
        form = form_of(results[0], place(0)) if results else "mask"
        return over([(results, place)], form)
    found = predictions_at(os.fspath(predictions))
    counts.update(found.counts)
    source, form = found.source(parameters, known)
    if isinstance(source, Directory):
        return over((source.reader.read(unit) for unit in source.units), form)
    try:
        return over(source.in_order(), form)
    except Scattered:  # then all of it at once
        return over(_whole(source), form)


def _list_of(predictions: Any) -> Sequence[Any]:
    if isinstance(predictions, Mapping) or not isinstance(predictions, Iterable):
        raise DataError(
            f"predictions are {short(predictions)}, neither a path nor a list of results"
        )
    return predictions if isinstance(predictions, list) else list(predictions)


def _whole(file: ResultsFile) -> Iterator[Results]:
    yield file.some(0, [result for _, some in file.parts() for result in some])


# Arguments.


def _limits(values: Any) -> tuple[int, ...]:
    limits = _several(values, "max_dets", "whole numbers, such as [1, 10, 100]")
    for limit in limits:
        if not is_whole(limit):
            raise OptionError(f"max_dets holds {short(limit)}, not a whole number")
    return tuple(int(limit) for limit in limits)


def _thresholds(values: Any) -> tuple[float, ...]:
    if values is None:
        return COCO_IOU_THRESHOLDS
    thresholds = _several(values, "iou_thresholds", "numbers, such as [0.5, 0.75]")
    for threshold in thresholds:
        if not _is_number(threshold):
            raise OptionError(f"iou_thresholds holds {short(threshold)}, not a number")
    return tuple(float(threshold) for threshold in thresholds)


def _area_ranges(ranges: Any) -> tuple[AreaRange, ...]:
    if ranges is None:
        return COCO_AREAS
    if not isinstance(ranges, Mapping):
        raise OptionError(
            f"area_ranges is {short(ranges)}, not ranges by their label, such as "
            f"{{'all': (0, 1e10)}}"
        )
    found = []
    for label, limits in ranges.items():
        pair = list(limits) if isinstance(limits, Sequence | np.ndarray) else []
        if not isinstance(label, str) or [*map(_is_number, pair)] != [True, True]:
            raise OptionError(
                f"area_ranges: {short(label)} is {short(limits)}, not (low, high) under a name, "
                f"such as 'small': (0, 1024)"
            )
        found.append(AreaRange(label, float(pair[0]), float(pair[1])))
    return tuple(found)


def _image_ids(values: Any) -> list[Any]:
    ids = plain(_several(values, "image_ids", "ids, such as [1, 2]"))
    for value in ids:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise OptionError(f"image_ids holds {short(value)}, not an id")
    return ids


def _several(values: Any, argument: str, what: str) -> list[Any]:
    """The values of a list, an array or the like; text is none."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise OptionError(f"{argument} is {short(values)}, not a list of {what}")
    return list(values)


def _is_number(value: Any) -> bool:
    return is_whole(value) or isinstance(value, float | np.floating)
