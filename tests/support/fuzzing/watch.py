"""Runs inputs in a process of their own, and finds out which one it was that ended it."""

import collections
import dataclasses
import faulthandler
import hashlib
import json
import mmap
import os
import resource
import signal
import struct
import time
from pathlib import Path

from fuzzing.target import Outcome, Target, outcome_of

CPU_SECONDS = 5  # for one input
EXTRA_MEMORY = 2 << 30  # above what the imports take
_LARGEST = 1 << 20
_LENGTH = struct.Struct("<Q")


class TimeOver(BaseException):
    """The loop has had its time."""


@dataclasses.dataclass
class Statistics:
    """What a loop has seen so far."""

    executions: int = 0
    cpu_seconds: float = 0.0
    outcomes: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    sentences: int = 0
    findings: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )

    def add(self, other: "Statistics") -> None:
        self.executions += other.executions
        self.cpu_seconds += other.cpu_seconds
        self.outcomes += other.outcomes
        self.sentences = max(self.sentences, other.sentences)
        self.findings += other.findings

    def dump(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(vars(self)))
        partial.replace(path)

    @staticmethod
    def load(path: Path) -> "Statistics":
        if not path.is_file():
            return Statistics()
        values = json.loads(path.read_text())
        for name in ("outcomes", "findings"):
            values[name] = collections.Counter(values[name])
        return Statistics(**values)


class Recorder:
    """Runs the inputs of a loop, keeps count, and writes down what must not happen.

    Before each input it is put where the process that watches can read it, should this be the
    last thing that happens here.
    """

    def __init__(self, target: Target, folder: Path, cpu_seconds: float):
        self.statistics = Statistics()
        self.was_new = False  # the last outcome
        self._target, self._folder = target, folder
        self._seen: set[str] = set()
        self._current = _open_current(folder)
        self._budget, self._start = cpu_seconds, time.process_time()
        self._saved = 0.0
        _limit_memory()
        # Writes where it is, then ends the process, also inside of C code.
        faulthandler.enable()
        faulthandler.register(signal.SIGPROF, chain=True)

    def try_input(self, data: bytes) -> Outcome:
        """Raises TimeOver when the loop's time is over."""
        data = data[:_LARGEST]
        self._current[: 8 + len(data)] = _LENGTH.pack(len(data)) + data
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        outcome = outcome_of(self._target.check, data)
        signal.setitimer(signal.ITIMER_PROF, 0)
        numbers = self.statistics
        numbers.executions += 1
        numbers.outcomes[outcome.kind] += 1
        self.was_new = outcome.novelty not in self._seen
        self._seen.add(outcome.novelty)
        if outcome.finding is not None:
            numbers.findings[outcome.place] += 1
            if self.was_new:
                keep_finding(self._folder, data, outcome.place, outcome.finding)
                self.save()
        now = time.process_time()
        if now - self._saved > 2:
            self._saved = now
            self.save()
        if now - self._start > self._budget:
            raise TimeOver
        return outcome

    def save(self) -> None:
        self.statistics.cpu_seconds = time.process_time() - self._start
        self.statistics.sentences = len(self._seen)
        self.statistics.dump(self._folder / "statistics.json")

    def exit(self) -> None:
        """Ends the process at once: engines in C know no other way."""
        self.save()
        os._exit(0)


def keep_finding(folder: Path, data: bytes, place: str, text: str) -> None:
    """Writes a finding's input and its traceback side by side."""
    name = hashlib.sha256(place.encode()).hexdigest()[:12]
    findings = folder / "findings"
    findings.mkdir(exist_ok=True)
    (findings / f"{name}.bin").write_bytes(data)
    (findings / f"{name}.txt").write_text(f"{place}\n{text}")


def last_input(folder: Path) -> bytes:
    """The input that the process was at."""
    content = (folder / "current").read_bytes()
    (length,) = _LENGTH.unpack(content[:8])
    return content[8 : 8 + length]


def _open_current(folder: Path) -> mmap.mmap:
    path = folder / "current"
    with path.open("wb") as file:
        file.truncate(_LARGEST + 8)
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + EXTRA_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
