"""Our own format: a Keras weights file (HDF5, no pickle) with an index of its variables.

The index says which of our paths each array belongs to, so that a file can be compared with a
model before anything is loaded, and holds checksums, which HDF5 by itself has not. The file stays
one that `keras.Model.load_weights` reads.
"""

import collections
import contextlib
import functools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

import deepmac
from deepmac.checkpoint.names import reference_name
from deepmac.checkpoint.reader import Stored
from deepmac.data.json_shape import misfit
from deepmac.errors import CheckpointError
from deepmac.model.folding import is_folded
from deepmac.model.variables import named_variables
from deepmac.text import one_line

if TYPE_CHECKING:
    import keras

SUFFIX = ".weights.h5"
_INDEX = "deepmac_index"  # a dataset: attributes are limited to 64 KiB
_FORMAT = 1
_HEAD_SHAPE = {"format": int, "version": str}
_INDEX_SHAPE = {
    "variables": {str: {"dataset": str, "shape": [int], "dtype": str, "crc32": int}}
}


def save_weights(model: "keras.Model", path: str) -> None:
    """Writes the weights of a model, whole or not at all.

    Raises:
        CheckpointError: the path does not end in `.weights.h5`, or cannot be written; or the
            model has been folded, and is not what was trained any more.
    """
    if not path.endswith(SUFFIX):
        raise CheckpointError(
            f"{path}: the name of a weights file must end in {SUFFIX}"
        )
    if is_folded(model):
        raise CheckpointError(
            f"{path}: the network has been folded for inference; save the one of "
            f"deepmac.predictors.deepmac.load_network"
        )
    partial = Path(path.removesuffix(SUFFIX) + f".partial-{os.getpid()}{SUFFIX}")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        model.save_weights(partial)
        with h5py.File(partial, "r+") as file:
            index = json.dumps(_index(model, file)).encode()
            file[_INDEX] = np.frombuffer(index, np.uint8)
            file[_INDEX].attrs["crc32"] = zlib.crc32(index)
        partial.replace(path)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be written: {e.strerror or e}") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def save_values(
    model: "keras.Model", path: str, read: Callable[[str], np.ndarray]
) -> None:
    """`save_weights` with other values than the model's own, which are not looked at.

    Args:
        model: says which layer each variable belongs to. Its variables need no values.
        path: of the file.
        read: our path of a variable -> its value, asked for one at a time as the file is written.
    """
    by_layer: dict[str, list[str]] = {}
    for name in named_variables(model):
        by_layer.setdefault(name.rpartition("/")[0], []).append(name)
    for place, names in by_layer.items():
        # Keras decides where a layer's values go, and then asks the layer for them.
        _layer_at(model, place).save_own_variables = functools.partial(
            _save_own, names, read
        )
    save_weights(model, path)


def _save_own(
    names: Sequence[str], read: Callable[[str], np.ndarray], store: Any
) -> None:
    for position, name in enumerate(names):
        store[str(position)] = read(name)


def _layer_at(model: "keras.Model", place: str) -> Any:
    """The layer that a path of attribute names and list positions leads to."""
    layer: Any = model
    for name in place.split("/"):
        layer = layer[int(name)] if name.isdigit() else getattr(layer, name)
    return layer


class NativeWeights:
    """A weights file of ours, its values still in the file.

    Attributes:
        path: of the file.
        variables: by reference name, as in `ReferenceCheckpoint`; by our path where the
            reference has no such variable.
    """

    def __init__(self, path: str):
        """Opens the file; reads its index, no value.

        Raises:
            CheckpointError: the file is damaged, or not one of ours.
        """
        self.path = path
        with _damage_told(path):
            self._file: Any = h5py.File(path, "r")
            index = self._read_index()
        if wrong := misfit(index, _HEAD_SHAPE):
            raise CheckpointError(f"{path}: damaged, of its index {wrong}")
        if index["format"] > _FORMAT:
            raise CheckpointError(
                f"{path}: written by deepmac {one_line(index['version'])} in format {index['format']}; "
                f"this is deepmac {deepmac.__version__}, which reads up to format {_FORMAT}"
            )
        if wrong := misfit(index, _INDEX_SHAPE):
            raise CheckpointError(f"{path}: damaged, of its index {wrong}")
        self.version: str = index["version"]
        self.variables: dict[str, Stored] = {}
        self._crc32: dict[str, int] = {}
        for our_path, entry in index["variables"].items():
            name = reference_name(our_path) or our_path
            shape = tuple(entry["shape"])
            if min(shape, default=0) < 0:
                raise CheckpointError(
                    f"{path}: damaged, its index gives {one_line(name)} the shape {list(shape)}"
                )
            self.variables[name] = Stored(entry["dataset"], shape, entry["dtype"])
            self._crc32[name] = entry["crc32"]

    def read(self, name: str) -> np.ndarray:
        """The value of a variable.

        Raises:
            CheckpointError: the file is damaged there.
        """
        stored = self.variables[name]
        with _damage_told(f"{self.path}: {name}"):
            value = self._file[stored.key][()]
            if value.shape != stored.shape or _crc32(value) != self._crc32[name]:
                raise ValueError("wrong checksum")
        return value

    def _read_index(self) -> dict[str, Any]:
        if _INDEX not in self._file:
            raise CheckpointError(
                f"{self.path}: a weights file without deepmac's index; write it with "
                f"deepmac.checkpoint.native.save_weights, or load it with Keras's load_weights"
            )
        index = self._file[_INDEX][()].tobytes()
        if zlib.crc32(index) != self._file[_INDEX].attrs["crc32"]:
            raise ValueError("wrong checksum of the index")
        return json.loads(index)


@contextlib.contextmanager
def _damage_told(what: str) -> Iterator[None]:
    """Turns what HDF5 raises on damaged files into one CheckpointError."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as e:
        reason = str(e).strip("'\" \n").partition("\n")[0] or type(e).__name__
        raise CheckpointError(f"{what}: damaged or cut off ({reason})") from None


def _crc32(value: np.ndarray) -> int:
    return zlib.crc32(value.tobytes())


def _index(model: "keras.Model", file: Any) -> dict[str, Any]:
    """Which of our paths each array of a file belongs to.

    Where Keras puts a layer depends on attribute names, class names and their order, but it
    notes the layer's name there, and these are unique.
    """
    places: dict[str, str] = {}

    def note(place: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and "0" in item:
            layer_name = str(item.attrs["name"])
            if layer_name in places:
                raise RuntimeError(f"two layers of the model are named {layer_name}")
            places[layer_name] = place

    file.visititems(note)
    counts: collections.Counter[str] = collections.Counter()
    variables = {}
    for path, variable in named_variables(model).items():
        layer_name = variable.path.split("/")[-2]
        dataset = f"{places[layer_name]}/{counts[layer_name]}"
        counts[layer_name] += 1
        value = file[dataset][()]
        if value.shape != tuple(variable.shape):
            raise RuntimeError(f"Keras has put something else than {path} at {dataset}")
        variables[path] = {
            "dataset": dataset,
            "shape": list(value.shape),
            "dtype": str(variable.dtype),
            "crc32": _crc32(value),
        }
    return {"format": _FORMAT, "version": deepmac.__version__, "variables": variables}
