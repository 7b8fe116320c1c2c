"""Files wherever they are: on a local file system, in Google Cloud Storage, or in a further store.

A path is a string; `SCHEME://` before it says where it is. Local paths and gs:// are known here;
`register_store` adds others. What a store refuses is an OSError, as from a local file system, with
the reason in one line; functions that only look turn it into `Unreachable`.
"""

import collections
import concurrent.futures
import contextlib
import fnmatch
import functools
import glob
import io
import itertools
import os
import posixpath
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from deepmac.data.local_files import LocalFiles
from deepmac.data.paths import printable, scheme_of
from deepmac.errors import DataError, one_of

CHUNK_BYTES = 8 << 20
"""What `open_file` asks a remote store for at a time. A request takes some 50 ms before its first
byte and then perhaps 100 MB a second: less would wait most of the time, more is memory."""
REQUESTS = 32
"""Requests to a remote store at a time, of one process: each takes some 50 ms, and thousands of
workers share what a store gives (Google begins with 1,000 writes a second for a bucket)."""

_WILDCARD = re.compile(r"[*?[]")
_T = TypeVar("_T")
_R = TypeVar("_R")


class Unreachable(DataError):
    """Storage does not give what it should have; says nothing of the data that is there."""


class Store(Protocol):
    """What a place for files must be able to do. Paths are whole, with their scheme.

    Raises OSError where it cannot; FileNotFoundError where there is no such file.
    """

    def size(self, path: str) -> int: ...

    def read(self, path: str) -> bytes: ...

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes [start, end), fewer where the file ends before."""
        ...

    def open(self, path: str) -> io.RawIOBase:
        """To read and seek in, unbuffered."""
        ...

    def version(self, path: str) -> str:
        """A text that is another one whenever the contents are."""
        ...

    def list(self, prefix: str, *, deep: bool) -> Iterator[tuple[str, int | None]]:
        """(path, bytes) of the files whose paths begin so, in no order.

        Args:
            prefix: a folder with its `/`, which need not exist, and perhaps the beginning of names
                in it.
            deep: also of the files in its folders. Otherwise each of those is one entry, whose
                path ends in `/` and whose size is None.
        """
        ...

    def write(self, path: str, data: bytes) -> None:
        """A whole file, over an older one. Nobody ever sees a part of it."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """A whole file, unless there is one of other contents."""
        ...

    def upload(self, local_path: str, path: str) -> None:
        """As `write`, with the contents of a local file."""
        ...

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        """`new` in place of `old`, unless something else is there."""
        ...

    def copy(
        self, path: str, to: str, wanted: Callable[[], bool] | None = None
    ) -> None:
        """As `write`, with the contents of a file of this store.

        Args:
            path: of the file.
            to: of the copy.
            wanted: asked where something else is in the way, and before it is replaced. What
                others put there after it was asked stays, in stores that can see to that.
        """
        ...

    def remove(self, path: str) -> None:
        """Of a file that is not there: nothing."""
        ...


# Where a path is


def register_store(scheme: str, make: Callable[[], Store]) -> None:
    """Adds a place for files, or replaces it.

    Args:
        scheme: of its paths, in small letters: `s3` for s3://.
        make: called once in a process, when the first path is used.
    """
    _makers[scheme] = make
    _store_of.cache_clear()


def is_remote(path: str) -> bool:
    """Whether a path is in a store, rather than on a local or mounted file system.

    Raises:
        DataError: it is in one that is not known, or only one slash follows the name of a store.
    """
    scheme = scheme_of(path)
    before, _, after = path.partition(":/")
    if scheme is None and after and before.lower() in _makers:
        raise DataError(
            f"{path}: a place in a store has two slashes, as {before}://{after}; for a local "
            f"directory of that name say ./{path}"
        )
    if scheme is not None and scheme not in _makers:
        known = one_of(sorted(f"{known}://" for known in _makers), limit=9)
        raise DataError(
            f"{path}: {scheme}:// is not available here; name a local path or one of {known}"
        )
    return scheme is not None


def join(folder: str, *names: str) -> str:
    """The path of a file in a folder, local or remote."""
    return posixpath.join(folder, *names)


def absolute(path: str) -> str:
    """A path that means the same from every working directory."""
    return path if is_remote(path) else str(Path(path).absolute())


def _store(path: str) -> Store:
    return _store_of(scheme_of(path)) if is_remote(path) else _LOCAL


@functools.cache
def _store_of(scheme: str) -> Store:
    return _makers[scheme]()


def _make_google() -> Store:
    from deepmac.data.google_storage import GoogleStorage

    return GoogleStorage()


_makers: dict[str, Callable[[], Store]] = {"gs": _make_google}


# Reading


def read_file(path: str) -> bytes | None:
    """The contents of a file; None if there is none.

    Raises:
        Unreachable: it cannot be read.
    """
    with _refusals_told(path):
        try:
            return _store(path).read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


def read_range(path: str, start: int, end: int) -> bytes:
    """The bytes [start, end) of a file, fewer where it ends before.

    Raises:
        Unreachable: it cannot be read.
    """
    if start == end:
        return b""
    with _refusals_told(path):
        return _store(path).read_range(path, start, end)


def open_file(path: str, chunk_bytes: int = CHUNK_BYTES) -> io.BufferedReader:
    """A file to read and seek in, to be closed by the caller; in all it is like `open(path, "rb")`.

    What a remote file holds is fixed when it is opened; where somebody replaces it meanwhile,
    reading fails. Read from the first byte to the last, it is checked against its checksum.

    Args:
        path: of the file.
        chunk_bytes: what to ask a remote store for at a time.

    Raises:
        OSError: as from `open`, and from the file as it is read; FileNotFoundError where there is
            none. `strerror` is the reason.
    """
    if not is_remote(path):
        return open(path, "rb")
    return io.BufferedReader(_store(path).open(path), chunk_bytes)


@contextlib.contextmanager
def reading(path: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[io.BufferedReader]:
    """`open_file` until the block ends. In the block nothing else may raise an OSError.

    Raises:
        Unreachable: it is not there or cannot be read, now or in the block.
    """
    with _refusals_told(path), open_file(path, chunk_bytes) as file:
        yield file


def read_text(path: str) -> str:
    """The text in a file.

    Raises:
        Unreachable: it is not there, or cannot be read.
        DataError: it is not UTF-8.
    """
    with reading(path) as file:
        data = file.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{printable(path)}: cannot be read: it is not UTF-8") from None


def file_version(path: str) -> str:
    """A text that is another one whenever the contents of a file are.

    Raises:
        Unreachable: it is not there, or the store does not say.
    """
    with _refusals_told(path):
        return _store(path).version(path)


def file_size(path: str) -> int | None:
    """Bytes of a file; None if there is none.

    Raises:
        Unreachable: the store does not say.
    """
    with _refusals_told(path):
        try:
            return _store(path).size(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None


def exists(path: str) -> bool:
    """Whether there is such a file; a folder is none.

    Raises:
        Unreachable: the store does not say.
    """
    return file_size(path) is not None


def is_file(path: str) -> bool:
    """`exists`, but no where a local file system cannot say.

    Raises:
        Unreachable: the store does not say.
    """
    return exists(path) if is_remote(path) else os.path.isfile(path)


# Listing


def is_folder(path: str) -> bool:
    """Whether there is such a folder; in a remote store: whether it has anything in it.

    Raises:
        Unreachable: the store does not say.
    """
    if not is_remote(path):
        return os.path.isdir(path)
    with _refusals_told(path):
        return next(_store(path).list(join(path, ""), deep=True), None) is not None


def find_files(pattern: str) -> dict[str, int]:
    """Path -> size in bytes of the files that match, in the order of their names.

    Args:
        pattern: as of a shell: no wildcard stands for a `/`.

    Raises:
        Unreachable: the store does not say.
    """
    if not is_remote(pattern):
        names = sorted(name for name in glob.glob(pattern) if os.path.isfile(name))
        return {name: os.path.getsize(name) for name in names}
    found = _WILDCARD.search(pattern)
    if found is None:
        size = file_size(pattern)
        return {} if size is None else {pattern: size}
    sizes = _list(pattern[: found.start()], deep="/" in pattern[found.start() :])
    return {path: sizes[path] for path in sorted(sizes) if _matches(path, pattern)}


def list_folder(folder: str) -> dict[str, int]:
    """Name -> bytes of the files in a folder, without those in its folders; empty if there is none.

    One sweep of the store's listing, however many there are.

    Raises:
        Unreachable: the store does not say.
    """
    return _relative(folder, _list(join(folder, ""), deep=False))


def list_tree(folder: str) -> dict[str, int]:
    """Path relative to a folder -> bytes, of the files in it and in its folders.

    Raises:
        Unreachable: the store does not say.
    """
    return _relative(folder, _list(join(folder, ""), deep=True))


def list_beginning(prefix: str) -> dict[str, int]:
    """Path -> bytes of all files whose paths begin so, in one sweep.

    Raises:
        Unreachable: the store does not say.
    """
    return _list(prefix, deep=True)


def list_entries(folder: str) -> list[str]:
    """Names of the files and folders in a folder, sorted.

    Raises:
        Unreachable: the store does not say.
    """
    with _refusals_told(folder):
        paths = [path for path, _ in _store(folder).list(join(folder, ""), deep=False)]
    return sorted({posixpath.basename(path.rstrip("/")) for path in paths})


def _list(prefix: str, *, deep: bool) -> dict[str, int]:
    with _refusals_told(prefix):
        entries = _store(prefix).list(prefix, deep=deep)
        return {path: size for path, size in entries if size is not None}


def _relative(folder: str, sizes: dict[str, int]) -> dict[str, int]:
    start = len(join(folder, ""))
    return {path[start:]: size for path, size in sizes.items()}


def _matches(path: str, pattern: str) -> bool:
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(
        map(fnmatch.fnmatchcase, parts, patterns)
    )


# Writing


def write_file(path: str, data: bytes) -> None:
    """Puts a whole file in place, over an older one; nobody ever sees a part of it.

    Raises:
        OSError: it cannot be written.
    """
    _store(path).write(path, data)


def create_file(path: str, data: bytes) -> bool:
    """Puts a whole file in place unless there is one; of several at once one alone does.

    A store that has no such operation is asked first whether there is one: two at the same moment
    may both write then (docs/storage.md says which stores).

    Returns:
        Whether the file holds `data` now: put there by this call, or by somebody with equal bytes.

    Raises:
        OSError: it cannot be written.
    """
    return _store(path).create(path, data)


def replace_file(path: str, old: bytes, new: bytes) -> bool:
    """Puts `new` in place of `old`, unless somebody has put something else there.

    As sure as `create_file` against others at the same moment.

    Returns:
        Whether the file holds `new` now.

    Raises:
        OSError: it cannot be read or written.
    """
    return _store(path).replace(path, old, new)


def upload(local_path: str, path: str) -> None:
    """Puts a copy of a local file in place, whole, over an older one.

    Raises:
        OSError: it cannot be read or written.
    """
    _store(path).upload(local_path, path)


def copy_file(path: str, to: str, wanted: Callable[[], bool] | None = None) -> None:
    """Puts a copy of a file in place, whole, over an older one; within a store, if it can be.

    Args:
        path: of the file.
        to: of the copy.
        wanted: see `Store.copy`; for copies within a store.

    Raises:
        OSError: it cannot be read or written.
    """
    if scheme_of(path) == scheme_of(to):
        _store(path).copy(path, to, wanted)
    elif not is_remote(path):
        upload(path, to)
    else:
        write_file(to, _store(path).read(path))


def remove_file(path: str) -> None:
    """Removes a file, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    _store(path).remove(path)


