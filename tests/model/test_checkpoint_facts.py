"""What shapes tell about a network, for every network that was ever recorded."""

import json
from pathlib import Path

import pytest

from deepmac.checkpoint.facts import (
    BACKBONE,
    infer_embedding_kernel,
    infer_hourglass,
    infer_settings,
)
from deepmac.checkpoint.reader import VALUE_SUFFIX
from deepmac.model.hourglass import HourglassSpec


def shapes_of(case: Path) -> dict[str, tuple[int, ...]]:
    stored = json.loads((case / "checkpoint_keys.json").read_text())
    return {
        key.removeprefix("model/").removesuffix(VALUE_SUFFIX): tuple(shape)
        for key, (shape, _) in stored.items()
    }


def short(settings: dict) -> dict:
    return {field.split(".")[-1]: value for field, value in settings.items()}


def test_every_field_that_shapes_can_tell(shared_golden):
    shapes = shapes_of(shared_golden / "full_hg10_roialign")
    assert infer_settings(shapes) == {
        "model.center_net.feature_extractor.type": "hourglass_10",
        "model.center_net.num_classes": 4,
        "model.center_net.object_center_params.center_head_params.num_filters": (32,),
        "model.center_net.object_center_params.center_head_params.kernel_sizes": (3,),
        "model.center_net.object_detection_task.scale_head_params.num_filters": (32,),
        "model.center_net.object_detection_task.scale_head_params.kernel_sizes": (3,),
        "model.center_net.object_detection_task.offset_head_params.num_filters": (32,),
        "model.center_net.object_detection_task.offset_head_params.kernel_sizes": (3,),
        "model.center_net.deepmac_mask_estimation.dim": 8,
        "model.center_net.deepmac_mask_estimation.pixel_embedding_dim": 6,
        "model.center_net.deepmac_mask_estimation.network_type": "hourglass20",
        "model.center_net.deepmac_mask_estimation.num_init_channels": 8,
        "model.center_net.deepmac_mask_estimation.use_xy": True,
        "model.center_net.deepmac_mask_estimation.use_instance_embedding": True,
    }
    assert infer_embedding_kernel(shapes) == (1, 3)


@pytest.mark.parametrize(
    ("case", "network_type"),
    [
        ("full_2stack_roialign", "hourglass52"),
        ("full_2stack_laststage_3x3", "hourglass100"),
        ("full_fullres_weak", "resnet4"),
        ("train_steps", "hourglass10"),
    ],
)
def test_the_mask_network_of_whole_models(shared_golden, case, network_type):
    assert short(infer_settings(shapes_of(shared_golden / case)))["network_type"] == (
        network_type
    )


def test_a_square_embedding_kernel(shared_golden):
    shapes = shapes_of(shared_golden / "full_2stack_laststage_3x3")
    assert infer_embedding_kernel(shapes) == (3, 3)


@pytest.mark.parametrize(
    "network_type",
    [
        *("hourglass10", "hourglass20", "hourglass32", "hourglass52", "hourglass100"),
        *("hourglass20_uniform_size", "hourglass20_no_shortcut"),
        *("resnet4", "resnet8", "resnet12", "resnet16", "resnet20", "fully_connected"),
    ],
)
def test_every_mask_network_with_variables(shared_golden, network_type):
    case = shared_golden / "mask_heads" / network_type
    settings = short(infer_settings(shapes_of(case)))
    head = json.loads((case / "head.json").read_text())
    assert settings["network_type"] == network_type
    assert settings["num_init_channels"] == head["num_init_channels"]
    if network_type == "fully_connected":
        assert settings["mask_size"] == head["mask_size"]


def heads_of(dim: int, pixel: int) -> dict[str, tuple[int, ...]]:
    """A file of two heads and no mask network."""
    name = "_prediction_head_dict/{}/0/layer_with_weights-0/kernel"
    return {
        name.format("INSTANCE_EMBEDDING"): (1, 1, 256, dim),
        name.format("PIXEL_EMBEDDING"): (1, 1, 256, pixel),
    }


@pytest.mark.parametrize(
    ("dim", "pixel", "told"),
    [
        (
            57,
            7,
            {"network_type": "cond_inst3", "num_init_channels": 4, "use_xy": False},
        ),
        (
            233,
            16,
            {"network_type": "cond_inst3", "num_init_channels": 8, "use_xy": True},
        ),
        (16, 16, {"network_type": "embedding_projection", "use_xy": False}),
        (217, 16, {"use_xy": False}),  # two layers of 12 channels or three of 8
    ],
)
def test_a_mask_network_without_variables_is_told_by_its_size(dim, pixel, told):
    settings = short(infer_settings(heads_of(dim, pixel)))
    del settings["dim"], settings["pixel_embedding_dim"]
    assert settings == told | {"use_instance_embedding": False}


def test_embeddings_that_are_no_networks_tell_nothing_of_one():
    settings = short(infer_settings(heads_of(32, 16)))
    assert set(settings) == {"dim", "pixel_embedding_dim"}


def test_a_backbone_without_a_name_is_described(shared_golden):
    shapes = shapes_of(shared_golden / "backbones" / "three_stacks")
    assert infer_hourglass(shapes, BACKBONE) == HourglassSpec(
        stem_channels=5, channels=(8, 8, 10), blocks=(1, 2, 3), num_hourglasses=3
    )
    assert short(infer_settings(shapes))["type"] == (
        "hourglass with a stem of 5 channels, channels [8, 8, 10], blocks [1, 2, 3], 3 in a row"
    )


def test_a_file_with_holes_tells_what_it_can(shared_golden):
    shapes = shapes_of(shared_golden / "full_hg10_roialign")
    holes = {name: s for name, s in shapes.items() if "encoder_block2" not in name}
    settings = short(infer_settings(holes))
    assert "type" not in settings
    assert settings["num_classes"] == 4


def test_no_variables_tell_nothing():
    assert infer_settings({}) == {}
    assert infer_embedding_kernel({}) is None
