"""Files wherever they are, on a local file system or in Google Cloud Storage: found, and read in pieces.

For reading many small pieces of few large files. Google's client retries what may succeed the next
time, for up to two minutes.
"""

import contextlib
import fnmatch
import functools
import glob
import io
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from deepmac.data.paths import require_local, scheme_of
from deepmac.errors import DataError

_WILDCARD = re.compile(r"[*?[]")


class Unreachable(DataError):
    """Storage does not give what it should have; says nothing of the data that is there."""


def is_remote(path: str) -> bool:
    """Whether a path is in Google Cloud Storage.

    Raises:
        DataError: it is on another remote store.
    """
    if scheme_of(path) == "gs":
        return True
    require_local(path)
    return False


def find_files(pattern: str) -> dict[str, int]:
    """Path -> size in bytes of the files that match, in the order of their names.

    Args:
        pattern: as of a shell: no wildcard stands for a `/`.
    """
    if is_remote(pattern):
        return _find_remote(pattern)
    names = sorted(name for name in glob.glob(pattern) if os.path.isfile(name))
    return {name: os.path.getsize(name) for name in names}


def read_file(path: str) -> bytes | None:
    """The contents of a file; None if there is none.

    Raises:
        Unreachable: it cannot be read.
    """
    with _refusals_told(path):
        try:
            if is_remote(path):
                return _blob(path).download_as_bytes()
            with open(path, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as e:
            if _status(e) == 404:
                return None
            raise


def read_range(path: str, start: int, end: int) -> bytes:
    """The bytes [start, end) of a file, fewer where it ends before.

    Raises:
        Unreachable: it cannot be read.
    """
    if start == end:
        return b""
    with _refusals_told(path):
        if is_remote(path):
            return _blob(path).download_as_bytes(start=start, end=end - 1)
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(end - start)


@contextlib.contextmanager
def open_file(path: str, num_bytes: int) -> Iterator[BinaryIO]:
    """A file to seek and read in; of a remote one each piece is a request.

    Raises:
        Unreachable: it cannot be read.
    """
    if is_remote(path):
        yield cast(BinaryIO, _RangeReader(path, num_bytes))
        return
    with _refusals_told(path), open(path, "rb") as file:
        yield file


class _RangeReader(io.RawIOBase):
    """A file that is read piece by piece, each with a request of its own."""

    def __init__(self, path: str, size: int):
        self._path, self._size, self._position = path, size, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = base[whence] + offset
        return self._position

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._position + size, self._size)
        data = read_range(self._path, self._position, end)
        self._position += len(data)
        return data


def _find_remote(pattern: str) -> dict[str, int]:
    bucket, name = _split(pattern)
    literal = name[: found.start()] if (found := _WILDCARD.search(name)) else name
    with _refusals_told(pattern):
        blobs = list(_client().list_blobs(bucket, prefix=literal))
    sizes = {blob.name: blob.size for blob in blobs if _matches(blob.name, name)}
    return {f"gs://{bucket}/{n}": sizes[n] for n in sorted(sizes)}


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(
        map(fnmatch.fnmatchcase, parts, patterns)
    )


def _split(path: str) -> tuple[str, str]:
    bucket, _, name = path.removeprefix("gs://").partition("/")
    if not bucket or not name:
        raise DataError(f"{path}: must be gs://BUCKET/NAME")
    return bucket, name


def _blob(path: str) -> Any:
    bucket, name = _split(path)
    return _client().bucket(bucket).blob(name)


@functools.cache
def _client() -> Any:
    try:
        from google.cloud import storage  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DataError(
            "reading gs:// needs google-cloud-storage: pip install 'deepmac[gcp]'"
        ) from None
    return storage.Client()


@contextlib.contextmanager
def _refusals_told(path: str) -> Iterator[None]:
    """Turns what a file system or a store refuses into one Unreachable."""
    try:
        yield
    except DataError:
        raise
    except OSError as e:
        raise Unreachable(f"{path}: cannot be read: {e.strerror or e}") from None
    except Exception as e:
        if not is_remote(path):
            raise
        raise Unreachable(f"{path}: cannot be read: {_reason(e)}") from e


def _status(error: Exception) -> Any:
    """The HTTP status of what Google's client raises."""
    return getattr(error, "code", None)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
