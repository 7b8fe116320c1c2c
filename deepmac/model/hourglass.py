"""The hourglass network: the backbone, and the usual mask head. Features are channels-last."""

import dataclasses
from collections.abc import Sequence

import keras

from deepmac.errors import ConfigError, did_you_mean, one_of
from deepmac.model.layers import Block, BuiltLayer, batch_norm, convolution
from deepmac.model.tensors import ops


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HourglassSpec:
    """The dimensions of a hourglass network.

    Attributes:
        stem_channels: channels of the first convolution.
        channels: channels at each resolution, full resolution first; one more than stages.
        blocks: residual blocks at each resolution; as many as `channels`.
        num_hourglasses: hourglasses in a row, each with a feature output.
        downsample: whether a stage halves the resolution (and doubles it on the way back).
        shortcut: whether the features of a stage's input are added to its output.
    """

    stem_channels: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    num_hourglasses: int = 1
    downsample: bool = True
    shortcut: bool = True

    def __post_init__(self):
        if len(self.channels) != len(self.blocks) or len(self.channels) < 2:
            raise ConfigError(
                "a hourglass needs as many block counts as channel counts, two or more of each; "
                f"got channels {self.channels} and blocks {self.blocks}"
            )

    @property
    def num_stages(self) -> int:
        return len(self.channels) - 1

    @property
    def size_divisor(self) -> int:
        """What height and width of the features must be divisible by."""
        return 2**self.num_stages if self.downsample else 1


# depth -> channels in units of the stem's, blocks, hourglasses. The depth counts the
# convolutions on the way through the lowest resolution.
_SPECS = {
    10: ((2, 2), (1, 1), 1),
    20: ((2, 2, 3), (1, 2, 2), 1),
    32: ((2, 2, 3, 3), (2, 2, 2, 2), 1),
    52: ((2, 2, 3, 3, 3, 4), (2, 2, 2, 2, 2, 4), 1),
    100: ((2, 2, 3, 3, 3, 4), (4, 4, 4, 4, 4, 8), 1),
    104: ((2, 2, 3, 3, 3, 4), (2, 2, 2, 2, 2, 4), 2),
}

# What `feature_extractor.type` of a configuration names: depth and stem channels.
BACKBONES = {
    "hourglass_10": (10, 32),
    "hourglass_20": (20, 48),
    "hourglass_32": (32, 48),
    "hourglass_52": (52, 64),
    "hourglass_104": (104, 128),
}


def hourglass_spec(
    depth: int, stem_channels: int, *, downsample: bool = True, shortcut: bool = True
) -> HourglassSpec:
    """The published network of `depth` convolutions (10, 20, 32, 52, 100 or 104)."""
    multiples, blocks, num_hourglasses = _SPECS[depth]
    return HourglassSpec(
        stem_channels=stem_channels,
        channels=tuple(m * stem_channels for m in multiples),
        blocks=blocks,
        num_hourglasses=num_hourglasses,
        downsample=downsample,
        shortcut=shortcut,
    )


def backbone_spec(name: str) -> HourglassSpec:
    """The backbone that `feature_extractor.type` names."""
    if name not in BACKBONES:
        raise ConfigError(
            f"feature_extractor.type '{name}' is not available; "
            f"there are {one_of(BACKBONES)}{did_you_mean(name, BACKBONES)}"
        )
    return hourglass_spec(*BACKBONES[name])


class HourglassNetwork(BuiltLayer):
    """A stem, then hourglasses in a row, each with a feature output of the same size.

    Args:
        spec: the dimensions.
        in_channels: C of the input.
        stem_stride: 4 for images (7x7 and a residual block, stride 2 each); 1 for RoI features.
    """

    def __init__(self, spec: HourglassSpec, in_channels: int, *, stem_stride: int):
        super().__init__()
        width = spec.channels[0]
        self.spec = spec
        self.out_channels = width
        self.stem = Stem(in_channels, spec.stem_channels, width, stem_stride)
        outputs, links = range(spec.num_hourglasses), range(spec.num_hourglasses - 1)
        self.hourglasses = [
            Hourglass(spec.channels, spec.blocks, spec.downsample, spec.shortcut)
            for _ in outputs
        ]
        self.output_conv = [ConvBlock(width, width, 3) for _ in outputs]
        self.intermediate_conv1 = [
            ConvBlock(width, width, 1, relu=False) for _ in links
        ]
        self.intermediate_conv2 = [
            ConvBlock(width, width, 1, relu=False) for _ in links
        ]
        self.intermediate_residual = [ResidualBlock(width, width) for _ in links]

    def call(self, x, training=False):
        """float [B, H, W, C] -> list of float [B, H/s, W/s, channels[0]], one per hourglass."""
        x = self.stem(x, training=training)
        features = []
        for i, hourglass in enumerate(self.hourglasses):
            y = hourglass(x, training=training)
            y = self.output_conv[i](y, training=training)
            features.append(y)
            if i + 1 < len(self.hourglasses):
                before = self.intermediate_conv1[i](x, training=training)
                after = self.intermediate_conv2[i](y, training=training)
                x = ops.relu(before + after)
                x = self.intermediate_residual[i](x, training=training)
        return features


