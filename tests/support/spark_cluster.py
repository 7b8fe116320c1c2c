"""A standalone Spark cluster on loopback: a master, a worker with its executors, a pool of Python workers.

Run as a program it starts one, prints the flags that submit to it, and stops it on Ctrl-C.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import engine_files
from engine_processes import EngineProcess, free_port, listens, run_until_stopped

_PACKAGES = "java.lang java.lang.invoke java.net java.nio java.util sun.nio.ch"
_OPENS = [f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in _PACKAGES.split()]
_HOST = "127.0.0.1"


class SparkCluster:
    """The processes, and the flags that submit to them."""

    def __init__(self, folder: Path, cores: int = 2):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.pool_port = free_port(), free_port()
        pool = [
            sys.executable,
            "-m",
            "pipelines.worker_pool",
            f"--port={self.pool_port}",
        ]
        self.pool = EngineProcess("worker pool", pool, folder / "workers.log")
        self.master = self._process(
            *("master", "org.apache.spark.deploy.master.Master"),
            *(f"--host={_HOST}", f"--port={self.port}", f"--webui-port={free_port()}"),
        )
        self.worker = self._process(
            *("worker", "org.apache.spark.deploy.worker.Worker"),
            *(f"--host={_HOST}", f"--webui-port={free_port()}", f"--cores={cores}"),
            *("--memory=1g", f"--work-dir={folder / 'work'}", self.url),
        )

    @property
    def url(self) -> str:
        """What `--spark_master_url` takes."""
        return f"spark://{_HOST}:{self.port}"

    @property
    def flags(self) -> list[str]:
        """What submits a job to this cluster."""
        return [
            "--runner=SparkRunner",
            f"--spark_master_url={self.url}",
            f"--spark_job_server_jar={engine_files.job_server_jar('spark')}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self.pool_port}",
        ]

    def start(self) -> None:
        for process in (self.pool, self.master):
            process.start()
        self.pool.wait_for(lambda: listens(_HOST, self.pool_port))
        self.master.wait_for(lambda: listens(_HOST, self.port))
        self.worker.start()
        self.worker.wait_for(lambda: "registered with" in self.worker.last_lines())

    def stop(self) -> None:
        for process in (self.worker, self.master, self.pool):
            process.stop()

    def _process(self, name: str, main: str, *arguments: str) -> EngineProcess:
        command = [
            *("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *(*_OPENS, "-cp", engine_files.class_path("spark"), main),
            *(word for argument in arguments for word in argument.split("=", 1)),
        ]
        environment = {
            "SPARK_HOME": str(engine_files.ENGINES / "spark"),
            "SPARK_SCALA_VERSION": "2.12",
            "SPARK_LOCAL_IP": _HOST,
            "SPARK_LOCAL_DIRS": str(self.folder / "local"),
        }
        return EngineProcess(
            name, command, self.folder / f"{name}.log", environment=environment
        )


@contextlib.contextmanager
def spark_cluster(folder: Path) -> Iterator[SparkCluster]:
    """Starts a cluster, and stops it at the end."""
    cluster = SparkCluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


if __name__ == "__main__":
    run_until_stopped(spark_cluster)
