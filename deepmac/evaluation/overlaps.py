"""Which detections lie over which ground truth: IoU of the pairs that can matter."""

import dataclasses
import itertools

import numpy as np

from deepmac.evaluation.detections import Detections
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.run_lengths import mask_iou, rle_areas, tight_boxes
from deepmac.evaluation.segmentations import RleCache


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Run lengths of ground truth and detections, made once for all who need them."""

    truth: RleCache
    detection: RleCache


def open_masks(ground_truth: GroundTruth, detections: Detections) -> Masks:
    """The masks of some images; empty for `bbox`."""
    sizes = ground_truth.scope.image_sizes
    return Masks(
        RleCache(ground_truth.segmentations, sizes[ground_truth.image]),
        RleCache(detections.segmentations, sizes[detections.image]),
    )


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

    def groups(self) -> list[tuple[int, int]]:
        """(start, stop) of the pairs of each cell."""
        starts = np.flatnonzero(np.diff(self.cell, prepend=-1))
        return list(itertools.pairwise([*starts.tolist(), len(self.cell)]))


def near_pairs(
    ground_truth: GroundTruth,
    detections: Detections,
    order: np.ndarray,
    cells: np.ndarray,
    masks: Masks,
    parameters: Parameters,
) -> tuple[Pairs, np.ndarray]:
    """The pairs whose IoU reaches the lowest threshold.

    Args:
        ground_truth, detections, masks: of some images.
        order: int64 [D], rows of the detections that take part, ranked within their cells.
        cells: int64 [D], ascending, their cells.
        parameters: of the evaluation.

    Returns:
        P pairs and their IoU, float64 [P].
    """
    truth_cells = cells_of(ground_truth, ground_truth.scope, parameters)
    pairs = _pairs(cells, truth_cells, order)
    if parameters.iou_type == "segm":
        iou = _mask_iou(pairs, ground_truth, masks, parameters.lowest_threshold)
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


def _mask_iou(
    pairs: Pairs, ground_truth: GroundTruth, masks: Masks, lowest: float
) -> np.ndarray:
    """float64 [P]; 0 where it cannot reach the lowest threshold, -1 for masks of unlike sizes."""
    iou = np.zeros(len(pairs.cell))
    is_crowd = ground_truth.is_crowd
    bound = _iou_bound(pairs, is_crowd, masks)
    rows = np.flatnonzero(bound >= lowest)
    near = pairs.take(rows)
    for start, stop in near.groups():
        d, d_at = np.unique(near.detection[start:stop], return_inverse=True)
        g, g_at = np.unique(near.truth[start:stop], return_inverse=True)
        values = mask_iou(
            [masks.detection[i] for i in d.tolist()],
            [masks.truth[i] for i in g.tolist()],
            is_crowd[g].tolist(),
        )
        iou[rows[start:stop]] = values[d_at, g_at]
    return iou


def _iou_bound(pairs: Pairs, is_crowd: np.ndarray, masks: Masks) -> np.ndarray:
    """float64 [P], what the IoU of two masks cannot exceed, from their areas and tight boxes."""
    d, d_at = np.unique(pairs.detection, return_inverse=True)
    g, g_at = np.unique(pairs.truth, return_inverse=True)
    d_rles = [masks.detection[i] for i in d.tolist()]
    g_rles = [masks.truth[i] for i in g.tolist()]
    own, other = rle_areas(d_rles)[d_at], rle_areas(g_rles)[g_at]
    a, b = tight_boxes(d_rles)[d_at].T, tight_boxes(g_rles)[g_at].T
    width = np.minimum(a[0] + a[2], b[0] + b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[1] + a[3], b[1] + b[3]) - np.maximum(a[1], b[1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    common = np.minimum(common, np.minimum(own, other))
    union = np.where(is_crowd[pairs.truth], own, own + other - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)
