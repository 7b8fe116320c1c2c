"""The service that starts Python workers for task managers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as messages
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from engine_processes import EngineProcess, free_port, listens

POOL = [sys.executable, "-m", "pipelines.worker_pool"]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pool(port, tmp_path) -> Iterator[EngineProcess]:
    process = EngineProcess("pool", [*POOL, f"--port={port}"], tmp_path / "log")
    process.start()
    process.wait_for(lambda: listens("localhost", port))
    yield process
    process.stop()


@pytest.fixture
def ask(pool, port) -> Iterator[services.BeamFnExternalWorkerPoolStub]:
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        yield services.BeamFnExternalWorkerPoolStub(channel)


def children(process: EngineProcess) -> list[int]:
    tasks = Path(f"/proc/{process.process.pid}/task").glob("*/children")
    return [int(child) for path in tasks for child in path.read_text().split()]


def start(ask, worker_id: str) -> None:
    request = messages.StartWorkerRequest(worker_id=worker_id)
    # A runner that accepts the call and never says anything, as while a job is idle.
    request.control_endpoint.url = request.logging_endpoint.url = "localhost:1"
    assert ask.StartWorker(request).error == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_start_and_stop_when_asked_and_die_with_the_pool(pool, ask):
    start(ask, "1-1")
    start(ask, "2-1")
    first, second = sorted(children(pool))
    ask.StopWorker(messages.StopWorkerRequest(worker_id="1-1"))
    left = children(pool)
    assert len(left) == 1
    pool.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in (first, second)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_that_nobody_knows_is_stopped_without_ado(ask):
    ask.StopWorker(messages.StopWorkerRequest(worker_id="unknown"))


def test_a_port_that_is_taken_is_one_line(pool, port):
    done = subprocess.run(
        [*POOL, f"--port={port}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"--host=localhost --port={port}: ")
