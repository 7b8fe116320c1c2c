"""What is done to a process: killed, or refused something, at a chosen one of its steps."""

import errno
import itertools
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[], None]
Spoil = Callable[[Run], None]
"""Takes what a process is to do, and does it in an evil place."""

# What Python tells of before it is done: opening, renaming and removing files, locks, requests.
_STEPS = {
    "open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.rmdir",
    "fcntl.flock", "http.client.connect", "http.client.send",
}  # fmt: skip


def unspoilt(run: Run) -> None:
    run()


def counting(out: str, into: Path) -> Spoil:
    """Writes how many steps a process took."""

    def spoil(run: Run) -> None:
        steps = _watch(out, lambda number: None)
        try:
            run()
        finally:
            into.write_text(str(next(steps)))

    return spoil


def killed_at(step: int, out: str) -> Spoil:
    """The process is gone before a step."""
    return _at(step, out, lambda: os.kill(os.getpid(), signal.SIGKILL))


def refused_at(step: int, out: str, number: int) -> Spoil:
    """A step fails as `errno` says, and all after it work."""

    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    return _at(step, out, refuse)


def files_end_at(num_bytes: int) -> Spoil:
    """No file grows beyond a size: a write is torn and then refused, as on a full disk."""

    def spoil(run: Run) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))
        run()

    return spoil


def _at(step: int, out: str, do: Callable[[], None]) -> Spoil:
    def spoil(run: Run) -> None:
        _watch(out, lambda number: do() if number == step else None)
        run()

    return spoil


def _watch(out: str, note: Callable[[int], None]) -> "itertools.count[int]":
    """Calls back with the number of each step of this process that concerns its output."""
    steps, process_id = itertools.count(), os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _STEPS or os.getpid() != process_id:
            return
        place = arguments[0] if arguments else None
        is_path = isinstance(place, str | os.PathLike)
        if not is_path or os.fspath(place).startswith(out):
            note(next(steps))

    sys.addaudithook(hook)
    return steps


DISK_FULL, IO_ERROR = errno.ENOSPC, errno.EIO
