"""The network as a TensorFlow object: the reference's signatures around our network."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from deepmac.checkpoint.names import reference_name
from deepmac.errors import ConfigError
from deepmac.export import WITH_BOXES
from deepmac.export.images import decode_rgb, frame, resize_images
from deepmac.model.decode import boxes_in_image, boxes_in_padded_input
from deepmac.model.deepmac import DeepMAC
from deepmac.model.variables import named_variables

Tensor = Any

FARTHEST = 1.1
"""The largest coordinate of a box, in fractions of the image: the reference's limit."""

_ENCODED = "image/encoded"


def exported_module(model: DeepMAC, input_type: str) -> Any:
    """The network as an object for `tf.saved_model.save`.

    Its `__call__` is a `tf.function` from what `input_type` takes to the reference's outputs:
    float32, D detections of each of B images, masks of size S for them or for N given boxes.

        detection_boxes [B, D, 4]               in fractions of the image, clipped to it
        detection_boxes_strided [B, D, 4]       in feature cells
        detection_classes [B, D]                counted from 1
        detection_masks [B, D or N, S, S]       probabilities in the frame of each box
        detection_multiclass_scores [B, D, K]   of the classes in order
        detection_scores [B, D]                 descending
        num_detections [B]                      how many scores are above 0

    Its variables hang below `_model`, by the names that the reference gives them: the SavedModel
    is a checkpoint, too.

    Raises:
        ConfigError: the resizer brings images to sizes that the network does not take.
    """
    _check_frame(model)
    module: Any = tf.Module()
    module._model = _tree(model)
    module.__call__ = _function(model, input_type)
    return module


def _check_frame(model: DeepMAC) -> None:
    height, width = frame(model.config.image_resizer)
    divisor = model.size_divisor
    if height % divisor or width % divisor:
        raise ConfigError(
            f"image_resizer: makes images {height} x {width} pixels, the network takes "
            f"multiples of {divisor}"
        )


def _tree(model: DeepMAC) -> tf.Module:
    root = tf.Module()
    for path, variable in named_variables(model).items():
        *parents, leaf = (reference_name(path) or path).split("/")
        node = root
        for name in parents:
            child = name.replace(".S", "/")  # one name with a slash in it
            if child not in vars(node):
                setattr(node, child, tf.Module())
            node = getattr(node, child)
        setattr(node, leaf, variable.value)
    return root


def _function(model: DeepMAC, input_type: str) -> Any:
    spec, prepare = _inputs(input_type, model)
    boxes_spec = tf.TensorSpec((spec.shape[0], None, 4), tf.float32, "boxes")

    def detect(input_tensor):
        return _outputs(model, *prepare(input_tensor), boxes=None)

    def masks(input_tensor, boxes):
        num_images = tf.shape(input_tensor)[0]
        checks = [_assert_fractions(boxes), _assert_same_batch(boxes, num_images)]
        with tf.control_dependencies(checks):
            images, true_shapes = prepare(input_tensor)
        return _outputs(model, images, true_shapes, boxes)

    if input_type in WITH_BOXES:
        return tf.function(masks, input_signature=(spec, boxes_spec), autograph=False)
    return tf.function(detect, input_signature=(spec,), autograph=False)


def _inputs(
    input_type: str, model: DeepMAC
) -> tuple[tf.TensorSpec, Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """The first argument, and what makes images and their true shapes of it."""
    resizer = model.config.image_resizer

    def pixels(images):
        return resize_images(images, resizer)

    def one_by_one(decode):
        def prepare(image):
            images, true_shapes = resize_images(decode(image)[None], resizer)
            return images[0], true_shapes[0]

        types = (
            tf.TensorSpec((*frame(resizer), 3), tf.float32),
            tf.TensorSpec((2,), tf.int32),
        )
        return lambda strings: tf.map_fn(prepare, strings, fn_output_signature=types)

    def from_example(serialized):
        features = {_ENCODED: tf.io.FixedLenFeature((), tf.string)}
        return decode_rgb(tf.io.parse_single_example(serialized, features)[_ENCODED])

    def spec(shape, dtype):
        return tf.TensorSpec(shape, dtype, "input_tensor")

    match input_type:
        case "image_and_boxes_tensor" | "image_tensor":
            return spec((1, None, None, 3), tf.uint8), pixels
        case "float_image_tensor":
            return spec((None, None, None, 3), tf.float32), pixels
        case "encoded_image_and_boxes" | "encoded_image_string_tensor":
            return spec((None,), tf.string), one_by_one(decode_rgb)
        case "tf_example":
            return spec((None,), tf.string), one_by_one(from_example)
    raise ValueError(input_type)


def _assert_fractions(boxes: Tensor) -> Any:
    """Fails, as the reference's network does, where boxes [B, N, 4] are no fractions."""
    is_fraction = tf.logical_and(boxes >= 0, boxes <= FARTHEST)  # false for NaN
    message = (
        f"boxes must be ymin, xmin, ymax, xmax in fractions of the image, 0 to {FARTHEST}: "
        f"divide pixels by its height and width; smallest and largest are"
    )
    return tf.debugging.Assert(
        tf.reduce_all(is_fraction),
        [message, tf.reduce_min(boxes), tf.reduce_max(boxes)],
    )


def _assert_same_batch(boxes: Tensor, num_images: Tensor) -> Any:
    return tf.debugging.Assert(
        tf.equal(tf.shape(boxes)[0], num_images),
        ["boxes must be [images, N, 4], got", tf.shape(boxes), "and", num_images],
    )


def _outputs(
    model: DeepMAC, images: Tensor, true_shapes: Tensor, boxes: Tensor | None
) -> dict[str, Tensor]:
    features = model.features(images)
    found = model.detect(features, true_shapes)
    embeddings = model.embed(features)
    if boxes is None:
        masks = model.masks_for_boxes(embeddings, found.boxes_norm)
    else:
        inside = boxes_in_padded_input(boxes, true_shapes, *images.shape[1:3])
        # The network takes one box or more, a user may have none.
        num_boxes: Any = tf.shape(boxes)[1]
        missing: Any = tf.maximum(1 - num_boxes, 0)
        inside = tf.pad(inside, ((0, 0), (0, missing), (0, 0)))
        masks = model.masks_for_boxes(embeddings, inside)[:, :num_boxes]
        masks.set_shape((boxes.shape[0], None, None, None))
    outputs = {
        "detection_boxes": boxes_in_image(found.boxes_cells, true_shapes),
        "detection_boxes_strided": found.boxes_cells,
        "detection_classes": found.class_indices + 1,
        "detection_masks": masks,
        "detection_multiclass_scores": found.class_probs,
        "detection_scores": found.scores,
        "num_detections": found.num_detections,
    }
    return {name: tf.cast(values, tf.float32) for name, values in outputs.items()}
