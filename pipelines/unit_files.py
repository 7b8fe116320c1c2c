"""Names and contents of the files by which a job keeps track of its units."""

from typing import Any

import orjson

from pipelines.storage import LocalOutput

JOB = "job.json"  # which job this is, and its plan
RUNS = "run.json"  # facts of each run
MANIFEST = "manifest.json"  # what the directory holds; there when it is complete
DEAD_LETTERS = "dead_letters.jsonl"
PLAN, COMMITS = "plan", "units"  # folders


def plan_name(unit_name: str) -> str:
    """The file with what a unit needs."""
    return f"{PLAN}/{unit_name}.jsonl"


def commit_name(unit_name: str) -> str:
    """The file that says that a unit is done."""
    return f"{COMMITS}/{unit_name}.json"


def read_json(output: LocalOutput, name: str) -> Any:
    """The value in a JSON file; None if there is no such file, or something else in it."""
    data = output.read(name)
    try:
        return None if data is None else orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
