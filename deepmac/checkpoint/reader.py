"""Reads reference checkpoints and SavedModels: object-based, as TensorFlow 2 writes them.

The file is a table from keys to tensors, plus a graph of the objects that were saved. The name
of a variable is the path of child names that leads to it in that graph; the keys only happen to
look like that path in most files. In a SavedModel they do not: a key is the shortest path, and
Keras adds short ones that number the variables of a layer.
"""

import collections
import dataclasses
import glob
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepmac.checkpoint.index import check_index
from deepmac.errors import CheckpointError, one_of
from deepmac.text import one_line

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"

# What the objects above the model are called, and the place of what hangs there in a model.
# The last two are files of a backbone alone, with or without the layer around its network.
_ROOTS = (
    ("model/", ""),
    ("_model/", ""),
    ("_feature_extractor/", "_feature_extractor/"),
    ("feature_extractor/_network/", "_feature_extractor/_network/"),
    ("feature_extractor/", "_feature_extractor/_network/"),
)

# Kept by some versions of the reference inside the model; no weights.
_STATE_OF_THE_MODEL = "_self_supervised_rng/"

# Edges that Keras adds in SavedModels: other ways to the same variables, by position.
_BOOKKEEPING = re.compile(
    r"(trainable_|non_trainable_)?variables|layers|keras_api|layer-\d+|signatures"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A variable in a file: the key of its value, its shape and its dtype."""

    key: str
    shape: tuple[int, ...]
    dtype: str


class ReferenceCheckpoint:
    """A reference checkpoint or the variables of a SavedModel, its values still in the file.

    Attributes:
        path: the prefix of its files, or the directory of the SavedModel.
        is_saved_model: it is one.
        variables: of the model, by the path of names below it, such as
            `_feature_extractor/_network/output_conv/0/conv/kernel`.
        aside: how many entries are not the model's weights, by kind: `optimizer`, `step`,
            `save_counter`, `rng`, `other`.
        step: training steps done; None in an exported file.
    """

    def __init__(self, path: str, *, is_saved_model: bool = False):
        """Opens the checkpoint with the prefix `path`; reads the index, no value.

        Args:
            path: the prefix; of a SavedModel its directory.
            is_saved_model: `path` is one.

        Raises:
            CheckpointError: TensorFlow is missing, or the files are damaged or of another kind.
        """
        self.path = path
        self.is_saved_model = is_saved_model
        in_saved_model = os.path.join(path, "variables", "variables")
        prefix = in_saved_model if is_saved_model else path
        self._reader, shapes, dtypes = _open(prefix)
        self._num_bytes = sum(f.stat().st_size for f in _data_files(prefix))
        keys = [key for key in shapes if key.endswith(VALUE_SUFFIX)]
        if not keys:
            raise CheckpointError(_about_names(path, shapes, is_saved_model))
        if is_saved_model and GRAPH_KEY not in shapes:
            raise CheckpointError(
                f"{path}: its variables come without an object graph, and the keys of a "
                f"SavedModel are numbers; export it again, or use the checkpoint it was made from"
            )
        names = self._object_names() if GRAPH_KEY in shapes else {}
        self.variables: dict[str, Stored] = {}
        self.aside: collections.Counter[str] = collections.Counter()
        for key in sorted(keys):
            name = names.get(key) or key.removesuffix(VALUE_SUFFIX)
            place = _place(name)
            if place is None:
                self.aside[_kind(name)] += 1
            elif place.startswith(_STATE_OF_THE_MODEL):
                self.aside["rng"] += 1
            else:
                shape = tuple(shapes[key])
                self.variables[place] = Stored(key, shape, dtypes[key].name)
        if not self.variables:
            roots = sorted({key.split("/")[0] for key in keys})
            raise CheckpointError(
                f"{path}: holds no detection model; expected one of "
                f"{one_of(dict.fromkeys(root.split('/')[0] for root, _ in _ROOTS))} at its top, "
                f"found {one_of(map(one_line, roots))}"
            )
        has_step = "step" + VALUE_SUFFIX in shapes
        self.step = self._read_step() if has_step else None

    def read(self, name: str) -> np.ndarray:
        """The value of a variable.

        Raises:
            CheckpointError: the data file is cut off or damaged there.
        """
        stored = self.variables[name]
        return self._tensor(stored.key, math.prod(stored.shape))

    def _read_step(self) -> int:
        step = np.asarray(self._tensor("step" + VALUE_SUFFIX))
        if step.shape != () or step.dtype.kind not in "iu":
            raise CheckpointError(f"{self.path}: its step is {step!r:.60}, no number")
        return int(step)

    def _tensor(self, key: str, num_elements: int = 0) -> Any:
        try:
            # TensorFlow would ask for that much memory.
            if num_elements > self._num_bytes:
                raise ValueError(f"it is too small for {num_elements} numbers")
            return self._reader.get_tensor(key)
        except Exception as e:  # TensorFlow raises RuntimeError, ValueError, OpError
            raise CheckpointError(
                f"{self.path}: cannot read {_shown(key)}; the data file is "
                f"cut off or damaged ({_first_line(e)})"
            ) from None

    def _object_names(self) -> dict[str, str]:
        from google.protobuf.message import DecodeError
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        message = trackable_object_graph_pb2.TrackableObjectGraph
        try:
            graph = message.FromString(self._tensor(GRAPH_KEY))
            return dict(_walk(graph.nodes))
        except (DecodeError, IndexError, TypeError) as e:
            raise CheckpointError(
                f"{self.path}: its object graph is damaged ({_first_line(e)})"
            ) from None


def _data_files(path: str) -> Iterator[Path]:
    prefix = Path(path)
    return prefix.parent.glob(glob.escape(prefix.name) + ".data-*-of-*")


def _walk(nodes: Any) -> Iterator[tuple[str, str]]:
    """(key, name) of every value in an object graph.

    A node that several paths lead to gets the one below the root that `_ROOTS` has first, there
    the shortest.
    """
    roots = [root.split("/")[0] for root, _ in _ROOTS]
    tops = sorted(
        nodes[0].children,
        key=lambda top: (
            roots.index(top.local_name) if top.local_name in roots else len(roots)
        ),
    )
    paths = {0: ""}
    for top in tops:
        queue = collections.deque(_enter(top, 0, paths))
        while queue:
            number = queue.popleft()
            for attribute in nodes[number].attributes:
                if attribute.checkpoint_key.endswith(VALUE_SUFFIX):
                    yield attribute.checkpoint_key, paths[number]
            for child in nodes[number].children:
                queue.extend(_enter(child, number, paths))


def _enter(child: Any, parent: int, paths: dict[int, str]) -> list[int]:
    """Notes the path of a child in `paths`; its number, unless it has one already."""
    if child.node_id in paths or _BOOKKEEPING.fullmatch(child.local_name):
        return []
    above = paths[parent] + "/" if paths[parent] else ""
    paths[child.node_id] = above + _escape(child.local_name)
    return [child.node_id]


def _escape(local_name: str) -> str:
    """The child name as keys write it: `box/scale` is one name, not two."""
    return local_name.replace(".", "..").replace("/", ".S")


def _place(name: str) -> str | None:
    """Where in a model a variable belongs; None: not in the model."""
    if "/.OPTIMIZER_SLOT/" in name:
        return None
    for root, place in _ROOTS:
        if name.startswith(root):
            return place + name.removeprefix(root)
    return None


def _kind(name: str) -> str:
    if "/.OPTIMIZER_SLOT/" in name or name.startswith("optimizer/"):
        return "optimizer"
    return name if name in ("step", "save_counter") else "other"


def import_tensorflow(path: str, doing: str) -> Any:
    """TensorFlow, which only files of its own need; a CheckpointError where it is missing."""
    try:
        import tensorflow as tf
    except ImportError:
        raise CheckpointError(
            f"{path}: {doing} a reference checkpoint needs TensorFlow (pip install tensorflow); "
            f"our own .weights.h5 files do not"
        ) from None
    return tf


def _open(path: str) -> tuple[Any, dict[str, list[int]], dict[str, Any]]:
    """TensorFlow's reader, and the shape and the dtype of each key."""
    tf = import_tensorflow(path, "reading")
    check_index(path)
    try:
        reader = tf.train.load_checkpoint(path)
        return (
            reader,
            reader.get_variable_to_shape_map(),
            reader.get_variable_to_dtype_map(),
        )
    # Its errors come as whatever Python has for their code: IndexError, UnicodeDecodeError, ...
    except Exception as e:
        raise CheckpointError(
            f"{path}.index: damaged, or not the index of a checkpoint ({_first_line(e)})"
        ) from None


def _about_names(path: str, keys: Iterable[str], is_saved_model: bool) -> str:
    kind = "SavedModel" if is_saved_model else "checkpoint"
    keys = sorted(set(keys) - {GRAPH_KEY})
    if not keys:
        return f"{path}: holds no variable, an empty {kind}"
    return (
        f"{path}: a TensorFlow 1 {kind} (its variables go by name, such as '{_shown(keys[0])}'); "
        f"expected an object-based one, as TensorFlow 2 writes"
    )


def _shown(key: str) -> str:
    return one_line(key.removesuffix(VALUE_SUFFIX))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
