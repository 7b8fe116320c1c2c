"""The exact COCO curves, from the merged state of all images."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from deepmac.errors import DataError, one_of
from deepmac.evaluation.parameters import Parameters, Scope, terms_of
from deepmac.evaluation.state import Partial, check_terms, unpack_bits


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What pycocotools calls `eval`: equal to it bit by bit. -1 where there is nothing to say.

    Attributes:
        precision: float64 [T, R, K, A, M].
        recall: float64 [T, K, A, M].
        scores: float64 [T, R, K, A, M].
    """

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray


def finalize(partial: Partial, parameters: Parameters, scope: Scope) -> Curves:
    """The curves of all images together.

    Raises:
        DataError: it was made with other parameters, or not every image of the scope is in it.
    """
    check_terms(terms_of(parameters, scope), partial.terms)
    missing = np.setdiff1d(np.arange(len(scope.image_ids)), partial.counted_images)
    if missing.size:
        raise DataError(
            f"{missing.size} of {len(scope.image_ids)} images were not evaluated: "
            f"{one_of(repr(scope.image_ids[i]) for i in missing.tolist())}"
        )
    num_truths = count_by_category(partial, parameters, scope)
    ranked = rank_by_category(partial, parameters, len(num_truths))
    return curves_of(ranked, num_truths, parameters)


def curves_of(
    ranked: Iterable["Ranked"], num_truths: np.ndarray, parameters: Parameters
) -> Curves:
    """The curves of K categories.

    Args:
        ranked: the detections of each.
        num_truths: int64 [K, A], annotations that count.
        parameters: of the evaluation.
    """
    shape = (
        len(parameters.iou_thresholds),
        len(parameters.recall_thresholds),
        *num_truths.shape,
        len(parameters.max_dets),
    )
    curves = Curves(
        np.full(shape, -1.0), np.full(shape[:1] + shape[2:], -1.0), np.full(shape, -1.0)
    )
    for k, some in enumerate(ranked):
        _fill(curves, k, some, num_truths[k], parameters)
    return curves


def count_by_category(
    partial: Partial, parameters: Parameters, scope: Scope
) -> np.ndarray:
    """int64 [K, A], annotations that count in each category and range."""
    num_categories = len(scope.category_ids) if parameters.use_categories else 1
    num_ranges = len(parameters.area_ranges)
    roles = unpack_bits(partial.truth_roles, num_ranges + 1)
    category = partial.truth_category * parameters.use_categories
    columns = [
        np.bincount(category[roles[:, a]], minlength=num_categories)
        for a in range(num_ranges)
    ]
    return np.stack(columns, axis=-1)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The detections of one category, best first; ties by image, then rank in the image.

    Attributes:
        image, score, rank: of D detections, as in `Partial`.
        is_outside: bool [D, A].
        matched: int64 [N], ascending rows of those with any match.
        hits, ignored: bool [N, A, T].
    """

    image: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    is_outside: np.ndarray
    matched: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray


def rank_by_category(
    partial: Partial, parameters: Parameters, num_categories: int
) -> Iterator[Ranked]:
    """The detections of each category in turn."""
    num_ranges, num_thresholds = (
        len(parameters.area_ranges),
        len(parameters.iou_thresholds),
    )
    # Category by category: sorting all at once takes several times the memory of the state.
    order = np.argsort(partial.category, kind="stable")
    edges = _edges(partial.category, num_categories)
    matched_category = partial.category[partial.matched]
    matched_order = np.argsort(matched_category, kind="stable")
    matched_edges = _edges(matched_category, num_categories)
    for k in range(num_categories):
        rows = order[edges[k] : edges[k + 1]]  # ascending
        image, score, rank = (
            column[rows] for column in (partial.image, partial.score, partial.rank)
        )
        best_first = np.lexsort((rank, image, -score))
        place = np.empty(len(rows), np.int64)
        place[best_first] = np.arange(len(rows))
        some = matched_order[matched_edges[k] : matched_edges[k + 1]]
        places = place[np.searchsorted(rows, partial.matched[some])]
        in_order = np.argsort(places)
        some = some[in_order]
        yield Ranked(
            image=image[best_first],
            score=score[best_first],
            rank=rank[best_first],
            is_outside=unpack_bits(partial.outside[rows[best_first]], num_ranges),
            matched=places[in_order],
            hits=unpack_bits(partial.hits[some], num_ranges, num_thresholds),
            ignored=unpack_bits(partial.ignored[some], num_ranges, num_thresholds),
        )


def _edges(category: np.ndarray, num_categories: int) -> np.ndarray:
    """int64 [K + 1], where each category begins among all in order."""
    number = np.bincount(category, minlength=num_categories)
    return np.concatenate([[0], np.cumsum(number)])


def _fill(
    curves: Curves,
    k: int,
    ranked: Ranked,
    num_truths: np.ndarray,
    parameters: Parameters,
) -> None:
    """Writes one category's part of the curves.

    Only hits are looked at: precision can have a maximum nowhere else, and recall grows nowhere
    else. What lies between them is known from the number of detections whose own area counts.
    """
    recalls = np.array(parameters.recall_thresholds)
    for m, limit in enumerate(parameters.max_dets):
        kept = ranked.rank < limit
        scores = ranked.score[kept]
        is_kept = kept[ranked.matched]
        place = (np.cumsum(kept) - 1)[ranked.matched[is_kept]]
        for a in np.flatnonzero(num_truths):
            counted = ~ranked.is_outside[kept, a]
            hits, ignored = (
                ranked.hits[is_kept, a],
                ranked.ignored[is_kept, a],
            )  # [N, T]
            matched_counted = np.cumsum((hits | ignored) & counted[place, None], axis=0)
            true = np.cumsum(hits, axis=0).astype(np.float64)
            false = np.cumsum(counted)[place, None] - matched_counted  # [N, T]
            # The reference's operations in its order; 2.2e-16 is its guard against 0 / 0.
            precision = true / (false.astype(np.float64) + true + np.spacing(1))
            number = hits.sum(axis=0)  # [T]
            curves.recall[:, k, a, m] = number / num_truths[a]
            # The hit, from 0, that first reaches each recall
            recall = np.arange(1, number.max(initial=0) + 1) / num_truths[a]
            nth = np.searchsorted(recall, recalls, side="left")
            where = (slice(None), slice(None), k, a, m)
            curves.precision[where], curves.scores[where] = _at_hits(
                precision, scores[place], hits, nth
            )
            # A recall of 0 is reached at the first detection of all, be it a hit or not.
            if scores.size:
                curves.scores[:, recalls <= 0, k, a, m] = scores[0]


def _at_hits(
    precision: np.ndarray, scores: np.ndarray, hits: np.ndarray, nth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best precision from some hits on, and their scores, each float64 [T, R]; 0 beyond the last.

    Args:
        precision: float64 [N, T], of N matched detections, best score first.
        scores: float64 [N].
        hits: bool [N, T].
        nth: int64 [R], which of the hits of each threshold, from 0.
    """
    best = np.where(hits, precision, 0)
    best = np.maximum.accumulate(best[::-1], axis=0)[::-1]
    threshold, row = np.nonzero(hits.T)
    edges = np.searchsorted(threshold, np.arange(hits.shape[1] + 1))
    index = edges[:-1, None] + nth  # [T, R]
    is_there = index < edges[1:, None]
    t, _ = np.nonzero(is_there)
    rows = row[index[is_there]]
    values, at = np.zeros(index.shape), np.zeros(index.shape)
    values[is_there], at[is_there] = best[rows, t], scores[rows]
    return values, at
