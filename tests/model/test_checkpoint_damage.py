"""Checkpoints that are damaged in ways that checksums do not tell: what fuzzing has found."""

import json
import zlib

import h5py
import numpy as np
import pytest
from fuzzing.checkpoints import read_table, write_table

from deepmac.checkpoint.facts import infer_embedding_kernel, infer_settings
from deepmac.checkpoint.index import check_index
from deepmac.checkpoint.load import open_weights
from deepmac.errors import CheckpointError

NAME = "model/a/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Contents of the index and of the data file of a small checkpoint."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("saved")
    module = tf.Module()
    module.a = tf.Variable(np.arange(6, dtype=np.float32).reshape(2, 3))
    tf.train.Checkpoint(model=module).save(str(folder / "ckpt"))
    return [
        (folder / f"ckpt-1.{n}").read_bytes() for n in ("index", "data-00000-of-00001")
    ]


@pytest.fixture
def with_entry(saved, tmp_path):
    """Writes the checkpoint with a changed entry; returns its prefix."""
    from tensorflow.core.protobuf import tensor_bundle_pb2

    def write(change) -> str:
        table = read_table(saved[0])
        entry = tensor_bundle_pb2.BundleEntryProto.FromString(table[NAME.encode()])
        change(entry)
        table[NAME.encode()] = entry.SerializeToString()
        (tmp_path / "ckpt-1.index").write_bytes(write_table(table))
        (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(saved[1])
        return str(tmp_path / "ckpt-1")

    return write


def test_what_is_not_changed_is_read(with_entry):
    weights = open_weights(with_entry(lambda entry: None))
    assert weights.read("a").tolist() == [[0, 1, 2], [3, 4, 5]]


def set_shape(*sizes):
    def change(entry):
        del entry.shape.dim[:]
        for size in sizes:
            entry.shape.dim.add(size=size)

    return change


ENTRIES = {  # each of the first three made TensorFlow end the process
    "negative side": (set_shape(2, -3), r"has the shape \[2, -3\]"),
    "shape beyond any memory": (set_shape(2**40, 2**40), "does not fit its 24 bytes"),
    "shape of another size": (set_shape(2, 4), r"of the shape \[2, 4\] does not fit its 24 bytes"),
    "negative size": (lambda e: setattr(e, "size", -24), "does not fit its -24 bytes"),
    "negative offset": (lambda e: setattr(e, "offset", -1), "lies in no data file"),
    "data file that is not there": (lambda e: setattr(e, "shard_id", 3), "lies in no data file"),
    "type that is not there": (lambda e: setattr(e, "dtype", 99), "does not fit"),
    "another type": (lambda e: setattr(e, "dtype", 2), "does not fit its 24 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENTRIES)
def test_an_entry_that_contradicts_itself_is_one_line(with_entry, case):
    change, words = ENTRIES[case]
    with pytest.raises(CheckpointError, match=words) as caught:
        open_weights(with_entry(change))
    assert "ckpt-1.index: damaged, or not the index" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_value_larger_than_the_data_files_is_not_asked_for(with_entry):
    def change(entry):
        set_shape(2**31, 3)(entry)
        entry.size = 3 * 2**33

    weights = open_weights(with_entry(change))
    with pytest.raises(
        CheckpointError, match="cannot read model/a; the data file is cut off"
    ):
        weights.read("a")


def test_every_cut_and_every_changed_byte_of_an_index_is_noticed(saved, tmp_path):
    index = saved[0]
    path = tmp_path / "ckpt-1.index"
    path.write_bytes(index)
    check_index(str(tmp_path / "ckpt-1"))
    for at in range(0, 100, 3):  # all of it in the block of the entries
        for content in (
            index[:at],
            index[:at] + bytes([index[at] ^ 4]) + index[at + 1 :],
        ):
            path.write_bytes(content)
            with pytest.raises(CheckpointError, match="damaged, or not the index"):
                check_index(str(tmp_path / "ckpt-1"))


def test_a_key_that_is_no_text_is_one_line(saved, tmp_path):
    table = read_table(saved[0])
    table[b"\xff"] = table[NAME.encode()]
    (tmp_path / "ckpt-1.index").write_bytes(write_table(table))
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(saved[1])
    with pytest.raises(CheckpointError, match="no description of a tensor"):
        open_weights(tmp_path / "ckpt-1")


OURS = {
    "a list": ([], "it is \\[\\], not an object"),
    "no format": ({"version": "1"}, "it has no 'format'"),
    "format of text": ({"format": "1", "version": "1"}, "format is '1', not a whole number"),
    "no variables": ({"format": 1, "version": "1"}, "it has no 'variables'"),
    "variables in a list": ({"format": 1, "version": "1", "variables": [1]}, "not an object"),
    "a variable without shape": (
        {"format": 1, "version": "1", "variables": {"a": {"dataset": "x", "dtype": "f", "crc32": 1}}},
        "variables.a has no 'shape'",
    ),
    "a negative side": (
        {"format": 1, "version": "1", "variables": {"a": {"dataset": "x", "shape": [2, -1], "dtype": "f", "crc32": 1}}},
        "its index gives a the shape \\[2, -1\\]",
    ),
    "a newer format": ({"format": 9, "version": "7.0"}, "written by deepmac 7.0 in format 9"),
}  # fmt: skip


@pytest.mark.parametrize("case", OURS)
def test_an_index_of_ours_that_is_none_is_one_line(tmp_path, case):
    index, words = OURS[case]
    path = tmp_path / "a.weights.h5"
    content = json.dumps(index).encode()
    with h5py.File(path, "w") as file:
        file["deepmac_index"] = np.frombuffer(content, np.uint8)
        file["deepmac_index"].attrs["crc32"] = zlib.crc32(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_weights(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("shape", [(), (3,), (1, 2, 3), (1, 2, 3, 4, 5)])
def test_shapes_that_no_layer_has_tell_nothing(shape):
    shapes = {
        "_mask_net/_net/input_layer/kernel": shape,
        "_mask_net/_net/fc2/bias": (*shape, 4, 4),
        "_prediction_head_dict/PIXEL_EMBEDDING/0/layer_with_weights-0/kernel": shape,
        "_feature_extractor/_network/downsample_input/conv_block/conv/kernel": shape,
    }
    assert infer_settings(shapes) == {}
    assert infer_embedding_kernel(shapes) is None


def test_a_step_and_a_graph_of_another_kind_are_one_line(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.a = tf.Variable([1.0])
    step = tf.Variable([1, 2])
    tf.train.Checkpoint(model=module, step=step).save(str(tmp_path / "a"))
    with pytest.raises(CheckpointError, match=r"its step is .*, no number"):
        open_weights(tmp_path / "a-1")
    table = read_table((tmp_path / "a-1.index").read_bytes())
    table[b"_CHECKPOINTABLE_OBJECT_GRAPH"] = table[NAME.encode()]
    (tmp_path / "a-1.index").write_bytes(write_table(table))
    with pytest.raises(CheckpointError, match="its object graph is damaged"):
        open_weights(tmp_path / "a-1")


def test_names_with_line_ends_are_one_line(tmp_path):
    import tensorflow as tf

    tf.train.Checkpoint(**{"a\nb": tf.Variable(1.0)}).save(str(tmp_path / "a"))
    with pytest.raises(CheckpointError, match="found a") as caught:
        open_weights(tmp_path / "a-1")
    assert len(str(caught.value).splitlines()) == 1
