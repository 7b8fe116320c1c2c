"""Flink, Spark and Prism: what is checked before a job goes there, and tidied up after it.

Beam's runners for them start a job server (for Prism, the engine itself) as another process and
talk to that. Ours put that process on a leash, ask first whether everything is there that the job
would otherwise wait for without a word, and cancel the job when the launcher is told to stop.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from apache_beam.runners.portability import flink_runner, prism_runner, spark_runner
from apache_beam.runners.portability.job_server import SubprocessJobServer
from apache_beam.runners.runner import PipelineRunner
from apache_beam.version import __version__ as beam_version

from deepmac.errors import DataError, OptionError

_SECONDS = 5.0  # for an answer from a machine that may not be there
_LOCAL = ("[local]", "[auto]")
_log = logging.getLogger("apache_beam.deepmac")  # shown with --verbose


def kind_of(runner: str | None) -> str:
    """`FlinkRunner`, `flink` or a dotted name -> "flink"."""
    return (runner or "").split(".")[-1].lower().removesuffix("runner")


class RestartOptions(PipelineOptions):
    """Options of Beam's Flink runner in Java, which Beam's Python side does not know."""

    @classmethod
    def _add_argparse_args(cls, parser):
        parser.add_argument("--number_of_execution_retries", type=int)
        parser.add_argument("--execution_retry_delay", type=int)  # ms
        parser.add_argument("--execution_mode_for_batch")


def set_defaults(options: PipelineOptions) -> None:
    """What Flink does when it loses a worker.

    Of restarts Beam 2.62 tells Flink for streams alone; how often a batch job is restarted says the
    cluster's own `restart-strategy`, see docs/faults.md.
    """
    view = options.view_as(RestartOptions)
    if kind_of(options.view_as(StandardOptions).runner) == "flink":
        if view.number_of_execution_retries is None:
            view.number_of_execution_retries = 3
        if view.execution_retry_delay is None:
            view.execution_retry_delay = 5000
        if view.execution_mode_for_batch is None:
            # Else all workers begin anew when one is lost.
            view.execution_mode_for_batch = "BATCH"


def check_options(options: PipelineOptions) -> None:
    """What can be told without the network.

    Raises:
        OptionError: a program or a file that the engine needs is not there, or workers could not
            be started as the options say.
    """
    kind = kind_of(options.view_as(StandardOptions).runner)
    if options.view_as(PortableOptions).job_endpoint:
        return
    if kind == "flink":
        view = options.view_as(FlinkRunnerOptions)
        _check_jar("flink", view.flink_job_server_jar, f"flink-{view.flink_version}")
        _check_java(options)
        if view.flink_master not in _LOCAL:
            _check_environment(options, f"--flink_master={view.flink_master}")
    elif kind == "spark":
        view = options.view_as(SparkRunnerOptions)
        _check_jar("spark", view.spark_job_server_jar, "spark-3")
        _check_java(options)
        if not view.spark_master_url.startswith("local"):
            _check_environment(options, f"--spark_master_url={view.spark_master_url}")
    elif kind == "prism":
        path = options.view_as(PrismRunnerOptions).prism_location
        if path and "://" not in path and not Path(path).is_file():
            raise OptionError(
                f"--prism_location={path}: no such file; GOBIN=$PWD/bin go install "
                f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam_version} makes bin/prism"
            )


def _check_jar(kind: str, jar: str | None, artifact: str) -> None:
    if jar and "://" not in jar and not Path(jar).is_file():
        raise OptionError(
            f"--{kind}_job_server_jar={jar}: no such file; mvn dependency:get -Dtransitive=false "
            f"-Dartifact=org.apache.beam:beam-runners-{artifact}-job-server:{beam_version} puts it "
            f"under ~/.m2/repository/org/apache/beam"
        )


def _check_java(options: PipelineOptions) -> None:
    launcher = options.view_as(JobServerOptions).job_server_java_launcher
    if shutil.which(launcher) is None:
        raise OptionError(
            f"Beam's job server needs Java, and there is no '{launcher}' here; install Java 17, or "
            f"name it with --job_server_java_launcher"
        )


def _check_environment(options: PipelineOptions, master: str) -> None:
    view = options.view_as(PortableOptions)
    advice = (
        "start `python -m pipelines.worker_pool --port=50000` on every host of the cluster and say "
        "--environment_type=EXTERNAL --environment_config=localhost:50000"
    )
    if view.environment_type is None:
        raise OptionError(
            f"{master} needs --environment_type, which says how Python workers are started: {advice}"
        )
    if view.environment_type == "LOOPBACK" and not _is_here(_address(master)[0]):
        raise OptionError(
            f"{master} with --environment_type=LOOPBACK: the workers would be in the launcher, "
            f"which other hosts cannot reach; {advice}"
        )
    if view.environment_type == "EXTERNAL" and not view.environment_config:
        raise OptionError(
            f"--environment_type=EXTERNAL needs --environment_config; {advice}"
        )


def check_reachable(options: PipelineOptions) -> None:
    """Whether master and worker pool answer; Beam would wait for either for ever.

    Raises:
        DataError: one does not.
    """
    kind = kind_of(options.view_as(StandardOptions).runner)
    portable = options.view_as(PortableOptions)
    if portable.job_endpoint:
        _check_answers("--job_endpoint", portable.job_endpoint, "start the job server")
        return
    if kind == "flink":
        master = options.view_as(FlinkRunnerOptions).flink_master
        flag, is_local = "--flink_master", master in _LOCAL
    elif kind == "spark":
        master = options.view_as(SparkRunnerOptions).spark_master_url
        flag, is_local = "--spark_master_url", master.startswith("local")
    else:
        return
    if not is_local:
        _check_answers(flag, master, "start the cluster, or correct the address")
    # The address of the pool is meant for the cluster's hosts; here it says something only if we
    # are one of them.
    external = portable.environment_type == "EXTERNAL"
    if external and (is_local or _is_here(_address(master)[0])):
        pool = portable.environment_config
        host, port = _address(pool)
        if _is_here(host):
            _check_answers(
                "--environment_config",
                pool,
                f"start the workers: python -m pipelines.worker_pool --port={port}",
            )


def _check_answers(flag: str, url: str, advice: str) -> None:
    try:
        host, port = _address(url)
    except OptionError as e:
        raise OptionError(f"{flag}: {e}") from None
    try:
        socket.create_connection((host, port), _SECONDS).close()
    except OSError as e:
        reason = e.strerror or str(e) or type(e).__name__
        raise DataError(f"{flag}={url} does not answer ({reason}); {advice}") from None


def _address(url: str) -> tuple[str, int]:
    """'flag=http://host:1', 'spark://host:1,other:1' or 'host:1' -> host, port."""
    url = url.rsplit("=", 1)[-1].split(",")[0]
    parts = urlsplit(url if "://" in url else f"//{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or (port is None and parts.scheme not in ("http", "https")):
        raise OptionError(f"'{url}' is no address; it should read HOST:PORT")
    return parts.hostname, port or {"http": 80, "https": 443}[parts.scheme]


def _is_here(host: str) -> bool:
    with contextlib.suppress(OSError):
        return socket.gethostbyname(host).startswith("127.") or host == "::1"
    return False


class _OnLeash(SubprocessJobServer):
    """Its process ends with ours, also when ours is killed."""

    def subprocess_cmd_and_endpoint(self):
        command, endpoint = super().subprocess_cmd_and_endpoint()
        leash = [sys.executable, "-m", "pipelines.child", str(os.getpid())]
        return [*leash, *command], endpoint


class _FlinkServer(_OnLeash, flink_runner.FlinkJarJobServer):
    pass


class _SparkServer(_OnLeash, spark_runner.SparkJarJobServer):
    pass


class _PrismServer(_OnLeash, prism_runner.PrismJobServer):
    """Without the filter of its log: with it, Beam prints that log whatever the level."""

    def __init__(self, options):
        super().__init__(options)
        self._log_filter = None


class _Serving:
    """Of our runners: keeps the job server, to stop it with the job."""

    _server_class: Callable[[PipelineOptions], SubprocessJobServer]
    server: SubprocessJobServer | None = None

    def default_job_server(self, options):
        self.server = self._server_class(options)
        return self.server


class _Flink(_Serving, flink_runner.FlinkRunner):
    _server_class = _FlinkServer

    def default_job_server(self, options):
        view = options.view_as(FlinkRunnerOptions)
        view.flink_master = self.add_http_scheme(view.flink_master)
        if view.flink_submit_uber_jar:
            return flink_runner.FlinkRunner.default_job_server(self, options)
        return super().default_job_server(options)


class _Spark(_Serving, spark_runner.SparkRunner):
    _server_class = _SparkServer

    def default_job_server(self, options):
        if options.view_as(SparkRunnerOptions).spark_submit_uber_jar:
            return spark_runner.SparkRunner.default_job_server(self, options)
        return super().default_job_server(options)


class _Prism(_Serving, prism_runner.PrismRunner):
    _server_class = _PrismServer


_RUNNERS = {"flink": _Flink, "spark": _Spark, "prism": _Prism}


@contextlib.contextmanager
def engine(options: PipelineOptions, name: str | None) -> Iterator[PipelineRunner]:
    """A runner for these engines, whose helpers and job do not outlive the block.

    Args:
        options: whose runner `is_engine`; its job name is set.
        name: tells jobs for one output apart from others. A job of that name that still runs on
            the cluster is what a killed launcher left, and cancelled. None: do not look.

    Raises:
        DataError: the engine does not answer.
    """
    check_reachable(options)
    kind = kind_of(options.view_as(StandardOptions).runner)
    view = options.view_as(GoogleCloudOptions)
    jobs = _jobs_of(options, kind)
    if view.job_name is None:
        view.job_name = name or f"deepmac-{os.getpid()}-{os.urandom(4).hex()}"
        if jobs and name:
            for job in jobs.running(name):
                _log.warning("cancelling job %s, whose launcher has gone", job)
                jobs.cancel(job)
    runner = _RUNNERS[kind]()
    _cancels.append(cancel := lambda: jobs and jobs.cancel_all(view.job_name))
    finished = False
    try:
        yield runner
        finished = True
    finally:
        _cancels.remove(cancel)
        if not finished:
            cancel()
        if runner.server:
            with contextlib.suppress(Exception):  # it may never have started
                runner.server.stop()


def in_short(error: str) -> str:
    """What an engine says of an error, without the places in its code, which take pages."""
    lines = [line for line in error.splitlines() if re.match(r"\w", line)]
    if not lines:
        return ""
    first, last = (_plain(line) for line in (lines[0], lines[-1]))
    return first if last in first else f"{first}: {last}"


def _plain(line: str) -> str:
    """Without names of Java packages, and what introduces a trace."""
    line = re.sub(r"\b(?:[a-z]\w*\.)+(?=[A-Z])", "", " ".join(line.split()))
    line = line.replace(": [", ": ").removeprefix("Caused by: ")
    return line.removesuffix(": Traceback (most recent call last):")


def is_engine(options: PipelineOptions) -> bool:
    """Whether the runner is one of those that this module knows."""
    return kind_of(options.view_as(StandardOptions).runner) in _RUNNERS


_cancels: list[Any] = []


def cancel_jobs() -> None:
    """Cancels what runs on a cluster for this process, as far as that answers."""
    for cancel in list(_cancels):
        cancel()


class _FlinkJobs:
    """A cluster's jobs, through its REST service; what does not answer is no reason to stop."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")

    def running(self, name: str) -> list[str]:
        """Ids of the jobs of that name that have not ended."""
        answer = self._ask("GET", "/jobs/overview") or {"jobs": []}
        ended = ("FINISHED", "FAILED", "CANCELED")
        return [
            job["jid"]
            for job in answer["jobs"]
            if job["name"] == name and job["state"] not in ended
        ]

    def cancel(self, job: str) -> None:
        self._ask("PATCH", f"/jobs/{job}?mode=cancel")

    def cancel_all(self, name: str) -> None:
        for job in self.running(name):
            self.cancel(job)

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self._url}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                return json.load(answer)
        except (OSError, ValueError) as e:
            _log.warning("%s %s%s: %s", method, self._url, path, e)
            return None


def _jobs_of(options: PipelineOptions, kind: str) -> _FlinkJobs | None:
    """None where the job ends with its job server."""
    master = options.view_as(FlinkRunnerOptions).flink_master if kind == "flink" else ""
    if not master or master in _LOCAL:
        return None
    return _FlinkJobs(flink_runner.FlinkRunner.add_http_scheme(master))
