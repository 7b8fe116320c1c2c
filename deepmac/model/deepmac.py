"""DeepMAC, the whole network: image and boxes in, one mask for each box out. Start here."""

from typing import NamedTuple

import keras

from deepmac.config.schema import CenterNetConfig
from deepmac.errors import ConfigError
from deepmac.model.decode import Detections, decode, true_image_mask
from deepmac.model.heads import HeadOutputs, Heads
from deepmac.model.hourglass import HourglassNetwork, HourglassSpec, backbone_spec
from deepmac.model.mask_head import mask_head
from deepmac.model.preprocess import normalise
from deepmac.model.roi import cut_rois, instance_embedding_at_centres, with_coordinates
from deepmac.model.tensors import Tensor, ops


class Embeddings(NamedTuple):
    """What masks are made from, once per image: float [B, h, w, channels] each."""

    pixel: Tensor
    instance: Tensor


class Output(NamedTuple):
    """What the network says of one feature output of its backbone."""

    heads: HeadOutputs
    mask_logits: Tensor | None  # float [B, N, S, S]; None where masks are not trained


class DeepMAC(keras.Model):
    """The network of a configuration, built, with fresh weights.

    Images are float or uint8 [B, H, W, 3], RGB from 0 to 255, padded as `preprocess.resize_image` does.
    Boxes are float [B, N, 4], (ymin, xmin, ymax, xmax) in fractions of the padded image, N at
    least 1. A feature cell (h, w) is 4 x 4 pixels.

        features = model.features(images)                       # the backbone, once per image
        embeddings = model.embed(features)
        boxes = model.detect(features, true_shapes).boxes_norm  # or given ones
        probs = model.masks_for_boxes(embeddings, boxes)

    Args:
        config: `model.center_net` of a configuration.
        backbone: dimensions other than those of the backbone that `config` names.
        embedding_head_kernel: height and width of the first convolution of the two embedding
            heads. Reference checkpoints exist with (3, 3) and with (1, 3).
        reference_quirks: how padding is kept from being detected: see `true_image_mask`. None
            and True compare as the reference does, False compares like with like.

    Raises:
        ConfigError: the configuration asks for something that is not available yet.
    """

    def __init__(
        self,
        config: CenterNetConfig,
        *,
        backbone: HourglassSpec | None = None,
        embedding_head_kernel: tuple[int, int] = (3, 3),
        reference_quirks: bool | None = None,
    ):
        super().__init__()
        if config.deepmac_mask_estimation.predict_full_resolution_masks:
            raise ConfigError(
                "deepmac_mask_estimation.predict_full_resolution_masks is not available yet"
            )
        spec = backbone or backbone_spec(config.feature_extractor.type)
        self.config = config
        self.reference_quirks = reference_quirks
        self.backbone = HourglassNetwork(spec, in_channels=3, stem_stride=4)
        self.heads = [
            Heads(config, self.backbone.out_channels, embedding_head_kernel)
            for _ in range(spec.num_hourglasses)
        ]
        self.mask_head = mask_head(config.deepmac_mask_estimation)
        self.built = True

    def call(self, images, boxes, training=False) -> list[Output]:
        """Everything that is trained: every head of every feature output, masks for `boxes`."""
        last = len(self.heads) - 1
        first_with_masks = (
            last if self.config.deepmac_mask_estimation.use_only_last_stage else 0
        )
        outputs = []
        images = self.normalise(images)
        for i, features in enumerate(self.backbone(images, training=training)):
            heads = self.heads[i](features)
            embeddings = Embeddings(heads.pixel_embedding, heads.instance_embedding)
            mask_logits = None
            if i >= first_with_masks:
                mask_logits = self.mask_logits(embeddings, boxes, training)
            outputs.append(Output(heads, mask_logits))
        return outputs

    def normalise(self, images: Tensor) -> Tensor:
        """What the backbone sees of images: float [B, H, W, 3]."""
        return normalise(ops.cast(images, "float32"), self.config.feature_extractor)

    def features(self, images: Tensor) -> Tensor:
        """The last feature output, from which everything is predicted: float [B, h, w, C]."""
        return self.backbone(self.normalise(images))[-1]

    def embed(self, features: Tensor) -> Embeddings:
        """All that given boxes need: two of the five heads."""
        heads = self.heads[-1]
        return Embeddings(
            pixel=heads.pixel_embedding(features),
            instance=heads.instance_embedding(features),
        )

    def detect(self, features: Tensor, true_shapes: Tensor) -> Detections:
        """The detector's own boxes: `max_box_predictions` of each image, best first.

        Args:
            features: float [B, h, w, C].
            true_shapes: int [B, 2 or 3], height and width of the images without padding, pixels.
        """
        heads, params = self.heads[-1], self.config.object_center_params
        in_cells = self.reference_quirks is False
        heatmap = ops.sigmoid(heads.center(features))
        height, width = heatmap.shape[1:3]
        heatmap *= true_image_mask(height, width, true_shapes, in_cells=in_cells)
        return decode(
            heatmap,
            heads.size(features),
            heads.offset(features),
            num_boxes=params.max_box_predictions,
            kernel_size=params.peak_max_pool_kernel_size,
        )

    def cut(self, embeddings: Embeddings, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """What the mask head sees: float [B, N, S, S, C], and float [B, N, E]."""
        params = self.config.deepmac_mask_estimation
        size = params.mask_size
        roi_features = cut_rois(embeddings.pixel, boxes, size, size)
        if params.use_xy:
            roi_features = with_coordinates(roi_features)
        return roi_features, instance_embedding_at_centres(embeddings.instance, boxes)

    def mask_logits(
        self, embeddings: Embeddings, boxes: Tensor, training: bool = False
    ) -> Tensor:
        """float [B, N, S, S], of each box in its own frame."""
        roi_features, instance = self.cut(embeddings, boxes)
        num_boxes, size = ops.shape(roi_features)[1], roi_features.shape[2]
        logits = self.mask_head(
            ops.reshape(roi_features, (-1, *roi_features.shape[2:])),
            ops.reshape(instance, (-1, instance.shape[-1])),
            training=training,
        )
        return ops.reshape(logits, (-1, num_boxes, size, size))

    def masks_for_boxes(self, embeddings: Embeddings, boxes: Tensor) -> Tensor:
        """float [B, N, S, S], foreground probability of each box in its own frame."""
        return ops.sigmoid(self.mask_logits(embeddings, boxes))
