"""Pictures of what the network is trained on: images after augmentation, with boxes and mask targets."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from deepmac.data.input import InputBatch
from deepmac.overlays import draw
from deepmac.paste import paste_masks

NO_MASK = "no mask"
"""Said of an instance whose mask trains nothing: it is hidden, unknown, or its category may not."""

_GAP = 8  # pixels between views
_PAPER = 255


def sheet(pictures: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size, uint8 [H, W, 3] each, side by side and row by row."""
    padding = ((0, _GAP), (0, _GAP), (0, 0))
    tiles = [np.pad(p, padding, constant_values=_PAPER) for p in pictures]
    while len(tiles) % columns:
        tiles.append(np.full_like(tiles[0], _PAPER))
    rows = [
        np.concatenate(tiles[first : first + columns], axis=1)
        for first in range(0, len(tiles), columns)
    ]
    return np.concatenate(rows)[:-_GAP, :-_GAP]


def draw_view(
    seen: InputBatch, names: Mapping[int, str], trainable: frozenset[int] | None
) -> np.ndarray:
    """The first image of a batch as the network sees it.

    Mask targets are put back at the boxes that they were cut with; where one disagrees with the
    image, the network is told something wrong. The true image ends at a white line.

    Args:
        seen: the batch.
        names: of category ids.
        trainable: ids of the categories whose masks train; None: all.

    Returns:
        uint8 [k H, k W, 3], RGB: the network's input, small ones larger by a whole factor.
    """
    batch = seen.batch
    image = batch.images[0].round().clip(0, 255).astype(np.uint8)
    height, width = image.shape[:2]
    slots = np.flatnonzero(batch.roi_classes[0] >= 0)
    boxes = batch.roi_boxes[0][slots]
    masks = batch.masks[0][slots]
    if masks.shape[1:] != image.shape[:2]:
        masks = paste_masks(masks, batch.target_boxes[0][slots], height, width)
    ids = [int(i) + 1 for i in batch.roi_classes[0][slots]]
    has_mask = [
        batch.mask_weights[0][slot] > 0 and (trainable is None or i in trainable)
        for slot, i in zip(slots, ids, strict=True)
    ]
    true_height, true_width = (int(side) for side in batch.true_shapes[0])
    picture = draw(
        image,
        masks=[m if has else None for m, has in zip(masks, has_mask, strict=True)],
        boxes=boxes * [height, width, height, width],
        labels=[
            names.get(i, str(i)) + ("" if has else f": {NO_MASK}")
            for i, has in zip(ids, has_mask, strict=True)
        ],
        colour_keys=ids,
    )
    if (true_height, true_width) != (height, width):
        factor = len(picture) // height
        corner = true_width * factor - 1, true_height * factor - 1
        cv2.rectangle(picture, (0, 0), corner, (_PAPER,) * 3, 1)
    return picture
