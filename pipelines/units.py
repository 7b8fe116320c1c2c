"""Jobs as units that commit themselves: plan, work, resume, merge.

A job is cut into units, each of which makes one data file. The launcher writes what each unit
needs into a small file of its own (`plan/UNIT.jsonl`), hands Beam nothing but unit names, and
waits. Whoever does a unit writes its data file and, last, its commit record `units/UNIT.json`. A
unit is done when that record is there and fits; so a job that was stopped at any moment goes on
where it was, by the same command. No Beam in here: `pipelines.launch` is the only shell.
"""

import collections
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import deepmac
from deepmac.commands import is_secret
from deepmac.data.paths import printable
from deepmac.errors import DataError
from pipelines.json_lines import dump_document, dump_line
from pipelines.observation import Observation
from pipelines.progress import Progress
from pipelines.storage import Output
from pipelines.unit_files import (
    DEAD_LETTERS,
    IN_FLIGHT,
    MANIFEST,
    PLAN,
    commit_name,
    note_run,
    parse_json,
)
from pipelines.unit_plan import Header, Plan, PlanWriter, plan_or_resume
from pipelines.unit_task import Task, Unit, UnitReport, UnitWork

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines.dataflow import Machines

__all__ = [
    "PlanWriter",
    "Totals",
    "Unit",
    "UnitReport",
    "UnitSummary",
    "UnitWork",
    "finish",
    "run_units",
]


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
        observed: what this run's workers told of their work.
        agreed: see `UnitReport.agreed`.
    """

    context: dict[str, Any]
    units: tuple[UnitSummary, ...]
    counts: dict[str, int]
    reasons: dict[tuple[str, str], int]
    num_resumed: int
    seconds: float
    observed: Observation = dataclasses.field(default_factory=Observation)
    agreed: dict[str, str] = dataclasses.field(default_factory=dict)


def run_units(
    output: Output,
    *,
    job: str,
    plan: Callable[[PlanWriter], dict[str, Any] | None],
    work: Callable[[dict[str, Any]], UnitWork],
    options: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
    beam_options: "PipelineOptions",
    command: str | None = None,
    needs: "Machines | None" = None,
    verbose: bool = False,
) -> Totals:
    """Does the units of a job that are not done yet, and merges all of them.

    Writes everything but the manifest: the caller makes that from the totals and hands it to
    `finish`, all while it holds the directory.

    Args:
        output: from `hold_output`.
        job: its name, as in the command line.
        plan: sorts the input into units; returns the facts that the work needs and that only the
            input tells (categories, say), as JSON. Called only when there is no whole plan yet.
            What it returns as `unit_plan.SETTLED` decides the bytes as the options do.
        work: makes the picklable work from those facts.
        options: JSON values that, with the package version, decide the bytes of the output. Name
            them as the command line does; contents of input files enter as their digests.
        inputs: paths of the input. They may not change between runs either, but is no part of the
            output's identity.
        beam_options: from `launch.parse_beam_args`.
        command: the command line, for run.json.
        needs: what the units ask of the machines that do them.
        verbose: let Beam talk.

    Raises:
        OptionError: the directory belongs to a job with other options.
        DataError: from `plan`, or something that stops a unit, such as a full disk.
    """
    from pipelines import dataflow, launch

    started = time.time()
    with launch.stop_at_once(lambda: "no unit was being done"):
        paths = {name: printable(path) for name, path in (inputs or {}).items()}
        header = Header(job, deepmac.__version__, dict(options), paths)
        planned, pending = plan_or_resume(output, header, plan)
        unit_work = work(planned.context)
        digest = header.digest(planned)
        progress = Progress(output, len(planned.num_items), pending, planned.num_images)
        observed = Observation()
        if pending:
            # Its presence means complete, which no longer holds.
            output.remove(MANIFEST)
            output.remove_folder(IN_FLIGHT)  # marks of workers that are no more
            facts: dict[str, Any] = {
                "command": command,
                "directory": os.getcwd(),
                "beam": {
                    name: value
                    for name, value in beam_options.get_all_options(
                        drop_default=True
                    ).items()
                    if not is_secret(f"--{name}")
                },
            }
            note_run(output, job, started, facts, has_finished=False)
            observed = launch.run_tasks(
                beam_options,
                Task(output.root, job, digest, unit_work),
                [(name, planned.num_items[name]) for name in pending],
                progress=progress,
                needs=needs or dataflow.ANY_MACHINES,
                verbose=verbose,
            )
        totals = dataclasses.replace(
            _merge(output, planned, digest, len(pending), time.time() - started),
            observed=observed,
        )
        if pending:
            rate = progress.num_images / totals.seconds
            facts |= {
                "units": {"all": len(totals.units), "done_before": totals.num_resumed},
                "images_per_second": round(rate, 3),
                "metrics": observed.as_json(),
            }
            note_run(output, job, started, facts)
    return totals


def finish(output: Output, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, whose presence says that the directory is complete."""
    data = dump_document(manifest)
    if output.read(MANIFEST) != data:
        output.write(MANIFEST, data)
    output.remove_folder(PLAN)
    output.remove_folder(IN_FLIGHT)
    output.remove_temporaries()  # of workers that died while the job went on


def _merge(
    output: Output, planned: Plan, digest: str, num_done: int, seconds: float
) -> Totals:
    units, counts, reasons = [], collections.Counter(), collections.Counter()
    agreed: dict[str, str] = {}
    output.complete_all()
    sizes = output.sizes()
    records = output.read_each(map(commit_name, planned.num_items))
    with output.new_file(DEAD_LETTERS) as file:
        for name, stored in zip(planned.num_items, records, strict=True):
            record = parse_json(stored)
            if record is None or record["fingerprint"] != digest:
                raise DataError(
                    f"{output.root}: unit {name} has not been committed, or by a worker of an "
                    f"earlier run; run the same command again"
                )
            for fact, value in record.get("agreed", {}).items():
                if agreed.setdefault(fact, value) != value:
                    raise DataError(
                        f"{output.root}: unit {name} was made with {fact.replace('_', ' ')} "
                        f"{value}, others with {agreed[fact]}; use the same for all, and another "
                        f"--out"
                    )
            data = record["data"]
            if sizes.get(data["name"]) != data["bytes"]:
                raise DataError(
                    f"{output.path(data['name'])}: is not what unit {name} wrote there; run the "
                    f"same command again"
                )
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
        agreed=agreed,
    )
