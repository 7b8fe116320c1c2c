"""Where a run keeps what it makes: in a local folder, or in a remote one that follows a local copy.

A run writes to a local folder in either case. To a remote one everything is copied after each
checkpoint and each evaluation. The files of a checkpoint come before the one that describes it,
and whoever looks for checkpoints takes those alone that have it, so that a run that is killed in
the middle leaves no half of one.
"""

import contextlib
import json
import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson

from deepmac.checkpoint.locate import (
    RUN,
    TRAINED,
    remote_checkpoints,
    training_checkpoints,
)
from deepmac.data.files import (
    Unreachable,
    is_remote,
    join,
    list_folder,
    list_tree,
    read_file,
    reading,
    remove_file,
    upload,
    write_file,
)
from deepmac.data.manifest import file_sha256
from deepmac.data.record_set import KEPT
from deepmac.errors import CheckpointError, OptionError
from deepmac.train.checkpoints import STATE, remove_partial, sole_writer

EVALUATIONS = "evaluations.jsonl"
"""File of the directory: a line for each evaluation."""

_OWNER = "owner.json"
_FILES = (TRAINED, STATE, RUN)  # of a checkpoint; the last one makes it whole


class ModelDir:
    """The directory of a run.

    Attributes:
        path: where the run writes and reads.
        name: what the user calls it.
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name

    def shown(self, path: Path) -> str:
        """What the user calls a path in it."""
        return join(self.name, str(path.relative_to(self.path)))

    def publish(self, keep: int) -> None:
        """Makes what is written last.

        Args:
            keep: so many of the newest checkpoints.

        Raises:
            CheckpointError: it cannot be written, or another run has taken the directory over.
        """


class _RemoteModelDir(ModelDir):
    def __init__(self, path: Path, name: str):
        super().__init__(path, name)
        self._sizes: dict[str, int] = {}  # of what is up to date there
        self.is_behind = False
        self._token = secrets.token_hex(8)

    def take_over(self) -> None:
        """From now on this run alone may write; one that did so before stops when it wants to."""
        with self._refusals_told():
            owner = {
                "run": self._token,
                "host": platform.node(),
                "process": os.getpid(),
            }
            write_file(join(self.name, _OWNER), json.dumps(owner).encode())

    def fetch(self) -> None:
        """Brings the newest checkpoint here, and what is to be added to."""
        for folder in remote_checkpoints(self.name)[-1:]:
            for name in _FILES:
                self._fetch(f"{folder}/{name}")
            self._check(folder)
        there = list_folder(self.name)
        for name in (EVALUATIONS, KEPT):
            if name in there:
                self._fetch(name)

    def _fetch(self, name: str) -> None:
        copy = self.path / name
        copy.parent.mkdir(exist_ok=True)
        with copy.open("wb") as file, reading(join(self.name, name)) as source:
            shutil.copyfileobj(source, file, 8 << 20)
        self._sizes[name] = copy.stat().st_size

    def _check(self, folder: str) -> None:
        """Two runs that both believed the directory theirs could have mixed their files."""
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            run = orjson.loads((self.path / folder / RUN).read_bytes())
            sums = {name: run["sha256"][name] for name in (TRAINED, STATE)}
            if all(file_sha256(self.path / folder / n) == s for n, s in sums.items()):
                return
        raise CheckpointError(
            f"{join(self.name, folder)}: damaged; remove its {RUN} to go on from the checkpoint "
            f"before it"
        )

    def publish(self, keep: int) -> None:
        self.is_behind = True
        with self._refusals_told():
            self._check_owner()
            names = [str(p.relative_to(self.path)) for p in self.path.rglob("*")]
            for name in sorted(
                names, key=lambda name: (name.endswith(f"/{RUN}"), name)
            ):
                self._send(name)
            for old in remote_checkpoints(self.name)[:-keep]:
                # Without it, the rest is no checkpoint any more.
                remove_file(join(self.name, old, RUN))
                for name in list_tree(join(self.name, old)):
                    remove_file(join(self.name, old, name))
        self.is_behind = False

    def _send(self, name: str) -> None:
        path = self.path / name
        if not path.is_file() or self._sizes.get(name) == path.stat().st_size:
            return
        if name.endswith(f"/{RUN}"):
            self._check_owner()
        upload(str(path), join(self.name, name))
        self._sizes[name] = path.stat().st_size

    def _check_owner(self) -> None:
        stored = read_file(join(self.name, _OWNER))
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            owner = orjson.loads(stored or b"{}")
            if owner["run"] == self._token:
                return
            self.is_behind = False  # what is there is newer
            raise CheckpointError(
                f"{self.name}: another run, process {owner['process']} of {owner['host']}, has "
                f"begun there and goes on; this one stops"
            )
        raise CheckpointError(f"{join(self.name, _OWNER)}: removed, so this run stops")

    @contextlib.contextmanager
    def _refusals_told(self) -> Iterator[None]:
        try:
            yield
        except Unreachable as e:
            raise CheckpointError(f"{e}{self._what_is_here()}") from e
        except OSError as e:
            reason = f"cannot be written: {e.strerror or e}"
            raise CheckpointError(
                f"{e.filename or self.name}: {reason}{self._what_is_here()}"
            ) from e

    def _what_is_here(self) -> str:
        found = training_checkpoints(self.path)
        return f"; the newest checkpoint is in {found[-1]}" if found else ""


@contextlib.contextmanager
def open_model_dir(given: str, *, is_chief: bool) -> Iterator[ModelDir]:
    """The directory of a run, made if it is missing, until the block ends.

    A local one is for one run at a time: a second is refused. In a remote one the last to begin
    wins: a run that was there before stops at its next checkpoint.

    Args:
        given: `--model_dir`.
        is_chief: this process writes there; others read.

    Raises:
        OptionError: it cannot be made or written to.
        CheckpointError: another run is there, or what is there is damaged.
    """
    if not is_remote(given):
        _make(Path(given))
        with sole_writer(Path(given)) if is_chief else contextlib.nullcontext():
            if is_chief:
                remove_partial(Path(given))
            yield ModelDir(Path(given), given)
        return
    folder = Path(tempfile.mkdtemp(prefix="deepmac-train-"))
    model_dir = _RemoteModelDir(folder, given.rstrip("/"))
    try:
        if is_chief:
            model_dir.take_over()
        model_dir.fetch()
        yield model_dir
    finally:
        if not model_dir.is_behind:  # else it is all that there is
            shutil.rmtree(folder, ignore_errors=True)


def _make(model_dir: Path) -> None:
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OptionError(f"{model_dir}: cannot write there: {e.strerror}") from None
    if not os.access(model_dir, os.W_OK):
        raise OptionError(f"{model_dir}: cannot write there")
