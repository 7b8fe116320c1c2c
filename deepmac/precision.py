"""What half precision does to masks, measured on images: a type earns its place by this."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmac.boxes import normalise, to_xywh
from deepmac.instances import BoxMasks, MaskPredictor
from deepmac.label import is_want_of_memory
from deepmac.masks import coco_mask, rle_area
from deepmac.paste import THRESHOLD, paste_rles

SAME_ENOUGH = 0.98
"""Mean IoU from which masks in bfloat16 count as those in float32."""

_SURE = 0.3  # detections below this score come and go with any rounding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """How the masks of one predictor differ from those of another for the same boxes.

    Attributes:
        num_images, num_masks: compared.
        num_empty: of them, boxes whose two masks are both empty. They are equal, but say nothing.
        mean_iou: of the two masks of a box, as pixels of the image, where one of them is not
            empty. NaN where there is no such box.
        lowest_iou: of these masks.
        mean_score_difference, largest_score_difference: of a mask's two scores, without sign.
        num_failed: images on which a predictor failed; they say nothing.
        detections_kept: of the first one's detections with a score of 0.3 or more, the part that
            the second one finds too: same class, boxes with an IoU of 0.5. None for given boxes.
    """

    num_images: int
    num_masks: int
    num_empty: int
    mean_iou: float
    lowest_iou: float
    mean_score_difference: float
    largest_score_difference: float
    detections_kept: float | None = None
    num_failed: int = 0

    @property
    def is_same_enough(self) -> bool:
        """Whether the second predictor may stand in for the first."""
        kept = 1.0 if self.detections_kept is None else self.detections_kept
        return self.mean_iou >= SAME_ENOUGH and kept >= SAME_ENOUGH

    def in_words(self) -> str:
        """One line for people."""
        if self.num_masks == self.num_empty:
            return f"no mask to compare in {self.num_images} images"
        words = (
            f"mean mask IoU {self.mean_iou:.4f} (lowest {self.lowest_iou:.3f}), scores "
            f"{self.mean_score_difference:.4f} apart (at most "
            f"{self.largest_score_difference:.3f}), {self.num_masks} masks of "
            f"{self.num_images} images"
        )
        if self.num_empty:
            words += f", {self.num_empty} of them empty in both"
        if self.num_failed:
            words += f"; {self.num_failed} images failed"
        if self.detections_kept is not None:
            words += f"; {self.detections_kept:.1%} of the detections are found again"
        return words

    def as_json(self) -> dict[str, Any]:
        """The attributes, rounded to what is worth keeping; None for NaN."""
        values: Mapping[str, Any] = dataclasses.asdict(self)
        return {
            name: _rounded(value) if isinstance(value, float) else value
            for name, value in values.items()
        }


def compare(
    exact: MaskPredictor,
    fast: MaskPredictor,
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray] | None,
    threshold: float = THRESHOLD,
) -> Comparison:
    """Runs two predictors with masks in the frames of boxes over the same images.

    Without boxes both detect, and masks are compared at the boxes that the first one found.

    Args:
        exact, fast: such as one network in float32 and in bfloat16.
        images: uint8 [H, W, 3] RGB each.
        boxes: for each image float [N, 4], (ymin, xmin, ymax, xmax) in pixels; None: detect.
        threshold: a pixel is foreground when its probability is above it.
    """
    ious: list[float] = []
    differences: list[float] = []
    kept: list[bool] = []
    num_failed = 0
    for index, image in enumerate(images):
        try:
            if boxes is None:
                found, again = _box_masks(exact, image), _box_masks(fast, image)
                kept += _kept(found, again)
                of_image = found.boxes[_to_compare(found)]
            else:
                of_image = boxes[index]
            if not len(of_image):
                continue
            one, other = (_box_masks(p, image, of_image) for p in (exact, fast))
        except Exception as e:
            if is_want_of_memory(e):
                raise
            num_failed += 1  # a dead letter of the job, when the image's turn comes
            continue
        ious += _mask_ious(one, other, of_image, image.shape[:2], threshold)
        differences += np.abs(one.scores - other.scores).tolist()
    return Comparison(
        num_images=len(images),
        num_masks=len(differences),
        num_empty=len(differences) - len(ious),
        mean_iou=float(np.mean(ious)) if ious else np.nan,
        lowest_iou=min(ious, default=np.nan),
        mean_score_difference=float(np.mean(differences)) if differences else np.nan,
        largest_score_difference=max(differences, default=np.nan),
        detections_kept=None if boxes is not None else float(np.mean(kept or [True])),
        num_failed=num_failed,
    )


def _to_compare(found: BoxMasks) -> np.ndarray:
    """Places of the sure detections of which a mask can be asked for.

    A detection in the padding has a box that ends where it begins, at the border of the image.
    """
    has_area = (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
    return np.flatnonzero(has_area & (found.scores >= _SURE))


def _box_masks(
    predict: MaskPredictor, image: np.ndarray, boxes: np.ndarray | None = None
) -> BoxMasks:
    (result,) = predict([image], None if boxes is None else [boxes])
    assert isinstance(result, BoxMasks)
    return result


def _mask_ious(
    one: BoxMasks,
    other: BoxMasks,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float,
) -> list[float]:
    """IoU of the two masks of each box, as pixels of an image of `size` (height, width).

    A box whose masks are both empty is left out.
    """
    boxes_norm = normalise(boxes, *size)
    pasted = (
        paste_rles(b.mask_probs, boxes_norm, *size, threshold) for b in (one, other)
    )
    ious = []
    for a, b in zip(*pasted, strict=True):
        if rle_area(a) or rle_area(b):
            ious.append(float(coco_mask.iou([a], [b], [0])[0, 0]))
    return ious


def _kept(found: BoxMasks, again: BoxMasks) -> list[bool]:
    """For each sure detection of `found`, whether `again` has one like it."""
    sure = _to_compare(found)
    if not sure.size or not len(again.boxes):
        return [False] * len(sure)
    boxes, others = (to_xywh(b.astype(np.float64)) for b in (found.boxes, again.boxes))
    overlap: Any = coco_mask.iou(boxes[sure], others, [0] * len(others))
    same_class = found.category_ids[sure, None] == again.category_ids
    return ((overlap >= 0.5) & same_class).any(axis=1).tolist()


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 5)
