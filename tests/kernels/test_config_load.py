"""Names, overrides, and the values of the shipped configurations."""

import pickle

import pytest

from deepmac.categories import COCO_CATEGORIES, VOC_NAMES
from deepmac.config.load import ConfigWarning, config_names, load_config
from deepmac.config.notes import idle_class_ids, placeholders, rereadings, unused_fields
from deepmac.config.printing import to_text
from deepmac.config.schema import (
    CenterNetConfig,
    FixedShapeResizerConfig,
    KeepAspectRatioResizerConfig,
)
from deepmac.config.training_schema import (
    AdamConfig,
    CheckpointVersion,
    CosineDecayConfig,
    InstanceMaskType,
    PenaltyReducedFocalLossConfig,
    SigmoidLossConfig,
    SquareCropByScaleConfig,
)
from deepmac.errors import ConfigError
from deepmac.samples.catalogue import KINDS

VOC = tuple(c.id for c in COCO_CATEGORIES if c.name in VOC_NAMES)
NON_VOC = tuple(c.id for c in COCO_CATEGORIES if c.name not in VOC_NAMES)
PUBLISHED = [
    # name, side, mask network, only the last stage, ids, start, kind of start
    ("512x512_voc_only", 512, "hourglass52", True, VOC, "ckpt-1", "detection"),
    ("1024x1024_voc_only", 1024, "hourglass100", False, VOC, "ckpt-51", "detection"),
    (
        "1024x1024_non_voc_only",
        1024,
        "hourglass100",
        False,
        NON_VOC,
        "ckpt-51",
        "detection",
    ),
    ("1024x1024_coco", 1024, "hourglass100", False, (), "ckpt-51", "fine_tune"),
]
NET = "model.center_net"


def net(name: str, *overrides: str) -> CenterNetConfig:
    return load_config(name, overrides).model.center_net


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case[0])
def test_the_published_configurations_have_their_values(case):
    name, side, network, only_last, ids, start, kind = case
    config = load_config(f"center_net_deepmac_{name}")
    center_net = config.model.center_net
    assert center_net.num_classes == 90
    extractor = center_net.feature_extractor
    assert extractor.type == "hourglass_104"
    assert extractor.bgr_ordering
    assert extractor.channel_means == (104.01362025, 114.03422265, 119.9165958)
    assert extractor.channel_stds == (73.6027665, 69.89082075, 70.9150767)
    assert center_net.image_resizer.chosen == KeepAspectRatioResizerConfig(
        min_dimension=side, max_dimension=side, pad_to_max_dimension=True
    )
    detection = center_net.object_detection_task
    assert (detection.offset_loss_weight, detection.scale_loss_weight) == (1.0, 0.1)
    center = center_net.object_center_params
    assert (center.min_box_overlap_iou, center.max_box_predictions) == (0.7, 100)
    assert center.classification_loss is not None
    assert center.classification_loss.chosen == PenaltyReducedFocalLossConfig(
        alpha=2, beta=4
    )
    head = center_net.deepmac_mask_estimation
    assert (head.dim, head.pixel_embedding_dim, head.mask_size) == (32, 16, 32)
    assert head.task_loss_weight == 5.0
    assert head.network_type == network
    assert head.num_init_channels == 64
    assert "num_init_channels" not in head.set_fields
    assert head.use_only_last_stage is only_last
    assert ("use_only_last_stage" in head.set_fields) is only_last
    assert head.allowed_masked_classes_ids == ids
    assert head.classification_loss is not None
    assert head.classification_loss.chosen == SigmoidLossConfig()

    train = config.train_config
    assert (train.batch_size, train.num_steps) == (128, 50000)
    steps = [step.chosen for step in train.data_augmentation_options]
    assert [type(s).__name__ for s in steps] == [
        "HorizontalFlipConfig",
        "AdjustHueConfig",
        "AdjustContrastConfig",
        "AdjustSaturationConfig",
        "AdjustBrightnessConfig",
        "SquareCropByScaleConfig",
    ]
    assert steps[-1] == SquareCropByScaleConfig(scale_min=0.6, scale_max=1.3)
    assert train.optimizer is not None
    adam = train.optimizer.chosen
    assert isinstance(adam, AdamConfig)
    assert adam.epsilon == 1e-7
    assert adam.learning_rate is not None
    assert adam.learning_rate.chosen == CosineDecayConfig(
        learning_rate_base=1e-3,
        total_steps=50000,
        warmup_learning_rate=2.5e-4,
        warmup_steps=5000,
    )
    assert not train.optimizer.use_moving_average
    assert (train.max_number_of_boxes, train.unpad_groundtruth_tensors) == (100, False)
    assert train.fine_tune_checkpoint_version is CheckpointVersion.V2
    assert train.fine_tune_checkpoint == f"PATH_TO_BE_CONFIGURED/{start}"
    assert train.fine_tune_checkpoint_type == kind

    (evaluation,) = config.eval_input_reader
    for reader, files in (
        (config.train_input_reader, "train2017-?????-of-00256.tfrecord"),
        (evaluation, "val2017-?????-of-00032.tfrecord"),
    ):
        assert reader.load_instance_masks
        assert reader.mask_type is InstanceMaskType.PNG_MASKS
        assert reader.label_map_path == "PATH_TO_BE_CONFIGURED/label_map.txt"
        assert reader.tf_record_input_reader is not None
        assert reader.tf_record_input_reader.input_path == (
            f"PATH_TO_BE_CONFIGURED/{files}",
        )
    assert (evaluation.shuffle, evaluation.num_epochs) == (False, 1)
    metrics = config.eval_config
    assert metrics.metrics_set == ("coco_detection_metrics", "coco_mask_metrics")
    assert metrics.include_metrics_per_category
    assert not metrics.use_moving_averages
    assert metrics.batch_size == 1


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case[0])
def test_the_super_categories_cover_coco_twice(case):
    groups = load_config(f"center_net_deepmac_{case[0]}").eval_config.super_categories
    sizes = {key: len(names.split(",")) for key, names in groups.items()}
    assert sizes == {
        "VOC": 20, "NonVOC": 60, "person": 1, "vehicle": 8, "outdoor": 5, "animal": 10,
        "accessory": 5, "sports": 10, "kitchen": 7, "food": 10, "furniture": 6,
        "electronic": 11, "indoor": 7,
    }  # fmt: skip
    every = [name for names in groups.values() for name in names.split(",")]
    assert sorted(every) == sorted([c.name for c in COCO_CATEGORIES] * 2)
    assert set(groups["VOC"].split(",")) == VOC_NAMES


