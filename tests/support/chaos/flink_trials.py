"""A job on a real Flink cluster whose processes are killed, slowed and cut off."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from engine_processes import EngineProcess
from flink_cluster import FlinkCluster, Host, flink_cluster
from small_dataset import SmallDataset

from chaos.network import Network, missing, network
from chaos.table import Outcome
from chaos.trials import LocalPlace
from deepmac.data.verify import verify
from pipelines import infer
from pipelines.unit_files import COMMITS

NUM_UNITS = 32
UNIT_IMAGES = 1  # so that a unit is one call of the predictor
SECONDS = (
    300  # that a run may take, most of which Flink waits for those who do not answer
)
SUPERVISOR_SECONDS = 3  # until a process that was killed is started again
CUT_SECONDS = 60
_SUPPORT = Path(__file__).resolve().parents[1]
# As docs/faults.md says: Beam's batch jobs take this from the cluster alone.
RESTARTS = {
    "restart-strategy.type": "failure-rate",
    "restart-strategy.failure-rate.max-failures-per-interval": "5",
    "restart-strategy.failure-rate.failure-rate-interval": "5 min",
    "restart-strategy.failure-rate.delay": "5 s",
}
_HASTY = "--job_server_jvm_properties=-XX:TieredStopAtLevel=1"
_fork = multiprocessing.get_context("fork")
_OURS = {"PYTHONPATH": str(_SUPPORT)}  # where workers find the predictor


@contextlib.contextmanager
def flink_chaos(folder: Path, seed: int, **options) -> Iterator["FlinkChaos"]:
    """A cluster to be disturbed; on hosts that can be cut off where that is possible."""
    with contextlib.ExitStack() as stack:
        made, places, manager = None, {}, {"settings": RESTARTS}
        if not (reason := missing()):
            made = stack.enter_context(network(2))
            places, manager["address"] = {"places": made.places}, made.address
        cluster = flink_cluster(
            folder / "cluster", manager_options=manager, environment=_OURS, **places
        )
        cluster = stack.enter_context(cluster)
        chaos = FlinkChaos(folder, cluster, seed, network=made, **options)
        if reason:
            print(f"left out: {_CUT}: {reason}", file=sys.stderr, flush=True)
        yield chaos


_CUT = "host cut off"


class Launcher:
    """One run of the command, in a fork of this process, which has imported Beam already."""

    def __init__(self, arguments: Sequence[str], said: Path):
        self._said = said
        self.process = _fork.Process(target=_label, args=(arguments, said))
        self.process.start()

    def said(self) -> str:
        return self._said.read_text(errors="replace") if self._said.exists() else ""

    def wait(self) -> int:
        self.process.join(SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"the job hangs:\n{self.said()}")
        return self.process.exitcode


def _label(arguments: Sequence[str], said: Path) -> None:
    null, file = os.open(os.devnull, os.O_RDWR), os.open(said, os.O_CREAT | os.O_WRONLY)
    for source, number in ((null, 0), (null, 1), (file, 2)):
        os.dup2(source, number)
    try:
        os._exit(infer.main(list(arguments)))
    except SystemExit as e:
        os._exit(e.code if isinstance(e.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        os._exit(70)


class FlinkChaos:
    """Trials on one cluster; each writes to a directory of its own.

    Attributes:
        kinds: of faults, by name.
        said: what the launchers of the last trial said at their ends.
    """

    def __init__(
        self,
        folder: Path,
        cluster: FlinkCluster,
        seed: int,
        *,
        network: Network | None = None,
        cut_seconds: float = CUT_SECONDS,
    ):
        self._folder, self._cluster, self._network = folder, cluster, network
        self._cut_seconds = cut_seconds
        self._random = random.Random(seed)
        self._place, self._number = LocalPlace(folder), itertools.count()
        self._data = SmallDataset(folder / "data", NUM_UNITS * UNIT_IMAGES).write()
        self._log = folder / "begun"
        self.said: list[str] = []
        out = self._place.new()
        assert self._wait(self._start(out)) == 0, self.said
        self._quiet = self._place.contents(out)
        self.kinds: dict[str, Callable[[], Outcome]] = {
            "task manager killed": self._task_manager_killed,
            "Python worker killed": self._worker_killed,
            "worker pool killed": self._pool_killed,
            "job manager killed": self._job_manager_killed,
            "worker slowed ten times": self._worker_slowed,
            "launcher killed": self._launcher_killed,
        }
        if network:
            self.kinds[f"{_CUT} for {cut_seconds:g} s"] = self._host_cut_off

    def trial(self, name: str) -> Outcome:
        self.said = []
        self._settle()
        self._log.unlink(missing_ok=True)
        return dataclasses.replace(self.kinds[name](), fault=name)

    def _task_manager_killed(self) -> Outcome:
        return self._killed(lambda host: host.task_manager)

    def _pool_killed(self) -> Outcome:
        """And the workers with it."""
        return self._killed(lambda host: host.pool)

    def _job_manager_killed(self) -> Outcome:
        return self._killed(lambda _: self._cluster.manager.process, alone=True)

    def _killed(
        self, which: Callable[[Host], EngineProcess], *, alone: bool = False
    ) -> Outcome:
        out, launcher, host = self._begun(alone=alone)
        process = which(host)
        process.kill()
        time.sleep(SUPERVISOR_SECONDS)
        process.start()
        return self._recovered(out, self._wait(launcher))

    def _worker_killed(self) -> Outcome:
        out, launcher, host = self._begun()
        os.kill(self._worker(host), signal.SIGKILL)
        return self._recovered(out, self._wait(launcher))

    def _worker_slowed(self) -> Outcome:
        out, launcher, host = self._begun()
        with _slowed(self._worker(host)):
            return self._recovered(out, self._wait(launcher))

    def _host_cut_off(self) -> Outcome:
        out, launcher, host = self._begun()
        assert self._network
        self._network.cut(self._cluster.hosts.index(host), self._cut_seconds)
        return self._recovered(out, self._wait(launcher))

    def _launcher_killed(self) -> Outcome:
        """The job goes on, and the command is given again meanwhile."""
        out, launcher, _ = self._begun(alone=True)
        launcher.process.kill()
        return self._recovered(out, self._wait(launcher))

    def _begun(self, *, alone: bool = False) -> tuple[str, Launcher, Host]:
        """A job of which some units are done, and a host to be disturbed, which has a worker."""
        out, host = self._place.new(), self._random.choice(self._cluster.hosts)
        number = self._random.randrange(1, NUM_UNITS * 3 // 4)
        launcher = self._start(out, alone=alone)
        _wait_until(
            lambda: self._num_committed(out) >= number and host.worker_ids(),
            "the job does not begin",
            launcher,
        )
        return out, launcher, host

    def _num_committed(self, out: str) -> int:
        return len(list(Path(out, COMMITS).glob("[!.]*.json")))

    def _worker(self, host: Host) -> int:
        return self._random.choice(host.worker_ids())

    def _start(self, out: str, *, alone: bool = False) -> Launcher:
        """`alone`: with a job server of its own, as users do; the other one saves time."""
        cluster = self._cluster
        flags = [*cluster.flags, _HASTY] if alone else cluster.flags_of_job_server
        arguments = [
            *self._data.flags,
            *("--model=chaos.unhurried:predictor", f"--checkpoint={self._log}"),
            *(f"--unit_images={UNIT_IMAGES}", f"--micro_batch={UNIT_IMAGES}"),
            *(f"--out={out}", *flags),
        ]
        return Launcher(arguments, self._folder / f"launcher-{next(self._number)}.log")

    def _wait(self, launcher: Launcher) -> int:
        status = launcher.wait()
        self.said.append(launcher.said())
        return status

    def _recovered(self, out: str, status: int) -> Outcome:
        """Gives the command again where it failed, and compares the output."""
        runs = 1
        while status and runs < 3:
            self._cluster.wait_for_slots()
            status, runs = self._wait(self._start(out)), runs + 1
        mine = self._place.contents(out)
        names = {*self._quiet, *mine}
        differ = sorted(n for n in names if self._quiet.get(n) != mine.get(n))
        assert not status, self.said
        assert not differ, (differ, self.said)
        assert not (findings := verify(out).findings), findings
        num_begun = len(self._log.read_text().split())
        return Outcome(job="label", runs=runs, recomputed=num_begun - NUM_UNITS)

    def _settle(self) -> None:
        """Until nothing of the last trial runs any more."""
        self._cluster.wait_for_slots()
        manager, hosts = self._cluster.manager, self._cluster.hosts
        _wait_until(lambda: manager.num_free_slots() == len(hosts), "a job goes on")
        with contextlib.suppress(AssertionError):
            _wait_until(
                lambda: not any(host.worker_ids() for host in hosts), "", seconds=15
            )
            return
        # Beam forgets workers whose task is cancelled while they start; they idle for ever.
        for host in hosts:
            if host.worker_ids():
                self.said.append(f"{host.name}: a worker idles, its pool is restarted")
                host.pool.kill()
                host.pool.start()
        self._cluster.wait_for_slots()


@contextlib.contextmanager
def _slowed(process_id: int) -> Iterator[None]:
    """Stops a process for nine tenths of each second, as long as it is there."""
    end = threading.Event()

    def run() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not end.wait(0.1):
                os.kill(process_id, signal.SIGSTOP)
                end.wait(0.9)
                os.kill(process_id, signal.SIGCONT)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _wait_until(
    ready: Callable[[], object],
    complaint: str,
    launcher: Launcher | None = None,
    seconds: float = SECONDS,
) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        said = launcher.said() if launcher else ""
        has_ended = launcher is not None and launcher.process.exitcode is not None
        assert not has_ended, f"the job ended before it was disturbed:\n{said}"
        assert time.monotonic() < deadline, f"{complaint}\n{said}"
        time.sleep(0.05)
