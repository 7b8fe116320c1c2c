"""Batches for the mask head, made of the boxes of any images, in few sizes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

BATCH_SIZES = (16, 64)
"""Boxes in a call of the mask head: a compiled shape each. What is missing is filled with zeros."""


def chunks(count: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, batch size) of the parts in which `count` boxes are run.

    Large batches as long as they are mostly full, then small ones.
    """
    small, large = BATCH_SIZES
    start = 0
    while start < count:
        left = count - start
        size = large if left > large - small else small
        yield start, min(start + size, count), size
        start += size


class MaskPool:
    """RoIs of any images on their way through the mask head, a batch at a time.

    Attributes:
        empty: float32 [0, S, S], the masks of an image without boxes.
    """

    def __init__(self, mask: Callable[[np.ndarray, np.ndarray], Any], mask_size: int):
        """A pool in front of a mask head.

        Args:
            mask: the mask head: float32 [M, S, S, C] and [M, E] -> probabilities [M, S, S].
            mask_size: S.
        """
        self._mask = mask
        self._waiting: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._masks: dict[int, list[np.ndarray]] = {}
        self.empty = np.zeros((0, mask_size, mask_size), np.float32)

    def put(self, image: int, rois: np.ndarray, instance: np.ndarray) -> None:
        """Adds RoIs [N, S, S, C] of an image, by its number, with their embeddings [N, E].

        As soon as there is enough for a large batch, it is run.
        """
        self._waiting += zip(
            itertools.repeat(image, len(rois)), rois, instance, strict=True
        )
        large = BATCH_SIZES[-1]
        while len(self._waiting) >= large:
            self._run(self._waiting[:large], large)
            del self._waiting[:large]

    def add(self, image: int, masks: np.ndarray) -> None:
        """Adds masks [N, S, S] of an image that are there already."""
        self._masks.setdefault(image, []).extend(masks)

    def finish(self) -> dict[int, np.ndarray]:
        """Runs what is left: float32 [N, S, S] for each image that had boxes, as they were put."""
        for start, stop, size in chunks(len(self._waiting)):
            self._run(self._waiting[start:stop], size)
        self._waiting.clear()
        return {image: np.stack(masks) for image, masks in self._masks.items()}

    def _run(
        self, part: Sequence[tuple[int, np.ndarray, np.ndarray]], size: int
    ) -> None:
        images, rois, instance = zip(*part, strict=True)
        probs = np.asarray(self._mask(_filled(rois, size), _filled(instance, size)))
        for image, mask in zip(images, probs, strict=False):  # the rest is filling
            self._masks.setdefault(image, []).append(mask)


def _filled(arrays: Sequence[np.ndarray], size: int) -> np.ndarray:
    """The arrays as one, with zeros after them: [size, ...]."""
    result = np.zeros((size, *arrays[0].shape), np.float32)
    result[: len(arrays)] = arrays
    return result
