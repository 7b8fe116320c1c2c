"""Files in Google Cloud Storage: as `deepmac.data.files` wants a store to be.

Objects appear whole or not at all. Every request has a time limit and is sent again, after pauses
that grow and are drawn at random, where that may help. What is sent and what is read whole is
checked against its CRC32C.
"""

import base64
import contextlib
import errno
import functools
import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import google_crc32c

from deepmac.errors import DataError

REQUEST_SECONDS = 30.0
"""After that long without a byte a request is sent again. The store's own answers to a request of
ours take at most a few seconds; a server-side copy says every 30 s how far it is."""
FIRST_PAUSE_SECONDS = 0.5
"""Before something is tried again, on average; then twice as long each time."""
DEADLINE_SECONDS = 300.0
"""For how long something is tried again: longer than the store's hiccups, and than the minutes it
takes to admit a higher rate of requests; shorter than what makes a runner take a worker for dead."""

_UPLOAD_BYTES = 16 << 20  # of a large file at a time: what a failure costs, and memory
_PAGE = 1000  # names in an answer, which takes some kilobytes each while it is read
_ERRNO = {
    401: errno.EACCES,
    403: errno.EACCES,
    404: errno.ENOENT,
    412: errno.EEXIST,  # the object is not the one that the request is about
    416: errno.ERANGE,  # the range begins after the end
}
_PASSING = {408, 429, 500, 502, 503, 504}
_PATH = re.compile(r"gs://([^/]*)/?(.*)", re.DOTALL | re.IGNORECASE)
_T = TypeVar("_T")


class GoogleStorage:
    """A `Store`. One client a process, for all of its threads."""

    def size(self, path: str) -> int:
        return self._stat(path).size

    def read(self, path: str) -> bytes:
        blob = _blob(path)
        return _again(path, lambda: _download(blob))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        return _read_range(_blob(path), path, start, end)

    def open(self, path: str) -> io.RawIOBase:
        return _Reader(path, self._stat(path))

    def version(self, path: str) -> str:
        return str(self._stat(path).generation)

    def list(self, prefix: str, *, deep: bool) -> Iterator[tuple[str, int | None]]:
        bucket, name = split(prefix)
        fields = "items(name,size),prefixes,nextPageToken"
        with _telling(prefix, missing="there is no such bucket"):
            listing = client().list_blobs(
                bucket,
                prefix=name,
                delimiter=None if deep else "/",
                fields=fields,
                page_size=_PAGE,
                timeout=REQUEST_SECONDS,
                retry=_policy(),
            )
            for page in listing.pages:
                for blob in page:
                    # A name that ends so is what a console makes of an empty folder.
                    if not blob.name.endswith("/"):
                        yield f"gs://{bucket}/{blob.name}", blob.size
                for folder in page.prefixes:
                    yield f"gs://{bucket}/{folder}", None

    def write(self, path: str, data: bytes) -> None:
        _again(path, lambda: _send(_blob(path), data))

    def create(self, path: str, data: bytes) -> bool:
        # Where the answer to an earlier try was lost, what is in the way is our own object.
        return _send_onto(path, data, 0) or self.read(path) == data

    def upload(self, local_path: str, path: str) -> None:
        def send() -> None:
            with open(local_path, "rb") as file:
                blob = _blob(path, chunk_size=_UPLOAD_BYTES)
                blob.upload_from_file(
                    file,
                    size=os.fstat(file.fileno()).st_size,
                    timeout=REQUEST_SECONDS,
                    checksum="crc32c",
                    retry=_policy(),
                )

        _again(path, send)

    def replace(self, path: str, old: bytes, new: bytes) -> bool:
        number = self._stat(path).generation
        known = _blob(path, generation=number)
        if _again(path, lambda: _download(known)) != old:
            return False
        return _send_onto(path, new, number) or self.read(path) == new

    def copy(
        self, path: str, to: str, wanted: Callable[[], bool] | None = None
    ) -> None:
        if wanted is None:
            self._copy(path, to, None)
            return
        if self._copy(path, to, 0):
            return
        source = self._stat(path)
        while True:
            try:
                found = self._stat(to)
                number, same = found.generation, found.crc32c == source.crc32c
            except FileNotFoundError:
                number, same = 0, False
            # Asked after the look: what comes later has another number.
            if same or not wanted() or self._copy(path, to, number):
                return

    def _copy(self, path: str, to: str, generation: int | None) -> bool:
        """Copies onto an object of that number (0: none); False if there is another."""
        source, copy = _blob(path), _blob(to)

        def step(token: str | None) -> str | None:
            return copy.rewrite(
                source,
                token,
                if_generation_match=generation,
                timeout=REQUEST_SECONDS,
                retry=None,
            )[0]

        with _refused_by_condition() as refused:
            token = _again(path, lambda: step(None))
            while token is not None:  # a large one, to another place
                token = _again(path, functools.partial(step, token))
        return not refused

    def remove(self, path: str) -> None:
        blob = _blob(path)
        with contextlib.suppress(FileNotFoundError):
            _again(path, lambda: blob.delete(timeout=REQUEST_SECONDS, retry=None))

    def _stat(self, path: str) -> Any:
        blob = _blob(path)
        _again(path, lambda: blob.reload(timeout=REQUEST_SECONDS, retry=None))
        return blob


