"""What lies at the path a user gave: a reference checkpoint, a SavedModel, our own weights."""

import dataclasses
import os
import posixpath
import re
from pathlib import Path
from typing import Literal

from deepmac.checkpoint.fetch import fetch
from deepmac.data.files import (
    exists,
    is_file,
    is_folder,
    is_remote,
    join,
    list_entries,
    list_folder,
    list_tree,
    read_file,
    read_range,
)
from deepmac.errors import CheckpointError, did_you_mean, one_of
from deepmac.text import short

Kind = Literal["reference", "saved_model", "native"]

GRAPH_FILE = "saved_model.pb"
"""The file in a directory that makes it a SavedModel."""

TRAINED = "model.weights.h5"
"""The file in the folder of a checkpoint of `deepmac train` that predicts."""

RUN = "run.json"
"""The file in that folder that describes it. In a remote store it comes last: the folder is whole."""

_STEP = re.compile(r"step-(\d{8,})")

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_SHARD = re.compile(r"\.data-\d{5}-of-(\d{5})$")


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """Where weights lie, on this machine.

    Attributes:
        kind: `reference`: an object-based TensorFlow checkpoint; `saved_model`: an exported
            SavedModel; `native`: a Keras weights file.
        path: the prefix (`.../ckpt-51`, without `.index`), the directory, or the file.
    """

    kind: Kind
    path: str


def locate(path: str | os.PathLike[str]) -> Location:
    """The weights meant by a path.

    Remote ones are fetched, once for each version of them; see `deepmac.checkpoint.fetch`.

    Args:
        path: a prefix (`ckpt-51`), one of its files (`ckpt-51.index`), a directory with a
            `checkpoint` file or with one checkpoint in it, an export directory (its
            `checkpoint/`, without one its `saved_model/`), a SavedModel's directory or its
            `saved_model.pb`, a `.weights.h5` file, the `--model_dir` of `deepmac train` (its
            newest checkpoint) or one of the checkpoints in it.

    Raises:
        CheckpointError: nothing is there, it is something else, or a part of it is missing.
        Unreachable: it cannot be read.
    """
    location = _find(_plain(path))
    return _fetched(location) if is_remote(location.path) else location


def find_saved_model(path: str | os.PathLike[str]) -> Path | None:
    """The directory of the SavedModel that a path means, on this machine; None where there is none.

    Args:
        path: the directory, the `saved_model.pb` in it, or an export directory, whose
            `saved_model/` it is; a remote one is fetched.
    """
    folder = _saved_model_at(_plain(path))
    if folder is None:
        return None
    if not is_remote(folder):
        return Path(folder)
    return Path(_fetched(Location("saved_model", folder)).path)


def training_checkpoints(model_dir: Path) -> list[Path]:
    """The folders of the complete checkpoints of `deepmac train` in a directory, oldest first."""
    if not os.path.isdir(model_dir):
        return []
    found = [p for p in model_dir.iterdir() if _STEP.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name.partition("-")[2]))


def remote_checkpoints(model_dir: str) -> list[str]:
    """`training_checkpoints` of a directory in a remote store, by name."""
    found = (name for name in list_entries(model_dir) if _STEP.fullmatch(name))
    whole = (name for name in found if exists(join(model_dir, name, RUN)))
    return sorted(whole, key=lambda name: int(name.partition("-")[2]))


def _plain(path: str | os.PathLike[str]) -> str:
    """A path without what means nothing, such as a `/` at its end."""
    text = os.fspath(path)
    if is_remote(text):
        return text.rstrip("/")
    return str(Path(text)) if text else text


def _find(path: str) -> Location:
    if is_folder(path):
        return _in_directory(path)
    prefix = _without_suffix(path)
    if is_file(prefix + ".index"):
        _check_shards(prefix)
        return Location("reference", prefix)
    if is_file(path):
        return _file(path)
    raise CheckpointError(f"{path}: no such checkpoint{_near(prefix)}")


def _fetched(location: Location) -> Location:
    """The copies on this machine of remote weights."""
    if location.kind == "saved_model":
        names = list(list_tree(location.path))
        return Location(location.kind, fetch(location.path, names))
    folder, name = posixpath.split(location.path)
    names = [name]
    if location.kind == "reference":
        names = [f"{name}.index", *_data_files(location.path)]
    return Location(location.kind, os.path.join(fetch(folder, names), name))


def _without_suffix(path: str) -> str:
    return _SHARD.sub("", path.removesuffix(".index"))


