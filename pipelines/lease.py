"""Who may launch a job into a directory of a store, where there are no locks."""

import contextlib
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from deepmac.data import files
from deepmac.errors import DataError
from pipelines.json_lines import dump_line, load_line

LEASE_SECONDS = 90.0
"""A launcher that has not renewed its lease for so long is taken for dead. Renewing takes two
requests, and one that hangs is sent again after 30 s: two hanging ones must not cost the lease."""
RENEW_SECONDS = 10.0
"""Between renewals; for how long, about, a second launcher waits before it sees that the first is
alive."""
_LOOK_SECONDS = 2.0

_held: set["Lease"] = set()


class Lease:
    """An object that names a launcher and that it renews while it lives.

    No clock is compared with another's: whoever waits looks whether the object changes.
    """

    def __init__(self, path: str, root: str):
        """A lease that is not held yet.

        Args:
            path: of the object.
            root: the directory, for errors.
        """
        self._path, self._root = path, root
        self._holder = secrets.token_hex(8)
        self._number = 0
        self._content = b""
        self._is_lost = False
        self._stop = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator["Lease"]:
        """Takes the lease, renews it until the block ends, and lets it go.

        Raises:
            DataError: a launcher that lives has it.
        """
        self._take()
        thread = threading.Thread(target=self._renew, daemon=True)
        thread.start()
        _held.add(self)
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
            _held.discard(self)
            self.let_go()

    def check(self) -> None:
        """Raises DataError if another launcher has taken the lease over."""
        if self._is_lost:
            raise DataError(
                f"{self._root}: another run has taken this directory over, because nothing was "
                f"heard of this one for {LEASE_SECONDS:.0f} s; let it finish"
            )

    def let_go(self) -> None:
        """Ends the lease, so that nobody needs to wait."""
        with contextlib.suppress(OSError, DataError):  # else it runs out
            if self._is_ours(files.read_file(self._path)):
                files.remove_file(self._path)

    def _take(self) -> None:
        self._content = self._next()
        if files.create_file(self._path, self._content):
            return
        seen, since = files.read_file(self._path), time.monotonic()
        print(
            f"{self._root}: a run {_described(seen)} may still be writing here; waiting for up to "
            f"{LEASE_SECONDS:.0f} s to see whether it lives",
            file=sys.stderr,
            flush=True,
        )
        while True:
            if seen is None:
                taken = files.create_file(self._path, self._content)
            elif time.monotonic() - since > LEASE_SECONDS:
                try:
                    taken = files.replace_file(self._path, seen, self._content)
                except FileNotFoundError:  # let go just now
                    seen = None
                    continue
            else:
                time.sleep(_LOOK_SECONDS)
                now = files.read_file(self._path)
                if now is None or now == seen:
                    seen = now
                    continue
                taken = False
            if taken:
                return
            raise DataError(
                f"{self._root}: another run is writing to this directory"
                f"; wait for it or stop it"
            )

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            renewed = self._next()
            try:
                with contextlib.suppress(FileNotFoundError):
                    if files.replace_file(self._path, self._content, renewed):
                        self._content = renewed
                        continue
                found = files.read_file(self._path)
            except (OSError, DataError):
                continue  # while the store is away, nobody else gets the lease either
            if found is None or not self._is_ours(found):
                self._is_lost = True
                return
            self._content = found  # a renewal that was given up had arrived

    def _is_ours(self, content: bytes | None) -> bool:
        return _facts(content).get("holder") == self._holder

    def _next(self) -> bytes:
        """Contents unlike all others."""
        self._number += 1
        return dump_line(
            {
                "holder": self._holder,
                "host": platform.node(),
                "process": os.getpid(),
                "renewals": self._number,
            }
        )


def let_all_go() -> None:
    """Ends the leases of a process that is about to leave without ceremony; takes 5 s at most."""
    if not _held:
        return
    # The thread that is interrupted may hold what a request needs.
    for lease in list(_held):
        thread = threading.Thread(target=lease.let_go, daemon=True)
        thread.start()
        thread.join(5.0)


def _facts(content: bytes | None) -> dict[str, Any]:
    """What a lease says of its holder; empty where it says nothing."""
    try:
        facts = load_line(content or b"")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _described(content: bytes | None) -> str:
    facts = _facts(content)
    if not {"host", "process"} <= facts.keys():
        return "of somebody"
    return f"on {facts['host']} (process {facts['process']})"
