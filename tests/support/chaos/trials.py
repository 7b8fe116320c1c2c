"""The commit protocol under kills, full disks, torn writes, bad storage, two workers on one unit."""

import contextlib
import dataclasses
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from small_dataset import SmallDataset
from storage_emulator import Faults, Storage

from chaos import faults
from chaos.jobs import NUM_IMAGES, NUM_UNITS, Job, make_job, start
from chaos.table import Outcome
from deepmac.data.verify import verify
from deepmac.predictors import open_predictor
from pipelines import label_work, lease
from pipelines.unit_files import RUNS

NUM_WORKERS = 2
SECONDS = 60  # that a run may take; a quiet one takes one or two
_WHERE = ("launcher", "worker")


@dataclasses.dataclass(frozen=True)
class Quiet:
    """The undisturbed run of a job.

    Attributes:
        contents: of its output.
        seconds: that it took.
        steps: of the launcher and of a worker, see `faults`.
        num_bytes: of its largest data file.
    """

    contents: dict[str, bytes]
    seconds: float
    steps: dict[str, int]
    num_bytes: int


class Place(Protocol):
    """Where jobs write, a directory each."""

    def new(self) -> str: ...

    def contents(self, out: str) -> dict[str, bytes]:
        """Name -> bytes of every file of an output, but for the facts of its runs."""
        ...


class LocalPlace:
    """A folder."""

    def __init__(self, folder: Path):
        self._folder, self._number = folder, itertools.count()

    def new(self) -> str:
        return str(self._folder / f"out-{next(self._number)}")

    def contents(self, out: str) -> dict[str, bytes]:
        folder = Path(out)
        files = (path for path in folder.rglob("*") if path.is_file())
        found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        found.pop(RUNS, None)
        return found


class StoragePlace:
    """A bucket of an emulator, whose launchers are given up sooner than in earnest."""

    def __init__(self, storage: Storage):
        self.storage, self._number = storage, itertools.count()
        lease.LEASE_SECONDS, lease.RENEW_SECONDS, lease._LOOK_SECONDS = 3.0, 0.3, 0.1

    def new(self) -> str:
        return f"{self.storage.url}/out-{next(self._number)}"

    def contents(self, out: str) -> dict[str, bytes]:
        found = self.storage.contents(out.removeprefix(f"{self.storage.url}/"))
        found.pop(RUNS, None)
        return found


class Chaos:
    """Trials with one data set; each writes to a directory of its own."""

    def __init__(self, folder: Path, place: Place, seed: int):
        self._folder, self._place = folder, place
        self._random = random.Random(seed)
        self._data = SmallDataset(folder / "data", NUM_IMAGES).write()
        self._number = itertools.count()
        self._quiet = {name: self._run_quietly(name) for name in ("build", "label")}
        self._kinds: dict[str, Callable[[str], Outcome]] = {
            "process killed before a step": self._killed_at_a_step,
            "process killed at any moment": self._killed_at_a_moment,
            "launcher and workers killed": self._all_killed,
            "two workers on every unit": self._twice,
            "two workers, different masks": self._twice_with_different_masks,
        }
        if isinstance(place, StoragePlace):
            self._kinds |= {
                "429, 500 or 503 for 20 % of requests": self._with_storage(errors=0.2),
                "10 % of answers lost": self._with_storage(lost_answers=0.1),
                "2 % of requests hang": self._with_storage(
                    hangs=0.02, hang_seconds=2.0
                ),
                "all of that, and a process killed": self._killed_on_a_bad_day,
            }
        else:
            self._kinds |= {
                "disk full at a step": self._refused(faults.DISK_FULL),
                "input/output error at a step": self._refused(faults.IO_ERROR),
                "write torn and refused": self._torn,
            }

    def trials(self, count: int):
        """Outcomes, kind after kind in turn."""
        kinds = list(self._kinds.items())
        for number in range(count):
            kind, attempt = kinds[number % len(kinds)]
            name = ("build", "label")[number // len(kinds) % 2]
            yield dataclasses.replace(attempt(name), fault=kind)

    def _job(self, name: str) -> Job:
        log = self._folder / f"{next(self._number)}.log"
        return make_job(name, self._data, self._place.new(), log)

    def _run_quietly(self, name: str) -> Quiet:
        job, counts = self._job(name), {w: self._folder / w for w in _WHERE}
        began = time.monotonic()
        count = {w: faults.counting(job.out, counts[w]) for w in _WHERE}
        workers = [count["worker"], faults.unspoilt]
        assert self._wait(start(job, workers=workers, launcher=count["launcher"])) == 0
        contents = self._place.contents(job.out)
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
        with contextlib.suppress(ProcessLookupError):  # it has ended, or not begun
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
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

    def _with_storage(self, **shares: float) -> Callable[[str], Outcome]:
        def attempt(name: str) -> Outcome:
            job = self._job(name)
            with self._bad_day(**shares):
                status = self._wait(self._started(job))
            return self._recovered(job, status)

        return attempt

    def _killed_on_a_bad_day(self, name: str) -> Outcome:
        with self._bad_day(errors=0.2, lost_answers=0.05, hangs=0.01):
            return self._killed_at_a_step(name)

    @contextlib.contextmanager
    def _bad_day(self, **shares: float) -> Iterator[None]:
        proxy = self._place.storage.proxy
        proxy.faults = Faults(seed=self._random.randrange(1 << 30), **shares)
        try:
            yield
        finally:
            proxy.faults = Faults()

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
        quiet, mine = self._quiet[job.name], self._place.contents(job.out)
        differ = {
            n for n in {*quiet.contents, *mine} if quiet.contents.get(n) != mine.get(n)
        }
        assert not status, (job, status, runs)
        assert not differ, (job, status, runs, sorted(differ))
        assert not (findings := verify(job.out).findings), findings
        return Outcome(job=job.name, runs=runs, recomputed=job.num_begun() - NUM_UNITS)