def _in_directory(folder: str) -> Location:
    for trained in (folder, *_newest_checkpoint(folder)):
        if is_file(join(trained, TRAINED)):
            return _file(join(trained, TRAINED))
    exported = join(folder, "checkpoint")
    if is_folder(exported):
        return _in_directory(exported)
    if is_file(exported):
        named = _latest(exported)
        if is_folder(named):
            raise CheckpointError(f"{exported}: names {named}, which is a directory")
        return _find(named)
    indices = [n for n in list_folder(folder) if n.endswith(".index")]
    prefixes = sorted(name.removesuffix(".index") for name in indices)
    if len(prefixes) == 1:
        return _find(join(folder, prefixes[0]))
    if prefixes:
        raise CheckpointError(f"{folder} holds {one_of(prefixes)}: name one of them")
    saved_model = _saved_model_at(folder)
    if saved_model is not None:
        return _saved_model(saved_model)
    raise CheckpointError(
        f"{folder}: no checkpoint in this directory (looked for a 'checkpoint' file or folder, "
        f"for *.index, for {GRAPH_FILE} and for {TRAINED})"
    )


def _newest_checkpoint(folder: str) -> list[str]:
    if is_remote(folder):
        return [join(folder, name) for name in remote_checkpoints(folder)[-1:]]
    return [str(path) for path in training_checkpoints(Path(folder))[-1:]]


def _saved_model_at(path: str) -> str | None:
    if posixpath.basename(path) == GRAPH_FILE and is_file(path):
        return posixpath.dirname(path)
    for folder in (path, join(path, "saved_model")):
        if is_file(join(folder, GRAPH_FILE)):
            return folder
    return None


def _saved_model(folder: str) -> Location:
    variables = join(folder, "variables")
    if not is_folder(variables):
        raise CheckpointError(
            f"{folder}: a SavedModel without its variables/ folder; copy the directory whole"
        )
    prefix = join(variables, "variables")
    if not is_file(prefix + ".index"):
        raise CheckpointError(
            f"{folder}: a SavedModel without its variables/variables.index; copy the directory "
            f"whole"
        )
    _check_shards(prefix)
    return Location("saved_model", folder)


def _latest(state: str) -> str:
    """The checkpoint that a `checkpoint` file names as the last one written."""
    text = (read_file(state) or b"").decode("utf-8", "replace")
    match = re.search(r'^model_checkpoint_path:\s*"(.+)"', text, re.MULTILINE)
    if match is None:
        raise CheckpointError(f"{state}: names no model_checkpoint_path")
    if not match[1].isprintable():
        raise CheckpointError(f"{state}: names {short(match[1])}, no file's name")
    # An absolute path is of the machine that wrote it; the files lie beside this one.
    there = match[1].rstrip("/")
    here = join(posixpath.dirname(state), posixpath.basename(there))
    is_absolute = there.startswith("/") or "://" in there
    return there if is_absolute and not is_file(f"{here}.index") else here


def _data_files(prefix: str) -> list[str]:
    """Names of the data files that begin as a prefix does."""
    folder, name = posixpath.split(prefix)
    start = f"{name}.data-"
    return [
        n
        for n in list_folder(folder or ".")
        if n.startswith(start) and _SHARD.search(n)
    ]


def _check_shards(prefix: str) -> None:
    """Every data file belongs to the index: a copy that left some behind is a common accident."""
    name, files = posixpath.basename(prefix), set(_data_files(prefix))
    counts = {m[1]: int(m[1]) for file in files if (m := _SHARD.search(file))}
    if not counts:
        raise CheckpointError(
            f"{prefix}.index is there, but its data file {name}.data-00000-of-00001 is not"
        )
    if len(counts) > 1:
        raise CheckpointError(
            f"{prefix}: data files of different saves, of-{' and of-'.join(sorted(counts))}"
        )
    text, count = counts.popitem()
    for number in range(count):
        shard = f"{name}.data-{number:05d}-of-{text}"
        if shard not in files:
            raise CheckpointError(
                f"{prefix}: its data file {shard} is missing ({count} belong to it)"
            )


def _file(path: str) -> Location:
    head, name = read_range(path, 0, 8), posixpath.basename(path)
    if head == _HDF5:
        return Location("native", path)
    if _SHARD.search(name):
        raise CheckpointError(
            f"{path}: its index file {_without_suffix(name)}.index is missing"
        )
    if name.endswith(".h5"):
        raise CheckpointError(f"{path}: not an HDF5 file, it is damaged or cut off")
    if name == GRAPH_FILE:
        return _saved_model(posixpath.dirname(path))
    if head.startswith(_ZIP):
        raise CheckpointError(
            f"{path}: a Keras or PyTorch archive; expected a reference checkpoint prefix, "
            f"a SavedModel's directory or a .weights.h5 file"
        )
    raise CheckpointError(
        f"{path}: not a checkpoint; expected a prefix such as ckpt-51 (with ckpt-51.index beside "
        f"it), a SavedModel's directory or a .weights.h5 file"
    )


def _near(prefix: str) -> str:
    folder, name = posixpath.split(prefix)
    if not is_folder(folder or "."):
        return f": the directory {folder} does not exist"
    there = sorted(list_folder(folder or "."))
    known = [n.removesuffix(".index") for n in there if n.endswith(".index")]
    known += [n for n in there if n.endswith(".weights.h5")]
    hint = did_you_mean(name, known)
    if hint or not known:
        return hint
    return f"; {folder or '.'} holds {one_of(known)}"
