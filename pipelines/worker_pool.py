"""Starts Python workers for the task managers or executors of this host: `python -m pipelines.worker_pool`.

Flink and Spark with `--environment_type=EXTERNAL --environment_config=localhost:PORT` ask this
service for them. Beam's own pool (`apache_beam.runners.worker.worker_pool_main`) does as well; it
listens to the whole network, takes the first `python` on the PATH, and leaves workers behind when
it is killed.
"""

import argparse
import logging
import os
import queue
import signal
import subprocess
import sys
from concurrent import futures

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as messages
from apache_beam.portability.api import beam_fn_api_pb2_grpc as services
from apache_beam.portability.api import endpoints_pb2
from google.protobuf import text_format

_GRACE_SECONDS = 10  # for a worker that was told to end
_log = logging.getLogger(__name__)


class WorkerPool(services.BeamFnExternalWorkerPoolServicer):
    """Beam's protocol: start a worker by its id, stop it."""

    def __init__(self):
        self._asked: queue.Queue = queue.Queue()
        self._workers: dict[str, subprocess.Popen] = {}

    def StartWorker(self, request, context):
        done = futures.Future()
        self._asked.put((request, done))
        return messages.StartWorkerResponse(error=done.result())

    def StopWorker(self, request, context):
        if worker := self._workers.pop(request.worker_id, None):
            worker.terminate()
            try:
                status = worker.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                status = worker.wait()
            _log.info("worker %s ended with status %d", request.worker_id, status)
        return messages.StopWorkerResponse()

    def run(self) -> None:
        """Starts what is asked for, for ever; workers die with the thread that calls this."""
        while True:
            request, done = self._asked.get()
            try:
                self._workers[request.worker_id] = _start(request)
                done.set_result("")
            except OSError as e:
                done.set_result(str(e))


def _start(request: messages.StartWorkerRequest) -> subprocess.Popen:
    endpoints = {
        "CONTROL_API_SERVICE_DESCRIPTOR": request.control_endpoint,
        "LOGGING_API_SERVICE_DESCRIPTOR": request.logging_endpoint,
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "pipelines.worker", str(os.getpid())],
        env={
            **os.environ,
            **{name: _descriptor(point) for name, point in endpoints.items()},
            "WORKER_ID": request.worker_id,
            # No `pipelines` folder of the working directory is taken for ours.
            "PYTHONSAFEPATH": "1",
        },
        stdin=subprocess.DEVNULL,
    )
    _log.info("worker %s is process %d", request.worker_id, worker.pid)
    return worker


def _descriptor(endpoint: endpoints_pb2.ApiServiceDescriptor) -> str:
    return text_format.MessageToString(endpoint, as_one_line=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m pipelines.worker_pool", None, __doc__)
    parser.add_argument("--port", type=int, default=50000)
    parser.add_argument(
        "--host",
        default="localhost",
        help="address to listen on; whoever reaches it can start processes here, so leave it at "
        "the default where task managers and workers share a host",
    )
    args = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    pool = WorkerPool()
    options = [
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),  # two pools on one port would share the calls
    ]
    server = grpc.server(futures.ThreadPoolExecutor(), options=options)
    services.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(f"{args.host}:{args.port}")
    except RuntimeError as e:
        sys.exit(f"--host={args.host} --port={args.port}: {e}")
    server.start()
    _log.info("workers of %s are started at %s:%d", sys.prefix, args.host, args.port)
    try:
        pool.run()
    finally:
        server.stop(0)
    return 0


if __name__ == "__main__":
    main()
