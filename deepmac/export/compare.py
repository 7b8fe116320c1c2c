"""Whether an exported network says what the network itself says."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from deepmac.config.schema import ImageResizerConfig
from deepmac.data.tf_example import encode
from deepmac.errors import DeepmacError
from deepmac.export import WITH_BOXES
from deepmac.export.images import frame
from deepmac.instances import BoxMasks
from deepmac.model.decode import STRIDE
from deepmac.predictors.deepmac import DeepmacPredictor
from deepmac.resize import geometry

TOLERANCE = 1e-4
"""Of every output. Both run the same kernels on batches of other sizes, whose float32 sums differ
by 1e-6 or so; a wrong weight, pixel or box moves masks by 1e-2 and more."""

# (ymin, xmin, ymax, xmax) in fractions of the image: nearly all of it, in the midst of it, up to a
# border, over a corner, and a narrow one. No centre lies between two feature cells, where the last
# bit decides whose embedding it reads.
BOXES = np.array(
    [
        (0.0, 0.0, 0.9813, 0.9747),
        (0.1037, 0.2011, 0.5519, 0.6043),
        (0.4703, 0.3109, 1.0, 0.8313),
        (0.6217, 0.7019, 1.0707, 1.1),
        (0.3001, 0.0523, 0.3617, 0.4021),
    ],
    np.float32,
)

# Height and width, in sides of the network's input: a wide, a tall, a small one.
_SIZES = ((0.61, 1.3), (1.1, 0.43), (0.3, 0.29))


class Comparison(NamedTuple):
    """What was compared, and how far it was apart.

    Attributes:
        num_images, num_boxes: of the network and of its export.
        differences: the largest of each output, by its name.
    """

    num_images: int
    num_boxes: int
    differences: dict[str, float]

    def largest(self) -> tuple[str, float]:
        """The output with the largest difference, and the difference."""
        return max(self.differences.items(), key=lambda item: item[1])


def compare(
    call: Callable[..., Mapping[str, Any]],
    predict: DeepmacPredictor,
    input_type: str,
    resizer: ImageResizerConfig,
) -> Comparison:
    """Runs an exported network beside the network it was made from, on a few images.

    Args:
        call: the exported network, with the arguments and results of its signature.
        predict: the network.
        input_type: of `deepmac.export.INPUT_TYPES`.
        resizer: of the network.

    Raises:
        DeepmacError: an output differs by more than `TOLERANCE`; says which, and by how much.
    """
    images = sample_images(*frame(resizer))
    largest: dict[str, float] = {}
    for number, image in enumerate(images):
        arguments = [as_input(image, input_type)]
        if input_type in WITH_BOXES:
            arguments.append(BOXES[None])
        outputs = {k: np.asarray(v)[0] for k, v in call(*arguments).items()}
        height, width = image.shape[:2]
        size = geometry(height, width, resizer)
        found = differences(outputs, image, predict, input_type in WITH_BOXES, size[:2])
        for name, difference in found.items():
            if not difference <= TOLERANCE:  # a NaN is not either
                raise DeepmacError(
                    f"the exported network is not the network: {name} differs by "
                    f"{difference:.3g} on image {number + 1} of {len(images)}, where rounding "
                    f"explains {TOLERANCE:g}; nothing was kept"
                )
            largest[name] = max(difference, largest.get(name, 0.0))
    num_boxes = len(images) * len(BOXES) if input_type in WITH_BOXES else 0
    return Comparison(len(images), num_boxes, largest)


def sample_images(height: int, width: int) -> list[np.ndarray]:
    """Pictures without meaning, the same each time, for a network input of `height` x `width`.

    uint8 [H, W, 3], of sizes that are brought up as well as down, patches under noise: a wrong
    interpolation shows everywhere.
    """
    rng = np.random.default_rng(0)
    images = []
    for rows, cols in _SIZES:
        shape = (round(rows * height), round(cols * width))
        patches = rng.integers(0, 192, (8, 8, 3))
        picture = patches[np.ix_(*(np.arange(n) * 8 // n for n in shape))]
        images.append((picture + rng.integers(0, 64, (*shape, 3))).astype(np.uint8))
    return images


def as_input(image: np.ndarray, input_type: str) -> Any:
    """An image uint8 [H, W, 3] as the first argument of a signature, a batch of one."""
    match input_type:
        case "image_and_boxes_tensor" | "image_tensor":
            return image[None]
        case "float_image_tensor":
            return image[None].astype(np.float32)
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG")
    encoded = png.getvalue()
    if input_type == "tf_example":
        encoded = encode({"image/encoded": [encoded]})
    return np.array([encoded], object)


def differences(
    outputs: Mapping[str, np.ndarray],
    image: np.ndarray,
    predict: DeepmacPredictor,
    with_boxes: bool,
    true_shape: Sequence[int],
) -> dict[str, float]:
    """By how much each output of an exported network is off, for one image.

    Args:
        outputs: of the signature, without the batch axis.
        image: uint8 [H, W, 3].
        predict: what the outputs should be of.
        with_boxes: whether the masks are those of `BOXES`, not of the detections.
        true_shape: height and width of the image in the network's input, pixels.
    """
    height_width = np.array(image.shape[:2])
    (detected,) = predict([image], None)
    found = _of_detections(outputs, detected, height_width, not with_boxes)
    if with_boxes:
        in_pixels = BOXES.astype(np.float64) * np.tile(height_width, 2)
        (given,) = predict([image], [in_pixels])
        found["detection_masks"] = _apart(outputs["detection_masks"], given.mask_probs)
    # What no call of the predictor returns must agree with what one does.
    in_image = outputs["detection_boxes_strided"] * STRIDE / np.tile(true_shape, 2)
    found["detection_boxes_strided"] = _apart(
        np.clip(in_image, 0, 1), outputs["detection_boxes"]
    )
    scores, classes = outputs["detection_scores"], outputs["detection_classes"]
    columns = classes.astype(int)[:, None] - 1
    own = np.take_along_axis(outputs["detection_multiclass_scores"], columns, axis=1)
    is_peak = scores > 0
    found["detection_multiclass_scores"] = _apart(own[is_peak, 0], scores[is_peak])
    found["num_detections"] = _apart(outputs["num_detections"], is_peak.sum())
    return found


def _of_detections(
    outputs: Mapping[str, np.ndarray],
    expected: BoxMasks,
    height_width: np.ndarray,
    with_masks: bool,
) -> dict[str, float]:
    """The detections of an export beside those of its network, each with its partner.

    Scores are compared in order. The partner of a detection has its class, a score that rounding
    may explain, and the nearest box: equal scores may change places. Where the list ends, one of
    them may stand for another.
    """
    scores, classes = outputs["detection_scores"], outputs["detection_classes"]
    in_order = np.zeros_like(scores)
    in_order[: len(expected.scores)] = expected.scores
    boxes_norm = expected.boxes / np.tile(height_width, 2)
    names = ["detection_boxes", *["detection_masks"] * with_masks]
    worst = {
        "detection_scores": _apart(scores, in_order),
        "detection_classes": 0.0,  # how many have no partner
        **dict.fromkeys(names, 0.0),
    }
    is_free = scores > 0
    for index, score in enumerate(expected.scores):
        fits = is_free & (classes == expected.category_ids[index])
        fits &= np.abs(scores - score) <= TOLERANCE + worst["detection_scores"]
        if not fits.any():
            is_last = score <= expected.scores[-1] + TOLERANCE
            worst["detection_classes"] += not is_last
            continue
        distance = np.abs(outputs["detection_boxes"] - boxes_norm[index]).max(axis=1)
        partner = np.argmin(np.where(fits, distance, np.inf))
        is_free[partner] = False
        for name, ours in zip(
            names, (boxes_norm[index], expected.mask_probs[index]), strict=False
        ):
            difference = _apart(outputs[name][partner], ours)
            worst[name] = float(np.maximum(worst[name], difference))  # keeps a NaN
    return worst


def _apart(theirs: Any, ours: Any) -> float:
    return float(np.max(np.abs(theirs - ours), initial=0.0))
