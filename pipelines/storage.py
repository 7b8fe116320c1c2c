"""Where a job writes: whole files under their final names, and commits that happen once.

What a directory of units must be able to do, and how it is done on a local or mounted file system:
a file is written under a temporary name, flushed to the disk and renamed, so that nobody ever sees
half of one. `pipelines.remote_output` does the same in stores that know no renaming.
"""

import abc
import contextlib
import fcntl
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from deepmac.data.files import is_remote, join, list_folder
from deepmac.data.local_files import (
    TEMPORARY,
    is_temporary,
    locked,
    opened_folder,
    publish,
    temporary_name,
)
from deepmac.data.paths import printable
from deepmac.errors import DataError


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
def hold_output(path: str) -> Iterator["Output"]:
    """The output directory of a job, for one launcher until the block ends.

    What an earlier run left unfinished is removed.

    Raises:
        DataError: from `open_output`; another launcher holds the directory; or the file system
            refuses something in the block.
    """
    with refusals_told(path):
        output = open_output(path)
        with output.exclusive():
            output.remove_temporaries()
            yield output


def open_output(path: str) -> "Output":
    """The output directory of a job, made if it is missing.

    Raises:
        DataError: the path is in a store that is not known, or cannot be made or written to.
    """
    if is_remote(path):
        from pipelines.remote_output import RemoteOutput

        return RemoteOutput(path)
    return LocalOutput(path)


class Output(abc.ABC):
    """A job's output directory.

    Names are relative to it, with `/` between folders. Plain data: it goes to workers.

    Attributes:
        root: its path.
    """

    root: str

    def __reduce__(self):
        return type(self), (self.root,)

    def path(self, name: str) -> str:
        """The path of a file or folder in it."""
        return join(self.root, name)

    @abc.abstractmethod
    def read(self, name: str) -> bytes | None:
        """The contents of a file, or None if there is none of that name."""

    @abc.abstractmethod
    def read_each(self, names: Iterable[str]) -> Iterator[bytes | None]:
        """`read` of many files, in order; holds only a few at a time."""

    @abc.abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file to read and seek in."""

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Name within the folder -> bytes, for every finished file in it."""
        found = list_folder(self.path(folder))
        return {name: size for name, size in found.items() if not is_temporary(name)}

    @abc.abstractmethod
    def entries(self) -> list[str]:
        """Names of the files and folders in it, sorted, unfinished ones left out."""

    @abc.abstractmethod
    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Puts a whole file in place, over an older one of that name.

        Args:
            name: of the file.
            data: its contents.
            durable: also if the machine stops at once, which takes a disk some milliseconds.
        """

    @abc.abstractmethod
    def append(self, name: str, data: bytes | bytearray) -> None:
        """Adds to the end of a file. Not atomic: for files that a later mark declares whole.

        Others see it after `publish_appended`, at the latest.
        """

    @abc.abstractmethod
    def publish_appended(self) -> None:
        """Lets others see what has been appended."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    @abc.abstractmethod
    def remove_folder(self, name: str) -> None:
        """Removes a folder and what is in it, if it is there."""

    @abc.abstractmethod
    def remove_temporaries(self) -> None:
        """Removes what earlier runs left unfinished."""

    @abc.abstractmethod
    def temporary_folder(self) -> contextlib.AbstractContextManager[str]:
        """Name of a folder for what only this run needs.

        Removed at the end; after a crash, by the next run's `remove_temporaries`.
        """

    @abc.abstractmethod
    def exclusive(self) -> contextlib.AbstractContextManager[None]:
        """Holds the directory for one launcher.

        Raises:
            DataError: another run holds it.
        """

    @abc.abstractmethod
    def new_file(self, name: str) -> contextlib.AbstractContextManager["NewFile"]:
        """A file to write; it appears under its name on `publish`, else it is thrown away."""

    @abc.abstractmethod
    def commit(self, data: "NewFile", record_name: str, record: bytes) -> bool:
        """Publishes a unit's data file and its commit record, once.

        Returns:
            False if somebody else has committed the unit first; their files stay.
        """

    @abc.abstractmethod
    def complete(self, record_name: str, record: bytes) -> bool:
        """Sees to it that the data of a commit record is there, whoever has died meanwhile.

        Returns:
            False if it is not, and nobody has it: the unit must be done again.
        """

    @abc.abstractmethod
    def complete_all(self) -> None:
        """`complete` for every unit that a worker may have left so; no worker may be at work."""


