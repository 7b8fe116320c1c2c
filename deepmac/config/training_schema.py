"""The configuration of training, input and evaluation: losses, optimiser, augmentations, readers.

Names, nesting and defaults are the reference's; see `schema` for the model.
"""

import dataclasses
import enum
import itertools
from collections.abc import Mapping
from typing import Annotated, ClassVar

from deepmac.config.message import FieldError, Message, OneOf, Unused, message
from deepmac.errors import did_you_mean, one_of

OldLoop = Unused("only the reference's TensorFlow 1 loop has it")
_AnyOrder = Unused("records are read in any order, the whole set is shuffled")
_OwnPace = Unused("deepmac has its own threads and processes for reading")


class LossNormalize(enum.IntEnum):
    """How the pixels of a loss are summed up."""

    NORMALIZE_AUTO = 0
    NORMALIZE_GROUNDTRUTH_COUNT = 1
    NORMALIZE_BALANCED = 3


class SelfSupervisionLoss(enum.IntEnum):
    """What compares the masks of two views of an image."""

    LOSS_UNSET = 0
    LOSS_DICE = 1
    LOSS_MSE = 2
    LOSS_KL_DIV = 3


class CheckpointVersion(enum.IntEnum):
    """The kind of a checkpoint to start from."""

    UNKNOWN = 0
    V1 = 1
    V2 = 2


class InstanceMaskType(enum.IntEnum):
    """How records hold masks."""

    DEFAULT = 0
    NUMERICAL_MASKS = 1
    PNG_MASKS = 2


class InputType(enum.IntEnum):
    """What a record is."""

    INPUT_DEFAULT = 0
    TF_EXAMPLE = 1
    TF_SEQUENCE_EXAMPLE = 2


# Losses


@message
class SigmoidLossConfig(Message):
    """Cross entropy of independent probabilities."""

    anchorwise_output: Annotated[bool, Unused("deprecated in the reference")] = False


@message
class SigmoidFocalLossConfig(Message):
    """Cross entropy that plays down the easy cases."""

    anchorwise_output: Annotated[bool, Unused("deprecated in the reference")] = False
    gamma: float = 2.0
    alpha: float | None = None  # weight of the positives; None: no weighting


@message
class PenaltyReducedFocalLossConfig(Message):
    """CenterNet's loss of heatmaps: focal, forgiving near the centres."""

    alpha: float  # exponent of the focal factor
    beta: float  # exponent of the forgiveness


@message
class DiceLossConfig(Message):
    """One minus the overlap of two masks, relative to their size."""

    squared_normalization: bool = False
    is_prediction_probability: bool = False  # else logits


_OTHER_LOSS = "deepmac does not have this loss"


@message
class ClassificationLossConfig(Message):
    """A loss of probabilities."""

    weighted_sigmoid: OneOf[SigmoidLossConfig] = None
    weighted_sigmoid_focal: OneOf[SigmoidFocalLossConfig] = None
    penalty_reduced_logistic_focal_loss: OneOf[PenaltyReducedFocalLossConfig] = None
    weighted_dice_classification_loss: OneOf[DiceLossConfig] = None

    refused: ClassVar = dict.fromkeys(
        ("weighted_softmax", "weighted_logits_softmax", "bootstrapped_sigmoid"),
        _OTHER_LOSS,
    )


@message
class L1LossConfig(Message):
    """The absolute difference."""


@message
class L2LossConfig(Message):
    """Half the squared difference."""

    anchorwise_output: Annotated[bool, Unused("deprecated in the reference")] = False


@message
class SmoothL1LossConfig(Message):
    """Huber's loss: squared up to `delta`, absolute beyond."""

    anchorwise_output: Annotated[bool, Unused("deprecated in the reference")] = False
    delta: float = 1.0

    def check(self) -> None:
        self.require_positive("delta")


@message
class LocalizationLossConfig(Message):
    """A loss of sizes and offsets."""

    l1_localization_loss: OneOf[L1LossConfig] = None
    weighted_l2: OneOf[L2LossConfig] = None
    weighted_smooth_l1: OneOf[SmoothL1LossConfig] = None

    refused: ClassVar = dict.fromkeys(("weighted_iou", "weighted_giou"), _OTHER_LOSS)


# Optimiser


@message
class ConstantRateConfig(Message):
    """One learning rate for the whole run."""

    learning_rate: float = 0.002

    def check(self) -> None:
        self.require_not_negative("learning_rate")


@message
class ExponentialDecayConfig(Message):
    """A learning rate that falls by a factor every so many steps."""

    initial_learning_rate: float = 0.002
    decay_steps: int = 4000000
    decay_factor: float = 0.95
    staircase: bool = True
    burnin_learning_rate: float = 0.0
    burnin_steps: int = 0
    min_learning_rate: float = 0.0

    def check(self) -> None:
        self.require_positive("decay_steps", "decay_factor")
        self.require_not_negative(
            "initial_learning_rate",
            "burnin_learning_rate",
            "burnin_steps",
            "min_learning_rate",
        )