class Stem(BuiltLayer):
    """A convolution and a residual block, which bring the input to the width of the hourglass."""

    def __init__(
        self, in_channels: int, stem_channels: int, channels: int, stride: int
    ):
        super().__init__()
        if stride not in (1, 4):
            raise ValueError(f"stem stride must be 1 or 4, got {stride}")
        kernel_size, step = (7, 2) if stride == 4 else (3, 1)
        self.conv_block = ConvBlock(in_channels, stem_channels, kernel_size, step)
        self.residual_block = ResidualBlock(stem_channels, channels, step, skip=True)

    def call(self, x, training=False):
        x = self.conv_block(x, training=training)
        return self.residual_block(x, training=training)


class Hourglass(BuiltLayer):
    """One stage, with the deeper stages inside: down, inner, up again, plus the shortcut.

    Children carry the names they have in reference checkpoints: `encoder_block1` is the
    shortcut, `encoder_block2` the way down, `decoder_block` the way up.
    """

    def __init__(
        self,
        channels: Sequence[int],
        blocks: Sequence[int],
        downsample: bool = True,
        shortcut: bool = True,
    ):
        super().__init__()
        outer, inner, num_blocks = channels[0], channels[1], blocks[0]
        self.factor = 2 if downsample else 1
        self.encoder_block1 = (
            residual_stack(outer, outer, num_blocks) if shortcut else []
        )
        self.encoder_block2 = residual_stack(
            outer, inner, num_blocks, stride=self.factor, first_skip=outer != inner
        )
        if len(channels) > 2:
            self.inner_block = [
                Hourglass(channels[1:], blocks[1:], downsample, shortcut)
            ]
        else:
            self.inner_block = residual_stack(inner, inner, blocks[1])
        self.decoder_block = residual_stack(
            inner, outer, num_blocks, mid_channels=inner
        )

    def call(self, x, training=False):
        """float [B, h, w, channels[0]] -> the same shape."""
        low = run(self.encoder_block2, x, training)
        low = run(self.inner_block, low, training)
        low = run(self.decoder_block, low, training)
        high = upsample(low, self.factor)
        if not self.encoder_block1:
            return high
        return run(self.encoder_block1, x, training) + high


class ResidualBlock(Block):
    """Two 3x3 convolutions around which the input, or a 1x1 convolution of it, is added."""

    folds = (("conv", "norm"),)

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, skip: bool = False
    ):
        super().__init__()
        if in_channels != channels and not skip:
            raise ConfigError(
                "stages of one residual block cannot change the number of channels "
                f"({in_channels} to {channels}): neighbouring stages need equal widths there"
            )
        self.conv_block = ConvBlock(in_channels, channels, 3, stride)
        self.conv = convolution(channels, channels, 3)
        self.norm = batch_norm(channels)
        self.skip = (
            ConvBlock(in_channels, channels, 1, stride, relu=False) if skip else None
        )

    def call(self, x, training=False):
        y = self.conv_block(x, training=training)
        y = self.norm(self.conv(y), training=training)
        return ops.relu(y + (self.skip(x, training=training) if self.skip else x))


class ConvBlock(Block):
    """Convolution without bias, batch norm and, if `relu`, ReLU."""

    folds = (("conv", "norm"),)

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel_size: int,
        stride: int = 1,
        relu: bool = True,
    ):
        super().__init__()
        # A strided 1x1 convolution sees every other pixel. Spelt out, because the gradient that
        # oneDNN has for it writes past its buffers (TensorFlow 2.21, small channel counts).
        self.step = stride if kernel_size == 1 else 1
        # "same" would pad strided convolutions at the bottom right only
        self.padding = (kernel_size - 1) // 2 if stride > 1 else 0
        self.conv = convolution(in_channels, channels, kernel_size, stride // self.step)
        self.norm = batch_norm(channels)
        self.relu = relu

    def call(self, x, training=False):
        if self.step > 1:
            x = x[:, :: self.step, :: self.step]
        if self.padding:
            sides = (self.padding, self.padding)
            x = ops.pad(x, ((0, 0), sides, sides, (0, 0)))
        x = self.norm(self.conv(x), training=training)
        return ops.relu(x) if self.relu else x


def residual_stack(
    in_channels: int,
    channels: int,
    num_blocks: int,
    *,
    stride: int = 1,
    mid_channels: int | None = None,
    first_skip: bool = False,
) -> list[ResidualBlock]:
    """Residual blocks in a row, `mid_channels` (default: `channels`) wide up to the last one.

    The first block carries the stride. A lone block is the last one: it gets a skip
    convolution for its stride, but not for a change of width.
    """
    mid_channels = mid_channels or channels
    if num_blocks == 1:
        return [ResidualBlock(in_channels, channels, stride, skip=stride > 1)]
    first = ResidualBlock(
        in_channels, mid_channels, stride, skip=stride > 1 or first_skip
    )
    middle = [ResidualBlock(mid_channels, mid_channels) for _ in range(num_blocks - 2)]
    last = ResidualBlock(mid_channels, channels, skip=mid_channels != channels)
    return [first, *middle, last]


def run(layers: Sequence[keras.layers.Layer], x, training: bool):
    """`layers` one after the other."""
    for layer in layers:
        x = layer(x, training=training)
    return x


def upsample(x, factor: int):
    """[B, h, w, C] -> [B, factor h, factor w, C], every pixel repeated."""
    if factor == 1:
        return x
    return ops.repeat(ops.repeat(x, factor, axis=1), factor, axis=2)
