"""The variables of SavedModels: found by the objects they hang from, whatever their keys say."""

from pathlib import Path

import numpy as np
import pytest
import saved_models
import tensorflow as tf

from deepmac.checkpoint.load import open_weights
from deepmac.checkpoint.reader import GRAPH_KEY, VALUE_SUFFIX, ReferenceCheckpoint
from deepmac.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / "golden" / "full_hg10_roialign" / "checkpoint"
KERNEL = "_feature_extractor/_network/output_conv/0/conv/kernel"


def values_of(weights) -> dict[str, np.ndarray]:
    return {name: weights.read(name) for name in weights.variables}


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def golden_values() -> dict[str, np.ndarray]:
    return values_of(open_weights(GOLDEN))


@pytest.fixture(scope="module")
def exported(golden_values, tmp_path_factory) -> Path:
    """An export directory whose `checkpoint/` was not kept."""
    folder = tmp_path_factory.mktemp("export")
    saved_models.save_variables(golden_values, folder / "saved_model")
    (folder / "pipeline.config").touch()
    return folder


def test_its_keys_are_positions(exported, golden_values):
    prefix = str(exported / "saved_model" / "variables" / "variables")
    keys = [name for name, _ in tf.train.list_variables(prefix)]
    for layer in ("_feature_extractor", "_mask_net/_net"):
        numbered = [k for k in keys if k.startswith(f"_model/{layer}/variables/")]
        assert len(numbered) == sum(n.startswith(layer + "/") for n in golden_values)
    assert f"_model/_mask_net/project_out/kernel{VALUE_SUFFIX}" in keys


@pytest.mark.parametrize("given", ["", "saved_model", "saved_model/saved_model.pb"])
def test_every_variable_is_that_of_the_checkpoint(exported, golden_values, given):
    weights = open_weights(exported / given)
    assert isinstance(weights, ReferenceCheckpoint)
    assert weights.is_saved_model
    assert weights.path == str(exported / "saved_model")
    assert_same(values_of(weights), golden_values)


@pytest.mark.parametrize(
    "case", ["full_2stack_laststage_3x3", "full_2stack_roialign", "full_fullres_weak"]
)
def test_the_other_recorded_networks(shared_golden, tmp_path, case):
    values = values_of(open_weights(shared_golden / case / "checkpoint"))
    folder = saved_models.save_variables(values, tmp_path)
    assert_same(values_of(open_weights(folder)), values)


def test_a_checkpoint_folder_beside_it_goes_first(exported, tmp_path):
    (tmp_path / "saved_model").symlink_to(exported / "saved_model")
    (tmp_path / "checkpoint").symlink_to(GOLDEN)
    assert open_weights(tmp_path).path == str(tmp_path / "checkpoint" / "ckpt-1")


def test_a_variable_with_two_names_goes_by_the_one_below_the_model(tmp_path):
    variable = tf.Variable([1.0, 2.0])
    module = saved_models.Node()
    module.feature_extractor = saved_models.tree({"output_conv/0/bias": variable})
    module._model = saved_models.tree({f"{KERNEL}": variable})
    tf.saved_model.save(module, str(tmp_path))
    assert list(open_weights(tmp_path).variables) == [KERNEL]


def test_a_variable_that_only_a_number_leads_to_does_not_vanish(tmp_path):
    module = saved_models.Node()
    module._model = saved_models.tree({KERNEL: tf.Variable([1.0])})
    module._model._mask_net = saved_models.Node()
    module._model._mask_net.variables = [tf.Variable([2.0])]
    tf.saved_model.save(module, str(tmp_path))
    assert list(open_weights(tmp_path).variables) == [KERNEL, "_mask_net/variables/0"]


def test_without_a_graph_numbers_are_not_taken_for_names(
    exported, tmp_path, write_flat
):
    key = f"_model/_feature_extractor/variables/0{VALUE_SUFFIX}"
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").touch()
    write_flat(tmp_path / "variables" / "variables", {key: np.zeros(1, np.float32)})
    with pytest.raises(CheckpointError, match="without an object graph"):
        open_weights(tmp_path)


def test_a_damaged_graph_is_told(tmp_path, write_flat):
    key = f"_model/_feature_extractor/variables/0{VALUE_SUFFIX}"
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").touch()
    arrays = {key: np.zeros(1, np.float32), GRAPH_KEY: np.array(b"\x0a\xff")}
    write_flat(tmp_path / "variables" / "variables", arrays)
    with pytest.raises(CheckpointError, match="object graph is damaged"):
        open_weights(tmp_path)
