"""The variables of the two published combinations of networks, named and shaped as recorded.

`variables/*.tsv.gz` list name and shape of every variable of the reference's models (release 2.8,
whose embedding heads have kernels of 1 x 3).
"""

import gzip
from pathlib import Path

import pytest

from deepmac.checkpoint.names import our_path, reference_name
from deepmac.config.load import load_config

FOLDER = Path(__file__).parent / "variables"
RNG = "_self_supervised_rng/_state_var"

CASES = [
    ("hourglass_104_hg52", "center_net_deepmac_512x512_voc_only", 1242),
    ("hourglass_104_hg100", "center_net_deepmac_1024x1024_coco", 1582),
]


def recorded(case: str) -> dict[str, tuple[int, ...]]:
    lines = gzip.decompress((FOLDER / f"{case}.tsv.gz").read_bytes()).decode()
    shapes = dict(line.split("\t") for line in lines.splitlines())
    del shapes[RNG]  # a state, no weight
    return {name: tuple(map(int, s.split("x"))) for name, s in shapes.items()}


@pytest.mark.parametrize(("case", "config", "count"), CASES)
def test_every_name_translates_there_and_back(case, config, count):
    names = recorded(case)
    ours = {name: our_path(name) for name in names}
    assert len(ours) == count
    assert None not in ours.values()
    assert len(set(ours.values())) == count
    assert all(reference_name(path or "") == name for name, path in ours.items())


@pytest.mark.slow  # a gigabyte of weights
@pytest.mark.parametrize(("case", "config", "count"), CASES)
def test_the_model_of_the_configuration_has_these_variables_and_no_other(
    case, config, count
):
    from deepmac.model.deepmac import DeepMAC
    from deepmac.model.variables import named_variables

    center_net = load_config(config).model.center_net
    model = DeepMAC(center_net, embedding_head_kernel=(1, 3))
    built = {
        reference_name(path): tuple(variable.shape)
        for path, variable in named_variables(model).items()
    }
    assert built == recorded(case)
    assert len(built) == count
