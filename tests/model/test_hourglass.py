"""The hourglass networks: sizes that the reference has, and how their parts are joined."""

import re

import numpy as np
import pytest

from deepmac.config.schema import BACKBONE_STAGES, MASK_NETWORK_STAGES
from deepmac.errors import ConfigError
from deepmac.model.hourglass import (
    BACKBONES,
    ConvBlock,
    HourglassNetwork,
    HourglassSpec,
    ResidualBlock,
    backbone_spec,
    hourglass_spec,
    residual_stack,
    upsample,
)
from deepmac.model.mask_head import HOURGLASSES, HourglassMaskHead
from deepmac.model.variables import named_variables


def sizes(layer) -> tuple[int, int]:
    """Parameters that are trained, and statistics of batch norms that are not."""
    trained, kept = (
        sum(int(np.prod(v.shape)) for v in variables)
        for variables in (layer.trainable_variables, layer.non_trainable_variables)
    )
    return trained, kept


@pytest.mark.parametrize(
    ("name", "trained", "statistics"),
    [
        ("hourglass_10", 399_648, 1_728),
        ("hourglass_20", 3_103_440, 6_720),
        ("hourglass_32", 5_866_224, 11_616),
        ("hourglass_52", 23_435_072, 29_312),
    ],
)
def test_backbones_have_the_size_of_the_references(name, trained, statistics):
    net = HourglassNetwork(backbone_spec(name), in_channels=3, stem_stride=4)
    assert sizes(net) == (trained, statistics)


@pytest.mark.parametrize(
    ("name", "trained", "statistics"),
    [
        ("hourglass10", 1_605_120, 3_456),
        ("hourglass20", 5_530_496, 8_960),
        ("hourglass20_uniform_size", 5_513_856, 8_704),
        ("hourglass20_no_shortcut", 4_644_224, 7_424),
        ("hourglass32", 10_439_936, 15_488),
        ("hourglass52", 23_454_464, 29_312),
        ("hourglass100", 47_220_992, 55_424),
    ],
)
def test_mask_heads_have_the_size_of_the_references(name, trained, statistics):
    depth, variant = HOURGLASSES[name]
    head = HourglassMaskHead(
        hourglass_spec(depth, 64, **variant), roi_channels=18, instance_channels=32
    )
    projection = 128 + 1
    assert sizes(head) == (trained + projection, statistics)


def test_the_schema_knows_how_deep_the_networks_are():
    for name in BACKBONES:
        assert backbone_spec(name).num_stages == BACKBONE_STAGES[name]
    for name, (depth, variant) in HOURGLASSES.items():
        spec = hourglass_spec(depth, 4, **variant)
        assert spec.size_divisor == 2 ** MASK_NETWORK_STAGES[name]


def test_the_depth_counts_the_convolutions_on_the_lowest_path():
    def lowest_path(layer) -> int:
        """Convolutions from input to output through the innermost stages."""
        beside = re.compile(r"encoder_block1|skip|intermediate_conv1")
        kernels = [path for path in named_variables(layer) if path.endswith("kernel")]
        return sum(not beside.search(path) for path in kernels)

    for depth in (10, 32, 104):
        net = HourglassNetwork(hourglass_spec(depth, 1), in_channels=3, stem_stride=4)
        assert lowest_path(net) == depth


def test_a_backbone_has_a_quarter_of_the_resolution_and_an_output_of_each_hourglass():
    spec = HourglassSpec(
        stem_channels=2, channels=(4, 4, 6), blocks=(1, 2, 2), num_hourglasses=3
    )
    outputs = HourglassNetwork(spec, 3, stem_stride=4)(np.zeros((1, 32, 48, 3), "f"))
    assert [tuple(output.shape) for output in outputs] == [(1, 8, 12, 4)] * 3


def test_a_mask_network_keeps_the_resolution():
    net = HourglassNetwork(hourglass_spec(10, 2), in_channels=5, stem_stride=1)
    (output,) = net(np.zeros((3, 8, 8, 5), "f"))
    assert tuple(output.shape) == (3, 8, 8, 4)


