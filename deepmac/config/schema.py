"""The model's part of a configuration, and `PipelineConfig`, the whole of it.

Names, nesting and defaults are those of the reference's pipeline configuration, so that a file
written for it means the same here. Numbers are held as written (double precision).

    PipelineConfig                         the file
      model.center_net                     CenterNetConfig
        feature_extractor                  FeatureExtractorConfig: backbone, normalisation
        image_resizer                      ImageResizerConfig: one of five resizers
        object_detection_task              ObjectDetectionConfig: size and offset heads
        object_center_params               ObjectCenterConfig: heatmap head, peaks
        deepmac_mask_estimation            MaskHeadConfig: embeddings, mask network
      train_config, train_input_reader,    see training_schema
      eval_config, eval_input_reader
"""

import enum
import itertools
import re
from typing import Annotated, Any, ClassVar

from deepmac.config.message import (
    Evaluation,
    FieldError,
    Message,
    OneOf,
    Unused,
    message,
)
from deepmac.config.training_schema import (
    ClassificationLossConfig,
    EvalConfig,
    InputReaderConfig,
    LocalizationLossConfig,
    LossNormalize,
    SelfSupervisionLoss,
    TrainConfig,
)
from deepmac.errors import did_you_mean, one_of

STRIDE = 4
"""Input pixels per feature cell, of every backbone."""

BACKBONE_STAGES = {
    "hourglass_10": 1,
    "hourglass_20": 2,
    "hourglass_32": 3,
    "hourglass_52": 5,
    "hourglass_104": 5,
}
"""`feature_extractor.type`: how often the backbone halves its feature map."""

MASK_NETWORK_STAGES = {
    "hourglass10": 1,
    "hourglass20": 2,
    "hourglass20_uniform_size": 0,
    "hourglass20_no_shortcut": 2,
    "hourglass32": 3,
    "hourglass52": 5,
    "hourglass100": 5,
    "resnet4": 0,
    "resnet8": 0,
    "resnet12": 0,
    "resnet16": 0,
    "resnet20": 0,
    "fully_connected": 0,
    "embedding_projection": 0,
}
"""`deepmac_mask_estimation.network_type` (and `cond_inst<D>`): how often it halves its input."""


class ResizeType(enum.IntEnum):
    """How a resizer interpolates."""

    BILINEAR = 0
    NEAREST_NEIGHBOR = 1
    BICUBIC = 2
    AREA = 3


class ResizeCondition(enum.IntEnum):
    """When a conditional resizer acts."""

    INVALID = 0
    GREATER = 1
    SMALLER = 2


class JitterMode(enum.IntEnum):
    """How the boxes that cut RoIs are disturbed in training."""

    DEFAULT = 0
    EXPAND = 1
    SHRINK = 2
    EXPAND_SYMMETRIC = 4
    SHRINK_SYMMETRIC = 5
    EXPAND_SYMMETRIC_XY = 6
    SHRINK_SYMMETRIC_XY = 7


class ConsistencyType(enum.IntEnum):
    """What the consistency loss compares between neighbouring pixels."""

    CONSISTENCY_DEFAULT_LAB = 0
    CONSISTENCY_FEATURE_MAP = 1


class ConsistencyComparison(enum.IntEnum):
    """How the consistency loss compares it."""

    COMPARISON_DEFAULT_GAUSSIAN = 0
    COMPARISON_NORMALIZED_DOTPROD = 1


@message
class FeatureExtractorConfig(Message):
    """The backbone, and how its input is normalised."""

    type: str  # a key of BACKBONE_STAGES
    channel_means: tuple[float, ...] = ()  # in the order of the channels; empty: 0
    channel_stds: tuple[float, ...] = ()  # likewise; empty: 1
    bgr_ordering: bool = False  # reverse the channels first
    use_depthwise: Annotated[bool, Unused("hourglasses have no such option")] = False
    depth_multiplier: Annotated[float, Unused("hourglasses have no such option")] = 1.0
    use_separable_conv: Annotated[bool, Unused("hourglasses have no such option")] = (
        False
    )
    upsampling_interpolation: Annotated[
        str, Unused("hourglasses have no such option")
    ] = "nearest"

    def check(self) -> None:
        if self.type not in BACKBONE_STAGES:
            hint = did_you_mean(self.type, BACKBONE_STAGES)
            known = one_of(BACKBONE_STAGES)
            raise FieldError(
                "type",
                f"no such backbone: '{self.type}'; there are {known}{hint}",
            )
        for name in ("channel_means", "channel_stds"):
            self.require(name, len(getattr(self, name)) in (0, 3), "needs 3 numbers")
        self.require(
            "channel_stds", all(s > 0 for s in self.channel_stds), "must be positive"
        )

    @property
    def size_divisor(self) -> int:
        """Input height and width, in pixels, must be multiples of this."""
        return STRIDE * 2 ** BACKBONE_STAGES[self.type]


