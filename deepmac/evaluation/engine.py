"""An evaluation on one machine: what the Beam job shares out, one piece after the other."""

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from deepmac.errors import DataError, one_of
from deepmac.evaluation.accumulate import finalize
from deepmac.evaluation.columns import Place
from deepmac.evaluation.detections import Detections, Form, read_detections
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.matching import find_matches
from deepmac.evaluation.oracle import iou_at_given_boxes
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.state import (
    Partial,
    count_truths,
    empty_partial,
    keep_matches,
    merge,
)
from deepmac.evaluation.summary import Evaluation

_UNIT = "unit "  # begins an event that tells which unit it comes from
_OF_FILES = ("results", "detections")  # events that are no matter of the figures

_CHUNK = 20_000  # detections matched at once

Results = tuple[Sequence[Any], Place]
"""COCO results of whole images, and what names each of them in an error."""


class TruthSource(Protocol):
    """Ground truth by image: a `GroundTruth`, or something on disk."""

    @property
    def scope(self) -> Scope: ...

    def of_images(self, images: np.ndarray) -> GroundTruth: ...


def evaluate(
    ground_truth: GroundTruth,
    known: Scope,
    units: Iterable[Results],
    form: Form,
    parameters: Parameters,
    counts: collections.Counter[str],
) -> Evaluation:
    """Evaluates all images of the ground truth's scope.

    Args:
        ground_truth: all of it.
        known: every image and category of the data set, also those outside the scope.
        units: the results; all those of an image in one unit.
        form: of the results, see `detections.form_of`.
        parameters: of the evaluation.
        counts: events met while the ground truth was read.
    """
    partials = [
        match_results(unit, form, ground_truth, known, parameters, name=str(number))
        for number, unit in enumerate(units)
    ]
    names = list(map(str, range(len(partials))))
    partial = _merged(ground_truth, partials, parameters, counts)
    partials.clear()  # as much again
    return figures(partial, parameters, ground_truth.scope, names)


def conclude(
    ground_truth: GroundTruth,
    partials: Sequence[Partial],
    parameters: Parameters,
    counts: collections.Counter[str],
    units: Sequence[str],
) -> Evaluation:
    """The figures, from all of the ground truth and what the units of results contribute.

    Args:
        ground_truth, parameters, counts: as for `evaluate`.
        partials: from `match_results`, merged or not.
        units: names of those that were to be matched.

    Raises:
        DataError: a unit has got lost on the way, or a part of one.
    """
    partial = _merged(ground_truth, partials, parameters, counts)
    return figures(partial, parameters, ground_truth.scope, units)


def _merged(
    ground_truth: GroundTruth,
    partials: Sequence[Partial],
    parameters: Parameters,
    counts: collections.Counter[str],
) -> Partial:
    scope = ground_truth.scope
    images = np.arange(len(scope.image_ids))
    truths = count_truths(ground_truth, images, parameters, counts)
    return merge([truths, *partials], scope.image_ids)


def figures(
    partial: Partial, parameters: Parameters, scope: Scope, units: Sequence[str]
) -> Evaluation:
    """The figures, from what all images contribute, ground truth included; see `conclude`."""
    lost = [name for name in units if not partial.counts[_UNIT + name]]
    if lost:
        raise DataError(
            f"{len(lost)} of {len(units)} units of results got lost: {one_of(lost)}; run the same "
            f"again"
        )
    if len(partial.score) != (number := partial.counts["detections"]):
        raise DataError(
            f"{len(partial.score)} of {number} detections were evaluated, the others got lost; run "
            f"the same again"
        )
    for name in (*_OF_FILES, *(_UNIT + name for name in units)):
        del partial.counts[name]
    return Evaluation(parameters, scope, finalize(partial, parameters, scope), partial)


def match_results(
    unit: Results,
    form: Form,
    truths: TruthSource,
    known: Scope,
    parameters: Parameters,
    *,
    name: str,
    chunk: int = _CHUNK,
) -> Partial:
    """What one unit of results contributes, with events that tell whether it is complete.

    Args:
        unit, form: the results.
        truths: the ground truth of all images, or of those of the unit.
        known: every image and category of the data set.
        parameters: of the evaluation.
        name: of the unit, for `conclude`.
        chunk: about as many detections are matched at once, which bounds memory.

    Raises:
        DataError: a result cannot be used; names it.
    """
    results, place = unit
    detections, counts = read_detections(
        results, truths.scope, known, parameters, form, place
    )
    partials = []
    for rows in whole_images(detections.image, chunk):
        # As a rule they are all: a copy less
        some = detections if len(rows) == len(detections) else detections.take(rows)
        ground_truth = truths.of_images(np.unique(some.image))
        partials.append(match_images(ground_truth, some, parameters))
    counts[_UNIT + name] = 1
    counts["detections"] = sum(len(p.score) for p in partials)
    events = empty_partial(parameters, truths.scope, counts)
    return merge([events, *partials], truths.scope.image_ids)


def match_images(
    ground_truth: GroundTruth, detections: Detections, parameters: Parameters
) -> Partial:
    """What the detections of some images contribute, given the ground truth of these images."""
    return keep_matches(
        find_matches(ground_truth, detections, parameters),
        iou_at_given_boxes(ground_truth, detections),
        ground_truth.scope,
        parameters,
    )


def whole_images(image: np.ndarray, chunk: int = _CHUNK) -> Iterator[np.ndarray]:
    """Rows of images, int64 [..]: as many whole ones together as have about `chunk`.

    Args:
        image: int [N], ascending.
        chunk: rows.
    """
    first = np.searchsorted(
        image, image[::chunk] if len(image) > 2 * chunk else image[:1]
    )
    for start, stop in itertools.pairwise([*np.unique(first).tolist(), len(image)]):
        yield np.arange(start, stop)
