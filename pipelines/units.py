"""Jobs as units that commit themselves: plan, work, resume, merge.

A job is cut into units, each of which makes one data file. The launcher writes what each unit
needs into a small file of its own (`plan/UNIT.jsonl`), hands Beam nothing but unit names, and
waits. Whoever does a unit writes its data file and, last, its commit record `units/UNIT.json`. A
unit is done when that record is there and fits; so a job that was stopped at any moment goes on
where it was, by the same command. No Beam in here: `pipelines.launch` is the only shell.
"""

import collections
import dataclasses
import datetime
import hashlib
import io
import json
import platform
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

import deepmac
from deepmac.errors import DataError, OptionError
from pipelines.dead_letters import DeadLetter
from pipelines.storage import LocalOutput, open_output

JOB, RUNS, MANIFEST, DEAD_LETTERS = (
    "job.json",
    "run.json",
    "manifest.json",
    "dead_letters.jsonl",
)
PLAN, COMMITS = "plan", "units"


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
    """

    counts: dict[str, int]
    dead_letters: list[DeadLetter] = dataclasses.field(default_factory=list)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


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


class PlanWriter:
    """Sorts items into units. Keeps little in memory however many units there are."""

    def __init__(self, output: LocalOutput, buffer_bytes: int = 32 << 20):
        self._output, self._limit = output, buffer_bytes
        self._buffers: dict[str, list[bytes]] = collections.defaultdict(list)
        self._buffered = 0
        self.num_items: dict[str, int] = {}

    def declare(self, unit_name: str) -> None:
        """Makes a unit that may stay without items."""
        self.num_items.setdefault(unit_name, 0)

    def add(self, unit_name: str, item: Mapping[str, Any]) -> None:
        """Puts an item (a JSON object) at the end of a unit."""
        line = dump_line(item)
        self._buffers[unit_name].append(line)
        self.num_items[unit_name] = self.num_items.get(unit_name, 0) + 1
        self._buffered += len(line)
        if self._buffered > self._limit:
            self.flush()

    def flush(self) -> None:
        for unit_name, lines in self._buffers.items():
            self._output.append(_plan_name(unit_name), b"".join(lines))
        self._buffers.clear()
        self._buffered = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UnitSummary:
    """A committed unit, for the manifest."""

    name: str
    data_name: str
    data_bytes: int
    data_sha256: str
    counts: dict[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Totals:
    """What a finished job amounts to, merged from its commit records.

    Attributes:
        context: what `plan` returned.
        units: in the order of their names.
        counts: sums over the units.
        reasons: (stage, reason) -> number of dead letters.
        num_resumed: units that an earlier run had committed.
        seconds: of this run, planning included.
    """

    context: dict[str, Any]
    units: tuple[UnitSummary, ...]
    counts: dict[str, int]
    reasons: dict[tuple[str, str], int]
    num_resumed: int
    seconds: float


def run_units(
    out: str,
    *,
    job: str,
    plan: Callable[[PlanWriter], dict[str, Any] | None],
    work: Callable[[dict[str, Any]], UnitWork],
    options: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    beam_args: Sequence[str] = (),
    verbose: bool = False,
) -> Totals:
    """Does the units of a job that are not done yet, and merges all of them.

    Writes everything but the manifest: the caller makes that from the totals and hands it to
    `finish`.

    Args:
        out: output directory.
        job: its name, as in the command line.
        plan: sorts the input into units; returns the facts that the work needs and that only the
            input tells (categories, say), as JSON. Called only when there is no whole plan yet.
        work: makes the picklable work from those facts.
        options: JSON values that, with the package version, decide the bytes of the output. Name
            them as the command line does; contents of input files enter as their digests.
        inputs: where the input lies. May not change between runs either, but is no part of the
            output's identity.
        beam_args: flags of Beam.
        verbose: let Beam talk.

    Raises:
        OptionError: a Beam flag is wrong, or the directory belongs to a job with other options.
        DataError: from `plan`, or something that stops a unit, such as a full disk.
    """
    from pipelines import launch

    started = time.time()
    beam_options = launch.parse_beam_args(beam_args)
    output = open_output(out)
    with output.exclusive():
        output.remove_temporaries()
        header = _Header(job, deepmac.__version__, dict(options), dict(inputs or {}))
        planned = _plan_or_resume(output, header, plan)
        unit_work = work(planned.context)
        pending = _pending(output, planned, header.digest)
        progress = None
        if pending:
            # Its presence means complete, which no longer holds.
            output.remove(MANIFEST)
            progress = Progress(output, planned.num_items, pending)
            tasks = [(name, planned.num_items[name]) for name in pending]
            launch.run_tasks(
                beam_options,
                Task(str(output.root), job, header.digest, unit_work),
                tasks,
                progress=progress,
                verbose=verbose,
            )
        totals = _merge(output, planned, len(pending), time.time() - started)
        if progress:
            rate = progress.num_images / totals.seconds
            _append_run(output, job, started, beam_options, rate, totals)
    return totals


def finish(out: str, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, whose presence says that the directory is complete."""
    output = open_output(out)
    data = dump_document(manifest)
    if output.read(MANIFEST) != data:
        output.write(MANIFEST, data)
    output.remove_folder(PLAN)


