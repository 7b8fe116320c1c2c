"""Norms folded into convolutions: the same network in fewer steps, or in half the bits."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from deepmac.checkpoint.native import save_weights
from deepmac.config.schema import MaskHeadConfig
from deepmac.data.decode import decode_rgb
from deepmac.errors import CheckpointError, OptionError
from deepmac.matrix_units import cpu_flags, read_cpuinfo
from deepmac.model.deepmac import DeepMAC
from deepmac.model.folding import fold
from deepmac.model.hourglass import HourglassNetwork, hourglass_spec
from deepmac.model.layers import BatchNorm, Convolution
from deepmac.model.mask_head import mask_head
from deepmac.model.variables import layers_under, named_variables
from deepmac.precision import compare
from deepmac.predictors.deepmac import DeepmacPredictor, open_deepmac
from deepmac.samples import write_shapes


def as_if_trained(layer, seed=0):
    """Fills the norms with values such as training leaves there."""
    rng = np.random.default_rng(seed)
    for path, variable in named_variables(layer).items():
        name, shape = path.rpartition("/")[2], variable.shape
        if name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.2, shape))
    return layer


def hourglass() -> HourglassNetwork:
    return as_if_trained(HourglassNetwork(hourglass_spec(20, 4), 3, stem_stride=4))


def image(side=64, seed=1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, side, side, 3)).astype("float32")


def test_a_folded_network_computes_what_it_did():
    network = hourglass()
    before = np.asarray(network(image())[-1])
    fold(network)
    after = np.asarray(network(image())[-1])
    # float32, in which a scale is now part of a weight
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())
    assert np.abs(before).max() > 0.1


def test_a_network_is_folded_once():
    network = hourglass()
    fold(network)
    with pytest.raises(ValueError, match="folded already"):
        fold(network)


@pytest.mark.parametrize("word", ["float16", "bf16", "auto"])
def test_other_precisions_are_refused(word):
    with pytest.raises(OptionError, match=f"must be .*float32.*bfloat16.*'{word}'"):
        fold(hourglass(), word)


def test_every_norm_of_a_hourglass_is_gone_and_every_convolution_has_its_bias():
    network = hourglass()
    fold(network)
    layers = layers_under(network)
    assert all(norm.is_folded for norm in layers if isinstance(norm, BatchNorm))
    convs = [layer for layer in layers if isinstance(layer, Convolution)]
    assert len(convs) > 20
    assert all(conv.is_folded and conv.bias is not None for conv in convs)


FIELDS = {
    "cond_inst3": {"use_instance_embedding": False, "dim": 49},
    "embedding_projection": {"use_instance_embedding": False, "dim": 5},
}


@pytest.mark.parametrize(
    "kind",
    ["hourglass20_no_shortcut", "resnet4", "resnet20", "fully_connected", *FIELDS],
)
def test_every_mask_head_folds_and_gives_float32(kind):
    fields = {"use_instance_embedding": True, "dim": 6} | FIELDS.get(kind, {})
    params = MaskHeadConfig(
        network_type=kind,
        mask_size=8,
        num_init_channels=4,
        use_xy=False,
        pixel_embedding_dim=5,
        **fields,
    )
    rng = np.random.default_rng(0)
    rois = rng.normal(size=(3, 8, 8, 5)).astype(np.float32)
    instance = rng.normal(size=(3, params.dim)).astype(np.float32)
    head = as_if_trained(mask_head(params))
    before = np.asarray(head(rois, instance))
    fold(head)
    after = np.asarray(head(rois, instance))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())
    head = as_if_trained(mask_head(params))
    exact = np.asarray(head(rois, instance)).ravel()
    fold(head, "bfloat16")
    rounded = np.asarray(head(rois, instance))
    assert rounded.dtype == np.float32
    assert np.corrcoef(exact, rounded.ravel())[0, 1] > 0.99
    if not layers_under(head)[1:]:  # without weights there is nothing to round
        np.testing.assert_array_equal(rounded.ravel(), exact)


def test_in_bfloat16_weights_take_half_the_memory_and_what_comes_out_is_float32(
    small_config,
):
    model = as_if_trained(DeepMAC(small_config()))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    boxes = np.array([[[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0]]], np.float32)
    exact_maps = model.embed(model.features(pixels))
    exact = np.asarray(model.mask_logits(exact_maps, boxes))
    DeepmacPredictor(model, precision="bfloat16")
    features = model.features(pixels)
    maps = model.embed(features)
    assert "bfloat16" in str(features.dtype)
    assert {str(np.asarray(part).dtype) for part in maps} == {"float32"}
    logits = np.asarray(model.mask_logits(maps, boxes))
    assert logits.dtype == np.float32
    kernels = [
        layer.kernel
        for layer in layers_under(model)
        if isinstance(layer, Convolution) and not layer.is_output
    ]
    assert {str(kernel.dtype) for kernel in kernels} == {"bfloat16"}
    # 8 bits of a number, through some thirty layers
    for one, other in [(exact, logits), *zip(exact_maps, maps, strict=True)]:
        one, other = np.asarray(one).ravel(), np.asarray(other).ravel()
        assert np.corrcoef(one, other)[0, 1] > 0.99


def test_the_fingerprint_is_that_of_the_weights_in_every_precision(small_config):
    prints = set()
    for precision in (None, "float32", "bfloat16"):
        model = DeepMAC(small_config())
        for i, variable in enumerate(named_variables(model).values()):
            variable.assign(np.full(variable.shape, 0.01 * (i % 7), "float32"))
        prints.add(DeepmacPredictor(model, precision=precision).fingerprint)
    assert len(prints) == 1


def test_a_folded_network_is_not_saved(small_config, tmp_path):
    model = DeepMAC(small_config())
    path = str(tmp_path / "a.weights.h5")
    save_weights(model, path)
    DeepmacPredictor(model, precision="float32")
    with pytest.raises(CheckpointError, match="has been folded for inference"):
        save_weights(model, path)


PROGRAM = """
import sys
import numpy as np
from deepmac.backend import compiled
from deepmac.model.folding import fold
from deepmac.model.hourglass import HourglassNetwork, hourglass_spec