INTERPOLATIONS = (ResizeType.BILINEAR, ResizeType.NEAREST_NEIGHBOR)
"""Those that `deepmac.resize` has."""


def _check_channels(resizer: Any) -> None:
    is_grey = resizer.convert_to_grayscale
    reason = "the network takes three channels; use false"
    resizer.require("convert_to_grayscale", not is_grey, reason)


def _check_interpolation(resizer: Any) -> None:
    is_ours = resizer.resize_method in INTERPOLATIONS
    names = " or ".join(m.name for m in INTERPOLATIONS)
    resizer.require("resize_method", is_ours, f"must be {names}")


@message
class KeepAspectRatioResizerConfig(Message):
    """Scales so that the image fits, keeps its shape, and pads at the bottom and right."""

    min_dimension: int = 600  # of the shorter side, in pixels
    max_dimension: int = 1024  # of the longer side; wins over min_dimension
    resize_method: ResizeType = ResizeType.BILINEAR
    pad_to_max_dimension: bool = False  # to a square of max_dimension
    convert_to_grayscale: bool = False
    per_channel_pad_value: tuple[float, ...] = ()  # RGB, 0-255; empty: 0

    def check(self) -> None:
        self.require_positive("min_dimension", "max_dimension")
        _check_channels(self)
        _check_interpolation(self)
        pad = self.per_channel_pad_value
        self.require("per_channel_pad_value", len(pad) in (0, 3), "needs 3 numbers")


@message
class FixedShapeResizerConfig(Message):
    """Scales to exactly this size, whatever that does to the image's shape."""

    height: int = 300  # pixels
    width: int = 300
    resize_method: ResizeType = ResizeType.BILINEAR
    convert_to_grayscale: bool = False

    def check(self) -> None:
        self.require_positive("height", "width")
        _check_channels(self)
        _check_interpolation(self)


@message
class IdentityResizerConfig(Message):
    """Leaves the image as it is."""


@message
class ConditionalShapeResizerConfig(Message):
    """Scales only images that are larger (or smaller) than a size."""

    condition: ResizeCondition = ResizeCondition.GREATER
    size_threshold: int = 300  # pixels
    resize_method: ResizeType = ResizeType.BILINEAR
    convert_to_grayscale: bool = False

    def check(self) -> None:
        self.require_positive("size_threshold")
        _check_channels(self)
        _check_interpolation(self)
        invalid = self.condition is ResizeCondition.INVALID
        self.require("condition", not invalid, "must be GREATER or SMALLER")


@message
class PadToMultipleResizerConfig(Message):
    """Pads the image at the bottom and right to a multiple of a size."""

    multiple: int = 1  # pixels
    convert_to_grayscale: bool = False

    def check(self) -> None:
        self.require_positive("multiple")
        _check_channels(self)


@message
class ImageResizerConfig(Message):
    """How images come to the size of the network's input."""

    keep_aspect_ratio_resizer: OneOf[KeepAspectRatioResizerConfig] = None
    fixed_shape_resizer: OneOf[FixedShapeResizerConfig] = None
    identity_resizer: OneOf[IdentityResizerConfig] = None
    conditional_shape_resizer: OneOf[ConditionalShapeResizerConfig] = None
    pad_to_multiple_resizer: OneOf[PadToMultipleResizerConfig] = None


