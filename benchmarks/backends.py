"""What a comparison does on TensorFlow and on JAX.

Training mode, and gradients (of the sum of the sines of what a network returns), are compared on
TensorFlow alone: those of the recordings carry the rounding of its batch norm in training, which
on JAX is another one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from deepmac.backend import compiled
from deepmac.model.tensors import ops
from deepmac.model.variables import named_variables

Outputs = Sequence[Any]


def compares_training() -> bool:
    return keras.config.backend() == "tensorflow"


def left_out() -> tuple[str, ...]:
    """Patterns of the recorded arrays that are not compared on this backend."""
    return () if compares_training() else ("train", "eval/grad", "crop/grad")


def as_run(
    function: Callable[..., Any], layer: keras.layers.Layer | None = None
) -> Callable[..., Any]:
    """The function as it is on TensorFlow, and compiled on JAX, which compiles in any case.

    Args:
        function: of arrays.
        layer: whose variables it uses.
    """
    if keras.config.backend() == "tensorflow":
        return lambda *arrays: function(*map(ops.convert_to_tensor, arrays))
    return compiled(function, layer or keras.layers.Identity())


def input_gradients(
    function: Callable[..., Outputs], *inputs: np.ndarray
) -> list[np.ndarray]:
    """The gradient for each of the inputs of a function."""
    import tensorflow as tf

    tensors = [tf.constant(values) for values in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = _total(function(*tensors))
    gradients = tape.gradient(
        total, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # Those of indexing are sparse.
    return [np.asarray(tf.convert_to_tensor(gradient)) for gradient in gradients]


def train_once(
    layer: keras.layers.Layer, forward: Callable[[], Outputs]
) -> tuple[Outputs, dict[str, float]]:
    """One pass in training mode, which moves the statistics of batch norms.

    Args:
        layer: whose weights are trained.
        forward: calls it in training mode.

    Returns:
        The outputs, and the norm of the gradient of each weight by `named_variables`' path.
    """
    import tensorflow as tf

    named = {path: v for path, v in named_variables(layer).items() if v.trainable}
    with tf.GradientTape() as tape:
        outputs = forward()
        total = _total(outputs)
    gradients = tape.gradient(total, [variable.value for variable in named.values()])
    norms = [float(np.linalg.norm(np.asarray(gradient))) for gradient in gradients]
    return outputs, dict(zip(named, norms, strict=True))


def _total(outputs: Outputs) -> Any:
    return ops.sum(ops.stack([ops.sum(ops.sin(output)) for output in outputs]))
