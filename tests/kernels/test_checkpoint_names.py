"""The names of variables, ours and the reference's."""

import pytest

from deepmac.checkpoint.names import our_path, reference_name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            "backbone/stem/residual_block/skip/conv/kernel",
            "_feature_extractor/_network/downsample_input/residual_block/skip/conv/kernel",
        ),
        (
            "backbone/hourglasses/1/inner_block/0/decoder_block/1/norm/gamma",
            "_feature_extractor/_network/hourglass_network/1/inner_block/0/decoder_block/1/norm/gamma",
        ),
        (
            "backbone/intermediate_residual/0/conv/kernel",
            "_feature_extractor/_network/intermediate_residual/0/conv/kernel",
        ),
        (
            "mask_head/net/stem/conv_block/conv/kernel",
            "_mask_net/_net/conv_input/conv_block/conv/kernel",
        ),
        ("mask_head/project_out/bias", "_mask_net/project_out/bias"),
        ("mask_head/input_layer/bias", "_mask_net/_net/input_layer/bias"),
        ("mask_head/fc2/kernel", "_mask_net/_net/fc2/kernel"),
        (
            "mask_head/blocks/0/shortcut/bias",
            "_mask_net/_net/model/layer_with_weights-5/bias",
        ),
        (
            "mask_head/blocks/1/pre_norm/gamma",
            "_mask_net/_net/model/layer_with_weights-6/gamma",
        ),
        (
            "mask_head/blocks/8/pre_norm/gamma",
            "_mask_net/_net/model/layer_with_weights-41/gamma",
        ),
        (
            "mask_head/blocks/9/norm2/moving_mean",
            "_mask_net/_net/model/layer_with_weights-51/moving_mean",
        ),
        (
            "heads/1/size/convs/0/kernel",
            "_prediction_head_dict/box.Sscale/1/layer_with_weights-0/kernel",
        ),
    ],
)
def test_a_name_translates_both_ways(ours, theirs):
    assert reference_name(ours) == theirs
    assert our_path(theirs) == ours


@pytest.mark.parametrize(
    "name", ["optimizer/iter", "heads/0/size/kernel", "backbone", ""]
)
def test_what_the_other_side_lacks_has_no_name_there(name):
    assert reference_name(name) is None
    assert our_path(name) is None
