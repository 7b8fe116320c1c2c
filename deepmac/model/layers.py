"""The layers that networks are made of: convolutions, and norms that may be folded into them.

Layers are built in their constructors, so that a network has all of its variables, and can be
counted, saved and loaded, before it has seen an image. They say so by `built`: Keras would
otherwise find out by calling each once more, at every level of the nesting (four times the time
to a first result). Images and features are channels-last.
"""

from typing import Any, ClassVar

import keras
import numpy as np

from deepmac.backend import convolve
from deepmac.model.tensors import ops

NORM_EPSILON = 1e-5
# Keras convention: moving = 0.1 * moving + 0.9 * batch. It looks like another framework's 0.1
# copied over, but it is what the published weights were trained with.
NORM_MOMENTUM = 0.1


class BuiltLayer(keras.layers.Layer):
    """A layer that makes all of its variables when it is constructed.

    Attributes:
        folds: names of the attributes that hold a convolution without bias and the norm that
            follows it: see `deepmac.model.folding`.
        is_output: what it computes by itself is an output of the network, worth all of float32.
    """

    folds: ClassVar[tuple[tuple[str, str], ...]] = ()
    is_output: ClassVar[bool] = False

    def __init__(self):
        super().__init__()
        self.built = True  # else Keras tries a call, and does not load weights before


class Convolution(keras.layers.Conv2D):
    """Keras's convolution, which can be made ready for inference.

    Attributes:
        is_output: what it computes is an output of the network, worth all of float32.
        is_folded: it has become what inference needs; see `become`.
    """

    def __init__(self, *args: Any, is_output: bool = False, **options: Any):
        super().__init__(*args, **options)
        self.is_output = is_output
        self.is_folded = False

    def become(self, kernel: np.ndarray, bias: np.ndarray, dtype: str) -> None:
        """Takes these weights, in that type, which is from now on that of the result as well.

        Args:
            kernel: float32 [k, k, C, channels].
            bias: float32 [channels].
            dtype: `float32` or `bfloat16`.
        """
        # Keras has no public way to exchange a variable; its own quantisation does it so. The old
        # one's memory is free before the next layer's turn.
        self._tracker.unlock()
        self._untrack_variable(self._kernel)
        if self.bias is not None:
            self._untrack_variable(self.bias)
        self._kernel = _constant(kernel, dtype, "kernel")
        self.bias = _constant(bias, dtype, "bias")
        self.dtype_policy = dtype
        self.is_folded = True

    def call(self, inputs):
        if self.is_folded:
            return convolve(
                inputs, self.kernel, self.bias, self.strides[0], self.padding
            )
        return super().call(inputs)


class BatchNorm(keras.layers.BatchNormalization):
    """Keras's batch norm, of which nothing is left once a convolution has taken it over.

    Attributes:
        is_folded: it has.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.is_folded = False

    def call(self, inputs, training=None, mask=None):
        if self.is_folded:
            return inputs
        return super().call(inputs, training=training, mask=mask)

    def _moments(self, inputs, mask):
        if self.synchronized:
            return super()._moments(inputs, mask)
        # What Keras has for TensorFlow: E(x^2) - E(x)^2, in one pass over the batch.
        mean = ops.mean(inputs, axis=self._reduction_axes)
        squares = ops.mean(ops.square(inputs), axis=self._reduction_axes)
        return mean, ops.maximum(squares - ops.square(mean), 0.0)


def convolution(
    in_channels: int,
    channels: int,
    kernel_size: int | tuple[int, int],
    stride: int = 1,
    bias: float | None = None,
    is_output: bool = False,
) -> Convolution:
    """A convolution with its variables; "same" padding unless strided, then none.

    `bias` is what the bias starts from; None: there is none.
    """
    initial: Any = keras.initializers.Constant(bias or 0.0)
    layer = Convolution(
        channels,
        kernel_size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        data_format="channels_last",
        use_bias=bias is not None,
        bias_initializer=initial,
        is_output=is_output,
    )
    layer.build((None, None, None, in_channels))
    return layer


def batch_norm(
    channels: int, momentum: float = NORM_MOMENTUM, epsilon: float = NORM_EPSILON
) -> BatchNorm:
    """A batch norm with its variables; by default that of all hourglass parts.

    In training it sees the batch of all replicas. TensorFlow has to be told so; in JAX a sharded
    batch is one array to begin with. Both compute the variance as the reference does.
    """
    layer = BatchNorm(
        momentum=momentum,
        epsilon=epsilon,
        synchronized=keras.backend.backend() == "tensorflow",
    )
    layer.build((None, None, None, channels))
    return layer


def _constant(value: np.ndarray, dtype: str, name: str) -> keras.Variable:
    return keras.Variable(value, dtype=dtype, trainable=False, name=name)