def test_the_tiny_configuration_fits_the_generated_set():
    config = load_config("center_net_deepmac_tiny")
    center_net = config.model.center_net
    seen = [kind for kind in KINDS if kind.is_seen]
    assert center_net.num_classes == len(KINDS)
    head = center_net.deepmac_mask_estimation
    assert list(head.allowed_masked_classes_ids) == [kind.id for kind in seen]
    groups = config.eval_config.super_categories
    assert groups["seen"].split(",") == [kind.name for kind in seen]
    unseen = [kind.name for kind in KINDS if not kind.is_seen]
    assert groups["unseen"].split(",") == unseen


def test_the_recorded_configurations_of_the_reference_load(shared_golden):
    paths = sorted(shared_golden.glob("*/pipeline.config"))
    assert len(paths) >= 5
    for path in paths:
        # Their backbones are cut down in code, and so are their inputs.
        config = load_config(path, cross_check=False)
        assert config.model.center_net.deepmac_mask_estimation.dim in (8, 10)


# Names


def test_the_names_are_those_of_the_files():
    published = [f"center_net_deepmac_{case[0]}" for case in PUBLISHED]
    assert config_names() == sorted(
        [*published, "center_net_deepmac_small", "center_net_deepmac_tiny"]
    )


@pytest.mark.parametrize(
    "name",
    [
        "center_net_deepmac_512x512_voc_only",
        "center_net_deepmac_512x512_voc_only.config",
        "center_net_deepmac_512x512_voc_only_tpu-32",
        "center_net_deepmac_512x512_voc_only_tpu-32.config",
    ],
)
def test_a_name_may_have_the_suffix_that_others_give_it(name):
    assert net(name).image_resizer == net(PUBLISHED_512).image_resizer


PUBLISHED_512 = "center_net_deepmac_512x512_voc_only"


