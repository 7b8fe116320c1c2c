"""`deepmac.load`: a network that turns an image, and boxes if there are any, into masks."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepmac.boxes import normalise
from deepmac.instances import Precision
from deepmac.paste import paste_masks

if TYPE_CHECKING:
    from deepmac.model.hourglass import HourglassSpec
    from deepmac.predictors.deepmac import DeepmacPredictor


def load(
    name_or_path: str | Path,
    checkpoint: str | Path | None = None,
    *,
    overrides: Iterable[str] = (),
    random_weights: bool = False,
    accept: Sequence[str] = (),
    backbone: "HourglassSpec | None" = None,
    reference_quirks: bool | None = None,
    precision: Precision = "float32",
) -> "Predictor":
    """Opens the network of a configuration with its weights.

    Args:
        name_or_path: a shipped configuration (`deepmac config list`) or a `.config` file.
        checkpoint: a reference checkpoint (its prefix, such as `path/to/ckpt-51`, or the directory
            it lies in, such as an export directory), a SavedModel's directory, or our own
            `.weights.h5` file.
        overrides: `path.to.field=value` each, as `--set` has them.
        random_weights: True to do without a checkpoint: the masks mean nothing, speed and shapes
            are right.
        accept: names, or patterns such as `_mask_net/*`, of variables that may not fit.
        backbone: dimensions of a backbone other than the one the configuration names.
        reference_quirks: None for the usual choice between what is right and what the reference
            does; True for the reference in everything, False for what is right in everything.
        precision: `bfloat16` computes in half the bits: several times faster where the processor
            has matrix units for it, at masks that may differ: compare them on your own weights
            first (`deepmac.precision.compare`). `float32` is the one that equals the reference.

    Raises:
        ConfigError: the configuration cannot be read, or asks for what is not available.
        CheckpointError: there are no weights, or they do not fit: the message says which
            variables, and which values of the configuration would fit them.
    """
    from deepmac.predictors.deepmac import open_deepmac

    masks = open_deepmac(
        name_or_path,
        checkpoint=checkpoint,
        overrides=overrides,
        random_weights=random_weights,
        accept=accept,
        backbone=backbone,
        reference_quirks=reference_quirks,
        precision=precision,
    )
    return Predictor(masks, reference_quirks=reference_quirks)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The instances of one image: N boxes, each with its mask.

    Attributes:
        height, width: of the image in pixels.
        boxes: float32 [N, 4], (ymin, xmin, ymax, xmax) in pixels, in the order given; of
            detections best first.
        mask_probs: float32 [N, S, S], foreground probability in the frame of each box.
        scores: float32 [N] in [0, 1]: of a given box the mean probability inside its mask, of a
            detection that of its centre.
        category_ids: int32 [N]: of a given box -1; of a detection its class counted from 1,
            which for COCO is the category id.
    """

    height: int
    width: int
    boxes: np.ndarray
    mask_probs: np.ndarray
    scores: np.ndarray
    category_ids: np.ndarray
    reference_quirks: bool | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def masks(self) -> np.ndarray:
        """bool [N, H, W], the masks in the image: probability above 0.5. Made when first read.

        Thousands of boxes in a large image take gigabytes: `deepmac.paste` does some at a time.
        """
        boxes_norm = normalise(self.boxes, self.height, self.width)
        return paste_masks(
            self.mask_probs,
            boxes_norm,
            self.height,
            self.width,
            reference_quirks=self.reference_quirks,
        )


class Predictor:
    """Image and boxes in, masks out.

    Attributes:
        batch: the same for many images at once: a `deepmac.MaskPredictor`.
    """

    def __init__(
        self, batch: "DeepmacPredictor", *, reference_quirks: bool | None = None
    ):
        self.batch = batch
        self._reference_quirks = reference_quirks

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray | Sequence | None = None
    ) -> Prediction:
        """One mask for each box, or for each object that the network detects.

        Args:
            image: uint8 [H, W, 3] RGB.
            boxes: [N, 4], (ymin, xmin, ymax, xmax) in pixels, any number. They may overhang the
                image: they are used as given, and what lies outside is not seen. None: detect.

        Raises:
            DataError: the image or a box cannot be used; says which and why.
        """
        (result,) = self.batch([image], None if boxes is None else [boxes])
        return Prediction(
            height=image.shape[0],
            width=image.shape[1],
            boxes=result.boxes,
            mask_probs=result.mask_probs,
            scores=result.scores,
            category_ids=result.category_ids,
            reference_quirks=self._reference_quirks,
        )
