"""A standalone Flink cluster: a job manager, and hosts with a task manager and a worker pool each.

By default the hosts are addresses of the loopback range. A script that wants to cut a host off puts
it into a network namespace: `Place(address, ("ip", "netns", "exec", NAME))`.

Run as a program it starts one, prints the flags that submit to it, and stops it on Ctrl-C.
"""

import contextlib
import dataclasses
import json
import socket
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import engine_files
from engine_processes import EngineProcess, free_port, listens, run_until_stopped

_PACKAGES = "lang util net nio util.concurrent"
_OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in [*(f"java.{p}" for p in _PACKAGES.split()), "sun.nio.ch"]
]
_LOGGING = [
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
]
WORKERS = (
    "workers"  # the name by which each task manager finds the pool of its own host
)


class JobManager:
    """The process that takes jobs and hands out their tasks; state in memory, none is kept."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        prefix: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ):
        self.address = address
        self.rpc_port, self.rest_port = free_port(), free_port()
        # Flink calls one of its own services "localhost", whatever address it is given.
        bind = address if address.startswith("127.") else "0.0.0.0"
        ours = {
            "jobmanager.rpc.address": address,
            "jobmanager.bind-host": bind,
            "jobmanager.rpc.port": str(self.rpc_port),
            "jobmanager.memory.process.size": "768m",
            "rest.address": address,
            "rest.bind-address": address,
            "rest.port": str(self.rest_port),
            **(settings or {}),
        }
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        command = _java("-Xmx384m", main, _configuration(folder / "jobmanager", ours))
        log = folder / "jobmanager.log"
        self.process = EngineProcess("job manager", command, log, prefix=prefix)

    @property
    def url(self) -> str:
        """What `--flink_master` takes."""
        return f"http://{self.address}:{self.rest_port}"

    def start(self) -> None:
        self.process.start()
        self.process.wait_for(lambda: listens(self.address, self.rest_port))

    def ask(self, path: str) -> Any:
        """What the REST service answers."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return json.load(answer)

    def jobs(self) -> dict[str, str]:
        """Job id -> state, such as RUNNING, FINISHED, FAILED, CANCELED."""
        return {job["id"]: job["status"] for job in self.ask("/jobs")["jobs"]}

    def num_slots(self) -> int:
        return self.ask("/overview")["slots-total"]

    def num_free_slots(self) -> int:
        return self.ask("/overview")["slots-available"]


