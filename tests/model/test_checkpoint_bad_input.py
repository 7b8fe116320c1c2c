"""Damaged and odd weights of every kind: one line each, that says where and what."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import saved_models
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from deepmac.checkpoint.load import open_weights
from deepmac.checkpoint.reader import GRAPH_KEY, VALUE_SUFFIX
from deepmac.errors import CheckpointError
from deepmac.predictors import open_predictor

KERNEL = "_feature_extractor/_network/output_conv/0/conv/kernel"
INDEX = "variables/variables.index"
DATA = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A directory with a SavedModel that can also be run, and a checkpoint, of one variable."""
    folder = tmp_path_factory.mktemp("whole")
    variable = tf.Variable(np.ones((64, 64), np.float32))
    model = saved_models.tree({KERNEL: variable})

    def serve(image, boxes):
        size = tf.shape(boxes)[1]
        masks = (
            tf.zeros([1, size, 2, 2])
            + variable[0, 0]
            + tf.cast(image[0, 0, 0, 0], "float32")
        )
        return {"detection_masks": masks}

    specs = (saved_models.IMAGE, saved_models.BOXES)
    saved_models.save_function(serve, folder / "saved_model", *specs, _model=model)
    tf.train.Checkpoint(model=model).write(str(folder / "ckpt-0"))
    return folder


@pytest.fixture
def damaged(whole, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def read_all(path: Path) -> None:
    weights = open_weights(path)
    for name in weights.variables:
        weights.read(name)


def cut(path: Path, size: int = 100) -> None:
    path.write_bytes(path.read_bytes()[:size])


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)


def write(folder: Path, arrays: dict[str, object]) -> None:
    """A checkpoint of these keys alone in the place of a SavedModel's variables."""
    for old in (folder / "variables").iterdir():
        old.unlink()
    tf.raw_ops.SaveV2(
        prefix=str(folder / "variables" / "variables"),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )


def save_module(folder: Path, **attributes: object) -> None:
    module = tf.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    shutil.rmtree(folder)
    tf.saved_model.save(module, str(folder))