def test_strided_convolutions_are_padded_on_every_side():
    # "same" padding would see pixels 0 to 2 first; with one zero before, it is -1 to 1
    block = ConvBlock(1, 1, kernel_size=3, stride=2, relu=False)
    block.conv.kernel.assign(np.ones((3, 3, 1, 1)))
    image = np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    total = np.asarray(block(image))[0, :, :, 0]
    assert total.shape == (3, 3)
    np.testing.assert_allclose(
        total[0, 0], 0 + 1 + 6 + 7, rtol=1e-4
    )  # batch norm's epsilon
    np.testing.assert_allclose(total[1, 1], 9 * image[0, 2, 2, 0], rtol=1e-4)


def test_a_strided_1x1_convolution_sees_every_other_pixel():
    block = ConvBlock(1, 1, kernel_size=1, stride=2, relu=False)
    block.conv.kernel.assign(np.ones((1, 1, 1, 1)))
    image = np.arange(20, dtype=np.float32).reshape(1, 4, 5, 1)
    seen = np.asarray(block(image))[0, :, :, 0]
    np.testing.assert_allclose(seen, image[0, ::2, ::2, 0], rtol=1e-4)


def test_upsampling_repeats_pixels():
    image = np.array([[1, 2], [3, 4]], np.float32)[None, :, :, None]
    doubled = np.asarray(upsample(image, 2))[0, :, :, 0]
    assert doubled.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_where_a_stack_has_skip_convolutions():
    def skips(*args, **kwargs) -> str:
        blocks = residual_stack(*args, **kwargs)
        return "".join("S" if block.skip else "-" for block in blocks)

    assert skips(4, 4, 3) == "---"
    assert skips(4, 6, 3, stride=2) == "S--"
    assert skips(4, 6, 3, first_skip=True) == "S--"
    assert skips(6, 4, 3, mid_channels=6) == "--S"
    assert skips(4, 4, 1) == "-"
    assert skips(4, 6, 1, stride=2) == "S"


def test_a_lone_block_cannot_change_the_width():
    with pytest.raises(ConfigError, match=r"\(6 to 4\).*equal widths"):
        HourglassNetwork(
            HourglassSpec(stem_channels=2, channels=(4, 6), blocks=(1, 1)),
            3,
            stem_stride=4,
        )
    assert ResidualBlock(6, 4, skip=True).skip is not None


def test_dimensions_that_do_not_belong_together_are_an_error():
    with pytest.raises(ConfigError, match="as many block counts as channel counts"):
        HourglassSpec(stem_channels=2, channels=(4, 6), blocks=(1,))
    with pytest.raises(ConfigError, match=r"hourglass_53.*did you mean 'hourglass_52'"):
        backbone_spec("hourglass_53")


def test_moving_statistics_are_nearly_those_of_the_last_batch():
    block = ConvBlock(1, 1, kernel_size=1, relu=False)
    block.conv.kernel.assign(np.ones((1, 1, 1, 1)))
    batch = np.array([1.0, 3.0], np.float32).reshape(1, 1, 2, 1)  # mean 2, variance 1
    before = np.asarray(block(batch)).ravel()
    np.testing.assert_allclose(
        before, [1, 3], rtol=1e-4
    )  # inference: moving statistics
    in_training = np.asarray(block(batch, training=True)).ravel()
    np.testing.assert_allclose(in_training, [-1, 1], rtol=1e-4)
    np.testing.assert_allclose(block.norm.moving_mean, [0.9 * 2], rtol=1e-6)
    # the biased variance (1, not 2), and a tenth of what there was
    np.testing.assert_allclose(
        block.norm.moving_variance, [0.1 * 1 + 0.9 * 1], rtol=1e-6
    )


def test_variables_are_named_by_the_way_to_them():
    block = ResidualBlock(2, 4, stride=2, skip=True)
    norm = ["gamma", "beta", "moving_mean", "moving_variance"]
    assert list(named_variables(block)) == [
        "conv_block/conv/kernel",
        *(f"conv_block/norm/{name}" for name in norm),
        "conv/kernel",
        *(f"norm/{name}" for name in norm),
        "skip/conv/kernel",
        *(f"skip/norm/{name}" for name in norm),
    ]
    net = HourglassNetwork(hourglass_spec(104, 1), in_channels=3, stem_stride=4)
    named = named_variables(net)
    assert len(named) == len({id(v) for v in named.values()}) == len(net.variables)
    again = HourglassNetwork(hourglass_spec(104, 1), in_channels=3, stem_stride=4)
    assert list(named_variables(again)) == list(named)  # whatever was built before