class Host:
    """A task manager and its own pool of Python workers, each of which can be killed and started."""

    def __init__(
        self,
        name: str,
        folder: Path,
        manager: JobManager,
        *,
        address: str,
        pool_port: int,
        slots: int = 1,
        prefix: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        self.name, self.address, self.pool_port = name, address, pool_port
        ours = {
            "jobmanager.rpc.address": manager.address,
            "jobmanager.rpc.port": str(manager.rpc_port),
            "taskmanager.resource-id": name,
            "taskmanager.host": address,
            "taskmanager.bind-host": address,
            "taskmanager.numberOfTaskSlots": str(slots),
            "taskmanager.cpu.cores": str(float(slots)),
            **_MEMORY,
            **(settings or {}),
        }
        hosts = folder / f"{name}.hosts"
        hosts.write_text(
            f"127.0.0.1 localhost\n{address} {WORKERS}\n{address} {socket.gethostname()}\n"
        )
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        command = _java(
            f"-Djdk.net.hosts.file={hosts}",
            *("-Xmx320m", "-XX:MaxDirectMemorySize=384m"),
            main,
            _configuration(folder / name, ours),
        )
        log = folder / f"{name}.log"
        self.task_manager = EngineProcess(name, command, log, prefix=prefix)
        pool = [sys.executable, "-m", "pipelines.worker_pool"]
        self.pool = EngineProcess(
            f"{name}'s worker pool",
            [*pool, f"--host={address}", f"--port={pool_port}"],
            folder / f"{name}.workers.log",
            prefix=prefix,
            environment=environment,
        )

    def start(self) -> None:
        self.pool.start()
        self.task_manager.start()

    def stop(self) -> None:
        self.task_manager.stop()
        self.pool.stop()

    def worker_ids(self) -> list[int]:
        """Process ids of the Python workers that run now."""
        pool = self.pool.process
        if pool is None:
            return []
        tasks = Path(f"/proc/{pool.pid}/task").glob("*/children")
        children = [int(child) for path in tasks for child in path.read_text().split()]
        return [child for child in children if not _has_ended(child)]


def _has_ended(process_id: int) -> bool:
    """Whether a process is gone, or nothing is left of it but its status."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


_MEMORY = {
    "taskmanager.memory.task.heap.size": "192m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.managed.size": "256m",  # shared by the sorters of a graph
    "taskmanager.memory.network.min": "160m",
    "taskmanager.memory.network.max": "160m",
    # 16 MB for each shuffle would leave no room for graphs of many.
    "taskmanager.network.sort-shuffle.min-buffers": "32",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "64m",
    "taskmanager.memory.jvm-overhead.max": "64m",
}
_ALL = {
    "heartbeat.interval": "2000",
    "heartbeat.timeout": "10000",
    "pekko.ask.timeout": "10 s",
    # Beam is on the cluster's own class path: no need to load it anew for each job.
    "classloader.resolve-order": "parent-first",
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a host is: its address, and what to put before a command so that it runs there."""

    address: str
    prefix: Sequence[str] = ()


LOOPBACK = (Place("127.0.0.1"), Place("127.0.0.2"))


class FlinkCluster:
    """One job manager and hosts of one slot each.

    Attributes:
        manager: the job manager.
        hosts: what runs the work.
    """

    def __init__(
        self,
        folder: Path,
        places: Sequence[Place] = LOOPBACK,
        manager_options: Mapping[str, Any] | None = None,
        **host_options: Any,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.manager = JobManager(folder, **(manager_options or {}))
        self.pool_port = free_port()
        self.hosts = [
            Host(
                f"host{i}",
                folder,
                self.manager,
                address=place.address,
                prefix=place.prefix,
                pool_port=self.pool_port,
                **host_options,
            )
            for i, place in enumerate(places)
        ]
        self.job_server_port = free_port()
        self.job_server = EngineProcess(
            "job server",
            [
                *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                *("-jar", str(engine_files.job_server_jar("flink"))),
                *("--flink-master", self.manager.url),
                *("--job-port", str(self.job_server_port)),
                *("--artifact-port", "0", "--expansion-port", "-1"),
                *("--artifacts-dir", str(folder / "artifacts")),
            ],
            folder / "job-server.log",
        )

    @property
    def flags(self) -> list[str]:
        """What submits a job to this cluster."""
        jar = engine_files.job_server_jar("flink")
        return [*self._flags, f"--flink_job_server_jar={jar}"]

    @property
    def flags_of_job_server(self) -> list[str]:
        """The same through a job server that goes on running, which saves starting one."""
        port = self.job_server_port
        if not self.job_server.is_running:
            self.job_server.start()
            self.job_server.wait_for(lambda: listens("localhost", port))
        return [*self._flags, f"--job_endpoint=localhost:{port}"]

    @property
    def _flags(self) -> list[str]:
        return [
            "--runner=FlinkRunner",
            f"--flink_master={self.manager.url}",
            "--environment_type=EXTERNAL",
            f"--environment_config={WORKERS}:{self.pool_port}",
            f"--parallelism={len(self.hosts)}",
        ]

    def start(self) -> None:
        self.manager.start()
        for host in self.hosts:
            host.start()
        self.wait_for_slots()

    def wait_for_slots(self) -> None:
        """Until every host has reported to the job manager and has a pool that listens."""
        for host in self.hosts:
            host.pool.wait_for(lambda host=host: listens(host.address, host.pool_port))
            host.task_manager.wait_for(
                lambda: self.manager.num_slots() == len(self.hosts)
            )

    def stop(self) -> None:
        self.job_server.stop()
        for host in self.hosts:
            host.stop()
        self.manager.process.stop()

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


@contextlib.contextmanager
def flink_cluster(folder: Path, **options: Any) -> Iterator[FlinkCluster]:
    """Starts a cluster, and stops it at the end."""
    cluster = FlinkCluster(folder, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _configuration(folder: Path, settings: Mapping[str, str]) -> Path:
    """Writes the file; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    lines = {**_ALL, "io.tmp.dirs": str(temporary), **settings}
    text = "".join(f"{name}: {value}\n" for name, value in lines.items())
    (folder / "flink-conf.yaml").write_text(text)
    return folder


def _java(*arguments: str | Path) -> list[str]:
    *options, main, folder = arguments
    return [
        *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *_LOGGING, *_OPENS),
        *map(str, options),
        *("-cp", engine_files.class_path("flink"), str(main)),
        *("--configDir", str(folder)),
    ]


if __name__ == "__main__":
    run_until_stopped(flink_cluster)
