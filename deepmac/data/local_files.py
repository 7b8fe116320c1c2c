"""Files on local and mounted file systems: as `deepmac.data.files` wants a store to be."""

import contextlib
import fcntl
import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

TEMPORARY = ".unfinished-"
"""Begins the name of what is not finished yet."""


class LocalFiles:
    """A `Store`. Folders are made as they are needed."""

    def size(self, path: str) -> int:
        if os.path.isdir(path):
            raise IsADirectoryError(path)
        return os.path.getsize(path)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def read_range(self, path: str, start: int, end: int) -> bytes:
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(end - start)

    def open(self, path: str) -> io.RawIOBase:
        return cast(io.RawIOBase, open(path, "rb", buffering=0))

    def version(self, path: str) -> str:
        found = os.stat(path)
        return f"{found.st_size} {found.st_mtime_ns}"

    def list(self, prefix: str, *, deep: bool) -> Iterator[tuple[str, int | None]]:
        folder, slash, start = prefix.rpartition("/")
        try:
            entries = os.scandir(folder + slash or ".")
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                if is_temporary(entry.name) or not entry.name.startswith(start):
                    continue
                path = folder + slash + entry.name
                if entry.is_file():
                    with contextlib.suppress(FileNotFoundError):  # gone since then
                        yield path, entry.stat().st_size
                elif not deep:
                    yield f"{path}/", None
                else:
                    yield from self.list(f"{path}/", deep=True)

    def write(self, path: str, data: bytes) -> None:
        with _unfinished(path) as file:
            file.write(data)

    def create(self, path: str, data: bytes) -> bool:
        folder = os.path.dirname(path) or "."
        os.makedirs(folder, exist_ok=True)
        with locked(folder):
            with contextlib.suppress(FileNotFoundError):
                return self.read(path) == data
            self.write(path, data)
            return True

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        with locked(os.path.dirname(path) or "."):
            if self.read(path) != old:
                return False
            self.write(path, new)
            return True

    def upload(self, local_path: str, path: str) -> None:
        with open(local_path, "rb") as source, _unfinished(path) as file:
            shutil.copyfileobj(source, file, 1 << 20)

    def copy(
        self, path: str, to: str, wanted: Callable[[], bool] | None = None
    ) -> None:
        if wanted is None or wanted():
            self.upload(path, to)

    def remove(self, path: str) -> None:
        Path(path).unlink(missing_ok=True)


def temporary_name(name: str) -> str:
    """A name for what is not finished yet, unlike that of anybody else."""
    return f"{TEMPORARY}{name}-{os.getpid()}-{secrets.token_hex(4)}"


def is_temporary(name: str) -> bool:
    """Whether a file or folder of that name was not finished."""
    return name.startswith(TEMPORARY)


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Holds a folder against everybody else who asks for it, on this and other machines."""
    with opened_folder(folder) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def opened_folder(folder: str | Path) -> Iterator[int]:
    """The descriptor of a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def publish(
    file: BinaryIO, temporary: str | Path, final: str | Path, *, durable: bool = True
) -> None:
    """Closes a file that is written and gives it its name; durable, it outlives a crash."""
    file.flush()
    if durable:
        os.fsync(file.fileno())
    file.close()
    Path(temporary).rename(final)
    if durable:
        with opened_folder(Path(final).parent) as descriptor:
            os.fsync(descriptor)


@contextlib.contextmanager
def _unfinished(path: str) -> Iterator[BinaryIO]:
    """A file to write; it has its name when the block ends, and is thrown away on an error."""
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / temporary_name(final.name)
    try:
        with temporary.open("xb", buffering=1 << 20) as file:
            yield file
            publish(file, temporary, final)
    finally:
        temporary.unlink(missing_ok=True)
