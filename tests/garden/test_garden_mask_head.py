"""The Model Garden's deep mask head gives what ours does, with the same weights.

Theirs ends otherwise: between the hourglass and the logits it has a transposed convolution to
`num_filters` channels, which enlarges by a whole number, with batch norm and ReLU. Our closing
1x1 convolution passes through it as two channels, the sums over its positive and over its negative
weights: what comes from the hourglass is not negative, so neither are these, and their difference
is the logit. Enlarging repeats every logit.
"""

import numpy as np
import pytest

pytest.importorskip("official", reason="the Model Garden: `make test-garden` has it")

from official.projects.deepmac_maskrcnn.modeling.heads.instance_heads import (
    DeepMaskHead,
)

from deepmac.model.hourglass import hourglass_spec
from deepmac.model.mask_head import HourglassMaskHead
from deepmac.model.variables import named_variables

CHANNELS, SIDE, WIDTH = 6, 32, 4
HEADS = {"hourglass20": 20, "hourglass52": 52, "hourglass100": 100}


@pytest.mark.parametrize(
    ("variant", "factor"), [("hourglass20", 1), *((v, 2) for v in HEADS)]
)
def test_equal_weights_give_equal_logits(variant, factor):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 3, SIDE, SIDE, CHANNELS)).astype(np.float32)
    ours = HourglassMaskHead(
        hourglass_spec(HEADS[variant], WIDTH),
        roi_channels=CHANNELS,
        instance_channels=0,
    )
    randomise(ours, rng)
    theirs = DeepMaskHead(
        num_classes=1,
        upsample_factor=factor,
        num_filters=WIDTH,
        class_agnostic=True,
        convnet_variant=variant,
    )
    theirs([features, np.zeros((2, 3), np.int32)])  # makes the variables
    carry_weights(ours, theirs)
    logits = np.asarray(ours(features.reshape(-1, SIDE, SIDE, CHANNELS), None))
    expected = theirs([features, np.zeros((2, 3), np.int32)]).numpy()
    enlarged = logits.repeat(factor, axis=1).repeat(factor, axis=2)
    difference = np.abs(enlarged - expected.reshape(enlarged.shape)).max()
    assert difference <= 1e-4 * logits.std()  # float32 sums in another order


def randomise(head, rng):
    """Weights that tell every variable from its neighbours and keep the signal's size."""
    for path, variable in named_variables(head).items():
        shape, leaf = variable.shape, path.rsplit("/", 1)[-1]
        if leaf == "kernel":
            value = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        elif leaf in ("gamma", "moving_variance"):
            value = rng.uniform(0.8, 1.2, shape)
        else:
            value = rng.normal(size=shape) * 0.1
        variable.assign(value.astype(np.float32))


def carry_weights(ours, theirs):
    """Sets every variable of their head from ours."""
    final = {}
    num_carried = 0
    for path, variable in named_variables(ours).items():
        part, *rest = path.split("/")
        if part == "project_out":
            final[rest[0]] = variable.numpy()
            continue
        path = "/".join(rest)
        path = path.replace("stem/", "conv_input/")
        path = path.replace("hourglasses/", "hourglass_network/")
        follow(theirs._hourglass, path).assign(variable.numpy())
        num_carried += 1
    assert num_carried == len(theirs._hourglass.variables)
    deconvolution, norm, last = (
        theirs._deconv,
        theirs._deconv_bn,
        theirs._mask_regressor,
    )
    weights = final["kernel"][0, 0, :, 0]
    kernel = np.zeros(
        deconvolution.kernel.shape, np.float32
    )  # [factor, factor, to, from]
    kernel[:, :, 0], kernel[:, :, 1] = weights.clip(0), (-weights).clip(0)
    deconvolution.kernel.assign(kernel)
    norm.gamma.assign(np.sqrt(norm.moving_variance.numpy() + norm.epsilon))
    difference = np.zeros(last.kernel.shape, np.float32)
    difference[0, 0, :2, 0] = 1, -1
    last.kernel.assign(difference)
    last.bias.assign(final["bias"])


def follow(layer, path):
    """The variable at the end of a path of attribute names and list positions."""
    for name in path.split("/"):
        layer = layer[int(name)] if name.isdigit() else getattr(layer, name)
    return layer