@message
class PredictionHeadConfig(Message):
    """The hidden layers of a detection head; without it one of 256 channels, 3x3."""

    num_filters: tuple[int, ...] = ()
    kernel_sizes: tuple[int, ...] = ()  # one for each of num_filters

    def check(self) -> None:
        if len(self.num_filters) != len(self.kernel_sizes):
            raise FieldError(
                "kernel_sizes",
                f"needs one entry for each of num_filters ({len(self.num_filters)}), "
                f"got {len(self.kernel_sizes)}",
            )
        self.require("num_filters", min(self.num_filters, default=1) > 0, "must be > 0")
        odd = all(k > 0 and k % 2 for k in self.kernel_sizes)
        self.require("kernel_sizes", odd, "must be positive and odd")


@message
class ObjectDetectionConfig(Message):
    """Size and offset of boxes: `object_detection_task`."""

    task_loss_weight: float = 1.0
    offset_loss_weight: float = 1.0
    scale_loss_weight: float = 0.1
    localization_loss: LocalizationLossConfig | None = None
    scale_head_params: PredictionHeadConfig | None = None
    offset_head_params: PredictionHeadConfig | None = None

    def check(self) -> None:
        self.require_not_negative(
            "task_loss_weight", "offset_loss_weight", "scale_loss_weight"
        )


@message
class ObjectCenterConfig(Message):
    """The heatmap of centres and its peaks: `object_center_params`."""

    object_center_loss_weight: float = 1.0
    classification_loss: ClassificationLossConfig | None = None
    heatmap_bias_init: float = -2.19  # of the last layer: probability 0.1
    min_box_overlap_iou: float = 0.7  # gives the radius of a target's blob
    max_box_predictions: int = 100  # peaks kept per image
    use_labeled_classes: bool = False
    keypoint_weights_for_center: tuple[float, ...] = ()
    center_head_params: PredictionHeadConfig | None = None
    # A peak is the greatest of a square of this side
    peak_max_pool_kernel_size: int = 3

    def check(self) -> None:
        self.require_not_negative("object_center_loss_weight")
        self.require_positive("max_box_predictions", "peak_max_pool_kernel_size")
        iou = self.min_box_overlap_iou
        self.require("min_box_overlap_iou", 0 < iou < 1, "must lie between 0 and 1")
        if self.keypoint_weights_for_center:
            raise FieldError(
                "keypoint_weights_for_center",
                "centres come from boxes here, not from keypoints; remove it",
            )


