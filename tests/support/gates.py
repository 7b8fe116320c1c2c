"""Images that keep their reader waiting, so that a test decides how far a job gets."""

import errno
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 120.0
"""Seconds until a test gives up; no test passes or fails by how long anything takes."""


class Gate:
    """Turns an image file into a named pipe: whoever reads it waits until it is let pass."""

    def __init__(self, path: Path):
        self._path, self._data = path, path.read_bytes()
        self._pipe: int | None = None
        path.unlink()
        os.mkfifo(path)

    @property
    def has_reader(self) -> bool:
        """Whether somebody waits for the image; he goes on waiting."""
        if self._pipe is None:
            try:
                self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as e:
                if e.errno != errno.ENXIO:  # nobody has opened it to read
                    raise
        return self._pipe is not None

    def let_pass(self) -> None:
        """Gives the image to the one who waits for it."""
        assert self._pipe is not None
        # Less than what a pipe takes at once.
        assert os.write(self._pipe, self._data) == len(self._data)
        self.forget()

    def forget(self) -> None:
        """Of a reader that was killed: the next one waits again."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def remove(self) -> None:
        """Makes it an image file again."""
        self.forget()
        self._path.unlink()
        self._path.write_bytes(self._data)


def wait_until(process: subprocess.Popen, holds: Callable[[], object]) -> None:
    """Returns when something holds that must come to hold before a process ends."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if process.poll() is not None:
            said = process.stderr.read() if process.stderr else ""
            raise AssertionError(f"ended with status {process.returncode}: {said}")
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)
