"""Conversion: there and back nothing changes, and the reference's own way of reading works."""

import re
from pathlib import Path

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from deepmac.checkpoint import convert as conversion
from deepmac.checkpoint import writer
from deepmac.checkpoint.convert import convert, skeleton, target_of
from deepmac.checkpoint.differences import differences
from deepmac.checkpoint.load import load_weights, open_weights
from deepmac.checkpoint.native import save_weights
from deepmac.checkpoint.reader import GRAPH_KEY, VALUE_SUFFIX
from deepmac.config.load import load_config
from deepmac.errors import CheckpointError
from deepmac.model.deepmac import DeepMAC
from deepmac.model.variables import named_variables

GOLDEN = Path(__file__).parents[1] / "golden" / "full_hg10_roialign" / "checkpoint"
OTHERS = ("full_2stack_laststage_3x3", "full_2stack_roialign")
PARTS = ("_feature_extractor", "_mask_net", "_prediction_head_dict")

# Lists of the reference that hold no layer: they are not looked for when a file is read.
LISTS = {"axis", "_channel_means", "_channel_stds"}


@pytest.fixture(scope="module")
def golden():
    return open_weights(GOLDEN)


@pytest.fixture(scope="module")
def native(golden, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("native") / "golden.weights.h5")
    assert convert(golden, path) == "native"
    return path


@pytest.fixture(scope="module")
def reference(native, tmp_path_factory) -> str:
    prefix = str(tmp_path_factory.mktemp("reference") / "new" / "ckpt-12")
    assert convert(open_weights(native), prefix) == "reference"
    return prefix


def graph_of(prefix: str):
    reader = tf.train.load_checkpoint(prefix)
    message = trackable_object_graph_pb2.TrackableObjectGraph
    return message.FromString(reader.get_tensor(GRAPH_KEY))


def objects_of(prefix: str):
    """The objects of the reference that wrote a checkpoint, with zeros in their variables."""
    graph, shapes = (
        graph_of(prefix),
        tf.train.load_checkpoint(prefix).get_variable_to_shape_map(),
    )
    made = {}

    def make(number: int):
        if number not in made:
            node = graph.nodes[number]
            if node.attributes:
                shape = shapes[node.attributes[0].checkpoint_key]
                made[number] = tf.Variable(tf.zeros(shape))
                return made[number]
            made[number] = saved_models.Node()
            for child in node.children:
                name = child.local_name
                if name not in LISTS and not is_empty_list(name, child.node_id):
                    setattr(made[number], name, make(child.node_id))
        return made[number]

    def is_empty_list(name: str, number: int) -> bool:
        is_list = re.fullmatch(r"intermediate_(conv\d|residual)", name)
        return bool(is_list) and not graph.nodes[number].children

    (model,) = (c.node_id for c in graph.nodes[0].children if c.local_name == "model")
    for child in list(graph.nodes[model].children):
        if child.local_name not in PARTS:
            graph.nodes[model].children.remove(child)
    return make(model)


def paths_of(prefix: str) -> set[str]:
    """Every path of child names below the parts of a model, but for lists that hold nothing."""
    graph = graph_of(prefix)

    def walk(number: int, above: str):
        for child in graph.nodes[number].children:
            is_bare = not graph.nodes[child.node_id].children
            is_value = bool(graph.nodes[child.node_id].attributes)
            is_list = re.fullmatch("intermediate_(conv.|residual)", child.local_name)
            if child.local_name in LISTS or (is_list and is_bare and not is_value):
                continue
            yield f"{above}/{child.local_name}"
            yield from walk(child.node_id, f"{above}/{child.local_name}")

    prefixes = tuple(f"/model/{part}/" for part in PARTS)
    return {path for path in walk(0, "") if path.startswith(prefixes)}


