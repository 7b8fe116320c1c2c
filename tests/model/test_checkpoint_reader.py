"""Reference checkpoints: names are walked, odd layouts are read, damage is told."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from deepmac.checkpoint.reader import GRAPH_KEY, VALUE_SUFFIX, ReferenceCheckpoint
from deepmac.errors import CheckpointError

KERNEL = "_feature_extractor/_network/output_conv/0/conv/kernel"
SCALE = "_prediction_head_dict/box.Sscale/0/layer_with_weights-0/bias"


def tree(leaves: dict[str, object]) -> tf.Module:
    """Objects nested as the paths say (`/` between names) around the variables."""
    root = tf.Module()
    for path, value in leaves.items():
        *above, last = path.split("/")
        node = root
        for name in above:
            if not hasattr(node, name):
                setattr(node, name, tf.Module())
            node = getattr(node, name)
        setattr(node, last, tf.Variable(value))
    return root


def values(name: str) -> np.ndarray:
    return np.arange(6, dtype=np.float32).reshape(1, 2, 3) + len(name)


@pytest.fixture
def save(tmp_path):
    def save(**roots) -> str:
        return tf.train.Checkpoint(**roots).write(str(tmp_path / "ckpt-0"))

    return save


def network(prefix: str = "_feature_extractor/_network/") -> tf.Module:
    return tree({prefix + "output_conv/0/conv/kernel": values("k")})


def test_every_name_and_value_of_a_training_checkpoint(shared_golden):
    case = shared_golden / "full_hg10_roialign"
    checkpoint = ReferenceCheckpoint(str(case / "checkpoint" / "ckpt-1"))
    stored = json.loads((case / "checkpoint_keys.json").read_text())
    expected = {
        key.removeprefix("model/").removesuffix(VALUE_SUFFIX): tuple(shape)
        for key, (shape, _) in stored.items()
        if key.startswith("model/") and "_self_supervised_rng" not in key
    }
    found = {name: v.shape for name, v in checkpoint.variables.items()}
    assert found == expected
    assert checkpoint.aside == {"rng": 1, "step": 1, "save_counter": 1}
    assert checkpoint.step == 0


@pytest.mark.parametrize(
    ("root", "below"),
    [
        ("model", "_feature_extractor/_network/"),
        ("_model", "_feature_extractor/_network/"),
        ("_feature_extractor", "_network/"),
        ("feature_extractor", "_network/"),
        ("feature_extractor", ""),
    ],
)
def test_the_roots_of_other_files_are_accepted(save, root, below):
    checkpoint = ReferenceCheckpoint(save(**{root: network(below)}))
    assert list(checkpoint.variables) == [KERNEL]
    np.testing.assert_array_equal(checkpoint.read(KERNEL), values("k"))
    assert checkpoint.step is None


def test_names_come_from_the_graph_not_from_the_keys(tmp_path, write_flat):
    # A SavedModel numbers the variables of a layer: the short way to them gives the key.
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    key = f"_model/_feature_extractor/variables/0{VALUE_SUFFIX}"
    names = ["_model", *KERNEL.split("/")]
    for number, name in enumerate(names):
        node = graph.nodes.add()
        if name == "_network":
            node.children.add(node_id=len(names), local_name="variables")
        node.children.add(node_id=number + 1, local_name=name)
    graph.nodes.add().attributes.add(name="VARIABLE_VALUE", checkpoint_key=key)
    path = write_flat(
        tmp_path / "ckpt-0",
        {key: values("k"), GRAPH_KEY: np.array(graph.SerializeToString())},
    )
    checkpoint = ReferenceCheckpoint(path)
    assert list(checkpoint.variables) == [KERNEL]
    np.testing.assert_array_equal(checkpoint.read(KERNEL), values("k"))


def test_without_an_object_graph_the_keys_are_the_names(tmp_path, write_flat):
    path = write_flat(
        tmp_path / "ckpt-7",
        {
            f"model/{KERNEL}{VALUE_SUFFIX}": values("k"),
            f"model/{SCALE}{VALUE_SUFFIX}": values("s"),
            f"model/{KERNEL}/.OPTIMIZER_SLOT/optimizer/m{VALUE_SUFFIX}": values("m"),
            f"optimizer/iter{VALUE_SUFFIX}": np.int64(9),
            f"step{VALUE_SUFFIX}": np.int64(7000),
            f"ema/decay{VALUE_SUFFIX}": np.float32(0.9),
        },
    )
    checkpoint = ReferenceCheckpoint(path)
    assert sorted(checkpoint.variables) == [KERNEL, SCALE]
    assert checkpoint.step == 7000
    assert checkpoint.aside == {"optimizer": 2, "step": 1, "other": 1}


def test_a_name_with_a_slash_is_one_name(save):
    heads = tf.Module()
    heads._prediction_head_dict = {"box/scale": [tree({"layer/bias": values("b")})]}
    checkpoint = ReferenceCheckpoint(save(model=heads))
    assert list(checkpoint.variables) == [
        "_prediction_head_dict/box.Sscale/0/layer/bias"
    ]


def test_slots_of_a_real_optimizer_are_set_apart(save):
    model = network()
    optimizer = tf.Module()
    optimizer.iter = tf.Variable(3, dtype=tf.int64)
    checkpoint = ReferenceCheckpoint(
        save(model=model, optimizer=optimizer, step=tf.Variable(3, dtype=tf.int64))
    )
    assert list(checkpoint.variables) == [KERNEL]
    assert checkpoint.aside["optimizer"] == 1


def test_a_tensorflow_1_checkpoint_is_refused(tmp_path, write_flat):
    path = write_flat(tmp_path / "model.ckpt", {"Conv/weights": values("k")})
    with pytest.raises(CheckpointError, match=r"TensorFlow 1 .* 'Conv/weights'"):
        ReferenceCheckpoint(path)


def test_a_checkpoint_of_something_else_is_refused(save):
    with pytest.raises(CheckpointError, match=r"no detection model; .*found net$"):
        ReferenceCheckpoint(save(net=network()))


def test_a_cut_off_data_file_is_told_by_the_variable(save):
    path = save(model=tree({"w": np.ones(1000, np.float32)}))
    data = Path(path + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        ReferenceCheckpoint(path).read("w")


def test_a_changed_byte_is_noticed(save):
    path = save(model=tree({"w": np.ones(1000, np.float32)}))
    data = Path(path + ".data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[content.index(b"\x00\x00\x80\x3f") + 400] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot read model/w; .*damaged"):
        ReferenceCheckpoint(path).read("w")


def test_a_text_file_named_index_is_refused(tmp_path):
    (tmp_path / "ckpt-1.index").write_text("not an index")
    with pytest.raises(CheckpointError, match=r"ckpt-1\.index: damaged, or not"):
        ReferenceCheckpoint(str(tmp_path / "ckpt-1"))


def test_a_damaged_graph_is_refused(tmp_path, write_flat):
    path = write_flat(
        tmp_path / "ckpt-1",
        {
            f"model/{KERNEL}{VALUE_SUFFIX}": values("k"),
            GRAPH_KEY: np.array(b"\xff\xff"),
        },
    )
    with pytest.raises(CheckpointError, match="object graph is damaged"):
        ReferenceCheckpoint(path)


def test_without_tensorflow_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(CheckpointError, match="pip install tensorflow"):
        ReferenceCheckpoint(str(tmp_path / "ckpt-1"))
