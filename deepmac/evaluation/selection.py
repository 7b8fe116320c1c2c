"""Which objects and detections of an evaluation a person should look at.

The choice follows from images, categories and annotations alone, however the work was shared out.
"""

import dataclasses

import numpy as np

from deepmac.evaluation.distributions import Hits, hits_of, outcomes
from deepmac.evaluation.state import unpack_bits
from deepmac.evaluation.summary import Evaluation

_MIX = tuple(
    np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An object, or a detection, or both as a match.

    Attributes:
        image: position in the scope.
        ordinal: number of the annotation; None for a detection alone.
        category: position of the detection's category (0 where categories are not used) and
        rank: its place in image and category, from 0. Both None for an annotation without a
            detection, and for one whose prediction carries its id.
        iou: of the match; None where there is none.
    """

    image: int
    ordinal: int | None
    category: int | None = None
    rank: int | None = None
    iou: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Gallery:
    """Some of many.

    Attributes:
        name: `worst`, `best` or `random` matches; `false` detections, `missed` objects.
        choices: in the order to be shown.
        num_all: how many they were chosen from.
    """

    name: str
    choices: tuple[Choice, ...]
    num_all: int


def choose_galleries(evaluation: Evaluation, number: int) -> list[Gallery]:
    """Up to `number` of the worst and best matches, and of all at random.

    Where predictions were made for given boxes, a match is an annotation with the prediction that
    carries its id; the worst are those without one and those of the lowest IoU. Otherwise it is a
    match at the lowest IoU threshold, and there are two galleries more: the best-scored detections
    that are wrong, and objects that nothing matches.
    """
    if evaluation.has_given_boxes:
        return _of_given_boxes(evaluation, number)
    hits = hits_of(evaluation)
    return [
        *_of_matches(evaluation, hits, number),
        _wrong(evaluation, number),
        _missed(evaluation, hits, number),
    ]


def _of_given_boxes(evaluation: Evaluation, number: int) -> list[Gallery]:
    image, _, iou = evaluation.given_box_ious()
    ordinal = evaluation.given_ordinals

    def gallery(name: str, order: np.ndarray) -> Gallery:
        chosen = [
            Choice(
                image=int(image[i]),
                ordinal=int(ordinal[i]),
                iou=None if np.isnan(iou[i]) else float(iou[i]),
            )
            for i in order[:number]
        ]
        return Gallery(name, tuple(chosen), len(iou))

    lots = _lots(image, ordinal)
    value = np.where(np.isnan(iou), -1, iou)
    return [
        gallery("worst", np.lexsort((lots, value))),
        gallery("best", np.lexsort((lots, -value))),
        gallery("random", np.argsort(lots)),
    ]


def _of_matches(evaluation: Evaluation, hits: Hits, number: int) -> list[Gallery]:
    partial = evaluation.partial
    lots = _lots(partial.image[hits.row], hits.ordinal)

    def gallery(name: str, order: np.ndarray) -> Gallery:
        chosen = [
            dataclasses.replace(
                _detection(evaluation, int(hits.row[i])),
                ordinal=int(hits.ordinal[i]),
                iou=float(hits.iou[i]),
            )
            for i in order[:number]
        ]
        return Gallery(name, tuple(chosen), len(hits.iou))

    return [
        gallery("worst", np.lexsort((lots, hits.iou))),
        gallery("best", np.lexsort((lots, -hits.iou))),
        gallery("random", np.argsort(lots)),
    ]


def _wrong(evaluation: Evaluation, number: int) -> Gallery:
    partial = evaluation.partial
    is_right, takes_part = outcomes(evaluation)
    rows = np.flatnonzero(takes_part & ~is_right)
    rank, category = partial.rank[rows], partial.category[rows]
    order = np.lexsort((rank, category, partial.image[rows], -partial.score[rows]))
    chosen = [_detection(evaluation, int(row)) for row in rows[order[:number]]]
    return Gallery("false", tuple(chosen), len(rows))


def _missed(evaluation: Evaluation, hits: Hits, number: int) -> Gallery:
    partial = evaluation.partial
    num_ranges = len(evaluation.parameters.area_ranges)
    counts = unpack_bits(partial.truth_roles, num_ranges + 1)[:, 0]
    rows = np.flatnonzero(counts & ~np.isin(partial.truth_ordinal, hits.ordinal))
    image, ordinal = partial.truth_image[rows], partial.truth_ordinal[rows]
    order = np.argsort(_lots(image, ordinal))[:number]
    chosen = [Choice(image=int(image[i]), ordinal=int(ordinal[i])) for i in order]
    return Gallery("missed", tuple(chosen), len(rows))


def _detection(evaluation: Evaluation, row: int) -> Choice:
    partial = evaluation.partial
    return Choice(
        image=int(partial.image[row]),
        ordinal=None,
        category=int(partial.category[row]),
        rank=int(partial.rank[row]),
    )


def _lots(image: np.ndarray, ordinal: np.ndarray) -> np.ndarray:
    """A random number for each annotation, uint64 [N], always the same (SplitMix64)."""
    state = (image.astype(np.uint64) << np.uint64(32)) | ordinal.astype(np.uint64)
    state = (state + np.uint64(1)) * _MIX[0]
    state = (state ^ (state >> np.uint64(30))) * _MIX[1]
    state = (state ^ (state >> np.uint64(27))) * _MIX[2]
    return state ^ (state >> np.uint64(31))