def test_a_path_is_read_too(tmp_path):
    path = tmp_path / "my.config"
    path.write_text("\ufeff" + to_text(load_config(PUBLISHED_512)), encoding="utf-8")
    assert load_config(path) == load_config(PUBLISHED_512)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("center_net_deepmac_512x512_voc", "; did you mean 'center_net_deepmac_512x512_voc_only'?"),
        ("zzz", "center_net_deepmac_small, center_net_deepmac_tiny"),
        ("", "center_net_deepmac_tiny"),
        ("no/such/file.config", "no/such/file.config: no such file"),
        ("{tmp}", "{tmp}: cannot be read: Is a directory"),
        ("{tmp}/latin1.config", "latin1.config: not a text file: byte 8 is not UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_or_read_is_said(name, end, tmp_path):
    (tmp_path / "latin1.config").write_bytes(b"# caf\xc3\xa9 \xe9")
    with pytest.raises(ConfigError) as caught:
        load_config(name.format(tmp=tmp_path))
    assert str(caught.value).endswith(end.format(tmp=tmp_path))


def test_a_configuration_travels_to_other_processes():
    config = load_config(PUBLISHED_512)
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert copy.model.set_fields == config.model.set_fields
    assert hash(copy) == hash(config)


# Overrides


def test_overrides_are_applied_in_order():
    config = net(
        PUBLISHED_512,
        f"{NET}.num_classes=95",
        f"{NET}.num_classes=91",
        f"{NET}.feature_extractor.bgr_ordering=false",
        f"{NET}.deepmac_mask_estimation.network_type=hourglass20",
        f'{NET}.feature_extractor.type="hourglass_20"',
    )
    assert config.num_classes == 91
    assert not config.feature_extractor.bgr_ordering
    assert config.deepmac_mask_estimation.network_type == "hourglass20"
    assert config.feature_extractor.type == "hourglass_20"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("[1,2,3]", (1, 2, 3)), ("5", (5,)), ("[]", ()), (" [ 7 ] ", (7,))],
)
def test_a_repeated_field_is_replaced(value, expected):
    head = f"{NET}.deepmac_mask_estimation"
    config = net(PUBLISHED_512, f"{head}.allowed_masked_classes_ids={value}")
    assert config.deepmac_mask_estimation.allowed_masked_classes_ids == expected


def test_a_message_is_replaced_as_a_whole_or_changed_in_part():
    resizer = f"{NET}.image_resizer"
    changed = net(
        PUBLISHED_512, f"{resizer}.keep_aspect_ratio_resizer.min_dimension=256"
    )
    assert changed.image_resizer.chosen == KeepAspectRatioResizerConfig(
        min_dimension=256, max_dimension=512, pad_to_max_dimension=True
    )
    replaced = net(
        PUBLISHED_512,
        f"{resizer}={{ keep_aspect_ratio_resizer {{ max_dimension: 640 }} }}",
    )
    assert replaced.image_resizer.chosen == KeepAspectRatioResizerConfig(
        max_dimension=640
    )


def test_another_member_of_a_oneof_takes_the_place_of_the_first():
    resizer = f"{NET}.image_resizer.fixed_shape_resizer"
    config = net(PUBLISHED_512, f"{resizer}.height=256", f"{resizer}.width=384")
    assert config.image_resizer.chosen == FixedShapeResizerConfig(height=256, width=384)


def test_elements_of_repeated_messages_are_picked_by_number():
    step = "train_config.data_augmentation_options"
    config = load_config(
        PUBLISHED_512, [f"{step}[5].random_square_crop_by_scale.scale_min=0.5"]
    )
    crop = config.train_config.data_augmentation_options[5].chosen
    assert crop == SquareCropByScaleConfig(scale_min=0.5, scale_max=1.3)
    config = load_config(
        PUBLISHED_512,
        [f"{step}=[{{random_adjust_hue {{}}}}, {{random_adjust_hue {{}}}}]"],
    )
    assert len(config.train_config.data_augmentation_options) == 2


def test_a_map_is_replaced_by_its_entries():
    config = load_config(
        PUBLISHED_512, ['eval_config.super_categories=[{key: "a" value: "b,c"}]']
    )
    assert config.eval_config.super_categories == {"a": "b,c"}


def test_text_needs_no_quotes_and_may_have_anything_in_it():
    override = 'train_config.fine_tune_checkpoint=C:\\a "b" #c'
    config = load_config(PUBLISHED_512, [override])
    assert config.train_config.fine_tune_checkpoint == 'C:\\a "b" #c'


def test_either_spelling_of_a_renamed_field_replaces_the_other():
    head = f"{NET}.deepmac_mask_estimation"
    config = net(
        PUBLISHED_512,
        f"{head}.feature_consistency_dilation=3",
        f"{head}.color_consistency_dilation=4",
    ).deepmac_mask_estimation
    assert config.color_consistency_dilation == 4
    assert "feature_consistency_dilation" not in config.set_fields