@message
class RateStepConfig(Message):
    """From this step on this learning rate."""

    step: int = 0
    learning_rate: float = 0.002

    def check(self) -> None:
        self.require_not_negative("step", "learning_rate")


@message
class ManualStepsConfig(Message):
    """A learning rate set by hand, step by step."""

    initial_learning_rate: float = 0.002
    schedule: tuple[RateStepConfig, ...] = ()
    warmup: bool = False  # rise linearly to the first step of the schedule

    def check(self) -> None:
        self.require_not_negative("initial_learning_rate")
        steps = [s.step for s in self.schedule]
        if any(b <= a for a, b in itertools.pairwise(steps)):
            raise FieldError("schedule", f"steps must increase, got {steps}")


@message
class CosineDecayConfig(Message):
    """A learning rate that rises linearly, rests, and falls as half a cosine to 0."""

    learning_rate_base: float = 0.002
    total_steps: int = 4000000
    warmup_learning_rate: float = 0.0002
    warmup_steps: int = 10000
    hold_base_rate_steps: int = 0

    def check(self) -> None:
        self.require_positive("total_steps")
        self.require_not_negative(
            "learning_rate_base",
            "warmup_learning_rate",
            "warmup_steps",
            "hold_base_rate_steps",
        )
        steps = self.total_steps
        self.require(
            "warmup_steps",
            self.warmup_steps <= steps,
            f"is above total_steps ({steps})",
        )
        base = self.learning_rate_base
        if self.warmup_steps:
            self.require(
                "warmup_learning_rate",
                self.warmup_learning_rate <= base,
                f"must not be above learning_rate_base ({base})",
            )


@message
class LearningRateConfig(Message):
    """The learning rate as a function of the step."""

    constant_learning_rate: OneOf[ConstantRateConfig] = None
    exponential_decay_learning_rate: OneOf[ExponentialDecayConfig] = None
    manual_step_learning_rate: OneOf[ManualStepsConfig] = None
    cosine_decay_learning_rate: OneOf[CosineDecayConfig] = None


@message
class RmsPropConfig(Message):
    """RMSProp."""

    learning_rate: LearningRateConfig | None = None
    momentum_optimizer_value: float = 0.9
    decay: float = 0.9
    epsilon: float = 1.0

    def check(self) -> None:
        self.require_positive("epsilon")


@message
class MomentumConfig(Message):
    """Gradient descent with momentum."""

    learning_rate: LearningRateConfig | None = None
    momentum_optimizer_value: float = 0.9


@message
class AdamConfig(Message):
    """Adam, with the usual 0.9 and 0.999."""

    learning_rate: LearningRateConfig | None = None
    epsilon: float = 1e-8

    def check(self) -> None:
        self.require_positive("epsilon")


@message
class OptimizerConfig(Message):
    """The optimiser, and the moving average of the weights beside it."""

    rms_prop_optimizer: OneOf[RmsPropConfig] = None
    momentum_optimizer: OneOf[MomentumConfig] = None
    adam_optimizer: OneOf[AdamConfig] = None
    use_moving_average: bool = True
    moving_average_decay: float = 0.9999

    def check(self) -> None:
        self.require_fraction("moving_average_decay")


# Augmentations


@message
class HorizontalFlipConfig(Message):
    """Mirrors image, boxes and masks."""

    keypoint_flip_permutation: Annotated[
        tuple[int, ...], Unused("there are no keypoints")
    ] = ()
    probability: float = 0.5

    def check(self) -> None:
        self.require_fraction("probability")


@message
class AdjustHueConfig(Message):
    """Turns the hue by up to `max_delta` of the circle."""

    max_delta: float = 0.02

    def check(self) -> None:
        self.require("max_delta", 0 <= self.max_delta <= 0.5, "must be 0 to 0.5")


@message
class FactorConfig(Message):
    """A factor drawn between two bounds."""

    min_delta: float = 0.8
    max_delta: float = 1.25

    def check(self) -> None:
        self.require_not_negative("min_delta")
        low = self.min_delta
        self.require(
            "max_delta", self.max_delta >= low, f"must not be below min_delta ({low})"
        )


@message
class AdjustContrastConfig(FactorConfig):
    """Spreads the values about the mean of each channel by a factor."""


@message
class AdjustSaturationConfig(FactorConfig):
    """Multiplies the saturation by a factor."""


@message
class AdjustBrightnessConfig(Message):
    """Adds up to `max_delta` of the whole range to all values."""

    max_delta: float = 0.2

    def check(self) -> None:
        self.require_fraction("max_delta")


