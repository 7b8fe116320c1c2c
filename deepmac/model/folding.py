"""A trained network made ready for inference, in place: norms folded, weights of one type.

A batch norm with fixed statistics is a scale and a shift of each channel, and so becomes part of
the convolution before it: one pass over memory less for each. What is left are convolutions with a
bias, in float32 or in bfloat16.
"""

from typing import get_args

import keras
import numpy as np

from deepmac.errors import OptionError, one_of
from deepmac.instances import Precision
from deepmac.model.layers import BatchNorm, BuiltLayer, Convolution
from deepmac.model.variables import layers_under


def fold(network: keras.layers.Layer, precision: Precision = "float32") -> None:
    """Readies a network, with its trained weights, for inference. There is no way back.

    A norm that no convolution precedes stays. In bfloat16 are the weights of convolutions and what
    flows between them; the sums inside of them are float32, and so are dense layers and what the
    network puts out: box sizes, embeddings, logits.

    Args:
        network: a part of a `DeepMAC`, such as its backbone. It cannot be trained afterwards.
        precision: of weights and activations.

    Raises:
        OptionError: there is no such precision.
        ValueError: the network is folded already.
    """
    if precision not in get_args(Precision):
        raise OptionError(
            f"precision must be {one_of(get_args(Precision))}, got '{precision}'"
        )
    if is_folded(network):
        raise ValueError("the network has been folded already")
    layers = layers_under(network)
    norm_of = {
        id(getattr(layer, conv)): getattr(layer, norm)
        for layer in layers
        if isinstance(layer, BuiltLayer)
        for conv, norm in layer.folds
    }
    for layer in layers:
        if isinstance(layer, Convolution):
            kernel, bias = folded_weights(layer, norm_of.get(id(layer)))
            layer.become(kernel, bias, "float32" if layer.is_output else precision)
        elif isinstance(layer, BatchNorm) or (
            isinstance(layer, BuiltLayer) and not layer.is_output
        ):
            # Else Keras would cast back to float32 on every call.
            layer.dtype_policy = precision
    for norm in norm_of.values():
        norm.is_folded = True


def is_folded(network: keras.layers.Layer) -> bool:
    """Whether a network, or a part of it, has been folded."""
    layers = layers_under(network)
    return any(isinstance(la, Convolution) and la.is_folded for la in layers)


def folded_weights(
    conv: Convolution, norm: BatchNorm | None
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel float32 [k, k, C, channels] and bias float32 [channels] of both together."""
    kernel = np.asarray(conv.kernel)
    bias = np.zeros(kernel.shape[-1:], np.float32)
    if conv.bias is not None:
        bias = np.asarray(conv.bias)
    if norm is None:
        return kernel, bias
    gamma, beta, mean, variance = (
        np.asarray(v, np.float64)
        for v in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    shift = beta + (bias - mean) * scale
    return kernel * scale.astype(np.float32), shift.astype(np.float32)
