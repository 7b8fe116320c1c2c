"""The gate between predictors, also those that users bring, and the pipelines."""

from collections.abc import Sequence

import numpy as np

from deepmac.errors import DeepmacError
from deepmac.instances import BoxMasks, ImageMasks, MaskPredictor


class CheckedPredictor:
    """A `MaskPredictor` under its name, which answers only for what it has checked.

    Attributes:
        name: as given to `open_predictor`.
        can_detect: it can be asked without boxes.
        takes_boxes: it can be asked with boxes.
        in_image_frame: it returns `ImageMasks`, whose size is that of the image for each box: a
            caller who has thousands of boxes should ask for some at a time.
        fingerprint: changes whenever its masks may: the name, or the digest of its weights.
        precision: what it computes in; None where there is no choice.
        prepare: what can be done for an image [H, W, 3] beforehand, in another thread. Its result
            has the `shape` of the image, and stands for it in a call.
    """

    def __init__(self, name: str, predict: MaskPredictor):
        self.name = name
        self._predict = predict
        self.can_detect = bool(getattr(predict, "can_detect", True))
        self.takes_boxes = bool(getattr(predict, "takes_boxes", True))
        self.in_image_frame = bool(getattr(predict, "in_image_frame", False))
        self.fingerprint = str(getattr(predict, "fingerprint", name))
        self.precision: str | None = getattr(predict, "precision", None)
        self.prepare = getattr(predict, "prepare", _as_it_is)

    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None
    ) -> Sequence[BoxMasks | ImageMasks]:
        """See `MaskPredictor`.

        Raises:
            DeepmacError: the result is not what the protocol says. Names the predictor and the
                image. What the predictor itself raises passes through.
        """
        results = self._predict(images, boxes)
        if not isinstance(results, Sequence) or len(results) != len(images):
            raise DeepmacError(
                f"predictor '{self.name}' must return a list of {len(images)} results, one for "
                f"each image, got {describe(results)}"
            )
        for index, (image, result) in enumerate(zip(images, results, strict=True)):
            count = None if boxes is None else len(boxes[index])
            if complaint := _complaint(result, count, image.shape[:2]):
                raise DeepmacError(
                    f"predictor '{self.name}', image {index} of {len(images)}: {complaint}"
                )
        return results


def _as_it_is(image: np.ndarray) -> np.ndarray:
    return image


def _complaint(
    result: object, num_boxes: int | None, size: tuple[int, int]
) -> str | None:
    """What is wrong with the result for one image; None if nothing is."""
    if not isinstance(result, BoxMasks | ImageMasks):
        return f"neither BoxMasks nor ImageMasks, but {describe(result)}"
    count = len(result.boxes) if num_boxes is None else num_boxes
    if isinstance(result, ImageMasks):
        masks, kind, shape = result.masks, "b", (count, *size)
        if np.shape(masks) != shape:
            return f"masks of shape {np.shape(masks)}, expected {shape}"
    else:
        masks, kind = result.mask_probs, "f"
        shape = np.shape(masks)
        if len(shape) != 3 or shape[0] != count or min(shape[1:]) < 2:
            return f"mask_probs of shape {shape}, expected ({count}, S, S) with S at least 2"
    fields = [
        ("masks" if kind == "b" else "mask_probs", masks, kind, np.shape(masks)),
        ("boxes", result.boxes, "f", (count, 4)),
        ("scores", result.scores, "f", (count,)),
        ("category_ids", result.category_ids, "iu", (count,)),
    ]
    for name, values, kinds, expected in fields:
        if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds:
            wanted = {"b": "bool", "f": "float", "iu": "integer"}[kinds]
            return f"{name} must be an array of {wanted}, got {describe(values)}"
        if values.shape != expected:
            return f"{name} of shape {values.shape}, expected {expected}"
        if not np.isfinite(values).all():
            return f"{name} holds numbers that are not finite"
    for name, values in (("mask_probs", masks), ("scores", result.scores)):
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            return (
                f"{name} must lie in 0..1, got {values.min():.4g} to {values.max():.4g}"
            )
    return None


def describe(value: object) -> str:
    """A value in a few words, for an error sentence."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"