@message
class SquareCropByScaleConfig(Message):
    """Cuts out a square about a random centre, its side a multiple of the image's longer side."""

    max_border: int = 128  # pixels between centre and edge
    scale_min: float = 0.6
    scale_max: float = 1.3
    num_scales: int = 8  # equally spaced between the two

    def check(self) -> None:
        self.require_positive("max_border", "scale_min", "num_scales")
        low = self.scale_min
        self.require(
            "scale_max", self.scale_max >= low, f"must not be below scale_min ({low})"
        )


@message
class AugmentationConfig(Message):
    """One step of augmentation; the order of the steps counts."""

    random_horizontal_flip: OneOf[HorizontalFlipConfig] = None
    random_adjust_hue: OneOf[AdjustHueConfig] = None
    random_adjust_contrast: OneOf[AdjustContrastConfig] = None
    random_adjust_saturation: OneOf[AdjustSaturationConfig] = None
    random_adjust_brightness: OneOf[AdjustBrightnessConfig] = None
    random_square_crop_by_scale: OneOf[SquareCropByScaleConfig] = None

    refused: ClassVar = dict.fromkeys(
        [
            "adjust_gamma",
            "autoaugment_image",
            "convert_class_logits_to_softmax",
            "drop_label_probabilistically",
            "normalize_image",
            "random_absolute_pad_image",
            "random_black_patches",
            "random_crop_image",
            "random_crop_pad_image",
            "random_crop_to_aspect_ratio",
            "random_distort_color",
            "random_downscale_to_target_pixels",
            "random_image_scale",
            "random_jitter_boxes",
            "random_jpeg_quality",
            "random_pad_image",
            "random_patch_gaussian",
            "random_pixel_value_scale",
            "random_resize_method",
            "random_rgb_to_gray",
            "random_rotation90",
            "random_scale_crop_and_pad_to_square",
            "random_self_concat_image",
            "random_vertical_flip",
            "remap_labels",
            "resize_image",
            "rgb_to_gray",
            "scale_boxes_to_pixel_coordinates",
            "ssd_random_crop",
            "ssd_random_crop_fixed_aspect_ratio",
            "ssd_random_crop_pad",
            "ssd_random_crop_pad_fixed_aspect_ratio",
            "subtract_channel_mean",
        ],
        "deepmac does not have this augmentation",
    )


# Training, input, evaluation

CHECKPOINT_TYPES = ("detection", "full", "fine_tune", "classification")
"""`fine_tune_checkpoint_type`: what is taken over. `fine_tune` is read as `detection`."""


@message
class TrainConfig(Message):
    """A training run."""

    batch_size: int = 32  # of all devices together
    data_augmentation_options: tuple[AugmentationConfig, ...] = ()
    optimizer: OptimizerConfig | None = None
    gradient_clipping_by_norm: float = 0.0  # 0: none
    fine_tune_checkpoint: str = ""
    fine_tune_checkpoint_type: str = ""  # one of CHECKPOINT_TYPES
    fine_tune_checkpoint_version: CheckpointVersion = CheckpointVersion.V1
    run_fine_tune_checkpoint_dummy_computation: Annotated[
        bool, Unused("networks have their variables before they run")
    ] = True
    num_steps: int = 0  # 0: for ever
    max_number_of_boxes: Annotated[
        int,
        Unused("the input reader's max_number_of_boxes counts, as in the reference"),
    ] = 100
    unpad_groundtruth_tensors: Annotated[
        bool, Unused("empty slots have weight 0 in any case")
    ] = True
    add_regularization_loss: Annotated[bool, Unused("these networks have none")] = True
    use_bfloat16: bool = False
    retain_original_images: Annotated[
        bool, Unused("pictures are of the evaluation records")
    ] = False
    merge_multiple_label_boxes: Annotated[
        bool, Unused("an instance has one category")
    ] = False
    use_multiclass_scores: Annotated[bool, Unused("an instance has one category")] = (
        False
    )
    summarize_gradients: Annotated[
        bool, Unused("the norm of the gradient is always written")
    ] = False
    keep_checkpoint_every_n_hours: Annotated[
        float, Unused("`--checkpoint_max_to_keep` says what is kept")
    ] = 10000.0
    freeze_variables: Annotated[
        tuple[str, ...], Unused("the reference's TensorFlow 2 loop ignores it")
    ] = ()
    update_trainable_variables: Annotated[
        tuple[str, ...], Unused("the reference's TensorFlow 2 loop ignores it")
    ] = ()
    sync_replicas: Annotated[bool, OldLoop] = False
    replicas_to_aggregate: Annotated[int, OldLoop] = 1
    startup_delay_steps: Annotated[float, OldLoop] = 15.0
    bias_grad_multiplier: Annotated[float, OldLoop] = 0.0
    batch_queue_capacity: Annotated[int, OldLoop] = 150
    num_batch_queue_threads: Annotated[int, OldLoop] = 8
    prefetch_queue_capacity: Annotated[int, OldLoop] = 5
    from_detection_checkpoint: Annotated[bool, OldLoop] = False
    load_all_detection_checkpoint_vars: Annotated[bool, OldLoop] = False

    def check(self) -> None:
        self.require_positive("batch_size", "max_number_of_boxes")
        self.require_not_negative("num_steps", "gradient_clipping_by_norm")
        kind = self.fine_tune_checkpoint_type
        if kind and kind not in CHECKPOINT_TYPES:
            hint = did_you_mean(kind, CHECKPOINT_TYPES)
            raise FieldError(
                "fine_tune_checkpoint_type",
                f"no such type: '{kind}'; there are {one_of(CHECKPOINT_TYPES)}{hint}",
            )


