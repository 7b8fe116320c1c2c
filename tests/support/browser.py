"""A real browser for pages: headless Chromium, spoken to over a pipe. See `open_page`."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_DEADLINE = 60  # seconds for an answer, on a busy machine


def chromium() -> str:
    """Path of Debian's Chromium. Skips the test where there is none, but not in CI."""
    path = shutil.which("chromium")
    if path is None:
        reason = (
            "no `chromium` on the PATH: pages are not opened (apt-get install chromium)"
        )
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Page:
    """A page that is open.

    Attributes:
        requests: addresses that it has asked for, data: left out.
        errors: what the console, the page's policy or a script complained of.
    """

    def __init__(self, send: int, receive: int):
        self._send, self._receive = send, receive
        self._buffer, self._number = b"", 0
        self._session: str | None = None
        self.requests: list[str] = []
        self.errors: list[str] = []

    def open(self, path: Path, *, width: int, height: int, dark: bool) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        self._await(lambda m: m.get("method") == "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """What a script's expression gives, a promise's value included, as JSON."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            returnByValue=True,
            awaitPromise=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key of the keyboard, on what has the focus."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text)

    def picture(self, *, whole: bool = False) -> bytes:
        """A PNG of what is in view, or of all."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method of the DevTools protocol answers."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        answer = self._await(lambda m: m.get("id") == self._number)
        assert "error" not in answer, answer
        return answer["result"]

    def _await(self, is_it: Any) -> dict[str, Any]:
        deadline = time.monotonic() + _DEADLINE
        while True:
            while b"\0" in self._buffer:
                text, _, self._buffer = self._buffer.partition(b"\0")
                message = json.loads(text)
                self._note(message)
                if is_it(message):
                    return message
            left = deadline - time.monotonic()
            assert left > 0, "the browser does not answer"
            if select.select([self._receive], [], [], left)[0]:
                data = os.read(self._receive, 1 << 20)
                assert data, "the browser has gone"
                self._buffer += data

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                url = parameters["request"]["url"]
                if not url.startswith("data:"):
                    self.requests.append(url)
            case "Runtime.exceptionThrown":
                self.errors.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.errors.append(str(parameters["args"]))
            case "Log.entryAdded":
                self.errors.append(parameters["entry"]["text"])


@contextlib.contextmanager
def open_page(
    path: Path, *, width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[Page]:
    """A page of the disk in a browser of its own, loaded."""
    command = [
        chromium(),
        "--headless",
        "--no-sandbox",  # CI is root
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-component-update",
        "--disable-background-networking",
        "--hide-scrollbars",
        "--remote-debugging-pipe",
    ]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        (to_read, send), (receive, to_write) = os.pipe(), os.pipe()
        # It reads from 3 and writes to 4, which must not be among the ends here.
        to_read, to_write = _moved(to_read), _moved(to_write)
        wired = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        process = subprocess.Popen(
            ["bash", "-c", wired, "bash", *command, f"--user-data-dir={profile}"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        try:
            page = Page(send, receive)
            page.open(path, width=width, height=height, dark=dark)
            yield page
        finally:
            os.close(send)
            process.kill()
            process.wait()
            os.close(receive)


def _moved(descriptor: int) -> int:
    """The same under a number above 9."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10)
    os.close(descriptor)
    return moved
