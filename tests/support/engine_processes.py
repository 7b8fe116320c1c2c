"""Processes of an engine: each in a group of its own, with a log, gone when the test is gone."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class EngineProcess:
    """One process that can be started, killed and started again.

    Start it from the thread that lives longest: the process dies with that thread.

    Args:
        name: of its log file.
        command: what to run.
        log: file that its output is appended to.
        prefix: put before the command, such as `ip netns exec NAME`.
        environment: added to ours.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ):
        self.name = name
        self.command = list(command)
        self.log = log
        self.prefix = list(prefix)
        self.environment = dict(environment or {})
        self.process: subprocess.Popen | None = None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        assert not self.is_running, f"{self.name} runs already"
        leash = [sys.executable, "-m", "pipelines.child", str(os.getpid())]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*leash, *self.prefix, *self.command],
                env={**os.environ, "PYTHONSAFEPATH": "1", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """At once, with all that it started."""
        self._end(signal.SIGKILL, 10)

    def stop(self) -> None:
        """As one would by hand; by force if that does not help."""
        try:
            self._end(signal.SIGTERM, 5)
        except subprocess.TimeoutExpired:
            self.kill()

    def _end(self, number: signal.Signals, seconds: float) -> None:
        if self.is_running:
            os.killpg(self.process.pid, number)
            self.process.wait(seconds)

    def wait_for(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Raises what the log says if the process ends or is not ready in time."""
        deadline = time.monotonic() + seconds
        while True:
            # Asked first: on a port that it did not get, somebody else may answer.
            if not self.is_running or time.monotonic() > deadline:
                state = "is not ready" if self.is_running else "ended"
                raise RuntimeError(f"{self.name} {state}:\n{self.last_lines()}")
            if ready():
                return
            time.sleep(0.1)

    def last_lines(self, number: int = 60) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-number:])


def free_port() -> int:
    """One that nobody uses now, from where the system takes none for outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("", port))
            return port


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def run_until_stopped(
    cluster: Callable[[Path], contextlib.AbstractContextManager[Any]],
) -> None:
    """Starts a cluster, prints the flags that a job needs for it, and ends it on Ctrl-C or SIGTERM."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        cluster(Path(temporary)) as started,
        contextlib.suppress(KeyboardInterrupt),
    ):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(*started.flags, flush=True)
        signal.pause()
