"""Which masks of many a person should look at, and a picture of each.

The lowest-scored ones, where mistakes are likely, and a random sample, which tells what the whole
is like.
"""

import dataclasses
import hashlib
import heapq
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from deepmac import crops
from deepmac.boxes import from_xywh
from deepmac.masks import decode_rle, rle_from_segmentation

LOW_FRACTION = 0.05
"""Of all masks: those with the lowest scores."""

NUM_RANDOM = 50

_SIDE = 360  # pixels of the longer side of a picture


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A mask to look at.

    Attributes:
        row: the COCO result, see `deepmac.label.ImageLabels`.
        rank: its place among the masks of its image, from 1.
        unit: name of the unit it is in.
        is_low: it is among the lowest-scored.
        is_random: it is in the random sample.
    """

    row: Mapping[str, Any]
    rank: int
    unit: str
    is_low: bool
    is_random: bool


def num_lowest(num_masks: int, limit: int) -> int:
    """How many of the lowest-scored masks are shown: a twentieth, but at most `limit`."""
    return min(math.ceil(num_masks * LOW_FRACTION), limit)


def choose(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    num_low: int,
    num_random: int = NUM_RANDOM,
) -> list[Chosen]:
    """The masks with the lowest scores, and a random sample of all.

    Masks of equal scores are taken in a random order. What is random depends on the ids alone:
    the same masks give the same choice, however they lie in files.

    Args:
        rows: name of the unit and COCO result; those of an image together. Taken once, and only
            what is chosen is kept.
        num_low, num_random: how many, where there are so many.

    Returns:
        The lowest score first. A mask chosen twice stands there once.
    """
    low, sample = _Smallest(num_low), _Smallest(num_random)
    before, rank = None, 0
    for unit, row in rows:
        rank = rank + 1 if before == row["image_id"] else 1
        before = row["image_id"]
        lot = _lot(row, rank)
        low.offer((_order(row["score"]), lot), (unit, rank, row))
        sample.offer((lot,), (unit, rank, row))
    is_low, is_random = low.items(), sample.items()
    lots = {key[-1]: item for key, item in (is_low | is_random).items()}
    low_lots = {key[-1] for key in is_low}
    random_lots = {key[-1] for key in is_random}
    chosen = [
        Chosen(
            row=row,
            rank=rank,
            unit=unit,
            is_low=lot in low_lots,
            is_random=lot in random_lots,
        )
        for lot, (unit, rank, row) in lots.items()
    ]
    return sorted(chosen, key=lambda c: (_order(c.row["score"]), _lot(c.row, c.rank)))


def _lot(row: Mapping[str, Any], rank: int) -> int:
    """A random number of 128 bits that belongs to a mask."""
    ids = json.dumps([row["image_id"], row.get("annotation_id"), rank]).encode()
    return int.from_bytes(hashlib.blake2b(ids, digest_size=16).digest())


def _order(score: float) -> float:
    return -math.inf if math.isnan(score) else score


class _Smallest:
    """The entries with the smallest keys among those offered."""

    def __init__(self, limit: int):
        self._limit = limit
        # Largest first, so negated; the number keeps items from being compared.
        self._heap: list[tuple[tuple[float, ...], int, Any]] = []
        self._count = itertools.count()

    def offer(self, key: tuple[float, ...], item: Any) -> None:
        if self._limit < 1:
            return
        entry = tuple(-k for k in key), next(self._count), item
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, entry)
        elif entry[0] > self._heap[0][0]:
            heapq.heapreplace(self._heap, entry)

    def items(self) -> dict[tuple[float, ...], Any]:
        return {tuple(-k for k in key): item for key, _, item in self._heap}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A piece of an image, with the lines to draw over it.

    Attributes:
        jpeg: the piece, scaled, nothing drawn on it.
        width, height: of it, in pixels.
        outline: of the mask, as an SVG path in pixels of the piece; empty for an empty mask.
        box: (x, y, width, height) in pixels of the piece.
    """

    jpeg: bytes
    width: int
    height: int
    outline: str
    box: tuple[float, float, float, float]


def draw_picture(image: np.ndarray, row: Mapping[str, Any]) -> Picture:
    """The surroundings of a mask and its box.

    Args:
        image: uint8 [H, W, 3], RGB.
        row: a COCO result with `segmentation` and `box_xywh`.

    Raises:
        DataError: the mask is of another size than the image, or cannot be read.
    """
    height, width = image.shape[:2]
    mask = decode_rle(rle_from_segmentation(row["segmentation"], height, width))
    box = from_xywh(np.array(row["box_xywh"], np.float64))
    window = crops.around([box, mask], (height, width))
    top, left, bottom, right = window
    size = crops.scaled_size(window, _SIDE)
    across, down = size[0] / (right - left), size[1] / (bottom - top)
    y0, x0, y1, x1 = (box - 2 * [top, left]) * (2 * [down, across])
    return Picture(
        jpeg=crops.encode(image[top:bottom, left:right], size),
        width=size[0],
        height=size[1],
        outline=crops.outline(crops.scale_mask(mask[top:bottom, left:right], size)),
        box=(float(x0), float(y0), float(x1 - x0), float(y1 - y0)),
    )