HEAD = f"{NET}.deepmac_mask_estimation"
BAD_OVERRIDES = [
    (f"{NET}.num_clases=5", f"{NET}.num_clases: no such field; did you mean 'num_classes'?"),
    ("num_classes=5", f"num_classes: no such field; did you mean '{NET}.num_classes'?"),
    (f"{NET}.num_classes=", f"{NET}.num_classes: must be a whole number, got ''"),
    (f"{NET}.num_classes=five", f"{NET}.num_classes: must be a whole number, got 'five'"),
    (f"{NET}.num_classes=-5", f"{NET}.num_classes: must be positive, got -5"),
    (f"{NET}.num_classes=5 use_depthwise: true", f"{NET}.num_classes: takes one value, got '5 use_depthwise: true'"),
    (f"{NET}.num_classes.x=5", f"{NET}.num_classes: is a value, it has no fields"),
    (f"{NET}=5", f"{NET}: is a message, it takes {{ ... }}, got '5'"),
    (f"{NET}", "must be path.to.field=value"),
    ("=5", "must be path.to.field=value"),
    (f"{NET}.feature_extractor.type=hourglas_52", "did you mean 'hourglass_52'?"),
    (f"{NET}.ssd.x=1", f"{NET}.ssd: no such field"),
    ("model.ssd={}", "model.ssd: deepmac has CenterNet only: use center_net"),
    (f"{HEAD}.jitter_mode=EXPND", "got 'EXPND'; did you mean 'EXPAND'?"),
    (f"{NET}.feature_extractor.channel_means=[1, nan, 3]", f"{NET}.feature_extractor.channel_means[1]: must be a finite number, got nan"),
    ("train_config.data_augmentation_options.random_adjust_hue.max_delta=1", "or replace them all by a list"),
    ("train_config.data_augmentation_options[9].random_adjust_hue.max_delta=1", "or replace them all by a list"),
    ("train_config[0].batch_size=1", "train_config[0]: is not repeated, it takes no [index]"),
    ("eval_config.metrics_set=[a, b]", "eval_config.metrics_set[0]: must be text in quotes, got 'a'"),
    ("train_input_reader.mask_type=PNG", "must be one of DEFAULT, NUMERICAL_MASKS, PNG_MASKS, got 'PNG'"),
    (f"{NET}.image_resizer={{", "the text ends without the closing '}'"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "end"), BAD_OVERRIDES)
def test_a_mistake_in_an_override_is_shown_with_the_override(override, end):
    with pytest.raises(ConfigError) as caught:
        load_config(PUBLISHED_512, [override])
    message = str(caught.value)
    assert message.startswith(f"--set {override}: ")
    assert message.endswith(end)
    assert "\n" not in message


def test_an_override_that_is_not_text_is_refused():
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load_config(PUBLISHED_512, ["train_config.fine_tune_checkpoint=\udcff"])


def test_a_clash_of_file_and_override_is_shown_at_the_override(tmp_path):
    override = f"{NET}.image_resizer.keep_aspect_ratio_resizer.max_dimension=500"
    with pytest.raises(ConfigError) as caught:
        load_config(PUBLISHED_512, [override])
    assert str(caught.value) == (
        f"--set {override}: {override.split('=')[0]}: "
        f"must be a multiple of 128 for hourglass_104, got 500"
    )


# Notes


def test_lenient_loading_warns_of_every_field_it_skips(tmp_path):
    path = tmp_path / "my.config"
    path.write_text(to_text(load_config(PUBLISHED_512)) + "train_configg { a: 5 }\n")
    with pytest.raises(ConfigError, match="did you mean 'train_config'"):
        load_config(path)
    with pytest.warns(ConfigWarning, match=r"train_configg: not known, ignored"):
        config = load_config(path, lenient=True)
    assert config == load_config(PUBLISHED_512)


def test_what_is_not_acted_on_is_listed_with_its_reason():
    config = load_config(
        PUBLISHED_512,
        [f"{NET}.use_depthwise=true", 'train_config.freeze_variables="a"'],
    )
    reasons = {f.path: f.unused.reason for f in unused_fields(config)}
    assert "weight 0" in reasons["train_config.unpad_groundtruth_tensors"]
    assert "train_config.batch_size" not in reasons
    assert "no effect" in reasons[f"{NET}.use_depthwise"]
    assert "ignores it" in reasons["train_config.freeze_variables"]
    assert f"{NET}.num_classes" not in reasons
    assert f"{NET}.deepmac_mask_estimation.mask_size" not in reasons


def test_placeholders_and_values_read_as_others_are_listed():
    config = load_config("center_net_deepmac_1024x1024_coco")
    assert [path for path, _ in placeholders(config)] == [
        "train_config.fine_tune_checkpoint",
        "train_input_reader.label_map_path",
        "train_input_reader.tf_record_input_reader.input_path",
        "eval_input_reader[0].label_map_path",
        "eval_input_reader[0].tf_record_input_reader.input_path",
    ]
    assert [path for path, _ in rereadings(config)] == [
        "train_config.fine_tune_checkpoint_type"
    ]
    assert rereadings(load_config(PUBLISHED_512)) == []


def test_fewer_classes_leave_ids_without_effect_and_that_is_told():
    config = load_config(PUBLISHED_512, ["model.center_net.num_classes=5"])
    assert config.model.center_net.num_classes == 5
    assert idle_class_ids(config)[:2] == (6, 7)
    assert idle_class_ids(load_config(PUBLISHED_512)) == ()
