"""Writes checkpoints that the reference reads: its names, and the graph of objects behind them.

The reference restores by walking its own objects beside those of the file, child by child. So a
file has all of the objects that its networks have, also those without values.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepmac.checkpoint.reader import GRAPH_KEY, VALUE_SUFFIX, import_tensorflow
from deepmac.errors import CheckpointError

PART_BYTES = 256 << 20
"""Values in one data file, and in memory at a time."""

_COUNTER = "save_counter"

# What else hangs beside these children of an object of the reference: layers without weights.
_COMPANIONS = (
    ({"conv", "norm"}, {"relu"}),  # a block, of one convolution or of two
    ({"conv_block", "conv", "norm"}, {"skip"}),  # a residual block
    ({"encoder_block2"}, {"merge_features", "upsample"}),  # an hourglass
    ({"hourglass_network"}, {"intermediate_relu"}),
)
_HEAD_LAYER = re.compile(r"layer_with_weights-(\d+)")


def write_reference(
    prefix: str,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    *,
    save_counter: int = 0,
) -> None:
    """Writes a checkpoint of a model alone, as an export of the reference holds.

    Large ones get several data files, so that no more than `PART_BYTES` are in memory.

    Args:
        prefix: of the files; what is there is overwritten.
        shapes: of the variables, by reference name.
        read: name -> value, asked for one at a time.
        save_counter: the number of the checkpoint.

    Raises:
        CheckpointError: TensorFlow is missing, or the files cannot be written.
    """
    tf = import_tensorflow(prefix, "writing")
    graph = object_graph([*(f"model/{name}" for name in shapes), _COUNTER])
    values = itertools.chain(
        ((f"model/{name}{VALUE_SUFFIX}", read(name)) for name in shapes),
        [
            (_COUNTER + VALUE_SUFFIX, np.int64(save_counter)),
            (GRAPH_KEY, np.array(graph, object)),
        ],
    )
    parts = []
    try:
        for number, part in enumerate(_parts(values)):
            parts.append(f"{prefix}.part-{number}")
            tf.raw_ops.SaveV2(
                prefix=parts[-1],
                tensor_names=list(part),
                shape_and_slices=[""] * len(part),
                tensors=list(part.values()),
            )
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=parts, destination_prefix=prefix
        )
    except tf.errors.OpError as e:
        raise CheckpointError(f"{prefix}: cannot be written: {e.message}") from None


def write_state(folder: Path, name: str) -> None:
    """Writes the file `checkpoint`, which says that `name` is the latest one of a directory."""
    state = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    (folder / "checkpoint").write_text(state, encoding="utf-8")


def _parts(values: Iterator[tuple[str, Any]]) -> Iterator[dict[str, Any]]:
    part: dict[str, Any] = {}
    size = 0
    for key, value in values:
        if part and size + value.nbytes > PART_BYTES:
            yield part
            part, size = {}, 0
        part[key] = value
        size += value.nbytes
    yield part


def object_graph(names: list[str]) -> bytes:
    """The graph of the objects around variables: a serialised `TrackableObjectGraph`.

    Args:
        names: of the variables, from the root, as `model/_mask_net/project_out/kernel`.
    """
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    children: dict[str, dict[str, str]] = {"": {}}  # path -> name below it -> path
    for name in names:
        above = ""
        for part in name.split("/"):
            path = f"{above}/{part}" if above else part
            children[above][part] = path
            above = path
            children.setdefault(above, {})
    for path, below in list(children.items()):
        for companion in _companions(below):
            children.setdefault(below.setdefault(companion, f"{path}/{companion}"), {})
        _number_layers(path, below, children)
    numbers = {path: number for number, path in enumerate(children)}
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    for path, below in children.items():
        node = graph.nodes.add()
        for part, child in below.items():
            local_name = part.replace(".S", "/").replace("..", ".")
            node.children.add(node_id=numbers[child], local_name=local_name)
        if path in names:
            node.attributes.add(
                name="VARIABLE_VALUE",
                full_name=path,
                checkpoint_key=path + VALUE_SUFFIX,
            )
    return graph.SerializeToString()


def _companions(below: Mapping[str, str]) -> Iterator[str]:
    for these, those in _COMPANIONS:
        if these <= below.keys():
            yield from sorted(those)
    if {"conv", "norm"} <= below.keys() and "conv_block" not in below:
        yield "pad"


def _number_layers(
    path: str, below: dict[str, str], children: dict[str, dict[str, str]]
) -> None:
    """The other names of a head's layers, between which lie activations without weights."""
    numbers = [int(match[1]) for name in below if (match := _HEAD_LAYER.match(name))]
    if "/_prediction_head_dict/" not in path or not numbers:
        return
    for number in range(max(numbers) + 1):
        below[f"layer-{2 * number}"] = below[f"layer_with_weights-{number}"]
        if number < max(numbers):
            activation = f"{path}/layer-{2 * number + 1}"
            below[f"layer-{2 * number + 1}"] = activation
            children[activation] = {}
