"""The commit protocol on a local disk: kills, full disks, torn writes, two workers on one unit."""

import dataclasses
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from small_dataset import SmallDataset

from chaos import faults
from chaos.jobs import NUM_IMAGES, NUM_UNITS, Job, make_job, start
from chaos.table import Outcome
from deepmac.data.verify import verify
from deepmac.predictors import open_predictor
from pipelines import label_work
from pipelines.unit_files import RUNS

NUM_WORKERS = 2
SECONDS = 60  # that a run may take; a quiet one takes one or two
_WHERE = ("launcher", "worker")


@dataclasses.dataclass(frozen=True)
class Quiet:
    """The undisturbed run of a job.

    Attributes:
        contents: of its output, see `contents_of`.
        seconds: that it took.
        steps: of the launcher and of a worker, see `faults`.
        num_bytes: of its largest data file.
    """

    contents: dict[str, bytes]
    seconds: float
    steps: dict[str, int]
    num_bytes: int


def contents_of(out: str) -> dict[str, bytes]:
    """Name -> bytes of every file of an output, but for the facts of its runs."""
    folder = Path(out)
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    found.pop(RUNS, None)
    return found


class LocalChaos:
    """Trials with one data set in one folder; each writes to a directory of its own."""

    def __init__(self, folder: Path, seed: int):
        self._folder, self._random = folder, random.Random(seed)
        self._data = SmallDataset(folder / "data", NUM_IMAGES).write()
        self._number = 0
        self._quiet = {name: self._run_quietly(name) for name in ("build", "label")}
        self._kinds: dict[str, Callable[[str], Outcome]] = {
            "process killed before a step": self._killed_at_a_step,
            "process killed at any moment": self._killed_at_a_moment,
            "launcher and workers killed": self._all_killed,
            "disk full at a step": self._refused(faults.DISK_FULL),
            "input/output error at a step": self._refused(faults.IO_ERROR),
            "write torn and refused": self._torn,
            "two workers on every unit": self._twice,
            "two workers, different masks": self._twice_with_different_masks,
        }

    def trials(self, count: int):
        """Outcomes, kind after kind in turn."""
        kinds = list(self._kinds.items())
        for number in range(count):
            kind, attempt = kinds[number % len(kinds)]
            name = ("build", "label")[number // len(kinds) % 2]
            yield dataclasses.replace(attempt(name), fault=kind)

    def _job(self, name: str) -> Job:
        self._number += 1
        out = self._folder / f"out-{self._number}"
        return make_job(name, self._data, str(out), out.with_suffix(".log"))

    def _run_quietly(self, name: str) -> Quiet:
        job, counts = self._job(name), {w: self._folder / w for w in _WHERE}
        began = time.monotonic()
        count = {w: faults.counting(job.out, counts[w]) for w in _WHERE}
        workers = [count["worker"], faults.unspoilt]
        assert self._wait(start(job, workers=workers, launcher=count["launcher"])) == 0
        contents = contents_of(job.out)
        return Quiet(
            contents=contents,
            seconds=time.monotonic() - began,
            steps={w: int(path.read_text()) for w, path in counts.items()},
            num_bytes=max(len(data) for data in contents.values()),
        )

    def _killed_at_a_step(self, name: str) -> Outcome:
        return self._spoilt(name, faults.killed_at)

    def _refused(self, number: int) -> Callable[[str], Outcome]:
        def attempt(name: str) -> Outcome:
            return self._spoilt(
                name, lambda step, out: faults.refused_at(step, out, number)
            )

        return attempt

    def _torn(self, name: str) -> Outcome:
        limit = self._random.randrange(self._quiet[name].num_bytes)
        return self._spoilt(name, lambda step, out: faults.files_end_at(limit))

    def _spoilt(self, name: str, spoil: Callable[[int, str], faults.Spoil]) -> Outcome:
        job, where = self._job(name), self._random.choice(_WHERE)
        step = self._random.randrange(self._quiet[name].steps[where])
        evil = spoil(step, job.out)
        workers = [evil if where == "worker" else faults.unspoilt, faults.unspoilt]
        launcher = evil if where == "launcher" else faults.unspoilt
        return self._recovered(
            job, self._wait(start(job, workers=workers, launcher=launcher))
        )

    def _killed_at_a_moment(self, name: str) -> Outcome:
        job = self._job(name)
        process = self._started(job)
        time.sleep(self._random.random() * self._quiet[name].seconds)
        process.kill()
        return self._recovered(job, self._wait(process))

    def _all_killed(self, name: str) -> Outcome:
        job = self._job(name)
        process = self._started(job)
        time.sleep(self._random.random() * self._quiet[name].seconds)
        os.killpg(process.pid, signal.SIGKILL)
        return self._recovered(job, self._wait(process))

    def _twice(self, name: str) -> Outcome:
        job = self._job(name)
        process = start(job, workers=[faults.unspoilt] * NUM_WORKERS, share=False)
        return self._recovered(job, self._wait(process))

    def _twice_with_different_masks(self, name: str) -> Outcome:
        """Both do every unit, by other predictors: each unit must be the one's or the other's."""
        job = self._job("label")

        def with_boxes(run: faults.Run) -> None:
            label_work.open_shared = lambda *_: open_predictor("box")
            run()

        process = start(job, workers=[faults.unspoilt, with_boxes], share=False)
        status = self._wait(process)
        assert status == 0, status
        assert not (findings := verify(job.out).findings), findings
        return Outcome(job=job.name, recomputed=job.num_begun() - NUM_UNITS)

    def _started(self, job: Job):
        return start(job, workers=[faults.unspoilt] * NUM_WORKERS)

    def _wait(self, process) -> int:
        process.join(SECONDS)
        assert process.exitcode is not None, "the job hangs"
        return process.exitcode

    def _recovered(self, job: Job, status: int) -> Outcome:
        """Gives the command again where it failed, and compares the output."""
        runs = 1
        while status and runs < 3:
            status, runs = self._wait(self._started(job)), runs + 1
        quiet, mine = self._quiet[job.name], contents_of(job.out)
        differ = {
            n for n in {*quiet.contents, *mine} if quiet.contents.get(n) != mine.get(n)
        }
        assert not status, (job, status, runs)
        assert not differ, (job, status, runs, sorted(differ))
        assert not (findings := verify(job.out).findings), findings
        shutil.rmtree(job.out)
        return Outcome(job=job.name, runs=runs, recomputed=job.num_begun() - NUM_UNITS)
