"""RoI features and instance embedding -> mask logits.

A mask head is a layer that is called with the features of M boxes (of any images), float
[M, S, S, C], and their instance embeddings, float [M, E]; it returns the logits of the
foreground, float [M, S, S].
"""

import keras

from deepmac.config.schema import MaskHeadConfig
from deepmac.errors import ConfigError, one_of
from deepmac.model.hourglass import (
    HourglassNetwork,
    HourglassSpec,
    hourglass_spec,
)
from deepmac.model.layers import BuiltLayer, convolution
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


def mask_head(config: MaskHeadConfig) -> keras.layers.Layer:
    """The mask head that `deepmac_mask_estimation` of a configuration describes.

    Raises:
        ConfigError: a network type of the reference that is not available yet.
    """
    if config.network_type not in HOURGLASSES:
        raise ConfigError(
            f"deepmac_mask_estimation.network_type '{config.network_type}' is not available "
            f"yet; there are {one_of(HOURGLASSES)}"
        )
    depth, variant = HOURGLASSES[config.network_type]
    channels = config.pixel_embedding_dim + (2 if config.use_xy else 0)
    return HourglassMaskHead(
        hourglass_spec(depth, config.num_init_channels, **variant),
        roi_channels=channels,
        instance_channels=config.dim if config.use_instance_embedding else 0,
    )


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


def with_instance_embedding(roi_features: Tensor, instance: Tensor) -> Tensor:
    """RoI features [M, S, S, C] before the instance embedding [M, E]: [M, S, S, C + E]."""
    tiled = instance[:, None, None, :] + ops.zeros_like(roi_features[..., :1])
    return ops.concatenate([roi_features, tiled], axis=-1)