class LocalOutput(Output):
    """A job's output directory on a local or mounted file system."""

    def __init__(self, path: str):
        self._folder = Path(path).absolute()
        self.root = str(self._folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise DataError(
                f"{path}: cannot make the output directory: {e.strerror}"
            ) from e
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise DataError(f"{path}: no permission to write to the output directory")

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_each(self, names: Iterable[str]) -> Iterator[bytes | None]:
        return map(self.read, names)

    def open(self, name: str) -> BinaryIO:
        return (self._folder / name).open("rb")

    def entries(self) -> list[str]:
        names = (path.name for path in self._folder.iterdir())
        return sorted(name for name in names if not is_temporary(name))

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        with self.new_file(name) as file:
            file.write(data)
            file.publish(durable=durable)

    def append(self, name: str, data: bytes | bytearray) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def publish_appended(self) -> None:
        pass  # everybody sees it already

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Removes a folder at one stroke: after a crash it is there whole or not at all."""
        doomed = self._folder / temporary_name(name)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).rename(doomed)
            shutil.rmtree(doomed)

    def remove_temporaries(self) -> None:
        for path in [
            *self._folder.glob(TEMPORARY + "*"),
            *self._folder.glob(f"*/{TEMPORARY}*"),
        ]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        name = temporary_name("work")
        (self._folder / name).mkdir()
        try:
            yield name
        finally:
            shutil.rmtree(self._folder / name, ignore_errors=True)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the directory for one launcher; the lock goes with the process."""
        with opened_folder(self._folder) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"{self.root}: another run is writing to this directory; wait for it or stop it"
                ) from None
            yield

    @contextlib.contextmanager
    def new_file(self, name: str) -> Iterator["NewFile"]:
        final = self._folder / name
        final.parent.mkdir(exist_ok=True)
        temporary = final.parent / temporary_name(final.name)
        with writing(
            temporary,
            lambda file, written, durable: publish(
                file, written, final, durable=durable
            ),
        ) as file:
            yield file

    def commit(self, data: "NewFile", record_name: str, record: bytes) -> bool:
        folder = (self._folder / record_name).parent
        folder.mkdir(exist_ok=True)
        # Between look and rename nobody else may commit: two workers may hold one unit.
        with locked(folder):
            if (self._folder / record_name).exists():
                return False
            data.publish()
            self.write(record_name, record)
            return True

    def complete(self, record_name: str, record: bytes) -> bool:
        return True  # the data was there before its record

    def complete_all(self) -> None:
        pass


class NewFile(io.RawIOBase):
    """A file being written, not yet under its name. Counts and hashes what passes through.

    Attributes:
        num_bytes: written so far.
    """

    def __init__(self, temporary: Path, put: Callable[[BinaryIO, Path, bool], None]):
        self._temporary, self._put = temporary, put
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

    def publish(self, *, durable: bool = True) -> None:
        """Gives the file its name, and sees to it that it outlives a crash."""
        self._put(self._file, self._temporary, durable)

    def finish(self) -> str:
        """Ends the writing; returns the path where the contents lie until it is closed."""
        self._file.close()
        return str(self._temporary)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # flushing to a full disk fails again
            self._file.close()
        super().close()


@contextlib.contextmanager
def writing(
    temporary: Path, put: Callable[[BinaryIO, Path, bool], None]
) -> Iterator[NewFile]:
    """A file being written, until the block ends.

    Args:
        temporary: where it lies meanwhile.
        put: closes it and gives it its name, durably or not.
    """
    file = NewFile(temporary, put)
    try:
        yield file
    finally:
        file.close()
        temporary.unlink(missing_ok=True)
