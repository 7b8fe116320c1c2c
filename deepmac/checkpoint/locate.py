"""What lies at the path a user gave: a reference checkpoint, a SavedModel, our own weights."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Literal

from deepmac.errors import CheckpointError, did_you_mean, one_of
from deepmac.text import short

Kind = Literal["reference", "saved_model", "native"]

GRAPH_FILE = "saved_model.pb"
"""The file in a directory that makes it a SavedModel."""

TRAINED = "model.weights.h5"
"""The file in the folder of a checkpoint of `deepmac train` that predicts."""

_STEP = re.compile(r"step-(\d{8,})")

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_SHARD = re.compile(r"\.data-\d{5}-of-(\d{5})$")


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """Where weights lie.

    Attributes:
        kind: `reference`: an object-based TensorFlow checkpoint; `saved_model`: an exported
            SavedModel; `native`: a Keras weights file.
        path: the prefix (`.../ckpt-51`, without `.index`), the directory, or the file.
    """

    kind: Kind
    path: str


def locate(path: str | os.PathLike[str]) -> Location:
    """The weights meant by a path.

    Args:
        path: a prefix (`ckpt-51`), one of its files (`ckpt-51.index`), a directory with a
            `checkpoint` file or with one checkpoint in it, an export directory (its
            `checkpoint/`, without one its `saved_model/`), a SavedModel's directory or its
            `saved_model.pb`, a `.weights.h5` file, the `--model_dir` of `deepmac train` (its
            newest checkpoint) or one of the checkpoints in it.

    Raises:
        CheckpointError: nothing is there, it is something else, or a part of it is missing.
    """
    path = os.fspath(path)
    if "://" in path:
        raise CheckpointError(
            f"{path}: weights are read from local disk only; copy the files there first"
        )
    given = Path(path)
    # Unlike Path's own, these questions have an answer for names too long for the file system.
    if os.path.isdir(path):
        return _in_directory(given)
    prefix = _without_suffix(path)
    if os.path.isfile(prefix + ".index"):
        _check_shards(prefix)
        return Location("reference", prefix)
    if os.path.isfile(path):
        return _file(given)
    raise CheckpointError(f"{path}: no such checkpoint{_near(Path(prefix))}")


def _without_suffix(path: str) -> str:
    return _SHARD.sub("", path.removesuffix(".index"))


def training_checkpoints(model_dir: Path) -> list[Path]:
    """The folders of the complete checkpoints of `deepmac train` in a directory, oldest first."""
    if not os.path.isdir(model_dir):
        return []
    found = [p for p in model_dir.iterdir() if _STEP.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name.partition("-")[2]))


def _in_directory(folder: Path) -> Location:
    for trained in (folder, *training_checkpoints(folder)[-1:]):
        if os.path.isfile(trained / TRAINED):
            return _file(trained / TRAINED)
    exported = folder / "checkpoint"
    if exported.is_dir():
        return _in_directory(exported)
    if exported.is_file():
        named = _latest(exported)
        if os.path.isdir(named):
            raise CheckpointError(f"{exported}: names {named}, which is a directory")
        return locate(named)
    prefixes = sorted(p.with_suffix("") for p in folder.glob("*.index"))
    if len(prefixes) == 1:
        return locate(prefixes[0])
    if prefixes:
        names = one_of(p.name for p in prefixes)
        raise CheckpointError(f"{folder} holds {names}: name one of them")
    saved_model = find_saved_model(folder)
    if saved_model is not None:
        return _saved_model(saved_model)
    raise CheckpointError(
        f"{folder}: no checkpoint in this directory (looked for a 'checkpoint' file or folder, "
        f"for *.index, for {GRAPH_FILE} and for {TRAINED})"
    )


def find_saved_model(path: str | os.PathLike[str]) -> Path | None:
    """The directory of the SavedModel that a path means; None where there is none.

    Args:
        path: the directory, the `saved_model.pb` in it, or an export directory, whose
            `saved_model/` it is.
    """
    given = Path(path)
    if given.name == GRAPH_FILE and os.path.isfile(given):
        return given.parent
    for folder in (given, given / "saved_model"):
        if os.path.isfile(folder / GRAPH_FILE):
            return folder
    return None


def _saved_model(folder: Path) -> Location:
    variables = folder / "variables"
    if not variables.is_dir():
        raise CheckpointError(
            f"{folder}: a SavedModel without its variables/ folder; copy the directory whole"
        )
    prefix = str(variables / "variables")
    if not Path(prefix + ".index").is_file():
        raise CheckpointError(
            f"{folder}: a SavedModel without its variables/variables.index; copy the directory "
            f"whole"
        )
    _check_shards(prefix)
    return Location("saved_model", str(folder))


def _latest(state: Path) -> Path:
    """The checkpoint that a `checkpoint` file names as the last one written."""
    text = state.read_text(encoding="utf-8", errors="replace")
    match = re.search(r'^model_checkpoint_path:\s*"(.+)"', text, re.MULTILINE)
    if match is None:
        raise CheckpointError(f"{state}: names no model_checkpoint_path")
    if not match[1].isprintable():
        raise CheckpointError(f"{state}: names {short(match[1])}, no file's name")
    # An absolute path is of the machine that wrote it; the files lie beside this one.
    there, here = Path(match[1]), state.parent / Path(match[1]).name
    if there.is_absolute() and not os.path.isfile(f"{here}.index"):
        return there
    return here


def _check_shards(prefix: str) -> None:
    """Every data file belongs to the index: a copy that left some behind is a common accident."""
    folder, name = Path(prefix).parent, Path(prefix).name
    counts = {
        match[1]: int(match[1])
        for file in folder.glob("*.data-*-of-*")
        if (match := _SHARD.search(file.name)) and file.name.startswith(name + ".data-")
    }
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
        shard = Path(f"{prefix}.data-{number:05d}-of-{text}")
        if not shard.is_file():
            raise CheckpointError(
                f"{prefix}: its data file {shard.name} is missing ({count} belong to it)"
            )


def _file(path: Path) -> Location:
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read: {e.strerror}") from None
    if head == _HDF5:
        return Location("native", str(path))
    if _SHARD.search(path.name):
        raise CheckpointError(
            f"{path}: its index file {Path(_without_suffix(str(path))).name}.index is missing"
        )
    if path.name.endswith(".h5"):
        raise CheckpointError(f"{path}: not an HDF5 file, it is damaged or cut off")
    if path.name == GRAPH_FILE:
        return _saved_model(path.parent)
    if head.startswith(_ZIP):
        raise CheckpointError(
            f"{path}: a Keras or PyTorch archive; expected a reference checkpoint prefix, "
            f"a SavedModel's directory or a .weights.h5 file"
        )
    raise CheckpointError(
        f"{path}: not a checkpoint; expected a prefix such as ckpt-51 (with ckpt-51.index beside "
        f"it), a SavedModel's directory or a .weights.h5 file"
    )


def _near(prefix: Path) -> str:
    if not os.path.isdir(prefix.parent):
        return f": the directory {prefix.parent} does not exist"
    known = sorted(p.name.removesuffix(".index") for p in prefix.parent.glob("*.index"))
    known += sorted(p.name for p in prefix.parent.glob("*.weights.h5"))
    hint = did_you_mean(prefix.name, known)
    if hint or not known:
        return hint
    return f"; {prefix.parent} holds {one_of(known)}"