def test_there_and_back_nothing_changes(golden, native, reference):
    assert not differences(golden, open_weights(native))
    back = open_weights(reference)
    assert back.variables.keys() == golden.variables.keys()
    for name in golden.variables:
        assert back.read(name).tobytes() == golden.read(name).tobytes(), name


@pytest.mark.parametrize("case", OTHERS)
def test_the_other_recorded_networks(shared_golden, tmp_path, case):
    source = open_weights(shared_golden / case / "checkpoint")
    ours = str(tmp_path / "a.weights.h5")
    convert(source, ours)
    convert(open_weights(ours), str(tmp_path / "ckpt-0"))
    assert not differences(source, open_weights(tmp_path / "ckpt-0"))


def test_a_network_with_a_resnet_mask_head(shared_golden, tmp_path):
    source = open_weights(shared_golden / "full_fullres_weak" / "checkpoint")
    convert(source, str(tmp_path / "a.weights.h5"))
    assert not differences(source, open_weights(tmp_path / "a.weights.h5"))


def test_a_network_whose_mask_head_has_no_variables(golden, tmp_path):
    values = {n: golden.read(n) for n in golden.variables if "_mask_net" not in n}
    last = "_prediction_head_dict/INSTANCE_EMBEDDING/0/layer_with_weights-1/"
    for leaf in ("kernel", "bias"):  # embedding_projection wants as many as pixels have
        values[last + leaf] = values[last + leaf][..., :6]
    source = saved_models.save_variables(values, tmp_path / "saved_model")
    convert(open_weights(source), str(tmp_path / "a.weights.h5"))
    written = open_weights(tmp_path / "a.weights.h5")
    assert written.variables.keys() == values.keys()


def test_from_a_saved_model(golden, tmp_path):
    values = {name: golden.read(name) for name in golden.variables}
    exported = saved_models.save_variables(values, tmp_path / "saved_model")
    convert(open_weights(exported), str(tmp_path / "ckpt-0"))
    assert not differences(golden, open_weights(tmp_path / "ckpt-0"))


def test_the_native_file_is_the_one_that_the_network_writes(golden, native, tmp_path):
    """Also for Keras alone, whose layout it has."""
    config = load_config(GOLDEN.parent / "pipeline.config").model.center_net
    model = DeepMAC(config, embedding_head_kernel=(1, 3))
    load_weights(model, golden)
    expected = {p: np.array(v) for p, v in named_variables(model).items()}
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    model.load_weights(native)
    for path, variable in named_variables(model).items():
        np.testing.assert_array_equal(np.array(variable), expected[path], err_msg=path)
    saved = str(tmp_path / "saved.weights.h5")
    save_weights(model, saved)
    ours, theirs = open_weights(native), open_weights(saved)
    assert ours.variables == theirs.variables  # keys in the file, shapes, types


def test_the_skeleton_has_no_values(golden):
    model = skeleton(golden)
    assert all(variable._value is None for variable in model.variables)


