"""One unit of a job: what a job must provide, and how a worker does and commits it."""

import dataclasses
import io
import pickle
import threading
from typing import Any, Protocol

from deepmac.errors import DataError
from pipelines.dead_letters import DeadLetter
from pipelines.json_lines import dump_line, load_line
from pipelines.storage import Output, open_output
from pipelines.unit_files import PLAN, commit_name, plan_name


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a job: its name, and the items that the plan put into it, in that order."""

    name: str
    items: list[dict]


@dataclasses.dataclass(slots=True)
class UnitReport:
    """What became of a unit; stored in its commit record.

    Attributes:
        counts: summed over the units. `images_in`, `images_out` and `images_failed` must be among
            them, with in = out + failed.
        dead_letters: what failed.
        details: JSON that concerns this unit alone, such as record offsets. Must be a function of
            the input: no times, no host names.
        agreed: what all units must have in common and only workers know; a job whose units differ
            in it fails.
    """

    counts: dict[str, int]
    dead_letters: list[DeadLetter] = dataclasses.field(default_factory=list)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)
    agreed: dict[str, str] = dataclasses.field(default_factory=dict)


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

    def run(self, unit_name: str, num_items: int) -> None:
        """Does one unit and commits it, unless somebody has."""
        output = open_output(self.root)
        name = commit_name(unit_name)
        record = output.read(name)
        if record is not None and output.complete(name, record):
            return
        unit = Unit(unit_name, read_plan(output, unit_name, num_items))
        work = _setup_once(self.work)
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
            if report.agreed:
                record["agreed"] = report.agreed
            output.commit(out, commit_name(unit_name), dump_line(record))


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
