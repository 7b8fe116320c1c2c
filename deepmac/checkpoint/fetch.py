"""Copies on this machine of remote weights, which the libraries that read them need as local files.

A folder for each version of some files, made at one stroke: whoever finds it there uses it, and of
several processes that want it at the same time one makes it. Nothing is removed by itself; any of
it can be, while no process uses it.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepmac.data.files import (
    Unreachable,
    file_version,
    join,
    map_requests,
    reading,
)
from deepmac.data.local_files import temporary_name
from deepmac.errors import CheckpointError
from deepmac.terminal import announce

VARIABLE = "DEEPMAC_CACHE"
"""Of the environment: the folder to keep copies in."""

_PIECE = 8 << 20


def fetch(folder: str, names: Sequence[str]) -> str:
    """The folder on this machine with copies of some files of a remote folder.

    Args:
        folder: where they are.
        names: relative to it.

    Raises:
        Unreachable: a file cannot be read, or was replaced meanwhile.
        CheckpointError: a copy cannot be written.
    """
    versions = _versions(folder, names)
    digest = hashlib.sha256(json.dumps([folder, versions]).encode()).hexdigest()
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in folder)[-60:]
    try:
        place = _place()
        kept = place / f"{name}-{digest[:16]}"
        with _held(place / f"{kept.name}.lock"):
            if not kept.is_dir():
                with announce(f"fetching {folder} to {kept}"):
                    _make(folder, versions, kept)
    except OSError as e:
        where = e.filename or place
        raise CheckpointError(
            f"{folder}: cannot be kept on this machine, as it must be: {where}: {e.strerror}; "
            f"{VARIABLE} can name another place"
        ) from None
    return str(kept)


def _make(folder: str, versions: dict[str, str], kept: Path) -> None:
    partial = kept.with_name(temporary_name(kept.name))
    try:
        for name in versions:
            copy = partial / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            with copy.open("wb") as file:
                for piece in _pieces(join(folder, name)):
                    file.write(piece)
        if _versions(folder, list(versions)) != versions:
            raise Unreachable(f"{folder}: was replaced while it was being fetched")
        partial.rename(kept)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _pieces(path: str) -> Iterator[bytes]:
    with reading(path) as file:
        while piece := file.read(_PIECE):
            yield piece


def _versions(folder: str, names: Sequence[str]) -> dict[str, str]:
    names = sorted(names)
    paths = (join(folder, name) for name in names)
    return dict(zip(names, map_requests(file_version, paths), strict=True))


def _place() -> Path:
    """The folder with the copies; where none can be made in the home folder, one that goes with
    the machine's temporary files."""
    if given := os.environ.get(VARIABLE):
        place = Path(given)
        place.mkdir(parents=True, exist_ok=True)
        return place
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    place = Path(cache).expanduser() / "deepmac"
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: nobody's home
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK | os.X_OK):
            return place
    place = Path(tempfile.gettempdir()) / f"deepmac-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid():  # everybody can write beside it
        raise PermissionError(errno.EPERM, "belongs to somebody else", str(place))
    return place


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """A lock file for one process at a time; others wait."""
    with path.open("wb") as file:
        with contextlib.suppress(OSError):  # some mounted stores know no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
