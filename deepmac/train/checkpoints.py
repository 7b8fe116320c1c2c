"""Checkpoints of a training run: folders that appear whole, of which the newest few are kept.

    MODEL_DIR/step-00001000/
        model.weights.h5   what predicts: the moving averages where they are kept; see `native`
        state.npz          every variable of the training state, by name
        run.json           the step, what the trajectory depends on, checksums

A folder is written under another name and renamed when all of it is on the disk.
"""

import contextlib
import dataclasses
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

import deepmac
from deepmac.checkpoint.locate import RUN, TRAINED, training_checkpoints
from deepmac.checkpoint.native import save_weights
from deepmac.data.json_shape import misfit
from deepmac.data.manifest import file_sha256
from deepmac.errors import CheckpointError
from deepmac.model.variables import named_variables

if TYPE_CHECKING:
    import keras

    from deepmac.train.step import TrainState

STATE = "state.npz"
_FORMAT = 1
_PARTIAL = ".partial-"
_LOCK = ".lock"
_SHAPE = {
    "format": int,
    "version": str,
    "step": int,
    "facts": {str: object},
    "counts": {str: int},
    "sha256": {str: str},
}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        path: of the folder.
        step: updates done.
        facts: what the trajectory depends on, by name; see `deepmac.train.run`.
        counts: events counted since the run began.
    """

    path: Path
    step: int
    facts: Mapping[str, Any]
    counts: Mapping[str, int]


def latest_checkpoint(model_dir: Path) -> Checkpoint | None:
    """The newest checkpoint of a run.

    Raises:
        CheckpointError: it is damaged, or of a newer format.
    """
    folders = training_checkpoints(model_dir)
    return open_checkpoint(folders[-1]) if folders else None


def open_checkpoint(folder: Path) -> Checkpoint:
    """What a checkpoint says of itself.

    Raises:
        CheckpointError: it is damaged, or of a newer format.
    """
    try:
        run = orjson.loads((folder / RUN).read_bytes())
    except (OSError, orjson.JSONDecodeError) as e:
        raise CheckpointError(
            f"{folder / RUN}: cannot be read ({e}); {_remedy(folder)}"
        ) from None
    if isinstance(run, dict) and run.get("format", _FORMAT) != _FORMAT:
        raise CheckpointError(
            f"{folder}: of format {run['format']}; this is deepmac {deepmac.__version__}, which "
            f"reads format {_FORMAT}"
        )
    if wrong := misfit(run, _SHAPE):
        raise CheckpointError(f"{folder / RUN}: damaged, {wrong}; {_remedy(folder)}")
    return Checkpoint(folder, run["step"], run["facts"], run["counts"])


def save_checkpoint(
    state: "TrainState",
    model_dir: Path,
    step: int,
    facts: Mapping[str, Any],
    counts: Mapping[str, int],
    *,
    keep: int,
) -> Checkpoint:
    """Writes a checkpoint, then removes all but the newest `keep`.

    Args:
        state: its variables are up to date.
        model_dir: of the run.
        step: updates done.
        facts, counts: as in `Checkpoint`.
        keep: at least 1.

    Raises:
        CheckpointError: it cannot be written.
    """
    folder = model_dir / f"step-{step:08d}"
    partial = model_dir / f"{_PARTIAL}{folder.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with predicting_weights(state):
            save_weights(state.model, str(partial / TRAINED))
        with (partial / STATE).open("wb") as file:
            arrays: Any = {n: np.asarray(v) for n, v in _named(state).items()}
            np.savez(file, **arrays)
        run = {
            "format": _FORMAT,
            "version": deepmac.__version__,
            "step": step,
            "facts": dict(facts),
            "counts": dict(counts),
            "sha256": {n: file_sha256(partial / n) for n in (TRAINED, STATE)},
        }
        (partial / RUN).write_bytes(orjson.dumps(run, option=orjson.OPT_INDENT_2))
        for name in (TRAINED, STATE, RUN, ""):
            _flush(partial / name)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        _flush(model_dir)
    except OSError as e:
        raise CheckpointError(
            f"{folder}: cannot be written: {e.strerror or e}"
        ) from None
    for old in training_checkpoints(model_dir)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return Checkpoint(folder, step, facts, counts)


def restore_checkpoint(state: "TrainState", checkpoint: Checkpoint) -> None:
    """Gives every variable of a training state the value it had.

    Raises:
        CheckpointError: the checkpoint is damaged, or of another network or optimiser.
    """
    folder = checkpoint.path
    expected = orjson.loads((folder / RUN).read_bytes())["sha256"][STATE]
    path = folder / STATE
    if not path.is_file() or file_sha256(path) != expected:
        raise CheckpointError(f"{path}: missing or damaged; {_remedy(folder)}")
    variables = _named(state)
    with np.load(path) as stored:
        if strange := sorted(set(stored.files) ^ set(variables)):
            where = "the run's network" if strange[0] in variables else "the checkpoint"
            raise CheckpointError(
                f"{path}: {strange[0]} is only in {where}; go on with the configuration that the "
                f"run began with, or begin another --model_dir"
            )
        for name, variable in variables.items():
            value = stored[name]
            if value.shape != tuple(variable.shape):
                raise CheckpointError(
                    f"{path}: {name} has the shape {list(value.shape)}, the run's network "
                    f"{list(variable.shape)}; go on with the configuration that the run began with"
                )
            variable.assign(value)


@contextlib.contextmanager
def sole_writer(model_dir: Path) -> Iterator[None]:
    """Inside, no other process can enter here with the same directory.

    The system lets go of it when the process ends, however that happens.

    Raises:
        CheckpointError: another process is there.
    """
    descriptor = os.open(model_dir / _LOCK, os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CheckpointError(
                f"{model_dir}: another process trains there; wait until it has ended, or give "
                f"another --model_dir"
            ) from None
        except OSError:
            pass  # some mounted stores know no locks
        yield
    finally:
        os.close(descriptor)


def remove_partial(model_dir: Path) -> None:
    """Removes what a run that was killed had not finished writing."""
    for path in model_dir.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


def _named(state: "TrainState") -> "dict[str, keras.Variable]":
    names = {id(v): name for name, v in named_variables(state.model).items()}
    named = {f"model/{name}": v for name, v in named_variables(state.model).items()}
    for position, variable in enumerate(state.optimizer.variables):
        # Of a slot's name only the end: what precedes counts the layers made in this process.
        kind = variable.name.rpartition("_")[2]
        named[f"optimizer/{position:04d}_{kind}"] = variable
    for average, variable in zip(state.averages, state.model.variables, strict=False):
        named[f"average/{names[id(variable)]}"] = average
    return named


@contextlib.contextmanager
def predicting_weights(state: "TrainState"):
    """Inside, the model has the weights to predict with; its own come back after it."""
    if not state.averages:
        yield
        return
    own = [np.asarray(v) for v in state.model.variables]
    for variable, average in zip(state.model.variables, state.averages, strict=True):
        variable.assign(average.value)
    try:
        yield
    finally:
        for variable, value in zip(state.model.variables, own, strict=True):
            variable.assign(value)


def _remedy(folder: Path) -> str:
    return f"remove {folder} to go on from the checkpoint before it"


def _flush(path: Path) -> None:
    """Has the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