def remove_folder(path: str) -> None:
    """Removes a folder with all that is in it, if it is there.

    Not at one stroke: after a crash some of it is there.

    Raises:
        OSError: something cannot be removed.
    """
    if not is_remote(path):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
        return
    for _ in map_requests(remove_file, (join(path, name) for name in list_tree(path))):
        pass


# Many at a time


def map_requests(
    function: Callable[[_T], _R], items: Iterable[_T], *, at_a_time: int = REQUESTS
) -> Iterator[_R]:
    """`map(function, items)`, in order, with some calls at a time in threads.

    Holds no more than a few results a thread, however many items there are and however slowly
    somebody takes the results. The first error ends it.
    """
    iterator = iter(items)
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        waiting = collections.deque(
            pool.submit(function, item)
            for item in itertools.islice(iterator, 2 * at_a_time)
        )
        try:
            while waiting:
                yield waiting.popleft().result()
                for item in itertools.islice(iterator, 1):
                    waiting.append(pool.submit(function, item))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_LOCAL = LocalFiles()


@contextlib.contextmanager
def _refusals_told(path: str) -> Iterator[None]:
    """Turns what a file system or a store refuses into one Unreachable."""
    try:
        yield
    except OSError as e:
        reason = e.strerror or e
        raise Unreachable(f"{printable(path)}: cannot be read: {reason}") from None
