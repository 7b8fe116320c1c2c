"""The layers that networks are made of: convolutions, and norms that may be folded into them.

Layers are built in their constructors, so that a network has all of its variables, and can be
counted, saved and loaded, before it has seen an image. They say so by `built`: Keras would
otherwise find out by calling each once more, at every level of the nesting (four times the time
to a first result). Images and features are channels-last.
"""

from typing import Any, ClassVar

import keras
import numpy as np

from deepmac.backend import at_least_float32, convolve, normalise_batch, rematerialised
from deepmac.model.tensors import Tensor
from deepmac.model.variables import layers_below, layers_under

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


class Block(BuiltLayer):
    """A few layers, called with one feature map, whose activations need not be kept in training.

    Attributes:
        rematerialise: compute them again when the gradient is wanted; see `rematerialise`.
    """

    def __init__(self):
        super().__init__()
        self.rematerialise = False

    def __call__(self, x, **options):
        def call(x):
            return super(Block, self).__call__(x, **options)

        if not self.rematerialise:
            return call(x)
        return rematerialised(call, x, self.non_trainable_variables)


def rematerialise(layer: keras.layers.Layer) -> None:
    """Has every outermost block under a layer keep nothing but its input in training.

    The gradient then costs one more pass forwards, and the memory of the inputs of the blocks, of
    which a network has a few, instead of that of every operation's output.
    """
    for below in layers_below(layer):
        if isinstance(below, Block):
            below.rematerialise = True
        else:
            rematerialise(below)


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

    In training it sees the batch of all replicas.

    Attributes:
        is_folded: it has been taken over.
        of_squares: take the variance of a batch as the reference does; see
            `deepmac.backend.normalise_batch`.
        is_fused_in_reference: where it is one operation, whose variance loses no digits.
    """

    is_fused_in_reference: ClassVar[bool] = False

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.is_folded = False
        self.of_squares = False

    def call(self, inputs, training=None, mask=None):
        if self.is_folded:
            return inputs
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        y, mean, variance = normalise_batch(
            inputs, self.gamma, self.beta, self.epsilon, of_squares=self.of_squares
        )
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, self._kept_variance(variance, inputs))
        return y

    def _kept_variance(self, variance: Tensor, inputs: Tensor) -> Tensor:
        """What enters the moving variance after a batch of this variance."""
        return variance

    def _move(self, average: keras.Variable, value: Tensor) -> None:
        average.assign(average * self.momentum + value * (1 - self.momentum))


def take_variance_of_squares(layer: keras.layers.Layer) -> None:
    """Sets `of_squares` of the batch norms under a layer that are so in the reference."""
    for below in layers_under(layer):
        if isinstance(below, BatchNorm):
            below.of_squares = not below.is_fused_in_reference


def convolution(
    in_channels: int,
    channels: int,
    kernel_size: int | tuple[int, int],
    stride: int = 1,
    bias: float | None = None,
    is_output: bool = False,
) -> Convolution:
    """A convolution with its variables; "same" padding unless strided, then none.

    `bias` is what the bias starts from; None: there is none. Outputs of a network are float32,
    also where its layers compute in less.
    """
    initial: Any = keras.initializers.Constant(bias or 0.0)
    computes_in = keras.config.dtype_policy().compute_dtype
    layer = Convolution(
        channels,
        kernel_size,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        data_format="channels_last",
        use_bias=bias is not None,
        bias_initializer=initial,
        is_output=is_output,
        dtype=at_least_float32(computes_in) if is_output else None,
    )
    layer.build((None, None, None, in_channels))
    return layer


def batch_norm(
    channels: int, momentum: float = NORM_MOMENTUM, epsilon: float = NORM_EPSILON
) -> BatchNorm:
    """A batch norm with its variables; by default that of all hourglass parts."""
    layer = BatchNorm(momentum=momentum, epsilon=epsilon)
    layer.build((None, None, None, channels))
    return layer


def _constant(value: np.ndarray, dtype: str, name: str) -> keras.Variable:
    return keras.Variable(value, dtype=dtype, trainable=False, name=name)
