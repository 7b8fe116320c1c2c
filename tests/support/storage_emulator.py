"""Google Cloud Storage on this machine, over a real connection that can be made to fail.

Two emulators, each a process of its own: gcp-storage-emulator, with which Beam's `gs://` works, and
fake-gcs-server, which refuses what a precondition (`if_generation_match`) forbids and answers in
parallel. Before each stands a proxy that counts requests and, on demand, does what storage does on
a bad day. Fixtures: `storage` (the first) and `strict_storage` (the second).
"""

import collections
import contextlib
import dataclasses
import functools
import gc
import http.client
import http.server
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import unittest.mock
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

BUCKET = "bucket"
_ENGINES = Path(__file__).resolve().parents[2] / ".engines" / "bin"
_STRICT = "fake-gcs-server"
_HOW_TO_GET = (
    f"no {_STRICT} here: GOBIN=$PWD/.engines/bin go install "
    "github.com/fsouza/fake-gcs-server@latest"
)
_EMPTY = (
    b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\n\r\n\r\n--b--\r\n"
)
"""Of an upload: an object without contents."""
_ERRORS = (429, 500, 503)
# Between one hop and the next, and no matter of the other.
_NOTHING = contextlib.nullcontext()
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong, each a share of the requests; which ones, the seed and the request decide.

    Attributes:
        errors: are answered 429, 500 or 503; the store does not see them.
        lost_answers: are done by the store, and then the connection breaks.
        hangs: are held for `hang_seconds`, and then the connection breaks; the store does not see
            them.
        cut_short: of the downloads, end in the middle.
        hang_seconds: how long.
        seed: of the choice.
    """

    errors: float = 0.0
    lost_answers: float = 0.0
    hangs: float = 0.0
    cut_short: float = 0.0
    hang_seconds: float = 0.5
    seed: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request that was made.

    Attributes:
        kind: `read`, `facts` (of an object, or of the bucket), `list`, `write`, `copy`, `remove`,
            `batch` or `other`.
        method: of HTTP.
        name: of the object; the prefix of a list; "" where there is none.
        fault: what was done to it; "" for nothing.
    """

    kind: str
    method: str
    name: str
    fault: str = ""


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on to a store, and makes some of them fail.

    Attributes:
        faults: what goes wrong from now on.
        refusals: pattern of object names -> the status that requests for them get, whatever
            they want.
        requests: all so far, in the order in which they came.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: int):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.faults = Faults()
        self.refusals: dict[str, int] = {}
        self.requests: list[Request] = []
        self.uploads: dict[str, str] = {}  # id of an upload in pieces -> its object
        self._seen: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self.copying = threading.Lock()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def counts(self) -> collections.Counter[str]:
        """Requests by kind."""
        return collections.Counter(request.kind for request in self.requests)

    def forget(self) -> None:
        """Begins anew to count, and to choose what fails."""
        self.requests.clear()
        self._seen.clear()

    def note(self, method: str, target: str, body: bytes) -> tuple[str, int]:
        """Counts a request; returns what is to go wrong with it, and the status of an error."""
        kind, name = _kind(method, target)
        if kind == "write":
            name = self.uploads.get(_upload_id(target)) or name or _named_in(body)
        with self._lock:
            fault, status = self._fault(method, target, kind, name)
            self.requests.append(Request(kind, method, name, fault))
        return fault, status

    def _fault(self, method: str, target: str, kind: str, name: str) -> tuple[str, int]:
        for pattern, status in self.refusals.items():
            if name and re.search(pattern, name):
                return "refused", status
        # Not by the order in which threads come: the same request fails in every run.
        key = re.sub(r"(upload_id|pageToken)=[^&]*", "", f"{method} {target}")
        self._seen[key] += 1
        chance = random.Random(f"{self.faults.seed} {key} {self._seen[key]}")
        drawn = chance.random()
        for fault in ("errors", "lost_answers", "hangs"):
            drawn -= getattr(self.faults, fault)
            if drawn < 0:
                return fault, chance.choice(_ERRORS)
        cut = kind == "read" and drawn < self.faults.cut_short
        return ("cut_short" if cut else ""), 0

    def handle_error(self, request, client_address):
        pass  # whoever has asked may hang up


