"""SavedModels as the reference exports them, made by hand: there is none to be had here.

Objects carry the reference's child names below `_model`. Keras adds, on saving, lists that number
the variables of a layer; they are here too, where they make the shortest path to a variable, and
hence its key in the file.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from deepmac.checkpoint.names import reference_name
from deepmac.model.decode import boxes_in_image
from deepmac.model.deepmac import DeepMAC
from deepmac.model.variables import named_variables

Node = tf.__internal__.tracking.AutoTrackable

IMAGE = tf.TensorSpec([1, None, None, 3], tf.uint8, name="input_tensor")
BOXES = tf.TensorSpec([1, None, 4], tf.float32, name="boxes")


def tree(leaves: Mapping[str, Any]) -> Any:
    """Objects nested as the names say around the leaves; `box.Sscale` is one child, `box/scale`."""
    root = Node()
    for name, leaf in leaves.items():
        *above, last = [part.replace(".S", "/") for part in name.split("/")]
        node = root
        for part in above:
            if not hasattr(node, part):
                setattr(node, part, Node())
            node = getattr(node, part)
        setattr(node, last, leaf)
    return root


def leaves_of(node: Any) -> Iterator[tf.Variable]:
    for child in vars(node).values():
        if isinstance(child, tf.Variable):
            yield child
        elif isinstance(child, Node):
            yield from leaves_of(child)


def add_keras_edges(model: Any) -> None:
    """The edges by position that Keras adds to layers when a SavedModel is written."""
    layers = [model._feature_extractor]
    if hasattr(getattr(model, "_mask_net", None), "_net"):
        layers.append(model._mask_net._net)
    for layer in layers:
        variables = list(leaves_of(layer))
        children = [child for child in vars(layer).values() if type(child) is Node]
        layer.variables = variables  # first, so that these paths give the keys
        layer.keras_api = Node()
        layer.keras_api.variables = list(variables)
        layer.keras_api.layers = children
        layer.trainable_variables = variables[::2]


def save_variables(values: Mapping[str, np.ndarray], folder: Path) -> Path:
    """A SavedModel of these variables, by reference name, without a function."""
    module = Node()
    module._model = tree({n: tf.Variable(value) for n, value in values.items()})
    add_keras_edges(module._model)
    tf.saved_model.save(module, str(folder))
    return folder


def save_function(function: Callable[..., Any], folder: Path, *specs: Any, **more: Any):
    """A SavedModel whose serving signature is a plain function of tensors."""
    module = tf.Module()
    for name, value in more.items():
        setattr(module, name, value)
    module.serve = tf.function(function, input_signature=specs, autograph=False)
    signatures = {"serving_default": module.serve.get_concrete_function()}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def save_network(model: DeepMAC, folder: Path, *, with_boxes: bool = True) -> Path:
    """A network of ours as the reference exports its own: everything from image to masks inside."""
    names = {p: reference_name(p) or p for p in named_variables(model)}
    variables = {names[p]: v.value for p, v in named_variables(model).items()}
    weights = tree(variables)
    add_keras_edges(weights)
    side = model.config.image_resizer.keep_aspect_ratio_resizer.max_dimension

    def serve(image, boxes=None):
        inputs, true_shape = _resized(image, side)
        features = model.features(inputs)
        found = model.detect(features, true_shape[None])
        embeddings = model.embed(features)
        if boxes is None:
            boxes = found.boxes_norm
        else:
            tf.debugging.assert_greater_equal(boxes, 0.0)
            tf.debugging.assert_less_equal(boxes, 1.1)
            scale = tf.cast(true_shape[:2], tf.float32) / side
            boxes *= tf.tile(scale, [2])
        count = tf.reduce_sum(tf.cast(found.scores > 0, tf.float32), axis=1)
        return {
            "detection_masks": model.masks_for_boxes(embeddings, boxes),
            "detection_boxes": boxes_in_image(found.boxes_cells, true_shape[None]),
            "detection_boxes_strided": found.boxes_cells,
            "detection_classes": tf.cast(found.class_indices + 1, tf.float32),
            "detection_scores": found.scores,
            "num_detections": count,
        }

    specs = [IMAGE, BOXES] if with_boxes else [IMAGE]
    return save_function(serve, folder, *specs, _model=weights)


def _resized(image: tf.Tensor, side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """float32 [1, side, side, 3] and the shape of what is not padding, by TensorFlow's own op."""
    size = tf.cast(tf.shape(image)[1:3], tf.float32)
    scale = side / tf.reduce_max(size)
    new = tf.cast(tf.round(size * scale), tf.int32)
    resized = tf.compat.v1.image.resize_bilinear(tf.cast(image, tf.float32), new)
    padded = tf.image.pad_to_bounding_box(resized, 0, 0, side, side)
    return tf.ensure_shape(padded, [1, side, side, 3]), tf.concat([new, [3]], 0)
