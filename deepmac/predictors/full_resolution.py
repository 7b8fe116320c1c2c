"""Full-resolution masks of any number of boxes, in bounded memory and few shapes.

The mask head then sees the whole feature map for each box, dozens of times as much as a RoI: boxes
of several images are not brought together for it, as one image's fill a batch.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from deepmac.model.deepmac import DeepMAC, Embeddings
from deepmac.model.tensors import ops

CELLS_PER_BATCH = 64 * 32 * 32
"""Cells of feature maps in a call of the mask head, unless one map alone has more: as many as in a
large batch of RoIs of the usual size."""


class FullResolutionMasks:
    """Boxes and embeddings of one image -> masks in the frames of the boxes."""

    def __init__(
        self,
        model: DeepMAC,
        compile: Callable[[Callable, Any], Callable],
        *,
        cells_per_batch: int = CELLS_PER_BATCH,
    ):
        """Masks of this network.

        Args:
            model: whose configuration says `predict_full_resolution_masks`.
            compile: makes the functions that are run from plain ones.
            cells_per_batch: as CELLS_PER_BATCH.
        """
        self._is_quirky = bool(model.reference_quirks)
        self._cells_per_batch = cells_per_batch
        self._masks = compile(lambda maps, b: model.masks_for_boxes(maps, b), model)
        self._logits = compile(lambda maps, b: model.mask_logits(maps, b), model)
        self._in_boxes = compile(
            lambda logits, b: ops.sigmoid(model.logits_in_boxes(logits, b)), model
        )

    def __call__(
        self, embeddings: Embeddings, boxes: np.ndarray, kept: np.ndarray
    ) -> np.ndarray:
        """float32 [K, S, S], foreground probabilities.

        Args:
            embeddings: of one image, float [1, h, w, channels] each.
            boxes: float [N, 4], in fractions of the padded input.
            kept: bool [N], K of them True: the boxes whose masks are wanted.
        """
        if not self._is_quirky:
            return self._in_batches(self._masks, embeddings, boxes[kept])
        # The reference's masks depend on how many boxes there are.
        logits = self._in_batches(self._logits, embeddings, boxes)
        together = self._in_boxes(logits[None], boxes[None].astype(np.float32))
        return np.asarray(together)[0][kept]

    def _in_batches(
        self, run: Callable, embeddings: Embeddings, boxes: np.ndarray
    ) -> np.ndarray:
        parts = []
        height, width = embeddings.pixel.shape[1:3]
        largest = max(1, self._cells_per_batch // (height * width))
        for start, stop, size in batches(len(boxes), largest):
            filled = np.zeros((1, size, 4), np.float32)
            filled[0, : stop - start] = boxes[start:stop]
            parts.append(np.asarray(run(embeddings, filled))[0, : stop - start])
        return np.concatenate(parts)


def batches(count: int, largest: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, batch size) of the parts in which `count` boxes are run.

    As many batches of the largest power of two up to `largest` as are full, then one of the
    smallest power of two that holds the rest.
    """
    largest = 1 << (largest.bit_length() - 1)
    for start in range(0, count, largest):
        left = min(largest, count - start)
        yield start, start + left, 1 << (left - 1).bit_length()