@message
class MaskHeadConfig(Message):
    """The embeddings and the per-instance mask network: `deepmac_mask_estimation`."""

    classification_loss: ClassificationLossConfig | None = None
    task_loss_weight: float = 1.0
    dim: int = 256  # channels of the instance embedding
    pixel_embedding_dim: int = 16  # channels of the pixel embedding
    allowed_masked_classes_ids: tuple[int, ...] = ()  # from 1; empty: all
    mask_size: int = 32  # side of the square RoI mask, in mask cells
    mask_num_subsamples: int = -1  # instances per image; -1: all
    use_xy: bool = True  # two coordinate channels before the pixel embedding
    network_type: str = "hourglass52"  # a key of MASK_NETWORK_STAGES, or cond_inst<D>
    use_instance_embedding: bool = True  # appended to every pixel
    num_init_channels: int = 64  # the network's width follows from it
    predict_full_resolution_masks: bool = False  # in the image's frame, no RoI
    postprocess_crop_size: int = 256  # then, side of the mask cut out for a box
    max_roi_jitter_ratio: float = 0.0
    jitter_mode: JitterMode = JitterMode.DEFAULT
    box_consistency_loss_weight: float = 0.0
    color_consistency_threshold: float = 0.4
    color_consistency_dilation: int = 2
    color_consistency_loss_weight: float = 0.0
    box_consistency_loss_normalize: LossNormalize = LossNormalize.NORMALIZE_AUTO
    box_consistency_tightness: bool = False
    color_consistency_warmup_steps: int = 0
    color_consistency_warmup_start: int = 0
    use_only_last_stage: bool = False  # of the backbone, for the mask loss
    augmented_self_supervision_max_translation: float = 0.0
    augmented_self_supervision_flip_probability: float = 0.0
    augmented_self_supervision_loss_weight: float = 0.0
    augmented_self_supervision_warmup_start: int = 0
    augmented_self_supervision_warmup_steps: int = 0
    augmented_self_supervision_loss: SelfSupervisionLoss = SelfSupervisionLoss.LOSS_DICE
    augmented_self_supervision_scale_min: float = 1.0
    augmented_self_supervision_scale_max: float = 1.0
    pointly_supervised_keypoint_loss_weight: float = 0.0
    ignore_per_class_box_overlap: bool = False
    feature_consistency_type: ConsistencyType = ConsistencyType.CONSISTENCY_DEFAULT_LAB
    feature_consistency_comparison: ConsistencyComparison = (
        ConsistencyComparison.COMPARISON_DEFAULT_GAUSSIAN
    )

    # The reference renamed these when it learnt to compare other things than colours.
    aliases: ClassVar = {
        f"feature_consistency_{name}": f"color_consistency_{name}"
        for name in (
            "threshold",
            "dilation",
            "loss_weight",
            "warmup_steps",
            "warmup_start",
        )
    }

    def check(self) -> None:
        self.require_positive(
            "dim",
            "pixel_embedding_dim",
            "mask_size",
            "postprocess_crop_size",
            "color_consistency_dilation",
        )
        if self.network_type != "embedding_projection":  # which has no channels
            self.require_positive("num_init_channels")
        self._check_training()
        self._check_network_type()
        if self.predict_full_resolution_masks:
            self._check_full_resolution()
        else:
            self._check_mask_size()

    def _check_training(self) -> None:
        self.require_not_negative(
            "task_loss_weight",
            "max_roi_jitter_ratio",
            "box_consistency_loss_weight",
            "color_consistency_loss_weight",
            "color_consistency_warmup_steps",
            "color_consistency_warmup_start",
            "augmented_self_supervision_max_translation",
            "augmented_self_supervision_loss_weight",
            "augmented_self_supervision_warmup_start",
            "augmented_self_supervision_warmup_steps",
            "pointly_supervised_keypoint_loss_weight",
        )
        self.require_fraction(
            "color_consistency_threshold", "augmented_self_supervision_flip_probability"
        )
        self.require_positive("augmented_self_supervision_scale_min")
        low, high = (
            self.augmented_self_supervision_scale_min,
            self.augmented_self_supervision_scale_max,
        )
        self.require(
            "augmented_self_supervision_scale_max",
            high >= low,
            f"must not be below augmented_self_supervision_scale_min ({low})",
        )
        ids = self.allowed_masked_classes_ids
        for i, class_id in enumerate(ids):
            path = f"allowed_masked_classes_ids[{i}]"
            if class_id < 1:
                raise FieldError(path, f"ids count from 1, got {class_id}")
            if class_id in ids[:i]:
                raise FieldError(path, f"{class_id} is there twice")

    def _check_network_type(self) -> None:
        kind = self.network_type
        if kind not in MASK_NETWORK_STAGES and self.cond_inst_depth is None:
            known = [*MASK_NETWORK_STAGES, "cond_inst<D>"]
            raise FieldError(
                "network_type",
                f"no such mask network: '{kind}'; there are {one_of(known, limit=20)}"
                f"{did_you_mean(kind, MASK_NETWORK_STAGES)}",
            )
        if not self.has_parameter_free_network:
            return
        if self.use_instance_embedding:
            raise FieldError(
                "use_instance_embedding",
                f"must be false for {kind}: the embedding is the network's parameters",
            )
        if kind == "embedding_projection" and self.use_xy:
            raise FieldError("use_xy", "must be false for embedding_projection")
        self._check_parameter_count()

    def _check_parameter_count(self) -> None:
        inputs = self.pixel_embedding_dim + 2 * self.use_xy
        hidden, depth = self.num_init_channels, self.cond_inst_depth
        if depth == 1 and hidden != inputs:
            raise FieldError(
                "num_init_channels",
                f"must be {inputs} (the input channels) for cond_inst1, got {hidden}",
            )
        if depth is None:
            needed = self.pixel_embedding_dim
        else:
            needed = cond_inst_parameters(depth, inputs, hidden)
        self.require(
            "dim", self.dim == needed, f"must be {needed} for {self.network_type}"
        )

    def _check_mask_size(self) -> None:
        divisor = self.size_divisor
        self.require(
            "mask_size",
            self.mask_size % divisor == 0,
            f"must be a multiple of {divisor} for {self.network_type}",
        )

    def _check_full_resolution(self) -> None:
        if self.max_roi_jitter_ratio > 0:
            raise FieldError(
                "max_roi_jitter_ratio",
                "there is no RoI to jitter with predict_full_resolution_masks",
            )
        if self.network_type == "fully_connected":
            raise FieldError(
                "predict_full_resolution_masks",
                "must be false for fully_connected, whose masks have one size",
            )

    @property
    def cond_inst_depth(self) -> int | None:
        """D of `cond_inst<D>`; None for other networks."""
        match = re.fullmatch(r"cond_inst([1-9]\d?)", self.network_type)
        return int(match[1]) if match else None

    @property
    def has_parameter_free_network(self) -> bool:
        """The instance embedding stands for the network's weights."""
        return (
            self.network_type == "embedding_projection"
            or self.cond_inst_depth is not None
        )

    @property
    def size_divisor(self) -> int:
        """Height and width of the mask network's input must be multiples of this."""
        return 2 ** MASK_NETWORK_STAGES.get(self.network_type, 0)


