"""Every mask head by its laws, on whichever backend Keras has. The reference's: tests/golden."""

import dataclasses
import itertools

import numpy as np
import pytest

from deepmac.config.message import FieldError
from deepmac.config.schema import MASK_NETWORK_STAGES, MaskHeadConfig
from deepmac.model.mask_head import mask_head
from deepmac.model.resnet import population_norm
from deepmac.model.variables import named_variables

RNG = np.random.default_rng(0)
PIXEL, INSTANCE, HIDDEN = 5, 5, 3
CONDITIONAL = {"cond_inst1": 6, "cond_inst2": 22, "cond_inst3": 34, "cond_inst4": 46}
# The deepest are a hourglass32 with more stages, and slow to compile.
SHALLOW = [kind for kind, stages in MASK_NETWORK_STAGES.items() if stages < 5]
KINDS = [*SHALLOW, *CONDITIONAL]


def config(kind: str, size: int = 8, **fields) -> MaskHeadConfig:
    """A small head without coordinate channels."""
    common = {
        "network_type": kind,
        "mask_size": size,
        "pixel_embedding_dim": PIXEL,
        "dim": CONDITIONAL.get(kind, INSTANCE),
        "num_init_channels": PIXEL if kind == "cond_inst1" else HIDDEN,
        "use_xy": False,
        "use_instance_embedding": kind not in (*CONDITIONAL, "embedding_projection"),
    }
    return MaskHeadConfig(**(common | fields))


def inputs(params: MaskHeadConfig, count: int) -> tuple[np.ndarray, np.ndarray]:
    size = params.mask_size
    rois = RNG.normal(size=(count, size, size, PIXEL)).astype(np.float32)
    return rois, RNG.normal(size=(count, params.dim)).astype(np.float32)


@pytest.fixture(scope="module", params=KINDS)
def head(request):
    """Each head with the moving statistics of a batch, so that inference is about something."""
    import keras

    keras.utils.set_random_seed(0)
    params = config(request.param)
    layer = mask_head(params)
    layer(*inputs(params, 4), training=True)
    return layer, params


def test_a_box_has_the_same_logits_alone_as_among_others(head):
    layer, params = head
    rois, instance = inputs(params, 5)
    logits = np.asarray(layer(rois, instance))
    assert logits.shape == (5, params.mask_size, params.mask_size)
    assert np.ptp(logits) > 0
    alone = np.asarray(layer(rois[3:4], instance[3:4]))
    np.testing.assert_allclose(alone[0], logits[3], atol=1e-4)  # float32 sums
    order = [4, 2, 0, 1, 3]
    swapped = np.asarray(layer(rois[order], instance[order]))
    np.testing.assert_allclose(swapped, logits[order], atol=1e-4)


def test_the_instance_embedding_matters(head):
    layer, params = head
    rois, instance = inputs(params, 2)
    logits, other = layer(rois, instance), layer(rois, instance[::-1])
    assert np.abs(np.asarray(logits) - np.asarray(other)).max() > 1e-4


@pytest.mark.parametrize("kind", [k for k in KINDS if not MASK_NETWORK_STAGES.get(k)])
def test_a_mask_of_one_sample(kind):
    params = config(kind, size=1)
    rois, instance = inputs(params, 3)
    assert mask_head(params)(rois, instance).shape == (3, 1, 1)


