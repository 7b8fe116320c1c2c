"""The exact COCO curves, from the merged state of all images."""

import dataclasses
import itertools
from collections.abc import Iterator

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
    num_categories, num_ranges = num_truths.shape
    shape = (
        len(parameters.iou_thresholds),
        len(parameters.recall_thresholds),
        num_categories,
        num_ranges,
        len(parameters.max_dets),
    )
    curves = Curves(
        np.full(shape, -1.0), np.full(shape[:1] + shape[2:], -1.0), np.full(shape, -1.0)
    )
    for k, ranked in enumerate(rank_by_category(partial, parameters, num_categories)):
        _fill(curves, k, ranked, num_truths[k], parameters)
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
    order = np.lexsort((partial.rank, partial.image, -partial.score, partial.category))
    edges = np.searchsorted(partial.category[order], np.arange(num_categories + 1))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    matched = np.argsort(place[partial.matched])
    matched_place = place[partial.matched][matched]
    for start, stop in itertools.pairwise(edges.tolist()):
        rows = order[start:stop]
        inside = slice(*np.searchsorted(matched_place, [start, stop]))
        some = matched[inside]
        yield Ranked(
            image=partial.image[rows],
            score=partial.score[rows],
            rank=partial.rank[rows],
            is_outside=unpack_bits(partial.outside[rows], num_ranges),
            matched=matched_place[inside] - start,
            hits=unpack_bits(partial.hits[some], num_ranges, num_thresholds),
            ignored=unpack_bits(partial.ignored[some], num_ranges, num_thresholds),
        )


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
            for t in range(hits.shape[1]):
                rows = np.flatnonzero(hits[:, t])
                where = (t, slice(None), k, a, m)
                curves.recall[t, k, a, m] = len(rows) / num_truths[a]
                curves.precision[where], curves.scores[where] = _at_recalls(
                    precision[rows, t],
                    scores[place[rows]],
                    np.arange(1, len(rows) + 1) / num_truths[a],
                    recalls,
                    scores[:1],
                )


def _at_recalls(
    precision: np.ndarray,
    scores: np.ndarray,
    recall: np.ndarray,
    recalls: np.ndarray,
    first_score: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision and score, each float64 [R], where each recall is first reached; 0 beyond.

    Args:
        precision, scores, recall: float64 [N] at the N hits of one threshold.
        recalls: float64 [R], ascending.
        first_score: float64 [1], of the first detection of all, empty if there is none: a recall
            of 0 is reached there, be it a hit or not.
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(recall, recalls, side="left")
    reached = index < len(recall)
    values, at = np.zeros(len(recalls)), np.zeros(len(recalls))
    values[reached], at[reached] = best[index[reached]], scores[index[reached]]
    if first_score.size:
        at[recalls <= 0] = first_score[0]
    return values, at