def graph_with(*children: tuple[str, int]) -> dict[str, object]:
    """A file with one variable and a graph whose root has these children."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    root = graph.nodes.add()
    for name, number in children:
        root.children.add(local_name=name, node_id=number)
    key = f"_model/variables/0{VALUE_SUFFIX}"
    return {key: np.zeros(2, "f"), GRAPH_KEY: np.array(graph.SerializeToString())}


KEY = f"_model/_feature_extractor/variables/0{VALUE_SUFFIX}"

SAVED_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no variables folder": (
        lambda f: shutil.rmtree(f / "variables"),
        r"saved_model: a SavedModel without its variables/ folder",
    ),
    "no index": (
        lambda f: (f / INDEX).unlink(),
        r"without its variables/variables\.index",
    ),
    "no data": (
        lambda f: (f / DATA).unlink(),
        r"its data file variables\.data-00000-of-00001 is not",
    ),
    "a shard too few": (
        lambda f: (f / DATA).rename(f / DATA.replace("of-00001", "of-00002")),
        r"variables\.data-00001-of-00002 is missing",
    ),
    "index cut off": (lambda f: cut(f / INDEX), r"\.index: damaged, or not the index"),
    "index empty": (lambda f: cut(f / INDEX, 0), r"\.index: damaged, or not the index"),
    "index changed": (lambda f: flip(f / INDEX, 40), r"\.index: damaged, or not"),
    "data cut off": (
        lambda f: cut(f / DATA),
        r"saved_model: cannot read .*; the data file is cut off or damaged",
    ),
    "data empty": (lambda f: cut(f / DATA, 0), r"the data file is cut off or damaged"),
    "data changed": (
        lambda f: flip(f / DATA, 5000),
        r"the data file is cut off or dam",
    ),
    "of TensorFlow 1": (
        lambda f: write(f, {"FeatureExtractor/conv/weights": np.zeros(2, "f")}),
        r"a TensorFlow 1 SavedModel \(its variables go by name, such as 'FeatureEx",
    ),
    "of something else": (
        lambda f: save_module(f, encoder=saved_models.tree({"w": tf.Variable([1.0])})),
        r"holds no detection model; expected one of model, _model, .* found encoder",
    ),
    "without a variable": (
        lambda f: save_module(f),
        r"holds no variable, an empty Sav",
    ),
    "without a graph": (
        lambda f: write(f, {KEY: np.zeros(2, "f")}),
        r"without an object graph",
    ),
    "with a graph that is none": (
        lambda f: write(f, {KEY: np.zeros(2, "f"), GRAPH_KEY: np.array(b"\xff\xff")}),
        r"its object graph is damaged",
    ),
    "with an empty graph": (
        lambda f: write(f, {KEY: np.zeros(2, "f"), GRAPH_KEY: np.array(b"")}),
        r"its object graph is damaged",
    ),
    "with a graph that leads nowhere": (
        lambda f: write(f, graph_with(("_model", 7))),
        r"its object graph is damaged",
    ),
    "with numbers in the place of a graph": (
        lambda f: write(f, {KEY: np.zeros(2, "f"), GRAPH_KEY: np.zeros(3, "f")}),
        r"its object graph is damaged",
    ),
}


@pytest.mark.parametrize("name", SAVED_MODELS)
def test_a_saved_model(damaged, name):
    damage, message = SAVED_MODELS[name]
    damage(damaged / "saved_model")
    with pytest.raises(CheckpointError, match=message) as caught:
        read_all(damaged / "saved_model")
    assert "\n" not in str(caught.value)


def test_a_graph_that_leads_in_circles_is_walked_once(damaged):
    folder = damaged / "saved_model"
    write(folder, graph_with(("_model", 0), ("model", 0)))
    assert list(open_weights(folder).variables) == ["variables/0"]


CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "index cut off": (lambda f: cut(f / "ckpt-0.index"), "damaged, or not the index"),
    "index empty": (lambda f: cut(f / "ckpt-0.index", 0), "damaged, or not the index"),
    "index is text": (
        lambda f: (f / "ckpt-0.index").write_text("ckpt-0"),
        "damaged, or not the index",
    ),
    "index is a directory": (
        lambda f: ((f / "ckpt-0.index").unlink(), (f / "ckpt-0.index").mkdir()),
        "no such checkpoint",
    ),
    "data cut off": (
        lambda f: cut(f / "ckpt-0.data-00000-of-00001"),
        "cut off or damaged",
    ),
    "data of another": (
        lambda f: shutil.copy(
            f / "saved_model" / DATA, f / "ckpt-0.data-00000-of-00001"
        ),
        "cut off or damaged",
    ),
    "no data": (
        lambda f: (f / "ckpt-0.data-00000-of-00001").unlink(),
        "its data file ckpt-0.data-00000-of-00001 is not",
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint(damaged, name):
    damage, message = CHECKPOINTS[name]
    damage(damaged)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_all(damaged / "ckpt-0")
    assert "\n" not in str(caught.value)


def hdf5(path: Path, **datasets: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "not an HDF5 file"),
    "text": (lambda p: p.write_text("weights"), "not an HDF5 file"),
    "only a signature": (
        lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"),
        "damaged or cut off",
    ),
    "HDF5 of another kind": (
        lambda p: hdf5(p, data=np.zeros(2)),
        "a weights file without deepmac's index",
    ),
    "an index without a checksum": (
        lambda p: hdf5(p, deepmac_index=np.zeros(2, np.uint8)),
        "damaged or cut off",
    ),
    "a directory": (lambda p: p.mkdir(), "no checkpoint in this directory"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_weights_file_of_our_own(tmp_path, name):
    path = tmp_path / "a.weights.h5"
    make, message = FILES[name]
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)


GRAPHS: dict[str, tuple[Callable[[Path], object], str]] = {
    "graph empty": (lambda f: cut(f / "saved_model.pb", 0), "or damaged"),
    "graph cut off": (lambda f: cut(f / "saved_model.pb", 1000), "or damaged"),
    "graph is text": (
        lambda f: (f / "saved_model.pb").write_text("no graph"),
        "or damaged",
    ),
    "no variables": (lambda f: shutil.rmtree(f / "variables"), "or damaged"),
    "index cut off": (lambda f: cut(f / INDEX), "or damaged"),
    "data cut off": (lambda f: cut(f / DATA), "or damaged"),
    "data changed": (lambda f: flip(f / DATA, 5000), "or damaged"),
    "no signature": (lambda f: save_module(f), "it has no signature"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_saved_model_to_be_run(damaged, name):
    damage, message = GRAPHS[name]
    damage(damaged / "saved_model")
    with pytest.raises(CheckpointError, match=message) as caught:
        open_predictor("saved_model", checkpoint=str(damaged / "saved_model"))
    assert "\n" not in str(caught.value)


def test_the_undamaged_ones_are_fine(whole):
    for path in ("saved_model", "ckpt-0"):
        weights = open_weights(whole / path)
        assert list(weights.variables) == [KERNEL]
        read_all(whole / path)
    open_predictor(str(whole / "saved_model"))
