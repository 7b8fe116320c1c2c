"""The residual network of the `resnet` mask heads: blocks with the norm before the convolution.

Another kind of block than the hourglass has, and another batch norm: the reference builds these
heads from the parts of an image classifier, with the defaults of Keras.
"""

import dataclasses

from deepmac.model.layers import BatchNorm, Block, convolution
from deepmac.model.tensors import Tensor, ops

NORM_EPSILON = 1.001e-5
NORM_MOMENTUM = 0.99


@dataclasses.dataclass(frozen=True, slots=True)
class ResNetStack:
    """Blocks of one width.

    Attributes:
        multiple: channels in units of the network's first.
        blocks: how many.
    """

    multiple: int
    blocks: int


# What the depth names: the 3x3 convolutions.
RESNETS: dict[int, tuple[ResNetStack, ...]] = {
    4: (ResNetStack(2, 2),),
    8: (ResNetStack(2, 4),),
    12: (ResNetStack(2, 6),),
    16: (ResNetStack(2, 8),),
    20: (ResNetStack(2, 8), ResNetStack(3, 2)),
}


def resnet_blocks(init_channels: int, depth: int) -> "list[PreActivationBlock]":
    """The blocks of the network of `depth` convolutions (a key of RESNETS), after
    `init_channels` channels."""
    blocks = []
    channels = init_channels
    for stack in RESNETS[depth]:
        width = stack.multiple * init_channels
        for number in range(stack.blocks):
            blocks.append(PreActivationBlock(channels, width, shortcut=number == 0))
            channels = width
    return blocks


class PreActivationBlock(Block):
    """Norm and ReLU, then two 3x3 convolutions around which the input is added.

    With `shortcut`, a 1x1 convolution of the normalised input is added instead.
    """

    folds = (("conv1", "norm1"), ("conv2", "norm2"))

    def __init__(self, in_channels: int, channels: int, *, shortcut: bool):
        super().__init__()
        self.pre_norm = population_norm(in_channels)
        self.conv1 = convolution(in_channels, channels, 3)
        self.norm1 = population_norm(channels)
        self.conv2 = convolution(channels, channels, 3)
        self.norm2 = population_norm(channels)
        self.shortcut = (
            convolution(in_channels, channels, 1, bias=0.0) if shortcut else None
        )

    def call(self, x, training=False):
        """float [M, h, w, in_channels] -> float [M, h, w, channels]."""
        activated = ops.relu(self.pre_norm(x, training=training))
        y = ops.relu(self.norm1(self.conv1(activated), training=training))
        # The ReLU comes before the sum, unlike in other residual networks.
        y = ops.relu(self.norm2(self.conv2(y), training=training))
        return y + (self.shortcut(activated) if self.shortcut else x)


def population_norm(channels: int) -> "PopulationNorm":
    """The batch norm of the residual blocks, with its variables."""
    layer = PopulationNorm(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON)
    layer.build((None, None, None, channels))
    return layer


class PopulationNorm(BatchNorm):
    """Batch norm that keeps an estimate of the population's variance.

    A batch of n values a channel is normalised with its own variance, and what enters the moving
    variance is n / (n - 1) times as much, as in the fused operation that the reference trained
    with.
    """

    is_fused_in_reference = True

    def _kept_variance(self, variance: Tensor, inputs: Tensor) -> Tensor:
        count = ops.cast(ops.size(inputs) // inputs.shape[-1], variance.dtype)
        return variance * count / ops.maximum(count - 1, 1)
