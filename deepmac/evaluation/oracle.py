"""IoU of the masks predicted for given boxes: the number that isolates the mask head."""

import collections
import dataclasses
from typing import Any

import numpy as np

from deepmac.data.ids import id_from_text
from deepmac.evaluation.detections import Detections
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.run_lengths import pair_iou


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GivenBoxes:
    """Predictions joined to the annotations whose boxes they were made for.

    Attributes:
        ordinal: int32 [N], number of the annotation in the whole set.
        iou: float64 [N], of its mask and the predicted one.
        counts: events.
    """

    ordinal: np.ndarray
    iou: np.ndarray
    counts: collections.Counter[str]


def iou_at_given_boxes(ground_truth: GroundTruth, detections: Detections) -> GivenBoxes:
    """IoU of every annotation's mask with that of the prediction that carries its id.

    Crowds take no part. Score and rank do not matter, nor does the predicted category. Where
    several predictions carry an id, that of the highest score is meant (the first of equals).
    An empty mask has IoU 0, as has one of another size. No predictions join for `bbox`.
    """
    counts = collections.Counter[str]()
    if not len(detections.masks):
        return GivenBoxes(np.zeros(0, np.int32), np.zeros(0), counts)
    row_of = {
        (image, _plain(annotation_id)): row
        for row, (image, annotation_id) in enumerate(
            zip(ground_truth.image.tolist(), ground_truth.annotation_ids, strict=True)
        )
    }
    best: dict[int, int] = {}
    images = detections.image.tolist()
    for row, annotation_id in enumerate(detections.annotation_ids):
        if annotation_id is None:
            continue
        counts["predictions_for_given_boxes"] += 1
        truth = row_of.get((images[row], _plain(annotation_id)))
        if truth is None:
            counts["predictions_with_unknown_annotation_id"] += 1
            continue
        if truth in best:
            counts["predictions_sharing_an_annotation_id"] += 1
            if detections.score[row] <= detections.score[best[truth]]:
                continue
        best[truth] = row
    pairs = [(t, d) for t, d in best.items() if not ground_truth.is_crowd[t]]
    truths, rows = np.array(pairs, np.int64).reshape(-1, 2).T
    no_crowd = np.zeros(len(pairs), bool)
    iou = pair_iou(detections.masks, rows, ground_truth.masks.drawn(), truths, no_crowd)
    return GivenBoxes(ground_truth.ordinal[truths], np.maximum(iou, 0), counts)


def _plain(annotation_id: Any) -> Any:
    """An id as ids are compared: records keep '17' as 17."""
    if isinstance(annotation_id, str):
        return id_from_text(annotation_id)
    return annotation_id
