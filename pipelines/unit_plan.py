"""Which units a job has, what each needs, and which of them are done."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from deepmac.data.json_shape import misfit
from deepmac.data.manifest import COMMIT_SHAPE
from deepmac.errors import OptionError, one_of
from pipelines.json_lines import dump_document, dump_line, load_line
from pipelines.storage import Output
from pipelines.unit_files import (
    COMMITS,
    JOB,
    PLAN,
    commit_name,
    parse_json,
    plan_name,
    read_json,
)

SETTLED = "settled"
"""In a plan's context: what planning had to decide and what decides the bytes as well. Work done
under another decision is done again."""

_HEADER_SHAPE = {"job": str, "version": str, "options": dict, "inputs": dict}
_PLAN_SHAPE = {"num_items": {str: int}, "num_images": {str: int}, "context": dict}


class PlanWriter:
    """Sorts items into units. Keeps little in memory however many units there are."""

    def __init__(self, output: Output, buffer_bytes: int = 32 << 20):
        self._output, self._limit = output, buffer_bytes
        # One buffer a unit: kept as objects, the lines would take twenty times their bytes.
        self._buffers = collections.defaultdict(bytearray)
        self._buffered = 0
        self.num_items: dict[str, int] = {}
        self.num_images: dict[str, int] = {}  # of the units that it is known of

    def declare(self, unit_name: str) -> None:
        """Makes a unit that may stay without items."""
        self.num_items.setdefault(unit_name, 0)

    def count_images(self, unit_name: str, number: int) -> None:
        """Says of a unit that so many (more) of its images will be looked at."""
        self.num_images[unit_name] = self.num_images.get(unit_name, 0) + number

    def add(self, unit_name: str, item: Mapping[str, Any]) -> None:
        """Puts an item (a JSON object) at the end of a unit."""
        self.add_line(unit_name, dump_line(item))

    def add_line(self, unit_name: str, line: bytes) -> None:
        """Puts an item at the end of a unit, given as one line of JSON with its end."""
        self._buffers[unit_name] += line
        self.num_items[unit_name] = self.num_items.get(unit_name, 0) + 1
        self._buffered += len(line)
        if self._buffered > self._limit:
            self.flush()

    def flush(self) -> None:
        for unit_name, lines in self._buffers.items():
            self._output.append(plan_name(unit_name), lines)
        self._buffers.clear()
        self._buffered = 0


@dataclasses.dataclass(frozen=True)
class Header:
    """Which job a directory belongs to: the first half of job.json."""

    job: str
    version: str
    options: dict[str, Any]
    inputs: dict[str, Any]

    def digest(self, planned: "Plan") -> str:
        """Names what decides the bytes; in every commit record."""
        identity = [self.job, self.version, self.options]
        if SETTLED in planned.context:
            identity.append(planned.context[SETTLED])
        return hashlib.sha256(dump_line(identity)).hexdigest()

    def as_json(self) -> dict[str, Any]:
        return load_line(dump_line(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What planning found out: the second half of job.json; its presence says: whole."""

    num_items: dict[str, int]
    num_images: dict[str, int]  # of the units that it is known of
    context: dict[str, Any]


def plan_or_resume(
    output: Output,
    header: Header,
    plan: Callable[["PlanWriter"], dict[str, Any] | None],
) -> tuple[Plan, list[str]]:
    """The plan that is there, if it is whole and of this job; else a new one.

    Returns:
        The plan, and its `pending_units`.

    Raises:
        OptionError: the directory belongs to another job, or one with other options, or holds
            something else altogether.
    """
    stored = read_json(output, JOB)
    if stored is None and (others := output.entries()):
        raise OptionError(
            f"{output.root} holds {one_of(others, limit=3)} and no earlier {header.job}; name "
            f"another --out"
        )
    if stored is not None and (wrong := _damage(stored)):
        raise OptionError(
            f"{output.path(JOB)}: damaged, {wrong}; use another --out, or delete that one"
        )
    if stored is not None and ("plan" in stored or output.sizes(COMMITS)):
        _check_same_job(output, stored, header)
    if stored is not None and stored == header.as_json() | {"plan": stored.get("plan")}:
        planned = Plan(**{key: stored["plan"][key] for key in _PLAN_SHAPE})
        pending = pending_units(output, planned, header.digest(planned))
        if not pending or _is_spilled(output, planned):
            return planned, pending
    output.remove_folder(PLAN)
    output.write(JOB, dump_document(header.as_json()))
    writer = PlanWriter(output)
    context = plan(writer) or {}
    writer.flush()
    output.publish_appended()
    planned = Plan(
        num_items=dict(sorted(writer.num_items.items())),
        num_images=dict(sorted(writer.num_images.items())),
        context=context,
    )
    whole = header.as_json() | {"plan": dataclasses.asdict(planned)}
    output.write(JOB, dump_document(whole))
    return planned, pending_units(output, planned, header.digest(planned))


def _is_spilled(output: Output, planned: Plan) -> bool:
    """Whether what the units need is there; a folder may have been removed in part."""
    there = output.sizes(PLAN)
    names = (name for name, number in planned.num_items.items() if number)
    return all(plan_name(name).removeprefix(f"{PLAN}/") in there for name in names)


def _damage(stored: Any) -> str | None:
    """What is wrong with the contents of job.json, in words."""
    if wrong := misfit(stored, _HEADER_SHAPE):
        return wrong
    return misfit(stored["plan"], _PLAN_SHAPE, "plan") if "plan" in stored else None


def _check_same_job(output: Output, stored: dict, header: Header) -> None:
    where, now = output.root, header.as_json()
    for key in ("job", "version"):
        if stored.get(key) != now[key]:
            raise OptionError(
                f"{where} was begun with {key} {stored.get(key)}, this is {now[key]}; "
                f"use another --out, or delete that one"
            )
    for part in ("options", "inputs"):
        before, after = stored.get(part, {}), now[part]
        for name in sorted({*before, *after}):
            if before.get(name) == after.get(name):
                continue
            differs = f"{name} = {_show(before.get(name))}, now it is {_show(after.get(name))}"
            if name in before and name in after and name.endswith("_sha256"):
                differs = f"other contents of --{name.removesuffix('_sha256')}"
            raise OptionError(
                f"{where} was begun with {differs}; use the same input and options to go on, or "
                f"another --out"
            )


def pending_units(output: Output, planned: Plan, digest: str) -> list[str]:
    """The units that are not done; commit records that do not fit are removed."""
    output.complete_all()
    commits, data = output.sizes(COMMITS), output.sizes()
    there = [name for name in planned.num_items if f"{name}.json" in commits]
    records = output.read_each(map(commit_name, there))
    done = set()
    for name, record in zip(there, records, strict=True):
        if _fits(parse_json(record), digest, data):
            done.add(name)
        else:
            output.remove(commit_name(name))
    return [name for name in planned.num_items if name not in done]


def _fits(record: Any, digest: str, data_sizes: Mapping[str, int]) -> bool:
    if misfit(record, COMMIT_SHAPE) or record["fingerprint"] != digest:
        return False
    data = record["data"]
    return data_sizes.get(data["name"]) == data["bytes"]


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
