"""Mistakes in configurations: each a ConfigError of one line with the place and the remedy."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.config.load import build_config
from deepmac.config.message import FieldError
from deepmac.config.schema import (
    FixedShapeResizerConfig,
    IdentityResizerConfig,
    ImageResizerConfig,
    MaskHeadConfig,
    PipelineConfig,
)
from deepmac.config.textproto import read
from deepmac.errors import ConfigError

SMALL = """
model {
  center_net {
    num_classes: 3
    feature_extractor { type: "hourglass_10" }
    image_resizer {
      fixed_shape_resizer { height: 64 width: 64 }
    }
    object_detection_task {}
    object_center_params {}
    deepmac_mask_estimation {
      @
    }
  }
}
"""
LINE = 12  # of the @
NET = "model.center_net"
HEAD = f"{NET}.deepmac_mask_estimation"


def error_of(text: str) -> str:
    """The one line that a text ends in."""
    with pytest.raises(ConfigError) as caught:
        build_config(read(text, PipelineConfig, "my.config"))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_text_around_the_mistakes_is_valid():
    build_config(read(SMALL.replace("@", ""), PipelineConfig, "my.config"))


IN_MASK_HEAD = [
    # what is written, line and column of the error, path, end of the error
    ("mask_sise: 3", "12:7", "mask_sise", "no such field; did you mean 'mask_size'?"),
    ("mask_size: abc", "12:18", "mask_size", "must be a whole number, got 'abc'"),
    ("mask_size: 3.5", "12:18", "mask_size", "must be a whole number, got '3.5'"),
    ("mask_size: nan", "12:18", "mask_size", "must be a whole number, got 'nan'"),
    (
        "dim: 99999999999",
        "12:12",
        "dim",
        "must be a whole number of 32 bits, got '99999999999'",
    ),
    ("dim: 0", "12:12", "dim", "must be positive, got 0"),
    (
        "use_xy: treu",
        "12:15",
        "use_xy",
        "must be true or false, got 'treu'; did you mean 'true'?",
    ),
    (
        "task_loss_weight: nan",
        "12:25",
        "task_loss_weight",
        "must be a finite number, got nan",
    ),
    (
        "task_loss_weight: -inf",
        "12:25",
        "task_loss_weight",
        "must be a finite number, got -inf",
    ),
    (
        "task_loss_weight: 1e999",
        "12:25",
        "task_loss_weight",
        "must be a finite number, got inf",
    ),
    ("task_loss_weight: x", "12:25", "task_loss_weight", "must be a number, got 'x'"),
    (
        "task_loss_weight: -1",
        "12:25",
        "task_loss_weight",
        "must not be negative, got -1.0",
    ),
    (
        "jitter_mode: EXPNAD",
        "12:20",
        "jitter_mode",
        "got 'EXPNAD'; did you mean 'EXPAND'?",
    ),
    ("jitter_mode: 3", "12:20", "jitter_mode", "SHRINK_SYMMETRIC_XY, got '3'"),
    (
        "network_type: hourglass52",
        "12:21",
        "network_type",
        "must be text in quotes, got 'hourglass52'",
    ),
    (
        'network_type: "hourglass52',
        "12:21",
        "network_type",
        "the closing quote is missing",
    ),
    (
        'network_type: "hourglas52"',
        "12:21",
        "network_type",
        "cond_inst<D>; did you mean 'hourglass52'?",
    ),
    (
        'network_type: "cond_inst"',
        "12:21",
        "network_type",
        "embedding_projection, cond_inst<D>",
    ),
    ("dim: 5 dim: 6", "12:19", "dim", "is there twice, first in line 12"),
    (
        "num_classes: 5",
        "12:7",
        "num_classes",
        f"no such field; did you mean '{NET}.num_classes'?",
    ),
    ("qqq: 5", "12:7", "qqq", "no such field"),
    (
        "mask_size: 30",
        "12:18",
        "mask_size",
        "must be a multiple of 32 for hourglass52, got 30",
    ),
    (
        "classification_loss: 5",
        "12:28",
        "classification_loss",
        "is a message, it takes { ... }, got '5'",
    ),
    (
        "classification_loss {}",
        "12:7",
        "classification_loss",
        "weighted_dice_classification_loss must be set",
    ),
    (
        "classification_loss { weighted_sigmoid {} weighted_sigmoid_focal {} }",
        "12:49",
        "classification_loss.weighted_sigmoid_focal",
        "cannot be set together with 'weighted_sigmoid' (line 12)",
    ),
    (
        "classification_loss { weighted_softmax {} }",
        "12:29",
        "classification_loss.weighted_softmax",
        "deepmac does not have this loss",
    ),
    (
        "classification_loss { penalty_reduced_logistic_focal_loss { alpha: 2 } }",
        "12:29",
        "classification_loss.penalty_reduced_logistic_focal_loss.beta",
        "is missing",
    ),
    (
        "color_consistency_dilation: 1 feature_consistency_dilation: 2",
        "12:67",
        "feature_consistency_dilation",
        "is another spelling of 'color_consistency_dilation', which is set too",
    ),
    (
        "feature_consistency_dilation: 0",
        "12:37",
        "feature_consistency_dilation",
        "must be positive, got 0",
    ),
    (
        "allowed_masked_classes_ids: [1, 2, x]",
        "12:42",
        "allowed_masked_classes_ids[2]",
        "got 'x'",
    ),
    (
        "allowed_masked_classes_ids: [1, 2, 1]",
        "12:42",
        "allowed_masked_classes_ids[2]",
        "1 is there twice",
    ),
    (
        "allowed_masked_classes_ids: [1, 0]",
        "12:39",
        "allowed_masked_classes_ids[1]",
        "ids count from 1, got 0",
    ),
    (
        'network_type: "cond_inst3"',
        "11:5",
        "use_instance_embedding",
        "the embedding is the network's parameters",
    ),
    (
        'network_type: "cond_inst3" use_instance_embedding: false num_init_channels: 8 dim: 32',
        "12:90",
        "dim",
        "must be 233 for cond_inst3, got 32",
    ),
    (
        'network_type: "embedding_projection" use_instance_embedding: false',
        "11:5",
        "use_xy",
        "must be false for embedding_projection",
    ),
    (
        "predict_full_resolution_masks: true max_roi_jitter_ratio: 0.1",
        "12:65",
        "max_roi_jitter_ratio",
        "there is no RoI to jitter with predict_full_resolution_masks",
    ),
]


@pytest.mark.parametrize(("written", "place", "path", "end"), IN_MASK_HEAD)
def test_a_mistake_in_the_mask_head(written, place, path, end):
    message = error_of(SMALL.replace("@", written))
    assert message.startswith(f"my.config:{place}: {HEAD}.{path}: ")
    assert message.endswith(end)


GRAMMAR = [
    ("dim 5", 11, "expected \":\", got '5'"),
    ("dim: 5 }  }  }  }", 23, "expected the name of a field, got '}'"),
    ("{", 7, "expected the name of a field, got '{'"),
    ("dim: 5 @@", 14, "expected the name of a field, got '@@'"),
    ("[a.b]: 5", 10, "expected the name of a field, got 'b]:'"),
    ("use_xy { }", 14, "expected \":\", got '{'"),
]


@pytest.mark.parametrize(("written", "column", "end"), GRAMMAR)
def test_a_mistake_in_the_grammar(written, column, end):
    assert error_of(SMALL.replace("@", written)) == f"my.config:{LINE}:{column}: {end}"


def test_an_unclosed_brace():
    text = SMALL.replace("@", "").rstrip()[:-1]
    assert error_of(text).endswith("the text ends without the closing '}'")


ELSEWHERE = [
    # replaced, by, beginning, end
    ("    num_classes: 3\n", "", f"my.config:3:3: {NET}.num_classes: ", "is missing"),
    ("num_classes: 3", "num_classes: -3", f"my.config:4:18: {NET}.num_classes: ", "got -3"),
    ("object_center_params {}", "", f"my.config:3:3: {NET}.object_center_params: ", "is missing"),
    ("width: 64", "width: 60", f"my.config:7:47: {NET}.image_resizer.fixed_shape_resizer.width: ", "must be a multiple of 8 for hourglass_10, got 60"),
    ("fixed_shape_resizer { height: 64 width: 64 }", "", f"my.config:6:5: {NET}.image_resizer: ", "pad_to_multiple_resizer must be set"),
    ("height: 64", "heigth: 64", f"my.config:7:29: {NET}.image_resizer.fixed_shape_resizer.heigth: ", "did you mean 'height'?"),
    ("height: 64", "convert_to_grayscale: true height: 64", f"my.config:7:51: {NET}.image_resizer.fixed_shape_resizer.convert_to_grayscale: ", "three channels; use false, got true"),
    ("hourglass_10", "resnet_v1_50_fpn", f"my.config:5:31: {NET}.feature_extractor.type: ", "hourglass_52, hourglass_104"),
    ("hourglass_10", "hourglass_100", f"my.config:5:31: {NET}.feature_extractor.type: ", "did you mean 'hourglass_10'?"),
    ('"hourglass_10"', '"hourglass_10" channel_means: 1', f"my.config:5:61: {NET}.feature_extractor.channel_means: ", "needs 3 numbers, got [1.0]"),
    ('"hourglass_10"', '"hourglass_10" channel_stds: [1, 2, inf]', f"my.config:5:67: {NET}.feature_extractor.channel_stds[2]: ", "must be a finite number, got inf"),
    ('"hourglass_10"', '"hourglass_10" channel_stds: [1, 2, 0]', f"my.config:5:60: {NET}.feature_extractor.channel_stds: ", "must be positive, got [1.0, 2.0, 0.0]"),
    ("object_detection_task {}", "object_detection_task { scale_head_params { num_filters: 8 } }", f"my.config:9:29: {NET}.object_detection_task.scale_head_params.kernel_sizes: ", "needs one entry for each of num_filters (1), got 0"),
    ("object_detection_task {}", "object_detection_task {} post_processing { a: 5 }", f"my.config:9:30: {NET}.post_processing: ", "remove it"),
    ("object_detection_task {}", "object_detection_task {} keypoint_estimation_task {}", f"my.config:9:30: {NET}.keypoint_estimation_task: ", "remove it"),
    ("center_net {", "ssd {", "my.config:3:3: model.ssd: ", "deepmac has CenterNet only: use center_net"),
    (SMALL, "", "my.config:1:1: model: ", "is missing"),
    (SMALL, "train_config { data_augmentation_options { random_crop_image {} } }", "my.config:1:44: train_config.data_augmentation_options[0].random_crop_image: ", "deepmac does not have this augmentation"),
    (SMALL, "train_config { data_augmentation_options {} }", "my.config:1:16: train_config.data_augmentation_options[0]: ", "random_square_crop_by_scale must be set"),
    (SMALL, "train_config {\n data_augmentation_options { random_adjust_hue {} }\n data_augmentation_options { random_adjust_hue { max_delta: 2 } } }", "my.config:3:61: train_config.data_augmentation_options[1].random_adjust_hue.max_delta: ", "must be 0 to 0.5, got 2.0"),
    (SMALL, 'train_config { fine_tune_checkpoint_type: "detectoin" }', "my.config:1:43: train_config.fine_tune_checkpoint_type: ", "did you mean 'detection'?"),
    (SMALL, "train_input_reader { mask_type: PNG }", "my.config:1:33: train_input_reader.mask_type: ", "must be one of DEFAULT, NUMERICAL_MASKS, PNG_MASKS, got 'PNG'"),
    (SMALL, 'eval_config { super_categories { key: "a" value: "b" }\n super_categories { key: "a" value: "c" } }', "my.config:2:26: eval_config.super_categories[1].key: ", "is there twice: 'a'"),
    (SMALL, 'eval_config { super_categories { key: "a" } }', "my.config:1:15: eval_config.super_categories[0].value: ", "is missing"),
    (SMALL, "train_config { optimizer { adam_optimizer { learning_rate { cosine_decay_learning_rate { warmup_steps: 9 total_steps: 5 } } } } }", "my.config:1:104: train_config.optimizer.adam_optimizer.learning_rate.cosine_decay_learning_rate.warmup_steps: ", "is above total_steps (5), got 9"),
]  # fmt: skip


@pytest.mark.parametrize(("replaced", "by", "beginning", "end"), ELSEWHERE)
def test_a_mistake_elsewhere(replaced, by, beginning, end):
    message = error_of(
        SMALL.replace("@", "").replace(replaced, by, 1) if replaced != SMALL else by
    )
    assert message.startswith(beginning)
    assert message.endswith(end)


@pytest.mark.parametrize(
    ("name", "side", "divisor"),
    [("hourglass_20", 72, 16), ("hourglass_32", 80, 32), ("hourglass_104", 320, 128)],
)
def test_the_input_must_fit_the_depth_of_the_backbone(name, side, divisor):
    text = SMALL.replace("@", "").replace("hourglass_10", name)
    text = text.replace("height: 64 width: 64", f"height: {side} width: 1024")
    assert error_of(text).endswith(
        f"must be a multiple of {divisor} for {name}, got {side}"
    )


def test_in_full_resolution_the_input_must_fit_the_mask_network_too():
    text = SMALL.replace("@", "predict_full_resolution_masks: true")
    assert error_of(text).endswith("must be a multiple of 128 for hourglass52, got 64")


def test_a_size_that_depends_on_the_image_is_not_checked_beforehand():
    text = SMALL.replace("@", "").replace(
        "fixed_shape_resizer { height: 64 width: 64 }", "identity_resizer {}"
    )
    build_config(read(text, PipelineConfig, "my.config"))


def test_values_made_in_python_are_checked_the_same():
    with pytest.raises(FieldError, match="mask_size: must be a multiple of 32"):
        MaskHeadConfig(mask_size=30)
    with pytest.raises(FieldError, match="identity_resizer: cannot be set together"):
        ImageResizerConfig(
            fixed_shape_resizer=FixedShapeResizerConfig(),
            identity_resizer=IdentityResizerConfig(),
        )
    with pytest.raises(FieldError, match="task_loss_weight: must be a finite number"):
        MaskHeadConfig(task_loss_weight=float("nan"))


@pytest.mark.parametrize(
    ("use_xy", "dim"),
    [(False, 217), (True, 233)],  # the reference's own numbers
)
def test_the_parameters_of_a_conditional_network_are_counted(use_xy, dim):
    kind = {"network_type": "cond_inst3", "use_instance_embedding": False}
    MaskHeadConfig(**kind, use_xy=use_xy, dim=dim, num_init_channels=8)
    with pytest.raises(FieldError, match=f"dim: must be {dim}"):
        MaskHeadConfig(**kind, use_xy=use_xy, dim=dim + 1, num_init_channels=8)


def test_one_layer_of_a_conditional_network_has_no_hidden_channels():
    kind = {"network_type": "cond_inst1", "use_instance_embedding": False}
    MaskHeadConfig(**kind, num_init_channels=18, dim=19)
    with pytest.raises(FieldError, match="num_init_channels: must be 18"):
        MaskHeadConfig(**kind, num_init_channels=16, dim=19)


PIECES = r"""{ } [ ] : , ; < > # " ' \ - nan 0 1e9 model x true PNG_MASKS "a" [a.b] 99999999999 é"""


