"""Stores that Apache Beam's FileSystems know, for `deepmac.data.files`: s3://, hdfs:// and others.

What they can do less than Google Cloud Storage: they create nothing conditionally, so that of two
who create a file at the same moment both may believe that it is theirs; and where a store has
folders (HDFS), a file is replaced by removing the old one first. docs/storage.md says what follows.
"""

import contextlib
import errno
import functools
import importlib.util
import io
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from deepmac.data.files import CHUNK_BYTES, register_store
from deepmac.data.local_files import temporary_name
from deepmac.errors import DataError

# Scheme -> the package that Beam needs for it, and the extra of Beam that brings it.
_SCHEMES = {
    "s3": ("boto3", "aws"),
    "hdfs": ("hdfs", "hadoop"),
    "azfs": ("azure", "azure"),
}
# Of patterns; there is no way to quote them that works everywhere.
_WILDCARDS = re.compile(r"[*?\[\]\\]")


def register_beam_stores() -> None:
    """Lets every path be on a store of Beam's. Beam is imported when the first one is used."""
    for scheme in _SCHEMES:
        register_store(scheme, functools.partial(_make, scheme))


def _make(scheme: str) -> "BeamFiles":
    package, extra = _SCHEMES[scheme]
    if importlib.util.find_spec(package) is None:
        raise DataError(
            f"{scheme}:// needs {package}: pip install 'apache-beam[{extra}]'"
        )
    return BeamFiles()


class BeamFiles:
    """A `Store` over Beam's FileSystems; tries again only where their clients do."""

    def size(self, path: str) -> int:
        with _telling(path) as system:
            if not system.exists(path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return system.size(path)

    def read(self, path: str) -> bytes:
        with self.open(path) as file:
            return file.read()

    def read_range(self, path: str, start: int, end: int) -> bytes:
        with self.open(path) as file:
            file.seek(start)
            return file.read(end - start)

    def open(self, path: str) -> io.RawIOBase:
        from apache_beam.io.filesystem import CompressionTypes

        self.size(path)  # some open what is not there
        with _telling(path) as system:
            # As they are stored: whoever reads knows what is packed.
            raw = CompressionTypes.UNCOMPRESSED
            return _Reader(path, system.open(path, compression_type=raw))

    def version(self, path: str) -> str:
        size = self.size(path)
        with _telling(path) as system:
            return f"{size} {system.checksum(path)}"

    def list(self, prefix: str, *, deep: bool) -> Iterator[tuple[str, int | None]]:
        with _telling(prefix) as system:
            matched = system.match([f"{_WILDCARDS.sub('?', prefix)}**"])[0]
        found = [f for f in matched.metadata_list if f.path.startswith(prefix)]
        start = prefix.rpartition("/")[0] + "/"
        folders = set()
        for file in found:
            folder, slash, _ = file.path[len(start) :].partition("/")
            if deep or not slash:
                yield file.path, file.size_in_bytes
            elif folder not in folders:
                folders.add(folder)
                yield f"{start}{folder}/", None

    def write(self, path: str, data: bytes) -> None:
        self._put(path, io.BytesIO(data))

    def create(self, path: str, data: bytes) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self.read(path) == data
        self.write(path, data)
        return True

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        if self.read(path) != old:
            return False
        self.write(path, new)
        return True

    def upload(self, local_path: str, path: str) -> None:
        with open(local_path, "rb") as file:
            self._put(path, file)

    def copy(
        self, path: str, to: str, wanted: Callable[[], bool] | None = None
    ) -> None:
        if wanted is not None and not wanted():
            return
        with self.open(path) as file:
            self._put(to, file)

    def remove(self, path: str) -> None:
        with _telling(path) as system:
            if system.exists(path):
                system.delete([path])

    def _put(self, path: str, source: Any) -> None:
        from apache_beam.io.filesystem import CompressionTypes

        raw = CompressionTypes.UNCOMPRESSED
        with _telling(path) as system:
            folder, name = posixpath.split(path)
            # An object appears when it is closed, a file as soon as it is opened.
            written = f"{folder}/{temporary_name(name)}" if system.has_dirs() else path
            with system.create(written, compression_type=raw) as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
            if written != path:
                if system.exists(path):
                    system.delete([path])
                system.rename([written], [path])


class _Reader(io.RawIOBase):
    """A file that Beam has opened. What its client raises becomes what a file would raise."""

    def __init__(self, path: str, file: Any):
        self._path, self._file = path, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _refusals_told(self._path):
            return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        with _refusals_told(self._path):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        with _refusals_told(self._path):
            return self._file.read()

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def _telling(path: str) -> Iterator[Any]:
    """Beam's file system of a path; what it raises becomes what `open` would raise."""
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    # Those of a job are set when its flags are read, and in its workers by Beam.
    if FileSystems._pipeline_options is None:
        FileSystems.set_options(PipelineOptions([]))
    try:
        system = FileSystems.get_filesystem(path)
    except (ValueError, ImportError, BeamIOError) as e:
        raise DataError(f"{path}: Beam cannot open it: {_reason(e)}") from e
    with _refusals_told(path):
        yield system


@contextlib.contextmanager
def _refusals_told(path: str) -> Iterator[None]:
    from apache_beam.io.filesystem import BeamIOError

    try:
        yield
    except BeamIOError as e:
        raise OSError(errno.EIO, _reason(e), path) from e
    except (OSError, DataError):
        raise
    except Exception as e:
        if type(e).__module__ == "builtins":  # a bug
            raise
        # Each client has errors of its own, which Beam lets through where it reads.
        raise OSError(errno.EIO, _reason(e), path) from e


def _reason(error: Exception) -> str:
    """What went wrong in the first place, in one line."""
    while details := getattr(error, "exception_details", None):
        error = next(iter(details.values()))
    return " ".join(str(error).split()) or type(error).__name__
