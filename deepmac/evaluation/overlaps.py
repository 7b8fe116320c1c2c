"""Which detections lie over which ground truth: IoU of the pairs that can matter."""

import dataclasses

import numpy as np

from deepmac.evaluation.detections import Detections
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.run_lengths import pair_iou


def cells_of(
    rows: GroundTruth | Detections, scope: Scope, parameters: Parameters
) -> np.ndarray:
    """int64 [N], number of the image and category of each row; of the image alone without them."""
    image = rows.image.astype(np.int64)
    if not parameters.use_categories:
        return image
    return image * len(scope.category_ids) + rows.category


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """P detections and ground truths of the same cell, ascending by cell, rank, ground truth.

    Attributes:
        cell: int64 [P].
        place: int64 [P], place of the detection in the ranked order.
        detection: int64 [P], row of the detection.
        truth: int64 [P], row of the ground truth.
    """

    cell: np.ndarray
    place: np.ndarray
    detection: np.ndarray
    truth: np.ndarray

    def take(self, rows: np.ndarray) -> "Pairs":
        return Pairs(
            self.cell[rows], self.place[rows], self.detection[rows], self.truth[rows]
        )


def near_pairs(
    ground_truth: GroundTruth,
    detections: Detections,
    order: np.ndarray,
    cells: np.ndarray,
    parameters: Parameters,
) -> tuple[Pairs, np.ndarray]:
    """The pairs whose IoU reaches the lowest threshold.

    Args:
        ground_truth, detections: of some images.
        order: int64 [D], rows of the detections that take part, ranked within their cells.
        cells: int64 [D], ascending, their cells.
        parameters: of the evaluation.

    Returns:
        P pairs and their IoU, float64 [P].
    """
    truth_cells = cells_of(ground_truth, ground_truth.scope, parameters)
    pairs = _pairs(cells, truth_cells, order)
    if parameters.iou_type == "segm":
        iou = pair_iou(
            detections.masks,
            pairs.detection,
            ground_truth.masks.drawn(),
            pairs.truth,
            ground_truth.is_crowd[pairs.truth],
            lowest=parameters.lowest_threshold,
        )
    else:
        iou = _box_iou(pairs, ground_truth, detections)
    is_near = iou >= parameters.lowest_threshold
    return pairs.take(is_near), iou[is_near]


def _pairs(cells: np.ndarray, truth_cells: np.ndarray, order: np.ndarray) -> Pairs:
    """Every detection with every ground truth of its cell; both sides ascend by cell."""
    first = np.searchsorted(truth_cells, cells, "left")
    number = np.searchsorted(truth_cells, cells, "right") - first
    place = np.repeat(np.arange(len(cells)), number)
    before = np.cumsum(number) - number
    truth = np.arange(len(place)) - np.repeat(before - first, number)
    return Pairs(cells[place], place, order[place], truth)


def _box_iou(
    pairs: Pairs, ground_truth: GroundTruth, detections: Detections
) -> np.ndarray:
    """float64 [P], the same operations in the same order as the reference."""
    d, g = detections.boxes[pairs.detection].T, ground_truth.boxes[pairs.truth].T
    width = np.minimum(d[2] + d[0], g[2] + g[0]) - np.maximum(d[0], g[0])
    height = np.minimum(d[3] + d[1], g[3] + g[1]) - np.maximum(d[1], g[1])
    overlap = width * height
    own, other = d[2] * d[3], g[2] * g[3]
    is_crowd = ground_truth.is_crowd[pairs.truth]
    union = np.where(is_crowd, own, own + other - overlap)
    meets = (width > 0) & (height > 0)
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=meets)