class _Reader(io.RawIOBase):
    """An object as it was when it was opened, read piece by piece, each with a request of its own."""

    def __init__(self, path: str, found: Any):
        self._path, self._size = path, found.size
        self._blob = _blob(path, generation=found.generation)
        self._expected, self._sum, self._num_summed = found.crc32c, 0, 0
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if self._position >= end:
            return 0
        try:
            data = _read_range(self._blob, self._path, self._position, end)
        except FileNotFoundError:
            reason = "it was replaced or removed while it was being read"
            raise OSError(errno.ESTALE, reason, self._path) from None
        self._check(data)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _check(self, data: bytes) -> None:
        """Holds what was read from front to back against the object's checksum."""
        if self._position != self._num_summed:
            return
        self._sum = google_crc32c.extend(self._sum, data)
        self._num_summed += len(data)
        whole = self._num_summed == self._size
        if whole and self._expected and _encoded(self._sum) != self._expected:
            reason = "what was read does not have the checksum of what is stored"
            raise OSError(errno.EIO, reason, self._path)


def split(path: str) -> tuple[str, str]:
    """Bucket, and name within it: empty for the bucket itself.

    Raises:
        DataError: there is no bucket in it.
    """
    found = _PATH.fullmatch(path)
    if not found or not found[1]:
        raise DataError(f"{path}: must be gs://BUCKET/NAME")
    return found[1], found[2]


# Requests


def _download(blob: Any, **span: int) -> bytes:
    # Google says of a whole object what its checksum is, of a part it cannot.
    return blob.download_as_bytes(
        timeout=REQUEST_SECONDS,
        checksum=None if span else "crc32c",
        retry=None,
        **span,
    )


def _read_range(blob: Any, path: str, start: int, end: int) -> bytes:
    try:
        return _again(path, lambda: _download(blob, start=start, end=end - 1))
    except OSError as e:
        if e.errno == errno.ERANGE:
            return b""
        raise


def _send_onto(path: str, data: bytes, generation: int) -> bool:
    """Writes onto an object of that number (0: none); False if there is another."""
    with _refused_by_condition() as refused:
        _again(path, lambda: _send(_blob(path), data, if_generation_match=generation))
    return not refused


@contextlib.contextmanager
def _refused_by_condition() -> Iterator[list[OSError]]:
    """Catches what a condition that does not hold raises."""
    refused: list[OSError] = []
    try:
        yield refused
    except OSError as e:
        if e.errno != errno.EEXIST:
            raise
        refused.append(e)


def _send(blob: Any, data: bytes, **condition: int) -> None:
    blob.upload_from_string(
        data,
        content_type="application/octet-stream",
        timeout=REQUEST_SECONDS,
        checksum="crc32c",
        retry=None,
        **condition,
    )


def _again(path: str, request: Callable[[], _T]) -> _T:
    with _telling(path):
        return _policy()(request)()


def _policy() -> Any:
    from google.api_core.retry import Retry

    return Retry(
        predicate=_may_pass,
        initial=FIRST_PAUSE_SECONDS,
        maximum=30.0,
        multiplier=2.0,
        timeout=DEADLINE_SECONDS,
    )


def _may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed the next time."""
    import google.auth.exceptions
    import requests
    import urllib3
    from google.cloud.storage.exceptions import DataCorruption

    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        return error.retryable or isinstance(
            error, google.auth.exceptions.TransportError
        )
    lost = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError)
    return isinstance(error, (*lost, TimeoutError, DataCorruption)) or (
        _status(error) in _PASSING
    )


@contextlib.contextmanager
def _telling(path: str, missing: str = os.strerror(errno.ENOENT)) -> Iterator[None]:
    """Turns what Google's client raises into what `open` would."""
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as e:
        cause = getattr(e, "cause", None) or e  # of a deadline that has passed
        status = _status(cause)
        if status is None and not (_may_pass(cause) or _is_refusal(cause)):
            raise
        reason = " ".join(str(cause).split()) or type(cause).__name__
        code = _ERRNO.get(status or 0, errno.EIO)
        raise OSError(code, missing if status == 404 else reason, path) from e


def _status(error: BaseException) -> int | None:
    """The HTTP status of what Google's client raises."""
    answer = getattr(error, "response", None)
    code = getattr(error, "code", None) or getattr(answer, "status_code", None)
    return int(code) if code is not None else None


def _is_refusal(error: BaseException) -> bool:
    """Whether it is about credentials, such as those that have expired."""
    from google.auth.exceptions import GoogleAuthError

    return isinstance(error, GoogleAuthError)


def _encoded(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


# The client


def _blob(path: str, **more: Any) -> Any:
    bucket, name = split(path)
    if not name:
        raise DataError(f"{path}: must be gs://BUCKET/NAME")
    return client().bucket(bucket).blob(name, **more)


_client: Any = None
_making = threading.Lock()


def client() -> Any:
    """Google's client of this process, for all of its threads.

    Raises:
        DataError: its package, or credentials, are not there.
    """
    global _client
    with _making:
        if _client is None:
            _client = _new_client()
        return _client


def close() -> None:
    """Closes this process's connections; the next request opens others."""
    global _client
    with _making:
        before, _client = _client, None
    if before is not None:
        before.close()


def _begin_anew() -> None:
    """A process that was forked may not use its parent's connections."""
    global _client, _making
    _client, _making = None, threading.Lock()


os.register_at_fork(after_in_child=_begin_anew)


def _new_client() -> Any:
    try:
        import google.auth.exceptions
        import requests.adapters
        from google.cloud import storage
    except ImportError:
        raise DataError(
            "gs:// needs google-cloud-storage: pip install 'deepmac[gcp]'"
        ) from None
    try:
        # A project is for those who make buckets.
        made: Any = storage.Client(project=None)
    except google.auth.exceptions.DefaultCredentialsError:
        raise DataError(
            "gs:// needs credentials of Google Cloud, and none were found: run `gcloud auth "
            "application-default login`, or name the key file of a service account in "
            "GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
    # By itself it would ask for each bucket, for traces that nobody keeps.
    made._bucket_metadata_cache = None
    for scheme in ("https://", "http://"):
        pool = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=64)
        made._http.mount(scheme, pool)
    return made
