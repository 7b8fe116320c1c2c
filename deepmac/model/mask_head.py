"""RoI features and instance embedding -> mask logits.

A mask head is a layer that is called with the features of M boxes (of any images), float
[M, S, S, C], and their instance embeddings, float [M, E]; it returns the logits of the
foreground, float [M, S, S]. All but the fully connected one take maps of any sides, h and w in
place of S.
"""

import itertools

import keras

from deepmac.config.schema import MaskHeadConfig
from deepmac.model.hourglass import (
    HourglassNetwork,
    HourglassSpec,
    hourglass_spec,
    run,
)
from deepmac.model.layers import BuiltLayer, convolution
from deepmac.model.resnet import RESNETS, resnet_blocks
from deepmac.model.tensors import Tensor, ops

# network_type -> depth, and what differs from the published network of that depth
HOURGLASSES: dict[str, tuple[int, dict[str, bool]]] = {
    "hourglass10": (10, {}),
    "hourglass20": (20, {}),
    "hourglass20_uniform_size": (20, {"downsample": False}),
    "hourglass20_no_shortcut": (20, {"shortcut": False}),
    "hourglass32": (32, {}),
    "hourglass52": (52, {}),
    "hourglass100": (100, {}),
}

_RESNETS = {f"resnet{depth}": depth for depth in RESNETS}


def mask_head(config: MaskHeadConfig) -> keras.layers.Layer:
    """The mask head that `deepmac_mask_estimation` of a configuration describes."""
    kind, width = config.network_type, config.num_init_channels
    roi_channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)
    inputs = {
        "roi_channels": roi_channels,
        "instance_channels": config.dim if config.use_instance_embedding else 0,
    }
    if kind in HOURGLASSES:
        depth, variant = HOURGLASSES[kind]
        return HourglassMaskHead(hourglass_spec(depth, width, **variant), **inputs)
    if kind in _RESNETS:
        return ResNetMaskHead(_RESNETS[kind], width, **inputs)
    if kind == "fully_connected":
        return FullyConnectedMaskHead(config.mask_size, width, **inputs)
    if kind == "embedding_projection":
        return EmbeddingProjection()
    assert config.cond_inst_depth is not None, kind  # the configuration knows no other
    hidden = (width,) * (config.cond_inst_depth - 1)
    return ConditionalMaskHead((roi_channels, *hidden, 1))


class HourglassMaskHead(BuiltLayer):
    """A hourglass network at the resolution of the RoI, and a 1x1 convolution to one channel.

    Args:
        spec: the dimensions of the network.
        roi_channels: C of the RoI features.
        instance_channels: E of the instance embeddings, which every pixel gets to see; with 0
            they are not used.
    """

    def __init__(
        self, spec: HourglassSpec, *, roi_channels: int, instance_channels: int
    ):
        super().__init__()
        self.use_instance_embedding = instance_channels > 0
        self.net = HourglassNetwork(
            spec, roi_channels + instance_channels, stem_stride=1
        )
        self.project_out = convolution(
            self.net.out_channels, 1, 1, bias=0.0, is_output=True
        )

    def call(self, roi_features, instance, training=False):
        """float [M, S, S, C], float [M, E] -> float [M, S, S]."""
        x = roi_features
        if self.use_instance_embedding:
            x = with_instance_embedding(x, instance)
        x = self.net(x, training=training)[-1]
        return self.project_out(x)[..., 0]


class ResNetMaskHead(BuiltLayer):
    """Residual blocks at the resolution of the RoI between two 1x1 convolutions.

    Args:
        depth: 3x3 convolutions, a key of `resnet.RESNETS`.
        init_channels: of the first convolution; the blocks are two or three times as wide.
        roi_channels, instance_channels: as in HourglassMaskHead.
    """

    def __init__(
        self,
        depth: int,
        init_channels: int,
        *,
        roi_channels: int,
        instance_channels: int,
    ):
        super().__init__()
        self.use_instance_embedding = instance_channels > 0
        in_channels = roi_channels + instance_channels
        self.input_layer = convolution(in_channels, init_channels, 1, bias=0.0)
        self.blocks = resnet_blocks(init_channels, depth)
        out_channels = RESNETS[depth][-1].multiple * init_channels
        self.project_out = convolution(out_channels, 1, 1, bias=0.0, is_output=True)

    def call(self, roi_features, instance, training=False):
        """float [M, S, S, C], float [M, E] -> float [M, S, S]."""
        x = roi_features
        if self.use_instance_embedding:
            x = with_instance_embedding(x, instance)
        x = run(self.blocks, self.input_layer(x), training)
        return self.project_out(x)[..., 0]


