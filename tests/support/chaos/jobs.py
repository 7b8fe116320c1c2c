"""Small jobs that do their units in forked processes, so that hundreds of runs take minutes.

Beam is not between: what is tried here is how units are planned, done, committed and merged.
"""

import dataclasses
import functools
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from small_dataset import SmallDataset

from chaos.faults import Run, Spoil, unspoilt
from deepmac.errors import DeepmacError
from pipelines import build_dataset, infer, launch, unit_task
from pipelines.observation import Observation
from pipelines.units import Unit

NUM_IMAGES = 24
NUM_UNITS = 8

_fork = multiprocessing.get_context("fork")


@dataclasses.dataclass(frozen=True)
class Job:
    """A job, ready to run.

    Attributes:
        name: `build` or `label`.
        out: where it writes.
        log: a line is added for each unit that is begun.
        execute: the job, with its exit status.
    """

    name: str
    out: str
    log: Path
    execute: Callable[[], int]

    def num_begun(self) -> int:
        return len(self.log.read_text().split()) if self.log.exists() else 0


def make_job(name: str, data: SmallDataset, out: str, log: Path) -> Job:
    common = {"annotations": str(data.path), "images": str(data.folder / "images")}
    common |= {"out": out}
    if name == "build":
        options = build_dataset.Options(**common, num_shards=NUM_UNITS)
        return Job(name, out, log, lambda: build_dataset.execute(options, []))
    options = infer.Options(
        **common, model="ellipse", unit_images=NUM_IMAGES // NUM_UNITS
    )
    return Job(name, out, log, lambda: infer.execute(options, []))


@dataclasses.dataclass
class Noting:
    """The work of a job, which notes the units that it begins."""

    work: unit_task.UnitWork
    log: Path

    def data_name(self, unit_name: str) -> str:
        return self.work.data_name(unit_name)

    def setup(self) -> None:
        self.work.setup()

    def process(self, unit: Unit, out) -> unit_task.UnitReport:
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{unit.name}\n".encode())
        os.close(descriptor)
        return self.work.process(unit, out)


def do_units(task: unit_task.Task, units: Sequence[tuple[str, int]]) -> None:
    """Does units, in this process; an error ends it as a failed bundle would."""
    for unit in units:
        task.run(*unit)


def start(
    job: Job,
    *,
    workers: Sequence[Spoil],
    launcher: Spoil = unspoilt,
    share: bool = True,
) -> multiprocessing.process.BaseProcess:
    """Starts a job in a process of its own, the launcher.

    Args:
        job: to run.
        workers: what is done to each of them.
        launcher: what is done to it.
        share: the units are dealt out; else every worker does all of them.
    """

    def run_tasks(options, task, units, **_) -> Observation:
        noting = dataclasses.replace(task, work=Noting(task.work, job.log))
        processes = []
        for index, spoil in enumerate(workers):
            mine = units[index :: len(workers)] if share else units
            work = functools.partial(do_units, noting, mine)
            processes.append(_fork.Process(target=_quietly, args=(spoil, work)))
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError("a worker died")
        return Observation()

    def run() -> None:
        os.setpgid(0, 0)  # to be killed with its workers
        launch.run_tasks = run_tasks
        if status := job.execute():
            os._exit(status)

    process = _fork.Process(target=_quietly, args=(launcher, run))
    process.start()
    return process


def _quietly(spoil: Spoil, run: Run) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if not os.environ.get("CHAOS_SHOW"):
        os.dup2(null, 2)
    try:
        spoil(run)
    except DeepmacError as e:
        print(e, file=sys.stderr)
        os._exit(2)
    except BaseException as e:
        print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)