# Trainable weights and statistics for 18 + 32 channels of 32 x 32, as the reference has them.
PUBLISHED = {
    "resnet4": (529_088 + 129, 1_408),
    "resnet8": (1_120_448 + 129, 2_944),
    "resnet12": (1_711_808 + 129, 4_480),
    "resnet16": (2_303_168 + 129, 6_016),
    "resnet20": (3_546_624 + 193, 8_192),
    "hourglass10": (1_605_120 + 129, 3_456),
    "hourglass20_uniform_size": (5_513_856 + 129, 8_704),
    "hourglass20_no_shortcut": (4_644_224 + 129, 7_424),
    "fully_connected": (68_162_752, 0),
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_sizes_are_the_published_ones(kind):
    params = MaskHeadConfig(network_type=kind, dim=32, pixel_embedding_dim=16)
    layer = mask_head(params)
    sizes = [
        sum(int(np.prod(v.shape)) for v in variables)
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    ]
    assert tuple(sizes) == PUBLISHED[kind]


@pytest.mark.parametrize("kind", ["embedding_projection", *CONDITIONAL])
def test_heads_whose_weights_are_the_embedding_have_none_of_their_own(kind):
    assert named_variables(mask_head(config(kind))) == {}


def test_a_projection_is_the_scalar_product_in_each_pixel():
    params = config("embedding_projection", num_init_channels=0)
    rois, instance = inputs(params, 3)
    logits = mask_head(params)(rois, instance)
    expected = np.einsum("nyxc,nc->nyx", rois, instance)
    np.testing.assert_allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("kind", CONDITIONAL)
def test_a_conditional_head_is_a_small_network_on_each_pixel(kind):
    params = config(kind)
    rois, instance = inputs(params, 3)
    logits = np.asarray(mask_head(params)(rois, instance))
    depth = int(kind[-1])
    widths = [PIXEL, *[HIDDEN] * (depth - 1), 1]
    for number in range(3):
        pixel = rois[number, 2, 5].astype(float)
        numbers = iter(instance[number].astype(float))
        for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            weights = [[next(numbers) for _ in range(n_out)] for _ in range(n_in)]
            pixel = pixel @ np.array(weights) + [next(numbers) for _ in range(n_out)]
            if layer < depth - 1:
                pixel = np.maximum(pixel, 0)
        assert next(numbers, None) is None  # all are used
        np.testing.assert_allclose(logits[number, 2, 5], pixel[0], atol=1e-4)


def test_a_fully_connected_head_sees_the_whole_roi():
    params = config("fully_connected")
    layer = mask_head(params)
    rois, instance = inputs(params, 1)
    changed = rois.copy()
    changed[0, 0, 0] += 1
    difference = np.asarray(layer(changed, instance)) - np.asarray(
        layer(rois, instance)
    )
    assert (difference != 0).all()


def test_all_other_heads_take_maps_of_any_sides(head):
    layer, params = head
    if params.network_type == "fully_connected":
        pytest.skip("its masks have one size")
    sides = (2 * params.size_divisor, 3 * params.size_divisor)
    rois = RNG.normal(size=(2, *sides, PIXEL)).astype(np.float32)
    _, instance = inputs(params, 2)
    assert layer(rois, instance).shape == (2, *sides)


@pytest.mark.parametrize(
    ("values", "moved_mean", "moved_variance"),
    [
        # 0.99 of 0 and 1, and 0.01 of the mean and of the variance over n - 1
        ([1.0, 3.0, 5.0, 7.0], 0.04, 0.99 + 0.01 * 20 / 3),
        ([1.0], 0.01, 0.99),  # no estimate can be made of one value
    ],
)
def test_the_norm_of_residual_blocks_keeps_the_populations_variance(
    values, moved_mean, moved_variance
):
    norm = population_norm(1)
    x = np.array(values, np.float32)[:, None, None, None]
    y = np.asarray(norm(x, training=True)).ravel()
    expected = (np.array(values) - np.mean(values)) / np.sqrt(np.var(values) + 1.001e-5)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    np.testing.assert_allclose(norm.moving_mean, [moved_mean], rtol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, [moved_variance], rtol=1e-6)


def test_a_frozen_norm_does_not_move():
    norm = population_norm(1)
    norm.trainable = False
    norm(np.arange(4, dtype=np.float32)[:, None, None, None], training=True)
    np.testing.assert_array_equal(norm.moving_variance, [1])


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("cond_inst3", {"dim": 35}, r"^dim: must be 34 for cond_inst3, got 35"),
        (
            "cond_inst3",
            {"use_instance_embedding": True},
            r"^use_instance_embedding: must be false for cond_inst3",
        ),
        ("cond_inst1", {"num_init_channels": 4}, r"^num_init_channels: must be 5 "),
        ("cond_inst0", {}, r"^network_type: no such mask network: 'cond_inst0'"),
        ("embedding_projection", {"dim": 4}, r"^dim: must be 5 "),
        ("embedding_projection", {"use_xy": True}, r"^use_xy: must be false"),
        ("resnet18", {}, r"did you mean 'resnet8'\?$"),
        ("resnet8", {"num_init_channels": 0}, r"^num_init_channels: must be positive"),
        (
            "fully_connected",
            {"predict_full_resolution_masks": True},
            r"^predict_full_resolution_masks: must be false for fully_connected",
        ),
    ],
)
def test_settings_that_do_not_fit_a_head(kind, fields, message):
    with pytest.raises(FieldError, match=message):
        config(kind, **fields)


def test_coordinates_count_as_channels_of_a_conditional_head():
    params = config("cond_inst3", use_xy=True, dim=40)
    rois, instance = inputs(params, 2)
    with_xy = np.concatenate([rois[..., :2], rois], axis=-1)
    assert mask_head(params)(with_xy, instance).shape == (2, 8, 8)
    with pytest.raises(FieldError, match="must be 40 for cond_inst3"):
        dataclasses.replace(params, dim=34)
