"""Detections against ground truth, one image and one category (a cell) at a time."""

import dataclasses
import itertools

import numpy as np

from deepmac.evaluation.detections import Detections
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.overlaps import Pairs, cells_of, near_pairs
from deepmac.evaluation.parameters import Parameters, Scope


def match_pairs(
    pairs: Pairs,
    iou: np.ndarray,
    is_ignored: np.ndarray,
    is_crowd: np.ndarray,
    thresholds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives each detection its ground truth, greedily, the best score of each cell first.

    A detection takes the free ground truth of the highest IoU that is at least the threshold, the
    last of them where several are equal; one that counts goes before any ignored one. A crowd
    stays free. Cells do not know of each other: the first detections of all of them are matched
    together, then the second ones, and so on.

    Args:
        pairs: P of them.
        iou: float64 [P].
        is_ignored: bool [A, G], for each area range: neither hit nor miss. Crowds always are.
        is_crowd: bool [G].
        thresholds: float64 [T].

    Returns:
        int64 [N, A, T], row of the ground truth, -1 for none, of the N detections that have pairs;
        and int64 [N], their places in the ranked order, ascending.
    """
    first = np.flatnonzero(np.diff(pairs.place, prepend=-1))
    place, cell = pairs.place[first], pairs.cell[first]
    detection = np.repeat(
        np.arange(len(first)), np.diff(first, append=len(pairs.place))
    )
    turn = (np.arange(len(first)) - np.searchsorted(cell, cell))[detection]
    # Of a detection's pairs the best comes last; the sort is stable.
    order = np.lexsort((iou, detection, turn))
    num_turns = turn.max(initial=-1) + 1
    edges = np.searchsorted(turn[order], np.arange(num_turns + 1))

    shape = (len(is_ignored), len(thresholds))
    assigned = np.full((len(first), *shape), -1)
    is_free = np.ones((len(is_crowd), *shape), bool)
    counts = ~is_ignored.T[:, :, None]  # [G, A, 1]
    for start, stop in itertools.pairwise(edges.tolist()):
        rows = order[start:stop]
        truth, own = pairs.truth[rows], detection[rows]
        candidates = is_free[truth] & (iou[rows, None, None] >= thresholds)
        # 0 for no candidate; else its position, from 1, and more than any other's if it counts.
        position = np.arange(1, len(rows) + 1)[:, None, None]
        worth = np.where(candidates, position + counts[truth] * len(rows), 0)
        starts = np.flatnonzero(np.diff(own, prepend=-1))
        best = np.maximum.reduceat(worth, starts, axis=0)  # [n, A, T]
        is_matched = best > 0
        chosen = truth[(best - 1) % len(rows)]
        assigned[own[starts]] = np.where(is_matched, chosen, -1)
        is_taken = is_matched & ~is_crowd[chosen]
        is_free[(chosen[is_taken], *np.nonzero(is_taken)[1:])] = False
    return assigned, place


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
        matched_ordinal: int32 [N], number of the annotation in the first range at the lowest
            threshold, -1 for none.
        matched_iou: float32 [N], IoU with it.
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
    matched_ordinal: np.ndarray
    matched_iou: np.ndarray
    num_lost_to_id_zero: int


def find_matches(
    ground_truth: GroundTruth,
    detections: Detections,
    parameters: Parameters,
) -> Matches:
    """Matches the detections of some images with their ground truth.

    Every image of `detections` must be there with all of its detections and all of its ground
    truth. IoU is the reference's: float64, boxes without an extra pixel, mask pixels as whole
    numbers; for a crowd the part of the detection that it covers.
    """
    order, cells, rank = rank_in_cells(detections, ground_truth.scope, parameters)
    pairs, iou = near_pairs(ground_truth, detections, order, cells, parameters)
    is_ignored = ignored_by_range(ground_truth, parameters)
    thresholds = np.array(parameters.effective_thresholds)
    assigned, matched = match_pairs(
        pairs, iou, is_ignored, ground_truth.is_crowd, thresholds
    )

    counts_as_match = np.ones(len(ground_truth), bool)
    if parameters.id_zero == "reference":
        counts_as_match = np.array([i != 0 for i in ground_truth.annotation_ids], bool)
    ranges = np.arange(len(is_ignored))[:, None]
    is_matched = assigned >= 0  # [N, A, T]
    ignored = is_matched & is_ignored[ranges, assigned]
    hits = is_matched & ~ignored & counts_as_match[assigned]
    first = assigned[:, 0, int(np.argmin(thresholds))]
    outside = outside_ranges(detections.area, parameters)
    return Matches(
        image=detections.image[order],
        category=detections.category[order] * np.int32(parameters.use_categories),
        score=detections.score[order],
        rank=rank,
        is_outside=outside.T[order],
        matched=matched.astype(np.int32),
        hits=hits,
        ignored=ignored,
        matched_ordinal=np.where(first >= 0, ground_truth.ordinal[first], -1).astype(
            np.int32
        ),
        matched_iou=_iou_of(pairs, iou, matched, first),
        num_lost_to_id_zero=int((is_matched & ~ignored & ~hits)[:, 0, 0].sum()),
    )


def rank_in_cells(
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


def ignored_by_range(ground_truth: GroundTruth, parameters: Parameters) -> np.ndarray:
    """bool [A, G]: neither hit nor miss in an area range. Both ends of a range belong to it."""
    return outside_ranges(ground_truth.area, parameters) | ground_truth.is_ignored


def outside_ranges(area: np.ndarray, parameters: Parameters) -> np.ndarray:
    """bool [A, N], which of N areas, in pixels, lie outside each range."""
    return np.stack([(area < r.low) | (area > r.high) for r in parameters.area_ranges])


def _iou_of(
    pairs: Pairs, iou: np.ndarray, place: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """float32 [N], IoU [P] of the pairs of some detections, by their places, and ground truths."""
    num_truths = pairs.truth.max(initial=0) + 1
    ascending = pairs.place * num_truths + pairs.truth
    is_matched = truth >= 0
    found = np.zeros(len(place), np.float32)
    wanted = (place * num_truths + truth)[is_matched]
    found[is_matched] = iou[np.searchsorted(ascending, wanted)]
    return found
