"""The shapes that any mask has to beat: the box itself, and the ellipse inside it."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from deepmac.errors import OptionError
from deepmac.instances import ImageMasks

MaskOfBox = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]
"""Image uint8 [H, W, 3] and box [4] in its pixels -> mask bool [H, W] and score in [0, 1]."""


@dataclasses.dataclass(frozen=True, slots=True)
class BoxByBox:
    """A `MaskPredictor` made from a function of one image and one box. It cannot detect.

    Attributes:
        name: for messages.
        mask_of: gives the mask and the score of one box.
        can_detect: False, there is no detector.
        in_image_frame: True: each mask is as large as the image, so a caller who has thousands
            of boxes asks for some at a time.
    """

    name: str
    mask_of: MaskOfBox
    can_detect: bool = dataclasses.field(default=False, init=False)
    in_image_frame: bool = dataclasses.field(default=True, init=False)

    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None
    ) -> list[ImageMasks]:
        """See `MaskPredictor`. Category ids are -1.

        Raises:
            OptionError: no boxes are given.
        """
        if boxes is None:
            raise OptionError(
                f"predictor '{self.name}' has no detector of its own: give it boxes"
            )
        return [
            self._of_image(image, np.asarray(image_boxes).reshape(-1, 4))
            for image, image_boxes in zip(images, boxes, strict=True)
        ]

    def _of_image(self, image: np.ndarray, boxes: np.ndarray) -> ImageMasks:
        masks = np.zeros((len(boxes), *image.shape[:2]), bool)
        scores = np.zeros(len(boxes), np.float32)
        for index, box in enumerate(boxes):
            masks[index], scores[index] = self.mask_of(image, box)
        unknown = np.full(len(boxes), -1, np.int32)
        return ImageMasks(boxes.astype(np.float32), masks, scores, unknown)


def box_mask(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, float]:
    """The filled box; the score is 1 for every box, since there is nothing to tell them apart."""
    return fill_box(box, *image.shape[:2]), 1.0


def ellipse_mask(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, float]:
    """The filled ellipse that touches the box's four sides; the score is 1 for every box."""
    return fill_ellipse(box, *image.shape[:2]), 1.0


def fill_box(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose centre lies in a box.

    Args:
        box: [4], (ymin, xmin, ymax, xmax) in pixels; pixel i covers i to i + 1. May overhang.
        height, width: of the image in pixels.

    Returns:
        bool [height, width]. A box too small to hold a pixel's centre gets the pixel under its
        own; one outside the image gets none.
    """
    mask = np.zeros((height, width), bool)
    mask[_pixels(box[0], box[2], height), _pixels(box[1], box[3], width)] = True
    return mask


def fill_ellipse(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels of `fill_box` whose centre lies in the ellipse inscribed in the box.

    Arguments and result are those of `fill_box`.
    """
    rows, cols = _pixels(box[0], box[2], height), _pixels(box[1], box[3], width)
    y = _from_centre(rows, box[0], box[2])
    x = _from_centre(cols, box[1], box[3])
    mask = np.zeros((height, width), bool)
    mask[rows, cols] = y[:, None] ** 2 + x[None, :] ** 2 <= 1
    return mask


def _pixels(low: float, high: float, length: int) -> slice:
    """The pixels of an axis whose centre lies in [low, high), or the one in the middle."""
    first, last = math.ceil(low - 0.5), math.ceil(high - 0.5)
    if last <= first:
        first = math.floor((low + high) / 2)
        last = first + 1
    return slice(min(max(first, 0), length), min(max(last, 0), length))


def _from_centre(pixels: slice, low: float, high: float) -> np.ndarray:
    """Distance of pixel centres from the middle of [low, high], in half sides, float64 [n]."""
    if pixels.stop - pixels.start == 1:
        return np.zeros(1)  # also where the side is 0
    centres = np.arange(pixels.start, pixels.stop) + 0.5
    return (centres - (low + high) / 2) / ((high - low) / 2)
