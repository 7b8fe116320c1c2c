"""Gradients of the sum of the sines of what a network returns, on TensorFlow or on JAX."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from deepmac.model.tensors import ops
from deepmac.model.variables import named_variables

Outputs = Sequence[Any]


def input_gradients(
    function: Callable[..., Outputs], *inputs: np.ndarray
) -> tuple[Outputs, list[np.ndarray]]:
    """The outputs of a function, and the gradient for each of its inputs."""
    return _GRADIENTS[keras.config.backend()](function, inputs)


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
    named = {path: v for path, v in named_variables(layer).items() if v.trainable}
    outputs, gradients = _TRAINING[keras.config.backend()](
        layer, forward, list(named.values())
    )
    norms = [float(np.linalg.norm(np.asarray(gradient))) for gradient in gradients]
    return outputs, dict(zip(named, norms, strict=True))


def _total(outputs: Outputs) -> Any:
    return ops.sum(ops.stack([ops.sum(ops.sin(output)) for output in outputs]))


def _inputs_by_tensorflow(function, inputs):
    import tensorflow as tf

    tensors = [tf.constant(values) for values in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = function(*tensors)
        total = _total(outputs)
    unused = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(total, tensors, unconnected_gradients=unused)
    gradients = map(tf.convert_to_tensor, gradients)  # those of indexing are sparse
    return outputs, [np.asarray(gradient) for gradient in gradients]


def _training_by_tensorflow(layer, forward, weights):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs = forward()
        total = _total(outputs)
    return outputs, tape.gradient(total, [weight.value for weight in weights])


def _inputs_by_jax(function, inputs):
    import jax

    def loss(tensors):
        outputs = function(*tensors)
        return _total(outputs), outputs

    arrays = [jax.numpy.asarray(values) for values in inputs]
    gradients, outputs = jax.jit(jax.grad(loss, has_aux=True))(arrays)
    return outputs, [np.asarray(gradient) for gradient in gradients]


def _training_by_jax(layer, forward, weights):
    import jax

    statistics = [v for v in layer.variables if not v.trainable]

    def loss(weight_values, statistic_values):
        values = [*weight_values, *statistic_values]
        variables = [*weights, *statistics]
        with keras.StatelessScope(zip(variables, values, strict=True)) as scope:
            outputs = forward()
            moved = [scope.get_current_value(variable) for variable in statistics]
            return _total(outputs), (outputs, moved)

    gradients, (outputs, moved) = jax.jit(jax.grad(loss, has_aux=True))(
        [weight.value for weight in weights],
        [variable.value for variable in statistics],
    )
    for variable, value in zip(statistics, moved, strict=True):
        variable.assign(value)
    return outputs, gradients


_GRADIENTS = {"tensorflow": _inputs_by_tensorflow, "jax": _inputs_by_jax}
_TRAINING = {"tensorflow": _training_by_tensorflow, "jax": _training_by_jax}