class TestTheReferenceReadsIt:
    """By walking its objects beside those of the file, as TensorFlow does it."""

    def test_every_object_is_found_and_every_value_used(self, golden, reference):
        model = objects_of(golden.path)
        status = tf.train.Checkpoint(model=model).restore(reference)
        status.assert_existing_objects_matched()
        status.assert_consumed()
        kernel = model._feature_extractor._network.downsample_input.conv_block.conv
        name = "_feature_extractor/_network/downsample_input/conv_block/conv/kernel"
        np.testing.assert_array_equal(kernel.kernel.numpy(), golden.read(name))

    def test_objects_without_values_are_there_too(self, golden, reference):
        """Older releases of TensorFlow miss them."""
        assert paths_of(reference) == paths_of(golden.path)

    def test_fine_tuning_takes_the_backbone_alone(self, golden, reference):
        extractor = objects_of(golden.path)._feature_extractor
        below = tf.train.Checkpoint(_feature_extractor=extractor)
        status = tf.train.Checkpoint(model=below).restore(reference)
        status.expect_partial().assert_existing_objects_matched()

    @pytest.mark.parametrize("case", ["full_2stack_laststage_3x3", "full_fullres_weak"])
    def test_objects_of_other_networks(self, shared_golden, tmp_path, case):
        source = open_weights(shared_golden / case / "checkpoint")
        prefix = str(tmp_path / "ckpt-0")
        convert(source, prefix)
        extractor = objects_of(source.path)._feature_extractor
        below = tf.train.Checkpoint(_feature_extractor=extractor)
        status = tf.train.Checkpoint(model=below).restore(prefix)
        status.expect_partial().assert_existing_objects_matched()
        # a ResNet's layers without weights have numbers that depend on how it was built
        found, expected = paths_of(prefix), paths_of(source.path)
        assert {p for p in expected - found if "/_net/model/layer-" not in p} == set()

    def test_the_latest_checkpoint_of_the_directory_is_known(self, reference):
        assert tf.train.latest_checkpoint(Path(reference).parent) == reference
        counter = tf.train.load_checkpoint(reference).get_tensor(
            "save_counter" + VALUE_SUFFIX
        )
        assert (counter.dtype, counter) == (np.int64, 12)


def test_a_large_one_gets_several_data_files(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "PART_BYTES", 1 << 20)
    convert(golden, str(tmp_path / "ckpt-0"))
    data = sorted(p.name for p in tmp_path.glob("ckpt-0.data-*"))
    assert data == [f"ckpt-0.data-{i:05d}-of-00003" for i in range(3)]
    assert not differences(golden, open_weights(tmp_path))
    monkeypatch.undo()
    convert(golden, str(tmp_path / "ckpt-0"), overwrite=True)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "checkpoint",
        "ckpt-0.data-00000-of-00001",
        "ckpt-0.index",
    ]


def test_what_names_the_last_checkpoint_of_a_directory_is_left_alone(golden, tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-51"\n')
    convert(golden, str(tmp_path / "ckpt-0"))
    assert "ckpt-51" in (tmp_path / "checkpoint").read_text()


@pytest.mark.parametrize("name", ["a.weights.h5", "ckpt-1"])
def test_nothing_is_overwritten_unasked(golden, tmp_path, name):
    convert(golden, str(tmp_path / name))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match="is there already; --overwrite"):
        convert(golden, str(tmp_path / name))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["a.weights.h5", "ckpt-1"])
def test_a_failure_leaves_what_was_there(golden, tmp_path, monkeypatch, name):
    convert(golden, str(tmp_path / name))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion, "_check_equal", fail)
    with pytest.raises(CheckpointError, match="cannot be written: No space left"):
        convert(golden, str(tmp_path / name), overwrite=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        ("x/a.weights.h5", None, "native"),
        ("x/a.weights.h5", "native", "native"),
        ("x/ckpt-0", None, "reference"),
        ("ckpt-0", "reference", "reference"),
        ("x/a.weights.h5", "reference", "named by a prefix such as x/ckpt-0"),
        ("x/ckpt-0", "native", r"must end in \.weights\.h5"),
        ("x/a.h5", None, r"must end in \.weights\.h5"),
        ("x/a.keras", None, r"must end in \.weights\.h5"),
        ("x/", None, "x/: a directory; name the checkpoint in it, such as x/ckpt-0"),
        (".", None, "a directory; name the checkpoint in it, such as ckpt-0"),
        ("x/ckpt-0.index", None, "by its prefix, such as x/ckpt-0"),
        ("x/ckpt-0.data-00000-of-00001", None, "by its prefix"),
        ("x/saved_model.pb", None, "by its prefix"),
    ],
)
def test_the_name_says_what_to_write(path, to, expected):
    if expected in ("native", "reference"):
        assert target_of(path, to) == expected
        return
    with pytest.raises(CheckpointError, match=expected):
        target_of(path, to)