@message
class RecordReaderConfig(Message):
    """Where records are."""

    input_path: tuple[str, ...] = ()  # globs


@message
class InputReaderConfig(Message):
    """What is read, and how."""

    name: str = ""
    label_map_path: str = ""
    tf_record_input_reader: RecordReaderConfig | None = None
    load_instance_masks: bool = False
    mask_type: InstanceMaskType = InstanceMaskType.NUMERICAL_MASKS
    shuffle: bool = True
    shuffle_buffer_size: Annotated[int, _AnyOrder] = 2048
    filenames_shuffle_buffer_size: Annotated[int, _AnyOrder] = 100
    num_epochs: int = 0  # 0: for ever
    sample_1_of_n_examples: int = 1
    num_readers: Annotated[int, _OwnPace] = 64
    num_parallel_batches: Annotated[int, _OwnPace] = 8
    num_prefetch_batches: Annotated[int, _OwnPace] = 2
    read_block_length: Annotated[int, _AnyOrder] = 32
    max_number_of_boxes: int = 100  # instances kept per image, the first ones
    num_keypoints: int = 0
    load_keypoint_depth_features: bool = False
    load_multiclass_scores: bool = False
    load_context_features: bool = False
    load_dense_pose: bool = False
    load_track_id: bool = False
    num_additional_channels: int = 0
    use_display_name: Annotated[bool, Unused("both names of a label map are known")] = (
        False
    )
    include_source_id: Annotated[bool, Unused("batches always know their images")] = (
        False
    )
    expand_labels_hierarchy: bool = False
    input_type: InputType = InputType.TF_EXAMPLE
    drop_remainder: Annotated[
        bool, Unused("batches run on from one epoch into the next")
    ] = True
    sample_from_datasets_weights: tuple[float, ...] = ()
    queue_capacity: Annotated[int, OldLoop] = 2000
    min_after_dequeue: Annotated[int, OldLoop] = 1000
    prefetch_size: Annotated[int, OldLoop] = 512
    num_parallel_map_calls: Annotated[int, OldLoop] = 64

    refused: ClassVar = {
        "external_input_reader": "deepmac reads TFRecord files: use tf_record_input_reader"
    }

    def check(self) -> None:
        self.require_positive(
            "sample_1_of_n_examples", "max_number_of_boxes", "num_readers"
        )
        self.require_not_negative("num_epochs", "shuffle_buffer_size")


@message
class EvalConfig(Message):
    """The reference's evaluation beside training."""

    batch_size: int = 1
    metrics_set: tuple[str, ...] = ()
    include_metrics_per_category: bool = False
    all_metrics_per_category: bool = False
    super_categories: Mapping[str, str] = dataclasses.field(
        default_factory=dict, hash=False
    )  # name -> names of categories, with commas between
    use_moving_averages: bool = False
    min_score_threshold: float = 0.5  # of boxes drawn, not of boxes counted
    max_num_boxes_to_visualize: int = 20
    num_visualizations: int = 10
    retain_original_images: bool = True
    retain_original_image_additional_channels: bool = False
    force_no_resize: bool = False
    num_examples: int = 5000
    eval_interval_secs: int = 300
    max_evals: int = 0
    save_graph: bool = False
    visualization_export_dir: str = ""
    eval_master: str = ""
    export_path: str = ""
    ignore_groundtruth: bool = False
    eval_instance_masks: bool = False
    skip_scores: bool = False
    skip_labels: bool = False
    visualize_groundtruth_boxes: bool = False
    groundtruth_box_visualization_color: str = "black"
    keep_image_id_for_visualization_export: bool = False
    recall_lower_bound: float = 0.0
    recall_upper_bound: float = 1.0

    def check(self) -> None:
        self.require_positive("batch_size")
        for key, names in self.super_categories.items():
            if not key or not all(n.strip() for n in names.split(",")):
                raise FieldError(
                    "super_categories", f"'{key}' has an empty name in '{names}'"
                )
