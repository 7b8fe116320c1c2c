"""Names and contents of the files by which a job keeps track of its units."""

import datetime
import platform
import time
from collections.abc import Mapping
from typing import Any

import deepmac
from deepmac.data.json_shape import misfit
from deepmac.data.manifest import (
    COMMITS,
    DEAD_LETTERS,
    IN_FLIGHT,
    JOB,
    MANIFEST,
    PLAN,
    RUNS,
)
from pipelines.json_lines import dump_document, load_line
from pipelines.storage import Output

__all__ = [
    "COMMITS",
    "DEAD_LETTERS",
    "IN_FLIGHT",
    "JOB",
    "MANIFEST",
    "PLAN",
    "RUNS",
    "commit_name",
    "mark_name",
    "note_run",
    "parse_json",
    "plan_name",
    "read_json",
    "utc",
]


def plan_name(unit_name: str) -> str:
    """The file with what a unit needs."""
    return f"{PLAN}/{unit_name}.jsonl"


def commit_name(unit_name: str) -> str:
    """The file that says that a unit is done."""
    return f"{COMMITS}/{unit_name}.json"


def mark_name(unit_name: str) -> str:
    """The file that says who is doing a unit."""
    return f"{IN_FLIGHT}/{unit_name}.json"


def read_json(output: Output, name: str) -> Any:
    """The value in a JSON file; None if there is no such file, or something else in it."""
    return parse_json(output.read(name))


def parse_json(data: bytes | None) -> Any:
    """The value in the bytes of a JSON file; None if there is none, or something else."""
    try:
        return None if data is None else load_line(data)
    except ValueError:
        return None


def note_run(
    output: Output,
    job: str,
    started: float,
    facts: Mapping[str, Any],
    *,
    has_finished: bool = True,
) -> None:
    """Adds a run to run.json, the only output that may differ between runs.

    Args:
        output: of the job.
        job: its name.
        started: when, in seconds since 1970.
        facts: what else is to be kept of this run, as JSON.
        has_finished: whether it has, or only begins. One that has takes the place of its beginning; of one
            that was stopped, the beginning stays.
    """
    now = time.time()
    end = {"finished": utc(now), "seconds": round(now - started, 3)}
    run = {
        "job": job,
        "started": utc(started),
        **(end if has_finished else {}),
        "host": platform.node(),
        "python": platform.python_version(),
        "deepmac": deepmac.__version__,
        **facts,
    }
    stored = read_json(output, RUNS)
    before = [] if misfit(stored, {"runs": [{"started": str}]}) else stored["runs"]
    others = [r for r in before if "finished" in r or r["started"] != run["started"]]
    output.write(RUNS, dump_document({"runs": [*others, run]}))


def utc(seconds: float) -> str:
    """A moment, in seconds since 1970, as ISO 8601 text."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds")
