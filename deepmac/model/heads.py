"""The prediction heads: from a feature map to centres, box sizes, offsets and embeddings."""

from collections.abc import Sequence
from typing import NamedTuple

from deepmac.config.schema import CenterNetConfig, PredictionHeadConfig
from deepmac.model.layers import Block, BuiltLayer, convolution
from deepmac.model.tensors import Tensor, ops


class HeadOutputs(NamedTuple):
    """What the heads say of one feature map: raw values, float [B, h, w, channels] each."""

    center_logits: Tensor  # K channels: of a box centre of each class
    size: Tensor  # 2 channels: height and width of the box centred here, in cells
    offset: Tensor  # 2 channels: y and x from the cell to the centre, in cells
    instance_embedding: Tensor
    pixel_embedding: Tensor


class Heads(BuiltLayer):
    """The five heads of one feature map.

    Args:
        config: the network.
        in_channels: of the feature map.
        embedding_kernel: height and width of the first convolution of the embedding heads.
    """

    def __init__(
        self,
        config: CenterNetConfig,
        in_channels: int,
        embedding_kernel: tuple[int, int],
    ):
        super().__init__()
        center, boxes, mask = (
            config.object_center_params,
            config.object_detection_task,
            config.deepmac_mask_estimation,
        )
        self.center = PredictionHead(
            in_channels,
            config.num_classes,
            *_hidden(center.center_head_params),
            bias_init=center.heatmap_bias_init,
        )
        self.size = PredictionHead(in_channels, 2, *_hidden(boxes.scale_head_params))
        self.offset = PredictionHead(in_channels, 2, *_hidden(boxes.offset_head_params))
        self.instance_embedding = PredictionHead(
            in_channels, mask.dim, (256,), (embedding_kernel,)
        )
        self.pixel_embedding = PredictionHead(
            in_channels, mask.pixel_embedding_dim, (256,), (embedding_kernel,)
        )

    def call(self, features):
        """float [B, h, w, C] -> the outputs of all five heads."""
        return HeadOutputs(
            center_logits=self.center(features),
            size=self.size(features),
            offset=self.offset(features),
            instance_embedding=self.instance_embedding(features),
            pixel_embedding=self.pixel_embedding(features),
        )


def _hidden(config: PredictionHeadConfig | None):
    if config is None:
        return (256,), (3,)
    return config.num_filters, config.kernel_sizes


class PredictionHead(Block):
    """Convolutions with ReLU, then a 1x1 convolution: [B, h, w, C] -> [B, h, w, out_channels].

    Args:
        in_channels: C.
        out_channels: of the result.
        filters: channels of the hidden convolutions.
        kernel_sizes: of the hidden convolutions.
        bias_init: what the last bias starts from.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        filters: Sequence[int],
        kernel_sizes: Sequence[int | tuple[int, int]],
        bias_init: float = 0.0,
    ):
        super().__init__()
        self.convs = []
        for channels, kernel_size in zip(filters, kernel_sizes, strict=True):
            self.convs.append(convolution(in_channels, channels, kernel_size, bias=0.0))
            in_channels = channels
        self.convs.append(
            convolution(in_channels, out_channels, 1, bias=bias_init, is_output=True)
        )

    def call(self, x):
        for conv in self.convs[:-1]:
            x = ops.relu(conv(x))
        return self.convs[-1](x)