def _kind(method: str, target: str) -> tuple[str, str]:
    """The kind of a request, and the object or prefix that it is about."""
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query))
    found = re.search(
        r"/b/[^/]+/o/(.+?)(/(?:copyTo|rewriteTo)/.*|/compose)?$", url.path
    )
    name = urllib.parse.unquote(found[1]) if found else ""
    if url.path.startswith("/batch"):
        return "batch", ""
    if url.path.startswith("/upload"):
        return "write", query.get("name", "")
    if found and found[2]:
        return "copy", name
    if method == "DELETE":
        return "remove", name
    if method != "GET":
        return "other", name
    if not found:
        if url.path.endswith("/o"):
            return "list", query.get("prefix", "")
        return "facts", ""
    is_media = url.path.startswith("/download") or query.get("alt") == "media"
    return ("read" if is_media else "facts"), name


def _upload_id(target: str) -> str:
    found = re.search(r"[?&]upload_id=([^&]+)", target)
    return found[1] if found else ""


def _named_in(body: bytes) -> str:
    """The object that the head of an upload names."""
    found = re.search(rb'"name": ?("(?:[^"\\\\]|\\\\.)*")', body[:4096])
    return orjson.loads(found[1]) if found else ""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # which holds a body back until its head is confirmed
    )
    server: Proxy

    def _pass_on(self) -> None:
        body = self._body()
        fault, status = self.server.note(self.command, self.path, body)
        if fault in ("errors", "refused"):
            words = http.client.responses[status]
            message = {"error": {"code": status, "message": words}}
            return self._answer(status, {}, orjson.dumps(message))
        if fault == "hangs":
            time.sleep(self.server.faults.hang_seconds)
            return self._break()
        with self.server.copying if "/rewriteTo/" in self.path else _NOTHING:
            if self._is_forbidden():
                return self._answer(412, {}, b'{"error": {"code": 412}}')
            status, headers, data = self._ask(body)
        if upload_id := _upload_id(headers.get("Location", "")):
            self.server.uploads[upload_id] = _named_in(body) or _kind("", self.path)[1]
        if fault == "lost_answers":
            return self._break()
        return self._answer(status, headers, data, cut_short=fault == "cut_short")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass_on

    def _is_forbidden(self) -> bool:
        """Whether a copy's precondition fails, to which neither store looks."""
        url = urllib.parse.urlsplit(self.path)
        wanted = dict(urllib.parse.parse_qsl(url.query)).get("ifGenerationMatch")
        found = re.search(r"/rewriteTo(/b/[^/]+/o/.+)$", url.path)
        if wanted is None or not found:
            return False
        try:
            facts = _ask(self.server.upstream, "GET", f"/storage/v1{found[1]}")
        except urllib.error.HTTPError:
            return wanted != "0"
        return orjson.loads(facts).get("generation", wanted) != wanted

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        # The store sees our address as its own, and puts it into the places that it names.
        headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP}
        store = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        try:
            store.request(self.command, self.path, body, headers)
            answer = store.getresponse()
            data = answer.read()
        finally:
            store.close()
        named = {n: v for n, v in answer.getheaders() if n.lower() not in _HOP}
        theirs, ours = f"127.0.0.1:{self.server.upstream}", self.server.address
        for name, value in named.items():
            named[name] = value.replace(theirs, ours)
        if "json" in named.get("Content-Type", named.get("Content-type", "")):
            data = data.replace(theirs.encode(), ours.encode())
        return answer.status, named, data

    def _answer(
        self,
        status: int,
        headers: dict[str, str],
        data: bytes,
        *,
        cut_short: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(data[: len(data) // 2] if cut_short else data)
        if cut_short and data:
            self._break()

    def _break(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format, *args):
        pass


@dataclasses.dataclass(frozen=True)
class Storage:
    """A store with one bucket, and the proxy before it.

    What its methods do goes around the proxy and around Google's client.
    """

    proxy: Proxy
    url: str = f"gs://{BUCKET}"

    def put(self, name: str, data: bytes) -> None:
        form = "media" if data else "multipart"  # gcp-storage-emulator fails at nothing
        query = urllib.parse.urlencode({"uploadType": form, "name": name})
        self._ask("POST", f"/upload/storage/v1/b/{BUCKET}/o?{query}", data or _EMPTY)

    def get(self, name: str) -> bytes:
        return self._ask("GET", f"{self._object(name)}?alt=media")

    def remove(self, name: str) -> None:
        self._ask("DELETE", self._object(name))

    def names(self, prefix: str = "") -> list[str]:
        query = urllib.parse.urlencode({"prefix": prefix})
        found = orjson.loads(self._ask("GET", f"/storage/v1/b/{BUCKET}/o?{query}"))
        return sorted(entry["name"] for entry in found.get("items") or ())

    def upload(self, folder: Path, prefix: str) -> str:
        """Copies a folder into the bucket; returns its URL."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
        return f"{self.url}/{prefix}"

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Name after the prefix -> bytes of the objects under it."""
        return {
            name.removeprefix(f"{prefix}/"): self.get(name)
            for name in self.names(f"{prefix}/")
        }

    @staticmethod
    def _object(name: str) -> str:
        return f"/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(name, safe='')}"

    def _ask(self, method: str, target: str, data: bytes | None = None) -> bytes:
        return _ask(self.proxy.upstream, method, target, data)


def _ask(port: int, method: str, target: str, data: bytes | None = None) -> bytes:
    headers = {"Content-Type": "application/octet-stream"}
    if data == _EMPTY:
        headers = {"Content-Type": "multipart/related; boundary=b"}
    if data is not None and data[:1] == b"{" and "/upload/" not in target:
        headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{target}", data, headers, method=method
    )
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _running(command: Callable[[int], list[str]], alive: str) -> Iterator[int]:
    """A server process on a free port, until the block ends."""
    port = _free_port()
    server = subprocess.Popen(
        command(port), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                _ask(port, "GET", alive)
                break
            if server.poll() is not None:
                raise RuntimeError(f"{command(port)[0]}: {server.stderr.read()!r}")
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()


def lenient_store() -> contextlib.AbstractContextManager[int]:
    """gcp-storage-emulator; gives its port."""
    package = "gcp_storage_emulator"
    return _running(
        lambda port: [
            *(sys.executable, "-m", package, "start", "-M", "-q"),
            *("--host=127.0.0.1", f"--port={port}"),
        ],
        "/",
    )


def strict_store() -> contextlib.AbstractContextManager[int]:
    """fake-gcs-server; gives its port."""
    binary = shutil.which(_STRICT, path=f"{_ENGINES}{os.pathsep}{os.environ['PATH']}")
    if binary is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(_HOW_TO_GET)
    options = ["-backend=memory", "-scheme=http", "-host=127.0.0.1", "-log-level=error"]
    return _running(
        lambda port: [
            *(binary, *options, f"-port={port}"),
            f"-external-url=http://127.0.0.1:{port}",
        ],
        "/storage/v1/b",
    )


@contextlib.contextmanager
def behind_proxy(port: int) -> Iterator[Storage]:
    """A store with an empty bucket behind a proxy, to which the environment points."""
    proxy = Proxy(port)
    thread = threading.Thread(
        target=functools.partial(proxy.serve_forever, poll_interval=0.02)
    )
    thread.start()
    storage = Storage(proxy)
    with contextlib.suppress(urllib.error.HTTPError):  # from the test before
        for name in storage.names():
            storage.remove(name)
    with contextlib.suppress(urllib.error.HTTPError):
        _ask(
            port, "POST", "/storage/v1/b?project=p", b'{"name":"%b"}' % BUCKET.encode()
        )
    variables = {
        "STORAGE_EMULATOR_HOST": f"http://{proxy.address}",
        # Else Google's client asks for the bucket in a thread that outlives a test.
        "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
    }
    try:
        with unittest.mock.patch.dict(os.environ, variables), _without_credentials():
            yield storage
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


@contextlib.contextmanager
def _without_credentials() -> Iterator[None]:
    """Keeps Beam from looking for credentials, which takes 20 s where there are none."""
    try:
        from apache_beam.internal.gcp.auth import _Credentials
    except ImportError:
        yield
        return
    assert hasattr(_Credentials, "_credentials_init"), "Beam has renamed the switch"
    before = _Credentials._credentials_init
    _Credentials._credentials_init = True
    try:
        yield
    finally:
        _Credentials._credentials_init = before


def _let_go() -> None:
    """Closes what clients leave open: found later, it would fail whatever test runs then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def _lenient_port() -> Iterator[int]:
    pytest.importorskip("google.cloud.storage")
    with lenient_store() as port:
        yield port


@pytest.fixture(scope="session")
def _strict_port() -> Iterator[int]:
    pytest.importorskip("google.cloud.storage")
    with strict_store() as port:
        yield port


@pytest.fixture
def storage(_lenient_port: int) -> Iterator[Storage]:
    """An empty bucket that Beam's `gs://` can use too."""
    with behind_proxy(_lenient_port) as storage:
        yield storage
    _let_go()


@pytest.fixture
def strict_storage(_strict_port: int) -> Iterator[Storage]:
    """An empty bucket of a store that keeps to preconditions."""
    with behind_proxy(_strict_port) as storage:
        yield storage
    _let_go()
