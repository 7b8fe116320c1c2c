"""Where a job writes: whole files under their final names, and commits that happen once.

The one module that knows how a directory of units is stored. Local directories only: a file is
written under a temporary name, flushed to the disk and renamed, so that nobody ever sees half of
one.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from deepmac.data.paths import printable, require_local
from deepmac.errors import DataError

_TEMPORARY = ".unfinished-"


@contextlib.contextmanager
def refusals_told(path: str) -> Iterator[None]:
    """Turns what the file system refuses, such as a full disk, into one DataError.

    Args:
        path: what is being written; named where the error itself names no file.
    """
    try:
        yield
    except BrokenPipeError:  # nobody reads what is printed: no matter of files
        raise
    except OSError as e:
        place = printable(e.filename) if isinstance(e.filename, str | bytes) else path
        raise DataError(
            f"{place}: {e.strerror or e}; put that right and run the same command again"
        ) from e


@contextlib.contextmanager
def hold_output(path: str) -> Iterator["LocalOutput"]:
    """The output directory of a job, for one launcher until the block ends.

    What an earlier run left unfinished is removed.

    Raises:
        DataError: from `open_output`; another launcher holds the directory; or the file system
            refuses something in the block.
    """
    output = open_output(path)
    with refusals_told(path), output.exclusive():
        output.remove_temporaries()
        yield output


def open_output(path: str) -> "LocalOutput":
    """The output directory of a job, made if it is missing.

    Raises:
        DataError: the path is on a remote store, or cannot be made or written to.
    """
    require_local(path)
    return LocalOutput(path)


class LocalOutput:
    """A job's output directory on a local or mounted file system.

    Names are relative to it, with `/` between folders.
    """

    def __init__(self, path: str):
        self.root = Path(path).absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise DataError(
                f"{path}: cannot make the output directory: {e.strerror}"
            ) from e
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise DataError(f"{path}: no permission to write to the output directory")

    def read(self, name: str) -> bytes | None:
        """The contents of a file, or None if there is none of that name."""
        try:
            return (self.root / name).read_bytes()
        except FileNotFoundError:
            return None

    def open(self, name: str) -> io.BufferedReader:
        return (self.root / name).open("rb")

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Name within the folder -> bytes, for every finished file in it."""
        try:
            with os.scandir(self.root / folder) as entries:
                return {
                    e.name: e.stat().st_size
                    for e in entries
                    if e.is_file() and not e.name.startswith(_TEMPORARY)
                }
        except FileNotFoundError:
            return {}

    def entries(self) -> list[str]:
        """Names of the files and folders in it, unfinished ones left out."""
        names = (path.name for path in self.root.iterdir())
        return sorted(name for name in names if not name.startswith(_TEMPORARY))

    def write(self, name: str, data: bytes) -> None:
        """Puts a whole file in place, over an older one of that name."""
        with self.new_file(name) as file:
            file.write(data)
            file.publish()

    def append(self, name: str, data: bytes | bytearray) -> None:
        """Adds to the end of a file. Not atomic: for files that a later mark declares whole."""
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Removes a folder at one stroke: after a crash it is there whole or not at all."""
        doomed = self.root / _temporary_name(name)
        with contextlib.suppress(FileNotFoundError):
            (self.root / name).rename(doomed)
            shutil.rmtree(doomed)

    def remove_temporaries(self) -> None:
        """Removes what earlier runs left unfinished."""
        for path in [
            *self.root.glob(_TEMPORARY + "*"),
            *self.root.glob(f"*/{_TEMPORARY}*"),
        ]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Name of a folder for what only this run needs.

        Removed at the end; after a crash, by the next run's `remove_temporaries`.
        """
        name = _temporary_name("work")
        (self.root / name).mkdir()
        try:
            yield name
        finally:
            shutil.rmtree(self.root / name, ignore_errors=True)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the directory for one launcher; the lock goes with the process.

        Raises:
            DataError: another run holds it.
        """
        with _directory(self.root) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"{self.root}: another run is writing to this directory; wait for it or stop it"
                ) from None
            yield

    @contextlib.contextmanager
    def new_file(self, name: str) -> Iterator["NewFile"]:
        """A file to write; it appears under its name on `publish`, else it is thrown away."""
        final = self.root / name
        final.parent.mkdir(exist_ok=True)
        temporary = final.parent / _temporary_name(final.name)
        file = NewFile(temporary, final)
        try:
            yield file
        finally:
            file.close()
            temporary.unlink(missing_ok=True)

    def commit(self, data: "NewFile", record_name: str, record: bytes) -> bool:
        """Publishes a unit's data file and then its commit record, once.

        Returns:
            False if somebody else has committed the unit first; their files stay.
        """
        folder = (self.root / record_name).parent
        folder.mkdir(exist_ok=True)
        with _directory(folder) as descriptor:
            # Between look and rename nobody else may commit: two workers may hold one unit.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if (self.root / record_name).exists():
                return False
            data.publish()
            self.write(record_name, record)
            return True


class NewFile(io.RawIOBase):
    """A file being written, not yet under its name. Counts and hashes what passes through.

    Attributes:
        num_bytes: written so far.
    """

    def __init__(self, temporary: Path, final: Path):
        self._temporary, self._final = temporary, final
        self._file = temporary.open("xb", buffering=1 << 20)
        self._hash = hashlib.sha256()
        self.num_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        size = self._file.write(data)
        self._hash.update(data)
        self.num_bytes += size
        return size

    def tell(self) -> int:
        return self.num_bytes

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def publish(self) -> None:
        """Makes the file durable and gives it its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._final)
        with _directory(self._final.parent) as descriptor:
            os.fsync(descriptor)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # flushing to a full disk fails again
            self._file.close()
        super().close()


def _temporary_name(name: str) -> str:
    return f"{_TEMPORARY}{name}-{os.getpid()}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
