"""DeepMAC, the whole network: image and boxes in, one mask for each box out. Start here."""

from typing import NamedTuple

import keras

from deepmac.config.schema import STRIDE, CenterNetConfig
from deepmac.errors import ConfigError
from deepmac.model.decode import Detections, decode, true_image_mask
from deepmac.model.heads import HeadOutputs, Heads
from deepmac.model.hourglass import HourglassNetwork, HourglassSpec, backbone_spec
from deepmac.model.layers import take_variance_of_squares
from deepmac.model.mask_head import mask_head
from deepmac.model.preprocess import normalise
from deepmac.model.roi import (
    cut_from_own_maps,
    cut_rois,
    instance_embedding_at_centres,
    whole_maps,
    with_coordinates,
    with_offsets_from_centres,
)
from deepmac.model.tensors import Tensor, ops


class Embeddings(NamedTuple):
    """What masks are made from, once per image: float [B, h, w, channels] each."""

    pixel: Tensor
    instance: Tensor


class Output(NamedTuple):
    """What the network says of one feature output of its backbone."""

    heads: HeadOutputs
    mask_logits: Tensor | None  # as of `DeepMAC.mask_logits`; None: masks not trained
    features: Tensor  # that feature output, float [B, h, w, C]


class DeepMAC(keras.Model):
    """The network of a configuration, built, with fresh weights.

    Images are float or uint8 [B, H, W, 3], RGB from 0 to 255, padded as `resize.resize_image` does.
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
        reference_quirks: how padding is kept from being detected, see `true_image_mask`: None
            and True compare as the reference does, False compares like with like. And how
            full-resolution logits are resized, see `logits_in_boxes`: True as the reference does,
            None and False by the stride. And how batch norms take the variance in training, see
            `normalise_batch`.
    """

    def __init__(
        self,
        config: CenterNetConfig,
        *,
        backbone: HourglassSpec | None = None,
        embedding_head_kernel: tuple[int, int] = (3, 3),
        reference_quirks: bool | None = None,
    ):
        # Boxes stay float32 where layers compute in less.
        super().__init__(autocast=False)
        spec = backbone or backbone_spec(config.feature_extractor.type)
        self.config = config
        self.reference_quirks = reference_quirks
        self.backbone = HourglassNetwork(spec, in_channels=3, stem_stride=4)
        self.heads = [
            Heads(config, self.backbone.out_channels, embedding_head_kernel)
            for _ in range(spec.num_hourglasses)
        ]
        self.mask_head = mask_head(config.deepmac_mask_estimation)
        if reference_quirks:
            take_variance_of_squares(self)
        self.built = True

    @property
    def mask_size(self) -> int:
        """S, the sides of the masks in the frames of boxes."""
        params = self.config.deepmac_mask_estimation
        if params.predict_full_resolution_masks:
            return params.postprocess_crop_size
        return params.mask_size

    @property
    def size_divisor(self) -> int:
        """Pixels of which height and width of the padded images must be multiples."""
        divisor, params = (
            self.backbone.spec.size_divisor,
            self.config.deepmac_mask_estimation,
        )
        if params.predict_full_resolution_masks:
            divisor = max(divisor, params.size_divisor)  # powers of two
        return STRIDE * divisor

    def call(self, images, boxes, training=False) -> list[Output]:
        """Everything that is trained: every head of every feature output, masks for `boxes`."""
        return self.outputs(self.normalise(images), boxes, training)

    def outputs(
        self, images: Tensor, boxes: Tensor, training: bool = False
    ) -> list[Output]:
        """What `call` returns, of images as `normalise` makes them."""
        last = len(self.heads) - 1
        first_with_masks = (
            last if self.config.deepmac_mask_estimation.use_only_last_stage else 0
        )
        outputs = []
        for i, features in enumerate(self.backbone(images, training=training)):
            heads = self.heads[i](features)
            embeddings = Embeddings(heads.pixel_embedding, heads.instance_embedding)
            mask_logits = None
            if i >= first_with_masks:
                mask_logits = self.mask_logits(embeddings, boxes, training)
            outputs.append(Output(heads, mask_logits, features))
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
        """What the mask head sees: float [B, N, S, S, C], and float [B, N, E].

        With full-resolution masks it sees the whole map for each box: float [B, N, h, w, C].
        """
        params = self.config.deepmac_mask_estimation
        if params.predict_full_resolution_masks:
            features = whole_maps(embeddings.pixel, boxes)
            if params.use_xy:
                features = with_offsets_from_centres(features, boxes)
        else:
            size = params.mask_size
            features = cut_rois(embeddings.pixel, boxes, size, size)
            if params.use_xy:
                features = with_coordinates(features)
        return features, instance_embedding_at_centres(embeddings.instance, boxes)

    def mask_logits(
        self, embeddings: Embeddings, boxes: Tensor, training: bool = False
    ) -> Tensor:
        """float [B, N, S, S], of each box in its own frame.

        With full-resolution masks float [B, N, h, w], of each box in the frame of the map.
        """
        features, instance = self.cut(embeddings, boxes)
        num_boxes, (height, width) = ops.shape(features)[1], features.shape[2:4]
        logits = self.mask_head(
            ops.reshape(features, (-1, *features.shape[2:])),
            ops.reshape(instance, (-1, instance.shape[-1])),
            training=training,
        )
        return ops.reshape(logits, (-1, num_boxes, height, width))

    def masks_for_boxes(self, embeddings: Embeddings, boxes: Tensor) -> Tensor:
        """float [B, N, S, S], foreground probability of each box in its own frame."""
        logits = self.mask_logits(embeddings, boxes)
        if self.config.deepmac_mask_estimation.predict_full_resolution_masks:
            logits = self.logits_in_boxes(logits, boxes)
        return ops.sigmoid(logits)

    def logits_in_boxes(self, logits: Tensor, boxes: Tensor) -> Tensor:
        """Full-resolution logits [B, N, h, w] in the frames of the boxes: float [B, N, S, S].

        They are resized to the input, h and w times the stride, before they are cut. With
        `reference_quirks` True to N and h times the stride, as the reference does by mistake: it
        takes the sides of another layout. As boxes are fractions, the masks stay in place and are
        only sampled too coarsely or too finely.

        Raises:
            ConfigError: `reference_quirks` is True and N, in a graph, is not known beforehand.
        """
        _, num_boxes, height, width = logits.shape
        if self.reference_quirks and num_boxes is None:
            raise ConfigError(
                "with reference_quirks full-resolution masks depend on the number of boxes, "
                "which must then be fixed; leave reference_quirks out"
            )
        resized = (num_boxes, height) if self.reference_quirks else (height, width)
        size = self.config.deepmac_mask_estimation.postprocess_crop_size
        return cut_from_own_maps(
            logits, boxes, size, *(STRIDE * side for side in resized)
        )