# The plan.


@dataclasses.dataclass(frozen=True)
class _Header:
    """Which job a directory belongs to: the first half of job.json."""

    job: str
    version: str
    options: dict[str, Any]
    inputs: dict[str, Any]

    @property
    def digest(self) -> str:
        """Names what decides the bytes; in every commit record."""
        identity = [self.job, self.version, self.options]
        return hashlib.sha256(dump_line(identity)).hexdigest()


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What planning found out: the second half of job.json; its presence says: whole."""

    num_items: dict[str, int]
    context: dict[str, Any]


def _plan_or_resume(
    output: LocalOutput,
    header: _Header,
    plan: Callable[[PlanWriter], dict[str, Any] | None],
) -> _Plan:
    stored = _read_json(output, JOB)
    if stored is not None and output.sizes(COMMITS):
        _check_same_job(output, stored, header)
    if stored is not None and stored == _as_json(header) | {"plan": stored.get("plan")}:
        planned = _Plan(**stored["plan"])
        spilled = (output.root / PLAN).is_dir()
        if spilled or not _pending(output, planned, header.digest):
            return planned
    output.remove_folder(PLAN)
    output.write(JOB, dump_document(_as_json(header)))
    writer = PlanWriter(output)
    context = plan(writer) or {}
    writer.flush()
    (output.root / PLAN).mkdir(exist_ok=True)  # of a plan whose units are all empty
    planned = _Plan(dict(sorted(writer.num_items.items())), context)
    whole = _as_json(header) | {"plan": dataclasses.asdict(planned)}
    output.write(JOB, dump_document(whole))
    return planned


def _check_same_job(output: LocalOutput, stored: dict, header: _Header) -> None:
    where, now = output.root, _as_json(header)
    remedy = "use the same options to go on, or another --out"
    for key in ("job", "version"):
        if stored.get(key) != now[key]:
            raise OptionError(
                f"{where} was begun with {key} {stored.get(key)}, this is {now[key]}; "
                f"use another --out, or delete the directory"
            )
    for part in ("options", "inputs"):
        before, after = stored.get(part, {}), now[part]
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                raise OptionError(
                    f"{where} was begun with {name} = {_show(before.get(name))}, "
                    f"now it is {_show(after.get(name))}; {remedy}"
                )


def _pending(output: LocalOutput, planned: _Plan, digest: str) -> list[str]:
    commits, data = output.sizes(COMMITS), output.sizes()
    pending = []
    for name in planned.num_items:
        if f"{name}.json" in commits:
            record = _read_json(output, _commit_name(name))
            if _fits(record, digest, data):
                continue
            output.remove(_commit_name(name))
        pending.append(name)
    return pending


def _fits(record: dict | None, digest: str, data_sizes: Mapping[str, int]) -> bool:
    if record is None or record.get("fingerprint") != digest:
        return False
    data = record["data"]
    return data_sizes.get(data["name"]) == data["bytes"]


# Doing a unit.


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
        if output.read(_commit_name(unit_name)) is not None:
            return
        unit = Unit(unit_name, _read_plan(output, unit_name, num_items))
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
            output.commit(out, _commit_name(unit_name), dump_line(record))


_ready: dict[bytes, UnitWork] = {}
_ready_lock = threading.Lock()


def _setup_once(work: UnitWork) -> UnitWork:
    """The process's own copy of `work`, set up."""
    import pickle

    key = pickle.dumps(work)
    with _ready_lock:
        if key not in _ready:
            mine = pickle.loads(key)
            mine.setup()
            _ready.clear()  # a process that runs several jobs keeps the last one's models
            _ready[key] = mine
        return _ready[key]


