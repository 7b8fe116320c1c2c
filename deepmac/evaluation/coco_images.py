"""Curves of pycocotools' `evalImgs`, which scripts gather from workers that each had some images."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmac.errors import DataError
from deepmac.evaluation.accumulate import Curves, Ranked, curves_of
from deepmac.evaluation.parameters import Parameters
from deepmac.text import short

_KEYS = ("dtScores", "dtMatches", "dtIgnore", "gtIgnore")


def curves_of_images(
    images: Sequence[Any], num_categories: int, num_images: int, parameters: Parameters
) -> Curves:
    """What pycocotools' `accumulate` makes of `evalImgs`, bit by bit.

    Args:
        images: of each of K categories, in each of A ranges, what each of I images has: objects
            with `_KEYS`, None where there is nothing. An image's place decides ties of score.
        num_categories, num_images: K and I.
        parameters: of the evaluation; limits may be fewer, and recall thresholds others.

    Raises:
        DataError: they are not that many, or one of them is something else; names it.
    """
    num_ranges = len(parameters.area_ranges)
    if len(images) != num_categories * num_ranges * num_images:
        raise DataError(
            f"evalImgs has {len(images)} entries, and params {num_categories} categories x "
            f"{num_ranges} areaRng x {num_images} imgIds = "
            f"{num_categories * num_ranges * num_images}; set params to what was evaluated"
        )
    num_thresholds = len(parameters.iou_thresholds)
    num_truths = np.zeros((num_categories, num_ranges), np.int64)
    ranked = []
    for k in range(num_categories):
        start = k * num_ranges * num_images
        ranges = [
            list(_images(images, start + a * num_images, num_images, num_thresholds))
            for a in range(num_ranges)
        ]
        num_truths[k] = [sum(i.num_truths for i in some) for some in ranges]
        ranked.append(_ranked(ranges, num_thresholds, start))
    return curves_of(ranked, num_truths, parameters)


class _Image(NamedTuple):
    """What an image has in a category and range: D detections by falling score."""

    number: int  # position of the image
    score: np.ndarray  # float64 [D]
    is_hit: np.ndarray  # bool [T, D]
    is_ignored: np.ndarray  # bool [T, D], neither hit nor miss
    num_truths: int  # that count


def _images(
    images: Sequence[Any], start: int, num_images: int, num_thresholds: int
) -> Iterator[_Image]:
    for number in range(num_images):
        entry = images[start + number]
        if entry is None:
            continue
        if not isinstance(entry, Mapping) or not set(_KEYS) <= entry.keys():
            raise DataError(
                f"evalImgs[{start + number}] is {short(entry)}, neither None nor an object with "
                f"{', '.join(_KEYS)}"
            )
        score = np.array(entry["dtScores"], np.float64)
        matches, ignored = np.array(entry["dtMatches"]), np.array(entry["dtIgnore"])
        shape = (num_thresholds, len(score))
        if not matches.shape == ignored.shape == shape:
            raise DataError(
                f"evalImgs[{start + number}]: dtMatches is {list(matches.shape)} and dtIgnore "
                f"{list(ignored.shape)}, not {list(shape)} for iouThrs and dtScores"
            )
        yield _Image(
            number=number,
            score=score,
            is_hit=(matches != 0) & (ignored == 0),
            is_ignored=ignored != 0,
            num_truths=int(np.count_nonzero(np.array(entry["gtIgnore"]) == 0)),
        )


def _ranked(
    ranges: Sequence[Sequence[_Image]], num_thresholds: int, start: int
) -> Ranked:
    """The detections of one category, given its images in each of A ranges."""
    scores = [
        np.concatenate([np.zeros(0), *(i.score for i in images)]) for images in ranges
    ]
    if not all(np.array_equal(scores[0], other) for other in scores[1:]):
        raise DataError(
            f"evalImgs[{start}] and on: the areaRng of a category have different dtScores; gather "
            f"them in the order of categories, areaRng, imgIds"
        )
    nothing = np.zeros((num_thresholds, 0), bool)
    hits, ignored = (
        np.stack(
            [
                np.concatenate([nothing, *(getattr(i, name) for i in images)], axis=1)
                for images in ranges
            ]
        ).transpose(2, 0, 1)  # [D, A, T]
        for name in ("is_hit", "is_ignored")
    )
    image = [np.full(len(i.score), i.number) for i in ranges[0]]
    rank = [np.arange(len(i.score)) for i in ranges[0]]
    none = np.zeros(0, np.int64)
    order = np.argsort(-scores[0], kind="stable")
    hits, ignored = hits[order], ignored[order]
    # Why a detection is ignored is not known here, and does not matter.
    is_outside = np.all(ignored, axis=2)
    matched = np.flatnonzero((hits | ignored).any(axis=(1, 2)))
    return Ranked(
        image=np.concatenate([none, *image])[order],
        score=scores[0][order],
        rank=np.concatenate([none, *rank])[order],
        is_outside=is_outside,
        matched=matched,
        hits=hits[matched],
        ignored=ignored[matched],
    )
