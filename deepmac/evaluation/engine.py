"""An evaluation on one machine: the functions that the Beam job shares out, one after the other."""

import collections
import itertools
from collections.abc import Iterator

import numpy as np

from deepmac.evaluation.accumulate import finalize
from deepmac.evaluation.detections import Detections
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.matching import match_images
from deepmac.evaluation.oracle import iou_at_given_boxes
from deepmac.evaluation.overlaps import open_masks
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.state import Partial, count_truths, keep_matches, merge
from deepmac.evaluation.summary import Evaluation

_CHUNK = 20_000  # detections matched at once: bounds memory


def evaluate(
    ground_truth: GroundTruth,
    detections: Detections,
    parameters: Parameters,
    counts: collections.Counter[str],
) -> Evaluation:
    """Evaluates all images of the ground truth's scope.

    Args:
        ground_truth, detections: all there are.
        parameters: of the evaluation.
        counts: events met while reading them.
    """
    scope = ground_truth.scope
    images = np.arange(len(scope.image_ids))
    partials = [count_truths(ground_truth, images, parameters, counts)]
    partials += [
        match_detections(*chunk, parameters, collections.Counter())
        for chunk in _chunks(ground_truth, detections)
    ]
    partial = merge(partials, scope.image_ids)
    return Evaluation(parameters, scope, finalize(partial, parameters, scope), partial)


def match_detections(
    ground_truth: GroundTruth,
    detections: Detections,
    parameters: Parameters,
    counts: collections.Counter[str],
) -> Partial:
    """What the detections of some images contribute, given the ground truth of these images."""
    masks = open_masks(ground_truth, detections)
    return keep_matches(
        match_images(ground_truth, detections, masks, parameters),
        iou_at_given_boxes(ground_truth, detections, masks),
        ground_truth.scope,
        parameters,
        counts,
    )


def _chunks(
    ground_truth: GroundTruth, detections: Detections
) -> Iterator[tuple[GroundTruth, Detections]]:
    """Whole images together, as many as hold about `_CHUNK` detections."""
    first_of_image = np.searchsorted(detections.image, detections.image[::_CHUNK])
    edges = np.append(np.unique(first_of_image), len(detections)).tolist()
    for start, stop in itertools.pairwise(edges):
        some = detections.take(np.arange(start, stop))
        first, last = np.searchsorted(
            ground_truth.image, [some.image[0], some.image[-1] + 1]
        )
        yield ground_truth.take(np.arange(first, last)), some
