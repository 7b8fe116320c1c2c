"""An evaluation on one machine: what the Beam job shares out, one piece after the other."""

import collections
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from deepmac.errors import DataError
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

_OF_FILES = (
    "results",
    "units",
    "detections",
)  # events that are no matter of the figures

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
        match_results(unit, form, ground_truth, known, parameters) for unit in units
    ]
    return conclude(ground_truth, partials, parameters, counts, len(partials))


def conclude(
    ground_truth: GroundTruth,
    partials: Sequence[Partial],
    parameters: Parameters,
    counts: collections.Counter[str],
    num_units: int,
) -> Evaluation:
    """The figures, from all of the ground truth and what the units of results contribute.

    Args:
        ground_truth, parameters, counts: as for `evaluate`.
        partials: from `match_results`, merged or not.
        num_units: that were to be matched.

    Raises:
        DataError: a unit has got lost on the way.
    """
    scope = ground_truth.scope
    images = np.arange(len(scope.image_ids))
    truths = count_truths(ground_truth, images, parameters, counts)
    partial = merge([truths, *partials], scope.image_ids)
    found = {"units": partial.counts["units"], "detections": len(partial.score)}
    wanted = {"units": num_units, "detections": partial.counts["detections"]}
    for name, number in wanted.items():
        if found[name] != number:
            raise DataError(
                f"{found[name]} of {number} {name} of results were evaluated; the others got lost"
            )
    for name in _OF_FILES:
        del partial.counts[name]
    return Evaluation(parameters, scope, finalize(partial, parameters, scope), partial)


def match_results(
    unit: Results,
    form: Form,
    truths: TruthSource,
    known: Scope,
    parameters: Parameters,
    *,
    chunk: int = 20_000,
) -> Partial:
    """What one unit of results contributes, with events that tell whether it is complete.

    Args:
        unit, form: the results.
        truths: the ground truth of all images, or of those of the unit.
        known: every image and category of the data set.
        parameters: of the evaluation.
        chunk: about as many detections are matched at once, which bounds memory.

    Raises:
        DataError: a result cannot be used; names it.
    """
    results, place = unit
    detections, counts = read_detections(
        results, truths.scope, known, parameters, form, place
    )
    partials = []
    for some in _whole_images(detections, chunk):
        ground_truth = truths.of_images(np.unique(some.image))
        partials.append(match_images(ground_truth, some, parameters))
    counts["units"] = 1
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


def _whole_images(detections: Detections, chunk: int) -> Iterator[Detections]:
    """The detections image by image, as many images together as hold about `chunk`."""
    if len(detections) <= 2 * chunk:  # a copy less
        yield detections
        return
    first_of_image = np.searchsorted(detections.image, detections.image[::chunk])
    edges = np.append(np.unique(first_of_image), len(detections)).tolist()
    for start, stop in itertools.pairwise(edges):
        yield detections.take(np.arange(start, stop))
