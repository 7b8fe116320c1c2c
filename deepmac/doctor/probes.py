"""Processes that try something out, so that what crashes or hangs there harms nobody here."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deepmac.errors import OptionError

# Two frameworks look at one accelerator at a time, on which a job may be running.
_SHARE_ACCELERATORS = {
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial went.

    Attributes:
        reports: JSON objects, in the order in which they came.
        problem: why it ended before its end, in a line; None if it came through.
        log: what it wrote to its standard error.
    """

    reports: Sequence[Mapping[str, Any]] = ()
    problem: str | None = None
    log: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """The reports as one; later ones win."""
        return {key: value for report in self.reports for key, value in report.items()}


def trial_command(name: str, *arguments: str) -> list[str]:
    """The command that runs a trial of `deepmac.doctor.trials`."""
    # -P: a folder of the working directory that is called `keras`, say, is not meant.
    return [sys.executable, "-P", "-m", "deepmac.doctor.trials", name, *arguments]


def run_probes(
    commands: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    timeout: float,
) -> dict[str, Outcome]:
    """Runs commands side by side; returns how each went, under the names given.

    Args:
        commands: those of `trial_command`, or programs whose output is one report `output`.
        environment: of the commands.
        timeout: seconds after which one is stopped, with all that it has started.
    """
    root = str(Path(__file__).parents[2])  # a bare checkout is not installed
    path = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    full = {**environment, **_SHARE_ACCELERATORS, "PYTHONPATH": path}
    with ThreadPoolExecutor(max(len(commands), 1)) as pool:
        outcomes = pool.map(lambda c: _run(c, full, timeout), commands.values())
        return dict(zip(commands, outcomes, strict=True))


def _run(
    command: Sequence[str], environment: Mapping[str, str], timeout: float
) -> Outcome:
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as e:
        return Outcome(problem=f"cannot be started: {e.strerror}")
    ended = True
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        ended = False
        _kill(process)
        out, err = process.communicate()
    finally:
        _kill(process)  # also where this process is interrupted
    log = err.decode(errors="replace")
    reports, error = _reports(out.decode(errors="replace"))
    if not ended:
        return Outcome(reports, f"no answer within {timeout:g} seconds", log)
    if error is not None or process.returncode == 0:
        return Outcome(reports, error, log)
    return Outcome(reports, _why(process.returncode, log), log)


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _reports(text: str) -> tuple[list[dict[str, Any]], str | None]:
    """The reports in a process's output, and the error among them."""
    reports, error = [], None
    for line in text.splitlines():
        try:
            report = json.loads(line)
        except ValueError:
            report = None
        if not isinstance(report, dict):
            return [{"output": text}], None
        error = report.pop("error", error)
        if report:
            reports.append(report)
    return reports, error


def _why(status: int, log: str) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"crashed with {signal.Signals(-status).name}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else f"ended with status {status}"


def need_positive(timeout: float) -> float:
    """Returns the value of `--timeout`.

    Raises:
        OptionError: it is no time that one can wait.
    """
    if not 0 < timeout <= 3600:
        raise OptionError(
            f"--timeout must be more than 0 and at most 3600 seconds, got {timeout:g}"
        )
    return timeout
