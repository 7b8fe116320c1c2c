"""A job's output in a store: no renaming, no locks, and a request for everything.

A unit is committed by one conditional creation, that of its commit record. Before that its data
lies whole under a name made of its own checksum (`attempts/UNIT-CHECKSUM`); after it, whoever sees
the record copies the data that the record names to its final name. So of two workers with different
bytes one wins, record and data agree, and where one dies between any two requests another goes on.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from deepmac.data import files
from deepmac.data.json_shape import misfit
from deepmac.data.local_files import TEMPORARY, is_temporary, temporary_name
from deepmac.data.manifest import COMMIT_SHAPE, COMMITS
from deepmac.errors import DataError
from pipelines.json_lines import load_line
from pipelines.lease import Lease
from pipelines.storage import NewFile, Output, writing

ATTEMPTS = "attempts"  # folder of data that is not committed yet
LEASE = "lease.json"  # which launcher holds the directory

_DATA_SHAPE = {"data": COMMIT_SHAPE["data"]}


class RemoteOutput(Output):
    """A job's output directory in a store that `deepmac.data.files` knows."""

    def __init__(self, path: str):
        self.root = path.rstrip("/")
        self._lease: Lease | None = None
        self._appended: Path | None = None  # local folder

    def read(self, name: str) -> bytes | None:
        if self._appended is not None and (self._appended / name).is_file():
            return (self._appended / name).read_bytes()
        return files.read_file(self.path(name))

    def read_each(self, names: Iterable[str]) -> Iterator[bytes | None]:
        return files.map_requests(self.read, names)

    def open(self, name: str) -> BinaryIO:
        return files.open_file(self.path(name))

    def entries(self) -> list[str]:
        names = files.list_entries(self.root)
        return [name for name in names if not is_temporary(name) and name != LEASE]

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        self._check_held()
        files.write_file(self.path(name), data)

    def append(self, name: str, data: bytes | bytearray) -> None:
        """Adds to the end of a local file: objects cannot grow."""
        if self._appended is None:
            self._appended = Path(tempfile.mkdtemp(prefix="deepmac-"))
        path = self._appended / name
        path.parent.mkdir(exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def publish_appended(self) -> None:
        if self._appended is None:
            return
        self._check_held()
        folder = self._appended
        paths = (path for path in folder.rglob("*") if path.is_file())

        def upload(path: Path) -> None:
            name = path.relative_to(folder).as_posix()
            files.upload(str(path), self.path(name))

        for _ in files.map_requests(upload, paths):
            pass
        self._forget_appended()

    def _forget_appended(self) -> None:
        if self._appended is not None:
            shutil.rmtree(self._appended, ignore_errors=True)
            self._appended = None

    def remove(self, name: str) -> None:
        self._check_held()
        files.remove_file(self.path(name))

    def remove_folder(self, name: str) -> None:
        self._check_held()
        files.remove_folder(self.path(name))

    def remove_temporaries(self) -> None:
        left = files.list_beginning(self.path(TEMPORARY))
        for _ in files.map_requests(files.remove_file, left):
            pass

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        name = temporary_name("work")
        try:
            yield name
        finally:
            self._forget_appended()
            with contextlib.suppress(OSError, DataError):  # the next run does it
                self.remove_folder(name)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the directory for one launcher, which must renew its lease; see `Lease`."""
        with Lease(self.path(LEASE), self.root).held() as self._lease:
            try:
                yield
            finally:
                self._forget_appended()
        self._lease = None

    def _check_held(self) -> None:
        if self._lease is not None:
            self._lease.check()

    @contextlib.contextmanager
    def new_file(self, name: str) -> Iterator[NewFile]:
        """A file to write; it lies on the local disk until it is published."""

        def put(file: BinaryIO, written: Path, durable: bool) -> None:
            file.close()
            self._check_held()
            files.upload(str(written), self.path(name))

        with (
            tempfile.TemporaryDirectory(prefix="deepmac-") as folder,
            writing(Path(folder) / "data", put) as file,
        ):
            yield file

    def commit(self, data: NewFile, record_name: str, record: bytes) -> bool:
        attempt = _attempt_name(record_name, data.sha256)
        files.upload(data.finish(), self.path(attempt))
        is_ours = files.create_file(self.path(record_name), record)
        stored = record if is_ours else self.read(record_name)
        is_whole = stored is not None and self.complete(record_name, stored)
        if is_ours and not is_whole:
            # A launcher that took this worker for dead has removed what it had not committed yet.
            files.upload(data.finish(), self.path(attempt))
            self.complete(record_name, record)
        if not is_ours:
            self.remove(attempt)
        return is_ours

    def complete(self, record_name: str, record: bytes) -> bool:
        data = _data_named(record)
        if data is None:
            return False
        attempt = _attempt_name(record_name, data["sha256"])
        try:
            # A run with other options may have replaced record and data while we slept.
            files.copy_file(
                self.path(attempt),
                self.path(data["name"]),
                wanted=lambda: self.read(record_name) == record,
            )
        except FileNotFoundError:
            return files.file_size(self.path(data["name"])) == data["bytes"]
        self.remove(attempt)
        return True

    def complete_all(self) -> None:
        def complete(attempt: str) -> None:
            unit, _, _ = attempt.rpartition("-")
            record_name = f"{COMMITS}/{unit}.json"
            record = self.read(record_name)
            if record is not None:
                self.complete(record_name, record)
            self.remove(f"{ATTEMPTS}/{attempt}")

        for _ in files.map_requests(complete, self.sizes(ATTEMPTS)):
            pass


def _attempt_name(record_name: str, sha256: str) -> str:
    unit = record_name.rpartition("/")[2].removesuffix(".json")
    return f"{ATTEMPTS}/{unit}-{sha256[:16]}"


def _data_named(record: bytes) -> dict[str, Any] | None:
    """Name, size and checksum of the data that a commit record stands for; None if damaged."""
    try:
        parsed = load_line(record)
    except ValueError:
        return None
    return None if misfit(parsed, _DATA_SHAPE) else parsed["data"]
