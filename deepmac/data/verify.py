"""Is a directory of records or predictions whole? Every file, checksum, count and record."""

import collections
import dataclasses
import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from deepmac.data.directory import open_records
from deepmac.data.json_shape import misfit
from deepmac.data.manifest import (
    COMMIT_SHAPE,
    COMMITS,
    JOB,
    JOB_SHAPE,
    MANIFEST,
    OF_JOB,
    file_sha256,
    is_file_name,
)
from deepmac.data.paths import require_local
from deepmac.data.records import decode_example
from deepmac.data.tfrecord import read_frames
from deepmac.errors import DataError, one_of
from deepmac.instances import ImageId
from deepmac.text import one_line, short


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a directory; `unit` is the piece of work that was done but is damaged."""

    problem: str
    unit: str | None = None


@dataclasses.dataclass(slots=True)
class Verification:
    """What was looked at, and what was wrong with it."""

    num_files: int = 0
    num_bytes: int = 0
    num_images: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def damaged_units(self) -> list[str]:
        return sorted({f.unit for f in self.findings if f.unit is not None})


def verify(
    path: str, on_file: Callable[[str], None] = lambda name: None
) -> Verification:
    """Looks at every byte of a directory that `build` or `label` wrote, or of foreign records.

    Args:
        path: the directory; for foreign records also a pattern.
        on_file: told the name of each file before it is read.

    Raises:
        DataError: there is nothing to look at.
    """
    require_local(path)
    root = Path(path)
    result = Verification()
    if not os.path.isfile(root / JOB):
        _verify_foreign(path, result, on_file)
        return result
    job = _read_json(root / JOB)
    if "plan" not in job:
        result.findings.append(Finding("the job stopped before its plan was made"))
        return result
    if wrong := _wrong_job(job):
        result.findings.append(Finding(f"{JOB}: damaged, {wrong}"))
        return result
    seen: dict[ImageId, str] = {}
    for unit in sorted(job["plan"]["num_items"]):
        record = _read_json(root / COMMITS / f"{unit}.json")
        if not record:
            result.findings.append(Finding(f"{unit}: not done"))
            continue
        if wrong := _wrong_commit(record):
            problem = f"{COMMITS}/{unit}.json: damaged, {wrong}"
            result.findings.append(Finding(problem, unit))
            continue
        name = record["data"]["name"]
        on_file(name)
        for problem in _problems(root / name, record, result, seen):
            result.findings.append(Finding(problem, unit))
    if not os.path.isfile(root / MANIFEST):
        result.findings.append(Finding(f"no {MANIFEST}: the job has not finished"))
    elif not result.findings:
        _verify_manifest(root, job, result)
    return result


def _wrong_job(job: Any) -> str | None:
    if wrong := misfit(job, JOB_SHAPE):
        return wrong
    names = (name for name in job["plan"]["num_items"] if not is_file_name(name))
    return next((f"{short(name)} can be no unit" for name in names), None)


def _wrong_commit(record: Any) -> str | None:
    if wrong := misfit(record, COMMIT_SHAPE):
        return wrong
    name = record["data"]["name"]
    return None if is_file_name(name) else f"data.name is {short(name)}, no file's name"


def _problems(
    path: Path,
    record: dict[str, Any],
    result: Verification,
    seen: dict[ImageId, str],
) -> Iterator[str]:
    name, expected = path.name, record["data"]
    is_records = name.endswith(".tfrecord")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        yield f"{name}: not a regular file"
        return
    try:
        size, digest = path.stat().st_size, file_sha256(path)
        images = (
            list(_record_ids(path))
            if is_records
            else sorted(_prediction_ids(path), key=str)
        )
    except OSError as e:
        yield f"{name}: cannot be read: {e.strerror}"
        return
    except DataError as e:
        yield str(e)
        return
    result.num_files += 1
    result.num_bytes += size
    result.num_images += len(images)
    if size != expected["bytes"]:
        yield f"{name}: {size} bytes, {expected['bytes']} were written"
    elif digest != expected["sha256"]:
        yield f"{name}: the checksum differs: damaged since it was written"
    written = record["counts"].get("images_out", 0)
    # An image without predictions leaves no line.
    if len(images) > written or (is_records and len(images) < written):
        yield f"{name}: holds {len(images)} images, {written} were written"
    for image_id in images:
        if image_id in seen:
            yield f"{name}: image {image_id!r} is in {seen[image_id]} too"
        seen[image_id] = name


def _record_ids(path: Path) -> Iterator[ImageId]:
    with path.open("rb") as file:
        for index, (offset, data) in enumerate(read_frames(file, path.name)):
            try:
                yield decode_example(data, category_ids=_AnyName()).image_id
            except DataError as e:
                place = f"{path.name}: record {index} at byte {offset}"
                raise DataError(f"{place}: {e}") from None


def _prediction_ids(path: Path) -> set[ImageId]:
    ids = set()
    try:
        with gzip.open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    ids.add(orjson.loads(line)["image_id"])
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    raise DataError(
                        f"{path.name}: line {number} is no prediction"
                    ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise DataError(f"{path.name}: not a whole gzip file: {e}") from None
    return ids


def _verify_manifest(root: Path, job: dict[str, Any], result: Verification) -> None:
    """The manifest repeats what the job and its commit records say; it must still do so."""
    kind, manifest = OF_JOB.get(job["job"]), _read_json(root / MANIFEST)
    if not manifest:
        result.findings.append(Finding(f"{MANIFEST}: not a JSON object"))
        return
    if kind is None:
        result.findings.append(Finding(f"{JOB}: no job of ours"))
        return
    entries, counts = [], collections.Counter[str]()
    for unit in sorted(job["plan"]["num_items"]):
        record = _read_json(root / COMMITS / f"{unit}.json")
        data = record["data"]
        counts.update(record["counts"])
        entries.append(
            kind.entry(data["name"], data["bytes"], data["sha256"], record["counts"])
        )
    expected = kind.head() | {
        "deepmac": job["version"],
        "options": job["options"],
        "counts": dict(counts),
        "categories": [
            {"id": i, "name": name} for i, name in job["plan"]["context"]["categories"]
        ],
    }
    for key, value in expected.items():
        if manifest.get(key) != value:
            problem = f"{MANIFEST}: '{key}' is not what {JOB} and {COMMITS}/ say"
            result.findings.append(Finding(problem))
    result.findings.extend(
        Finding(f"{MANIFEST}: {problem}")
        for problem in _differences(manifest.get(kind.files), entries)
    )


def _differences(listed: Any, entries: list[dict[str, Any]]) -> Iterator[str]:
    """What a manifest's list of files says otherwise than the commit records."""
    if misfit(listed, [{"name": str}]):
        yield "has no list of files"
        return
    by_name = {entry.get("name"): entry for entry in listed}
    for entry in entries:
        found, name = by_name.pop(entry["name"], None), entry["name"]
        if found is None:
            yield f"leaves out {name}"
        elif differing := [key for key in entry if found.get(key) != entry[key]]:
            yield f"{one_of(differing)} of {name} differ from {COMMITS}/"
    for name in by_name:
        yield f"lists {one_line(name)}, which the job has not made"
    if not by_name and len(listed) > len(entries):
        yield "lists a file twice"


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none."""
    try:
        value = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


class _AnyName(dict[str, int]):
    """Knows every category name: whether one is right, foreign records do not tell."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> int:
        return 0


def _verify_foreign(
    path: str, result: Verification, on_file: Callable[[str], None]
) -> None:
    for shard in open_records(path).shards:
        on_file(shard.name)
        result.num_files += 1
        result.num_bytes += shard.num_bytes
        try:
            result.num_images += len(list(_record_ids(Path(shard.path))))
        except DataError as e:
            result.findings.append(Finding(str(e)))