class FullyConnectedMaskHead(BuiltLayer):
    """Two dense layers over all pixels of the RoI, after a 1x1 convolution.

    Args:
        mask_size: S, the side of the RoI.
        init_channels: of the 1x1 convolution.
        roi_channels, instance_channels: as in HourglassMaskHead.
    """

    def __init__(
        self,
        mask_size: int,
        init_channels: int,
        *,
        roi_channels: int,
        instance_channels: int,
    ):
        super().__init__()
        self.use_instance_embedding = instance_channels > 0
        self.mask_size = mask_size
        self.num_features = mask_size**2 * init_channels
        in_channels = roi_channels + instance_channels
        self.input_layer = convolution(in_channels, init_channels, 1, bias=0.0)
        self.fc1 = dense(self.num_features, 1024)
        self.fc2 = dense(1024, mask_size**2)

    def call(self, roi_features, instance, training=False):
        """float [M, S, S, C], float [M, E] -> float [M, S, S]."""
        x = roi_features
        if self.use_instance_embedding:
            x = with_instance_embedding(x, instance)
        x = self.input_layer(x)  # no activation, as in the reference
        x = ops.reshape(x, (-1, self.num_features))  # y, x, channel
        x = self.fc2(ops.relu(self.fc1(x)))
        return ops.reshape(x, (-1, self.mask_size, self.mask_size))


class EmbeddingProjection(BuiltLayer):
    """The scalar product of each pixel's embedding with the instance's. Has no weights."""

    is_output = True

    def call(self, roi_features, instance, training=False):
        """float [M, S, S, C], float [M, C] -> float [M, S, S]."""
        return per_pixel(roi_features, instance[..., None])[..., 0]


class ConditionalMaskHead(BuiltLayer):
    """A small network on each pixel, whose weights are the instance embedding. Has none itself.

    The embedding holds, layer by layer, the weights [in, out] and then the biases [out].

    Args:
        channels: of the RoI features, of the hidden layers, and 1.
    """

    is_output = True

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.channels = channels

    def call(self, roi_features, instance, training=False):
        """float [M, S, S, channels[0]], float [M, E] -> float [M, S, S]."""
        x, start = roi_features, 0
        for n_in, n_out in itertools.pairwise(self.channels):
            if start > 0:
                x = ops.relu(x)
            end = start + n_in * n_out
            weights = ops.reshape(instance[:, start:end], (-1, n_in, n_out))
            bias = instance[:, end : end + n_out]
            x = per_pixel(x, weights) + bias[:, None, None, :]
            start = end + n_out
        return x[..., 0]


def with_instance_embedding(roi_features: Tensor, instance: Tensor) -> Tensor:
    """RoI features [M, S, S, C] before the instance embedding [M, E]: [M, S, S, C + E]."""
    tiled = instance[:, None, None, :] + ops.zeros_like(roi_features[..., :1])
    return ops.concatenate([roi_features, tiled], axis=-1)


def per_pixel(features: Tensor, weights: Tensor) -> Tensor:
    """Each pixel of a map times its map's matrix: [M, h, w, C] and [M, C, D] -> [M, h, w, D]."""
    height, width, channels = features.shape[1:]
    flat = ops.reshape(features, (-1, height * width, channels))
    return ops.reshape(
        ops.matmul(flat, weights), (-1, height, width, weights.shape[-1])
    )


def dense(in_channels: int, channels: int) -> keras.layers.Dense:
    """A dense layer with its variables."""
    layer = keras.layers.Dense(channels)
    layer.build((None, in_channels))
    return layer