network = HourglassNetwork(hourglass_spec(20, 16), 3, stem_stride=4)
fold(network, sys.argv[1])
compiled(lambda x: network(x)[-1], network)(np.zeros((1, 64, 64, 3), np.float32))
"""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_onednn_computes_bias_sum_and_relu_inside_of_the_convolution(precision):
    """What bfloat16's speed rests on: nothing passes over memory between convolutions."""
    if "avx512_bf16" not in cpu_flags(read_cpuinfo()):
        pytest.skip("the processor has no bfloat16 instructions")
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM, precision],
        env=os.environ | {"ONEDNN_VERBOSE": "1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    runs = [line for line in said.splitlines() if ",exec,cpu,convolution," in line]
    short = {"float32": "f32", "bfloat16": "bf16"}[precision]
    network = HourglassNetwork(hourglass_spec(20, 16), 3, stem_stride=4)
    convs = sum(isinstance(layer, Convolution) for layer in layers_under(network))
    blocks = sum(type(la).__name__ == "ResidualBlock" for la in layers_under(network))
    assert len(runs) == convs
    for line in runs:
        assert re.search(rf"src:{short}\b.* wei:{short}\b.* bia:{short}\b", line)
    # A residual block's sum and its ReLU are part of one of its convolutions.
    assert sum("sum+eltwise_relu" in line for line in runs) == blocks


def test_half_the_bits_keep_the_masks_of_a_trained_network(tmp_path):
    shapes = write_shapes(tmp_path, 3, seed=5)
    annotations = json.loads(shapes.annotations.read_text())["annotations"]
    paths = sorted(shapes.images.iterdir())
    images = [decode_rgb(path.read_bytes()) for path in paths]
    boxes = [
        np.array(
            [
                (y, x, y + height, x + width)
                for x, y, width, height in (
                    a["bbox"] for a in annotations if a["image_id"] == number
                )
            ]
        )
        for number in range(1, len(images) + 1)
    ]
    exact, fast = (
        open_deepmac("center_net_deepmac_tiny", precision=precision)
        for precision in ("float32", "bfloat16")
    )
    found = compare(exact, fast, images, boxes)
    assert found.num_masks == len(annotations)
    assert found.mean_iou > 0.99
    assert found.largest_score_difference < 0.02
