"""Detections against ground truth, one image and one category (a cell) at a time."""

import dataclasses

import numpy as np

from deepmac.evaluation.detections import Detections
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.overlaps import Masks, Pairs, cells_of, near_pairs
from deepmac.evaluation.parameters import Parameters, Scope


def match_cell(
    iou: np.ndarray,
    is_ignored: np.ndarray,
    is_crowd: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """Gives each detection of a cell its ground truth, greedily, best score first.

    A detection takes the free ground truth of the highest IoU that is at least the threshold, the
    last of them where several are equal; one that counts goes before any ignored one. A crowd
    stays free.

    Args:
        iou: float64 [D, G], detections in order of their rank.
        is_ignored: bool [A, G], for each area range: neither hit nor miss. Crowds always are.
        is_crowd: bool [G].
        thresholds: float64 [T].

    Returns:
        int64 [A, T, D], index of the ground truth, -1 for none.
    """
    num_detections, num_truths = iou.shape
    shape = (len(is_ignored), len(thresholds))
    matches = np.full((*shape, num_detections), -1)
    if not num_truths:
        return matches
    counts = ~is_ignored[:, None, :]  # [A, 1, G]
    is_free = np.ones((*shape, num_truths), bool)
    rows = np.indices(shape)
    for detection, row in enumerate(iou):
        candidates = is_free & (row >= thresholds[:, None])  # [A, T, G]
        regular = candidates & counts
        has_regular = regular.any(axis=-1, keepdims=True)
        candidates = np.where(has_regular, regular, candidates)
        # argmax finds the first of equals: look from behind.
        best = num_truths - 1 - np.where(candidates, row, -1)[..., ::-1].argmax(axis=-1)
        is_matched = candidates.any(axis=-1)  # [A, T]
        matches[..., detection] = np.where(is_matched, best, -1)
        is_free[(*rows, best)] &= ~is_matched | is_crowd[best]
    return matches


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What is known of D ranked detections after matching: all that the figures need.

    Attributes:
        image: int32 [D], position in the scope.
        category: int32 [D], position in the scope; 0 where categories are not used.
        score: float64 [D].
        rank: int32 [D], from 0 within image and category, by falling score.
        is_outside: bool [D, A], the detection's own area lies outside the range.
        matched: int32 [N], ascending rows of the detections with any match.
        hits: bool [N, A, T], matched to ground truth that counts.
        ignored: bool [N, A, T], matched to ground truth that is ignored.
        num_lost_to_id_zero: detections that count as misses though they match, because the ground
            truth's id is 0 (at the first threshold and range).
    """

    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    is_outside: np.ndarray
    matched: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    num_lost_to_id_zero: int


def match_images(
    ground_truth: GroundTruth,
    detections: Detections,
    masks: Masks,
    parameters: Parameters,
) -> Matches:
    """Matches the detections of some images with their ground truth.

    Every image of `detections` must be there with all of its detections and all of its ground
    truth. IoU is the reference's: float64, boxes without an extra pixel, mask pixels as whole
    numbers; for a crowd the part of the detection that it covers.
    """
    order, cells, rank = _ranked(detections, ground_truth.scope, parameters)
    pairs, iou = near_pairs(ground_truth, detections, order, cells, masks, parameters)
    is_ignored = _is_ignored(ground_truth, parameters)
    assigned, matched = _assign(
        pairs, iou, is_ignored, ground_truth.is_crowd, parameters
    )

    counts_as_match = np.ones(len(ground_truth), bool)
    if parameters.id_zero == "reference":
        counts_as_match = np.array([i != 0 for i in ground_truth.annotation_ids], bool)
    ranges = np.arange(len(is_ignored))[:, None]
    is_matched = assigned >= 0  # [N, A, T]
    ignored = is_matched & is_ignored[ranges, assigned]
    hits = is_matched & ~ignored & counts_as_match[assigned]
    outside = [
        (detections.area < r.low) | (detections.area > r.high)
        for r in parameters.area_ranges
    ]
    return Matches(
        image=detections.image[order],
        category=detections.category[order] * np.int32(parameters.use_categories),
        score=detections.score[order],
        rank=rank,
        is_outside=np.stack(outside, axis=-1)[order],
        matched=matched,
        hits=hits,
        ignored=ignored,
        num_lost_to_id_zero=int((is_matched & ~ignored & ~hits)[:, 0, 0].sum()),
    )


def _ranked(
    detections: Detections, scope: Scope, parameters: Parameters
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the detections within the limit, in order of cell and falling score.

    Equal scores keep their order (without categories: by category, then place in the file).

    Returns:
        int64 [D] rows, int64 [D] their cells, int32 [D] their ranks.
    """
    cells = cells_of(detections, scope, parameters)
    order = np.lexsort((-detections.score, cells))
    cells = cells[order]
    rank = np.arange(len(cells)) - np.searchsorted(cells, cells)
    kept = rank < parameters.max_dets[-1]
    return order[kept], cells[kept], rank[kept].astype(np.int32)


def _is_ignored(ground_truth: GroundTruth, parameters: Parameters) -> np.ndarray:
    """bool [A, G]: neither hit nor miss in an area range. Both ends of a range belong to it."""
    area = ground_truth.area
    outside = [(area < r.low) | (area > r.high) for r in parameters.area_ranges]
    return np.stack(outside) | ground_truth.is_ignored


def _assign(
    pairs: Pairs,
    iou: np.ndarray,
    is_ignored: np.ndarray,
    is_crowd: np.ndarray,
    parameters: Parameters,
) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth of every detection that may have one.

    Returns:
        int64 [N, A, T], row of the ground truth or -1, and int32 [N], place of the detection in
        the ranked order, ascending.
    """
    thresholds = np.array(parameters.effective_thresholds)
    matched, at = np.unique(pairs.place, return_inverse=True)
    assigned = np.full((len(matched), len(is_ignored), len(thresholds)), -1)
    groups = pairs.groups()
    alone = np.array([start for start, stop in groups if stop - start == 1], np.int64)
    assigned[at[alone]] = np.where(
        iou[alone, None] >= thresholds, pairs.truth[alone, None], -1
    )[:, None, :]
    for start, stop in groups:
        if stop - start == 1:
            continue
        d, d_at = np.unique(at[start:stop], return_inverse=True)
        g, g_at = np.unique(pairs.truth[start:stop], return_inverse=True)
        cell_iou = np.zeros((len(d), len(g)))
        cell_iou[d_at, g_at] = iou[start:stop]
        found = match_cell(cell_iou, is_ignored[:, g], is_crowd[g], thresholds)
        assigned[d] = np.where(found >= 0, g[found], -1).transpose(2, 0, 1)
    return assigned, matched.astype(np.int32)