def cond_inst_parameters(depth: int, inputs: int, hidden: int) -> int:
    """Weights and biases of `depth` layers, from `inputs` channels by `hidden` ones to 1."""
    widths = [inputs, *[hidden] * (depth - 1), 1]
    return sum(n_in * n_out + n_out for n_in, n_out in itertools.pairwise(widths))


_OTHER_TASK = (
    "DeepMAC has no such task (the reference ignores it beside "
    "deepmac_mask_estimation); remove it"
)


@message
class CenterNetConfig(Message):
    """The whole network: `model.center_net`."""

    num_classes: int  # channels of the heatmap
    feature_extractor: FeatureExtractorConfig
    image_resizer: ImageResizerConfig
    object_detection_task: ObjectDetectionConfig
    object_center_params: ObjectCenterConfig
    deepmac_mask_estimation: MaskHeadConfig
    use_depthwise: Annotated[
        bool,
        Unused("it has no effect beside deepmac_mask_estimation, as in the reference"),
    ] = False
    compute_heatmap_sparse: Annotated[
        bool, Unused("asks for another way to the same heatmap")
    ] = False
    output_prediction_dict: Annotated[
        bool, Unused("predictions have a form of their own here")
    ] = False
    keypoint_label_map_path: Annotated[str, Unused("there are no keypoint tasks")] = ""

    refused: ClassVar = {
        "keypoint_estimation_task": _OTHER_TASK,
        "mask_estimation_task": _OTHER_TASK,
        "densepose_estimation_task": _OTHER_TASK,
        "track_estimation_task": _OTHER_TASK,
        "temporal_offset_task": _OTHER_TASK,
        "post_processing": (
            "DeepMAC keeps heatmap peaks and suppresses nothing (the reference ignores "
            "it beside deepmac_mask_estimation); remove it"
        ),
    }

    def check(self) -> None:
        self.require_positive("num_classes")


_OTHER_MODEL = "deepmac has CenterNet only: use center_net"


@message
class ModelConfig(Message):
    """The model: of the reference's many only CenterNet."""

    center_net: CenterNetConfig

    refused: ClassVar = {
        "faster_rcnn": _OTHER_MODEL,
        "ssd": _OTHER_MODEL,
        "experimental_model": _OTHER_MODEL,
    }


@message
class QuantizationConfig(Message):
    """Quantisation after training."""

    delay: int = 500000
    weight_bits: int = 8
    activation_bits: int = 8
    symmetric: bool = False


@message
class GraphRewriterConfig(Message):
    """Changes to the trained graph."""

    quantization: QuantizationConfig | None = None


@message
class PipelineConfig(Message):
    """A whole configuration file."""

    model: ModelConfig
    train_config: TrainConfig = TrainConfig()
    train_input_reader: InputReaderConfig = InputReaderConfig()
    eval_config: Evaluation[EvalConfig] = EvalConfig()
    eval_input_reader: tuple[InputReaderConfig, ...] = ()
    graph_rewriter: Annotated[
        GraphRewriterConfig | None, Unused("graphs are not rewritten")
    ] = None