def _read_plan(output: LocalOutput, unit_name: str, num_items: int) -> list[dict]:
    data = output.read(_plan_name(unit_name)) if num_items else b""
    items = [load_line(line) for line in (data or b"").splitlines()]
    if len(items) != num_items:
        raise DataError(
            f"{output.root / _plan_name(unit_name)} holds {len(items)} of {num_items} items; "
            f"delete {output.root / PLAN} and run the same command again"
        )
    return items


def _checked(counts: dict[str, int]) -> dict[str, int]:
    lost = counts["images_in"] - counts["images_out"] - counts["images_failed"]
    assert lost == 0, f"{lost} images neither written nor failed: {counts}"
    return dict(sorted(counts.items()))


# Merging.


def _merge(
    output: LocalOutput, planned: _Plan, num_done: int, seconds: float
) -> Totals:
    units, counts, reasons = [], collections.Counter(), collections.Counter()
    with output.new_file(DEAD_LETTERS) as file:
        for name in planned.num_items:
            record = _read_json(output, _commit_name(name))
            if record is None:
                raise DataError(f"{output.root}: unit {name} has not been committed")
            data = record["data"]
            units.append(
                UnitSummary(
                    name=name,
                    data_name=data["name"],
                    data_bytes=data["bytes"],
                    data_sha256=data["sha256"],
                    counts=record["counts"],
                )
            )
            counts.update(record["counts"])
            for letter in record["dead_letters"]:
                reasons[letter["stage"], letter["reason"]] += 1
                file.write(dump_line(letter))
        file.publish()
    return Totals(
        context=planned.context,
        units=tuple(units),
        counts=dict(sorted(counts.items())),
        reasons=dict(sorted(reasons.items())),
        num_resumed=len(units) - num_done,
        seconds=seconds,
    )


def _append_run(
    output: LocalOutput,
    job: str,
    started: float,
    beam_options: Any,
    images_per_second: float,
    totals: Totals,
) -> None:
    """Adds the facts of this run to run.json, the only output that may differ between runs."""
    runs = (_read_json(output, RUNS) or {}).get("runs", [])
    runs.append(
        {
            "job": job,
            "started": _utc(started),
            "finished": _utc(time.time()),
            "seconds": round(totals.seconds, 3),
            "units": {"all": len(totals.units), "done_before": totals.num_resumed},
            "images_per_second": round(images_per_second, 3),
            "host": platform.node(),
            "python": platform.python_version(),
            "deepmac": deepmac.__version__,
            "beam": beam_options.get_all_options(drop_default=True),
        }
    )
    output.write(RUNS, dump_document({"runs": runs}))


class Progress:
    """How far a job is, read from its commit records: works wherever the workers are."""

    def __init__(
        self, output: LocalOutput, units: Collection[str], pending: Iterable[str]
    ):
        self._output = output
        self._waiting = set(pending)
        self.num_units = len(units)
        self.num_images = 0  # of this run

    @property
    def num_done(self) -> int:
        return self.num_units - len(self._waiting)

    def update(self) -> None:
        committed = {name.removesuffix(".json") for name in self._output.sizes(COMMITS)}
        for name in self._waiting & committed:
            record = _read_json(self._output, _commit_name(name))
            self.num_images += record["counts"]["images_in"] if record else 0
        self._waiting -= committed


# JSON.


def dump_line(value: Any) -> bytes:
    """JSON in one line. Equal values give equal bytes; text that is not Unicode survives."""
    try:
        return orjson.dumps(
            value, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        )
    except TypeError:  # lone surrogates, whole numbers beyond 64 bits
        return json.dumps(value, sort_keys=True).encode() + b"\n"


def load_line(line: bytes) -> Any:
    """The inverse of `dump_line`."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


def dump_document(value: Any) -> bytes:
    """JSON for people and programs: sorted keys, indented."""
    return orjson.dumps(
        value,
        option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )


def _read_json(output: LocalOutput, name: str) -> Any:
    data = output.read(name)
    try:
        return None if data is None else orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _as_json(header: _Header) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(dataclasses.asdict(header)))


def _plan_name(unit_name: str) -> str:
    return f"{PLAN}/{unit_name}.jsonl"


def _commit_name(unit_name: str) -> str:
    return f"{COMMITS}/{unit_name}.json"


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _utc(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds")
