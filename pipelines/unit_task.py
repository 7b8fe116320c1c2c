"""One unit of a job: what a job must provide, and how a worker does and commits it."""

import collections
import contextlib
import dataclasses
import io
import os
import pickle
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from deepmac.errors import DataError
from deepmac.stage_times import StageTimes
from pipelines.dead_letters import DeadLetter
from pipelines.json_lines import dump_line, load_line
from pipelines.storage import Output, open_output
from pipelines.unit_files import PLAN, commit_name, mark_name, plan_name, utc


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a job: its name, and the items that the plan put into it, in that order."""

    name: str
    items: list[dict]


@dataclasses.dataclass(slots=True)
class UnitReport:
    """What became of a unit; stored in its commit record, but for the times.

    Attributes:
        counts: summed over the units. `images_in`, `images_out` and `images_failed` must be among
            them, with in = out + failed.
        dead_letters: what failed.
        details: JSON that concerns this unit alone, such as record offsets. Must be a function of
            the input: no times, no host names.
        times: of the stages of the work, for those who watch.
    """

    counts: dict[str, int]
    dead_letters: list[DeadLetter] = dataclasses.field(default_factory=list)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    times: StageTimes = dataclasses.field(default_factory=StageTimes)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnitDone:
    """A unit that has been committed, for those who watch.

    Attributes:
        counts: as in its commit record.
        reasons: (stage, reason) -> number of dead letters.
        num_bytes: of its data.
        times: of the stages of the work, of `commit`, of the whole `unit`, and of an `image`: an
            equal part of the unit's.
    """

    counts: Mapping[str, int]
    reasons: Mapping[tuple[str, str], int]
    num_bytes: int
    times: StageTimes


class UnitWork(Protocol):
    """What a job does with one unit. Pickled and sent to workers: plain fields only."""

    def data_name(self, unit_name: str) -> str:
        """Name of the unit's data file in the output directory."""
        ...

    def setup(self) -> None:
        """Called once per process, before the first unit: models open here."""
        ...

    def process(self, unit: Unit, out: io.RawIOBase) -> UnitReport:
        """Does a unit. Must depend on nothing but the unit and the fields.

        Called by several threads at once on runners that work so. An error that concerns one
        image or annotation becomes a dead letter; what is raised stops the whole job.

        Args:
            unit: name and items.
            out: the data file, write only; `tell()` is the number of bytes so far. Put in place
                when this returns.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything a worker needs besides the unit's name."""

    root: str
    job: str
    digest: str
    work: UnitWork

    def setup(self) -> None:
        _setup_once(self.work)

    def run(self, unit_name: str, num_items: int) -> UnitDone | None:
        """Does one unit and commits it; None if somebody else has, before or meanwhile."""
        output = open_output(self.root)
        name = commit_name(unit_name)
        record = output.read(name)
        if record is not None and output.complete(name, record):
            return None
        work = _setup_once(self.work)
        with _marked(output, unit_name):
            return self._run(output, work, unit_name, num_items)

    def _run(
        self, output: Output, work: UnitWork, unit_name: str, num_items: int
    ) -> UnitDone | None:
        started = time.perf_counter_ns()
        unit = Unit(unit_name, read_plan(output, unit_name, num_items))
        with output.new_file(work.data_name(unit_name)) as out:
            report = work.process(unit, out)
            record = {
                "unit": unit_name,
                "job": self.job,
                "fingerprint": self.digest,
                "data": {
                    "name": work.data_name(unit_name),
                    "bytes": out.num_bytes,
                    "sha256": out.sha256,
                },
                "counts": _checked(report.counts),
                "dead_letters": [
                    dataclasses.asdict(letter) for letter in report.dead_letters
                ],
                "details": report.details,
            }
            times = report.times
            with times.of("commit"):
                is_ours = output.commit(out, commit_name(unit_name), dump_line(record))
        if not is_ours:
            return None
        took, num_images = time.perf_counter_ns() - started, report.counts["images_in"]
        times.note("unit", took)
        if num_images:
            times.note("image", took // num_images)
        return UnitDone(
            counts=record["counts"],
            reasons=collections.Counter(
                (letter.stage, letter.reason) for letter in report.dead_letters
            ),
            num_bytes=record["data"]["bytes"],
            times=times,
        )


@contextlib.contextmanager
def _marked(output: Output, unit_name: str) -> Iterator[None]:
    """Tells the launcher who does a unit, until the block ends, so that a stall has a name.

    A mark decides nothing, and so may fail: the unit goes on without it.
    """
    mark = {
        "unit": unit_name,
        "host": platform.node(),
        "process": os.getpid(),
        "since": utc(time.time()),
    }
    with contextlib.suppress(Exception):
        output.write(mark_name(unit_name), dump_line(mark))
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            output.remove(mark_name(unit_name))


_ready: dict[bytes, UnitWork] = {}
_ready_lock = threading.Lock()


def _setup_once(work: UnitWork) -> UnitWork:
    """The process's own copy of `work`, set up."""
    key = pickle.dumps(work)
    with _ready_lock:
        if key not in _ready:
            mine = pickle.loads(key)
            mine.setup()
            _ready.clear()  # a process that runs several jobs keeps the last one's models
            _ready[key] = mine
        return _ready[key]


def read_plan(output: Output, unit_name: str, num_items: int) -> list[dict]:
    """The items that the plan put into a unit."""
    data = output.read(plan_name(unit_name)) if num_items else b""
    items = [load_line(line) for line in (data or b"").splitlines()]
    if len(items) != num_items:
        raise DataError(
            f"{output.path(plan_name(unit_name))} holds {len(items)} of {num_items} items; "
            f"delete {output.path(PLAN)} and run the same command again"
        )
    return items


def _checked(counts: dict[str, int]) -> dict[str, int]:
    lost = counts["images_in"] - counts["images_out"] - counts["images_failed"]
    assert lost == 0, f"{lost} images neither written nor failed: {counts}"
    return dict(sorted(counts.items()))
