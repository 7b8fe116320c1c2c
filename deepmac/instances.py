"""What flows between the stages: images with their instances, and masks for boxes."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol, TypedDict

import numpy as np

Box = tuple[float, float, float, float]
"""(ymin, xmin, ymax, xmax), pixels of the image as stored."""

Precision = Literal["float32", "bfloat16"]
"""What a network computes in."""

ImageId = int | str
AnnotationId = int | str


class RLE(TypedDict):
    """A binary mask as COCO run lengths: column-major, compressed, `counts` as bytes."""

    size: list[int]  # [height, width]
    counts: bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One annotated object.

    `mask_rle` is None where no mask is known. `mask_weight` 0 says that the mask was hidden
    on purpose (a split) or is not known: such a mask must not be used as ground truth.
    """

    box: Box
    category_id: int
    annotation_id: AnnotationId | None = None
    area: float = 0.0  # pixels: the annotation's own `area`, not derived from the mask
    is_crowd: bool = False
    mask_rle: RLE | None = None
    mask_weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One image with its instances. `encoded` holds the stored JPEG or PNG bytes, untouched."""

    image_id: ImageId
    file_name: str
    height: int
    width: int
    instances: tuple[Instance, ...] = ()
    encoded: bytes | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class BoxMasks:
    """Masks of the N boxes of one image, each in the frame of its box.

    Attributes:
        boxes: float32 [N, 4], (ymin, xmin, ymax, xmax), pixels of the original image, in the
            order given.
        mask_probs: float32 [N, S, S], foreground probability.
        scores: float32 [N], in [0, 1].
        category_ids: int32 [N]; -1 where unknown.
    """

    boxes: np.ndarray
    mask_probs: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class ImageMasks:
    """Masks of the N boxes of one image, in the frame of the image: `masks` bool [N, H, W].

    The other attributes are those of `BoxMasks`.
    """

    boxes: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray


class MaskPredictor(Protocol):
    """Anything that turns images and boxes into masks. The pipelines know nothing else.

    Args:
        images: uint8 [H, W, 3] RGB each; sizes may differ.
        boxes: for each image float [N, 4], (ymin, xmin, ymax, xmax) in its pixels; None asks
            the predictor for its own detections.

    Returns:
        One result for each image, in the order given.
    """

    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None
    ) -> Sequence[BoxMasks | ImageMasks]: ...