def outcome(text: str, *, lenient: bool) -> str:
    """The error that a text ends in; empty when it is valid."""
    try:
        build_config(read(text, PipelineConfig, "my.config", lenient=lenient))
    except ConfigError as e:
        return str(e)
    return ""


@given(
    changes=st.lists(
        st.tuples(
            st.floats(0, 1),  # where
            st.integers(0, 12),  # characters that go
            st.sampled_from([*PIECES.split(), "\n", "\x00", "x { y: 1 }"]),
        ),
        max_size=3,
    ),
    lenient=st.booleans(),
)
def test_no_text_ends_in_anything_but_one_line(changes, lenient):
    text = SMALL.replace("@", "allowed_masked_classes_ids: [1, 2]")
    for where, length, piece in changes:
        at = int(where * len(text))
        text = text[:at] + piece + text[at + length :]
    error = outcome(text, lenient=lenient)
    assert error == "" or re.fullmatch(r"my\.config:\d+:\d+: .+", error)


def test_messages_nested_without_end_are_refused():
    text = "x " + "{ x " * 100_000
    with pytest.raises(ConfigError, match="nested too deeply"):
        read(text, PipelineConfig, "my.config", lenient=True)


def test_an_interpolation_we_do_not_have_is_told_with_its_place():
    text = SMALL.replace("width: 64", "width: 64 resize_method: AREA").replace("@", "")
    assert error_of(text) == (
        "my.config:7:65: model.center_net.image_resizer.fixed_shape_resizer.resize_method: "
        "must be BILINEAR or NEAREST_NEIGHBOR, got AREA"
    )
