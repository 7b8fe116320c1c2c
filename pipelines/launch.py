"""The one place where a Beam pipeline is created and run."""

import argparse
import contextlib
import dataclasses
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
import grpc
import orjson
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,  # the options classes accept no other parser
)
from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner
from rich.console import Console

from deepmac.errors import DataError, DeepmacError, OptionError, did_you_mean, one_of
from pipelines import dataflow, engines, lease
from pipelines.beam_metrics import gather, tell_unit
from pipelines.observation import Observation
from pipelines.progress import Progress, show_progress
from pipelines.unit_task import Task

_MARK = "deepmac unit stopped: "
_PATIENCE = 5.0  # seconds, of whoever presses Ctrl-C


def parse_beam_args(
    beam_args: Sequence[str], job_options: type | None = None
) -> PipelineOptions:
    """Beam's options, on `FnApiRunner` unless another runner is named.

    Beam itself drops flags that it does not know and says so in a log line at most. From here on
    its FileSystems keep to the options, such as --hdfs_host.

    Args:
        beam_args: the flags.
        job_options: the dataclass of the job's own options, to tell what a misspelt flag may mean.

    Raises:
        OptionError: a flag is unknown (names the nearest) or has a bad value, or the runner is
            unknown or one that gives wrong results.
    """
    parser = _Parser(allow_abbrev=False, add_help=False, usage=argparse.SUPPRESS)
    for options_class in PipelineOptions.__subclasses__():
        options_class._add_argparse_args(parser)
    known, unknown = parser.parse_known_args(list(beam_args))
    if unknown:
        name = unknown[0].split("=")[0]
        flags = [flag for action in parser._actions for flag in action.option_strings]
        own = dataclasses.fields(job_options) if job_options else ()
        flags += [f"--{field.name}" for field in own]
        raise OptionError(
            f"neither the job nor Apache Beam has an option '{name}'"
            f"{did_you_mean(name, flags)}"
        )
    args = list(beam_args)
    if known.runner is None:
        # Beam's own default may fetch another engine from the network.
        args.append("--runner=FnApiRunner")
    if known.direct_num_workers < 0:
        raise OptionError(
            f"--direct_num_workers must be positive, or 0 for as many as there are cores, got "
            f"{known.direct_num_workers}"
        )
    if known.direct_num_workers != 1 and not _given(args, "--direct_running_mode"):
        # Beam's default mode ignores the number of workers.
        args.append("--direct_running_mode=multi_processing")
    options = PipelineOptions(args)
    engines.set_defaults(options)
    _check_runner(options)
    engines.check_options(options)
    dataflow.check(options)
    # Jobs read and write before there is a pipeline, which would do this.
    FileSystems.set_options(options)
    return options


class _Parser(_BeamArgumentParser):
    def error(self, message: str):
        raise OptionError(f"Beam option: {message}")


def _given(args: Sequence[str], flag: str) -> bool:
    return any(arg.split("=")[0] == flag for arg in args)


def _check_runner(options: PipelineOptions) -> None:
    name = options.view_as(StandardOptions).runner
    if name.split(".")[-1].lower() in ("dask", "daskrunner"):
        raise OptionError(
            f"--runner={name} is refused: Beam's Dask runner ends DONE with wrong results (it does "
            f"not keep tagged outputs apart); use FnApiRunner, FlinkRunner, SparkRunner, "
            f"PrismRunner or DataflowRunner"
        )
    try:
        create_runner(name)
    except ValueError:
        known = StandardOptions.KNOWN_RUNNER_NAMES
        hint = did_you_mean(name, known)
        raise OptionError(
            f"--runner: Beam has no runner '{name}'{hint or f'; it has {one_of(known)}'}"
        ) from None
    except (ImportError, AttributeError) as e:
        raise OptionError(f"--runner={name}: {e}") from None


def run_pipeline(
    options: PipelineOptions,
    build: Callable[[beam.Pipeline], None],
    *,
    name: str | None = None,
    needs: dataflow.Machines = dataflow.ANY_MACHINES,
    verbose: bool = False,
) -> PipelineResult:
    """Builds the graph, runs it and waits for its end (see `dataflow.is_left_alone`).

    Args:
        options: of Beam.
        build: adds the steps.
        name: of the job on a cluster, the same whenever it is for the same output.
        needs: what its steps ask of the machines.
        verbose: let Beam talk.

    Raises:
        DataError: a step stopped on something that the user can mend, or the engine that was
            asked for cannot be used.
    """
    runner_name = options.view_as(StandardOptions).runner
    is_local = engines.kind_of(runner_name) == "fnapi"
    with _safe_path(), _quiet_logs(verbose):
        try:
            dataflow.fill_in(options, needs)
            with _runner(options, name) as runner:
                pipeline = beam.Pipeline(runner=runner, options=options)
                build(pipeline)
                result = pipeline.run()
                dataflow.announce(options, result)
                if not dataflow.is_left_alone(options):
                    result.wait_until_finish()
                    result.metrics()  # which it keeps; its server is about to end
                return result
        except DeepmacError:
            raise
        except Exception as e:
            if message := _user_message(str(e)):
                raise DataError(message) from None
            if not is_local and not verbose:
                # An engine that is not there, or not set up, is no bug of ours.
                reason = engines.in_short(str(e)) or type(e).__name__
                raise DataError(
                    f"--runner={runner_name} could not run the job: {reason} "
                    f"(--verbose shows where)"
                ) from e
            raise


