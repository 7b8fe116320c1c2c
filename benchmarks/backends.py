"""What a comparison does on TensorFlow and on JAX."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from deepmac.backend import compiled
from deepmac.model.tensors import ops
from deepmac.model.variables import named_variables

Outputs = Sequence[Any]


def on_jax() -> bool:
    return keras.config.backend() == "jax"


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
    function: Callable[..., Any],
    *inputs: np.ndarray,
    of: Callable[[Any], Any] | None = None,
) -> list[np.ndarray]:
    """The gradient for each of the inputs of a function: of its outputs' `sum_of_sines`.

    Or of what `of` makes of them.
    """

    def total(*tensors):
        return (of or sum_of_sines)(function(*tensors))

    if on_jax():
        import jax

        gradients = jax.jit(jax.grad(total, argnums=tuple(range(len(inputs)))))(*inputs)
        return [np.asarray(gradient) for gradient in gradients]
    import tensorflow as tf

    tensors = [tf.constant(values) for values in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = total(*tensors)
    gradients = tape.gradient(
        value, tensors, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # Those of indexing are sparse.
    return [np.asarray(tf.convert_to_tensor(gradient)) for gradient in gradients]


def train_once(
    layer: keras.layers.Layer,
    forward: Callable[[], tuple[Any, Any]],
) -> tuple[Any, dict[str, np.ndarray]]:
    """One pass in training mode, which moves the statistics of batch norms.

    Args:
        layer: whose weights are trained.
        forward: calls it in training mode; returns what is minimised, and anything else.

    Returns:
        Anything else, and the gradient of each weight by `named_variables`' path; those that
        what is minimised does not depend on have none.
    """
    named = {path: v for path, v in named_variables(layer).items() if v.trainable}
    if on_jax():
        others, gradients = _train_once_on_jax(layer, list(named.values()), forward)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            total, others = forward()
        gradients = tape.gradient(total, [v.value for v in named.values()])
    found = zip(named, gradients, strict=True)
    return others, {name: np.asarray(g) for name, g in found if g is not None}


def _train_once_on_jax(layer, weights, forward):
    import jax

    variables = [v for v in named_variables(layer).values() if not v.trainable]

    @jax.jit
    def run(weight_values, values):
        def total(weight_values):
            pairs = [
                *zip(weights, weight_values, strict=True),
                *zip(variables, values, strict=True),
            ]
            with keras.StatelessScope(state_mapping=pairs) as scope:
                value, others = forward()
            moved = [scope.get_current_value(variable) for variable in variables]
            return value, (others, moved)

        return jax.grad(total, has_aux=True)(weight_values)

    gradients, (others, moved) = run(
        [v.value for v in weights], [v.value for v in variables]
    )
    for variable, value in zip(variables, moved, strict=True):
        variable.assign(value)
    return others, gradients


def sum_of_sines(outputs: Outputs) -> Any:
    return ops.sum(ops.stack([ops.sum(ops.sin(output)) for output in outputs]))