@contextlib.contextmanager
def _runner(
    options: PipelineOptions, name: str | None
) -> Iterator[PipelineRunner | None]:
    """None: the one that Beam makes."""
    if engines.is_engine(options):
        with engines.engine(options, name) as runner:
            yield runner
    else:
        kind = engines.kind_of(options.view_as(StandardOptions).runner)
        yield _LocalRunner() if kind == "fnapi" else None


class _LocalRunner(FnApiRunner):
    """Beam's runner for one machine, with worker processes that do not log on the terminal."""

    def run_via_runner_api(self, pipeline_proto, options):
        # `exec`, so that no shell stands between the launcher and its worker.
        command = (
            f"exec {shlex.quote(sys.executable)} -m pipelines.worker {os.getpid()}"
        )
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK:
                environment.payload = command.encode()
        return super().run_via_runner_api(pipeline_proto, options)


def run_tasks(
    options: PipelineOptions,
    task: Task,
    units: Sequence[tuple[str, int]],
    *,
    progress: Progress,
    needs: dataflow.Machines = dataflow.ANY_MACHINES,
    verbose: bool = False,
) -> Observation:
    """Does units on Beam's workers: one call for each unit, nothing but names is shuffled.

    Args:
        options: of Beam.
        task: what to do with a unit; picklable.
        units: names and numbers of items.
        progress: shown while the job runs.
        needs: what the units ask of the machines.
        verbose: let Beam talk.

    Returns:
        What the workers told of their work, as far as the runner passes it on.
    """

    def build(pipeline: beam.Pipeline) -> None:
        do_unit = beam.ParDo(_DoUnit(task)).with_resource_hints(**needs.hints)
        # `Create` shuffles the names, so that no runner does all units where it reads them.
        _ = pipeline | "Units" >> beam.Create(units) | "Do unit" >> do_unit

    def so_far() -> str:
        with contextlib.suppress(DataError, OSError):  # then as of the last look
            progress.update()
        return f"{progress.num_done} of {progress.num_units} units are done"

    with stop_at_once(so_far), show_progress(progress):
        try:
            result = run_pipeline(
                options, build, name=task.name, needs=needs, verbose=verbose
            )
        except DataError as e:
            raise DataError(
                f"{e} ({so_far()}; the same command goes on from there)"
            ) from None
    progress.update()
    dataflow.leave(options)
    return gather(result, of_units=True)


class _DoUnit(beam.DoFn):
    """(unit name, number of items) -> nothing; the unit's files are its output."""

    def __init__(self, task: Task):
        self._task = task

    def setup(self) -> None:
        with telling_why("setup"):
            self._task.setup()

    def process(self, element: tuple[str, int]) -> None:
        name, num_items = element
        with telling_why(f"unit {name}"):
            done = self._task.run(name, num_items)
        if done is not None:
            tell_unit(done)


@contextlib.contextmanager
def telling_why(where: str) -> Iterator[None]:
    """Marks the errors that are not bugs, so that the launcher finds them in any runner's text."""
    try:
        yield
    except (DeepmacError, OSError, MemoryError) as e:
        reason = str(e) if isinstance(e, DeepmacError) else f"{type(e).__name__}: {e}"
        raise RuntimeError(_MARK + orjson.dumps(f"{where}: {reason}").decode()) from e


def _user_message(text: str) -> str | None:
    found = re.search(re.escape(_MARK) + r'("(?:[^"\\]|\\.)*")', text)
    return orjson.loads(found[1]) if found else None


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Keeps worker processes from importing a `pipelines` folder of the working directory."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextlib.contextmanager
def _quiet_logs(verbose: bool) -> Iterator[None]:
    """Hides what Beam logs; errors reach the user through exceptions."""
    # Beam logs some lines, an engine's whole traces among them, without a name.
    loggers = [logging.getLogger(name) for name in ("apache_beam", None)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO if verbose else logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def stop_at_once(so_far: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, SIGTERM or the death of a worker: one line, no waiting for units in flight.

    Beam waits for ever for a local worker process that was killed, and its threads would keep
    ours alive until their units are done.

    Args:
        so_far: what to say of the work done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(reason: str, status: int) -> None:
        threading.excepthook = lambda _: None
        engines.cancel_jobs()
        _kill_descendants(os.getpid())
        lease.let_all_go()
        if sys.stderr.isatty():
            Console(stderr=True).show_cursor()  # a progress bar hides it
            print(file=sys.stderr)
        said = [reason, *_in_time(so_far)]
        message = f"{': '.join(said)}; the same command goes on from there"
        print(message, file=sys.stderr, flush=True)
        os._exit(status)

    def on_signal(signum: int, frame: object) -> None:
        leave("interrupted", 128 + signum)

    def on_thread_error(args: threading.ExceptHookArgs) -> None:
        if str(args.exc_value).startswith("Worker subprocess exited"):
            leave("a worker process died, perhaps for want of memory", 1)
        if not isinstance(
            args.exc_value, grpc.RpcError
        ):  # a worker has gone: see above
            excepthook(args)

    excepthook = threading.excepthook
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    threading.excepthook = on_thread_error
    for number in handlers:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        threading.excepthook = excepthook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _in_time(say: Callable[[], str]) -> list[str]:
    """What `say` returns; nothing where storage does not answer for as long as people wait."""
    said = []
    # In a thread of its own also because the one that is interrupted may hold what it needs.
    thread = threading.Thread(target=lambda: said.append(say()), daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return said


def _kill_descendants(process_id: int) -> None:
    """Kills our worker processes (Linux; elsewhere they end when they miss the launcher)."""
    for children in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            _kill_descendants(child)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
