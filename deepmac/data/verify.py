"""Is a directory of records or predictions complete? Every unit, file, checksum and count."""

import collections
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from deepmac.data.directory import open_records
from deepmac.data.files import (
    Unreachable,
    is_file,
    is_remote,
    join,
    list_entries,
    list_folder,
    open_file,
    read_file,
    reading,
)
from deepmac.data.json_shape import misfit
from deepmac.data.manifest import (
    COMMIT_SHAPE,
    COMMITS,
    DEAD_LETTERS,
    IN_FLIGHT,
    JOB,
    JOB_SHAPE,
    MANIFEST,
    OF_JOB,
    PLAN,
    RUNS,
    Kind,
    is_file_name,
)
from deepmac.data.records import decode_example
from deepmac.data.tfrecord import read_frames
from deepmac.errors import DataError, one_of
from deepmac.instances import ImageId
from deepmac.text import one_line, short

_THREADS = 16  # more than there are cores: of storage that is far away, each waits
_AT_ONCE = 1000  # units
_WORKING = (PLAN, IN_FLIGHT, "attempts", "lease.json")  # for the time of the work
_TEMPORARY = "."  # begins the names of files that are being written


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a directory.

    Attributes:
        problem: in a sentence.
        unit: the piece of work that was done but is damaged, if it is one.
        is_stray: it is about a file that the job has not made.
    """

    problem: str
    unit: str | None = None
    is_stray: bool = False


@dataclasses.dataclass(slots=True)
class Verification:
    """What was looked at, and what was wrong with it.

    Attributes:
        num_files, num_bytes, num_images: of data, in what is whole.
        num_failed: images that stand among the dead letters instead.
        findings: what was wrong.
        command: the command line of the job, and the directory where it was given; None if
            unknown.
    """

    num_files: int = 0
    num_bytes: int = 0
    num_images: int = 0
    num_failed: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    command: tuple[str, str] | None = None

    def damaged_units(self) -> list[str]:
        return sorted({f.unit for f in self.findings if f.unit is not None})


def verify(path: str) -> Verification:
    """Looks at every byte of a directory that `build` or `label` wrote, or of foreign records.

    A directory without findings is complete: each unit of the job has a commit record of the same
    job that accounts for all images of the plan, its data file has the size and SHA-256 of that
    record, dead letters and manifest say what the records say, and there are no other files.
    Records of other writers, which have no checksums of files, are decoded instead.

    Args:
        path: the directory; for foreign records also a pattern.

    Raises:
        DataError: there is nothing to look at.
    """
    result = Verification()
    if not is_file(join(path, JOB)):
        _verify_foreign(path, result)
        return result
    folder = _Folder(path)
    job = _object(folder.read(JOB))
    result.command = _command(_object(folder.read(RUNS)))
    if "plan" not in job:
        result.findings.append(Finding("the job stopped before its plan was made"))
    elif wrong := _wrong_job(job):
        result.findings.append(Finding(f"{JOB}: damaged, {wrong}"))
    else:
        _verify_job(folder, job, OF_JOB[job["job"]], result)
    return result


class _Folder:
    """The directory, listed once.

    Attributes:
        sizes: name -> bytes, of its files.
        entries: names of its files and folders, and of whatever else is there.
        commits: name -> bytes, of the commit records.
    """

    def __init__(self, path: str):
        self.path = path
        self.sizes, others = _list(path)
        self.entries = {*self.sizes, *others}
        self.commits, _ = _list(join(path, COMMITS))

    def read(self, name: str) -> bytes | None:
        return read_file(join(self.path, name))

    def open(self, name: str) -> io.BufferedReader:
        return open_file(join(self.path, name))


def _list(path: str) -> tuple[dict[str, int], list[str]]:
    """Name -> bytes of the files in a folder, and the names of all else in it."""
    if is_remote(path):
        sizes = list_folder(path)
        return sizes, [name for name in list_entries(path) if name not in sizes]
    sizes, others = {}, []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_file():
                    sizes[entry.name] = entry.stat().st_size
                else:
                    others.append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as e:
        raise DataError(f"{path}: cannot be listed: {e.strerror}") from e
    return sizes, others


@dataclasses.dataclass(frozen=True, slots=True)
class _Unit:
    """A unit, looked at; `record` is empty where there is none that can be used."""

    name: str
    problems: tuple[str, ...] = ()
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _verify_job(
    folder: _Folder, job: Mapping[str, Any], kind: Kind, result: Verification
) -> None:
    names = sorted(job["plan"]["num_items"])
    look = functools.partial(_look_at, folder, job["plan"]["num_images"])
    entries, counts = [], collections.Counter[str]()
    not_done, fingerprints = [], collections.defaultdict(list)
    with ThreadPoolExecutor(_THREADS) as threads, _Letters(folder) as letters:
        # What is handed to the threads is in memory, so never all of it.
        starts = range(0, len(names), _AT_ONCE)
        for unit in itertools.chain.from_iterable(
            threads.map(look, names[start : start + _AT_ONCE]) for start in starts
        ):
            result.findings += [Finding(p, unit.name) for p in unit.problems]
            if not unit.record:
                not_done += [] if unit.problems else [unit.name]
                continue
            record, data = unit.record, unit.record["data"]
            fingerprints[record["fingerprint"]].append(unit.name)
            letters.expect(record["dead_letters"], unit.name)
            counts.update(record["counts"])
            entries.append(
                kind.entry(
                    data["name"], data["bytes"], data["sha256"], record["counts"]
                )
            )
            if not unit.problems:
                result.num_files += 1
                result.num_bytes += data["bytes"]
                result.num_images += record["counts"].get("images_out", 0)
                result.num_failed += record["counts"].get("images_failed", 0)
        wrong_letters = list(letters.problems())
    if len(not_done) > 20:
        number = f"{len(not_done)} of {len(names)} units"
        result.findings.append(Finding(f"{number} are not done: {one_of(not_done)}"))
    else:
        result.findings += [Finding(f"{name}: not done") for name in not_done]
    # All of one job have one; without it there is no telling which, but the most are right.
    for others in sorted(fingerprints.values(), key=len)[:-1]:
        words = "not of the same job and options as the other units"
        result.findings += [
            Finding(f"{COMMITS}/{name}.json: {words}", name) for name in others
        ]
    if MANIFEST not in folder.sizes:
        result.findings.append(Finding(f"no {MANIFEST}: the job has not finished"))
    elif not result.findings:
        manifest = _object(folder.read(MANIFEST))
        found = (*wrong_letters, *_wrong_manifest(manifest, job, counts, entries))
        result.findings += map(Finding, found)
    result.findings += [
        Finding(f"{one_line(name)}: not of this job; delete it", is_stray=True)
        for name in _strays(folder, kind, names, entries)
    ]


def _wrong_job(job: Any) -> str | None:
    if wrong := misfit(job, JOB_SHAPE):
        return wrong
    if job["job"] not in OF_JOB:
        return f"job is {short(job['job'])}, no job of ours"
    names = (name for name in job["plan"]["num_items"] if not is_file_name(name))
    return next((f"{short(name)} can be no unit" for name in names), None)


def _command(runs: Mapping[str, Any]) -> tuple[str, str] | None:
    """The last command line in run.json, and the directory where it was given."""
    if misfit(runs, {"runs": [object]}):
        return None
    shape = {"command": str, "directory": str}
    told = [run for run in runs["runs"] if misfit(run, shape) is None]
    return (told[-1]["command"], told[-1]["directory"]) if told else None


def _look_at(folder: _Folder, images: Mapping[str, int], name: str) -> _Unit:
    """A unit's commit record and data file; the file's bytes are read once."""
    place = f"{COMMITS}/{name}.json"
    if f"{name}.json" not in folder.commits:
        return _Unit(name)
    record = _object(folder.read(place))
    if not record:
        return _Unit(name)
    if wrong := _wrong_commit(record):
        return _Unit(name, (f"{place}: damaged, {wrong}",))
    problems = [f"{place}: {p}" for p in _lost_images(record, images.get(name, 0))]
    problems += _wrong_data(folder, record)
    return _Unit(name, tuple(problems), record)


def _wrong_commit(record: Any) -> str | None:
    if wrong := misfit(record, COMMIT_SHAPE):
        return wrong
    name = record["data"]["name"]
    return None if is_file_name(name) else f"data.name is {short(name)}, no file's name"


def _lost_images(record: Mapping[str, Any], num_planned: int) -> Iterator[str]:
    keys = ("images_in", "images_out", "images_failed")
    total, num_out, num_failed = (record["counts"].get(key, 0) for key in keys)
    if total != num_out + num_failed:
        yield f"of {total} images {num_out} were written and {num_failed} failed"
    if total < num_planned:
        yield f"accounts for {total} images, {num_planned} were planned"
    ids = record.get("details", {}).get("image_ids")
    if ids is not None and len(ids) != num_out:
        yield f"names {len(ids)} images, {num_out} were written"


def _wrong_data(folder: _Folder, record: Mapping[str, Any]) -> Iterator[str]:
    data = record["data"]
    name, size = data["name"], folder.sizes.get(data["name"])
    if size is None:
        what = "not a regular file" if name in folder.entries else "is missing"
        yield f"{name}: {what}"
        return
    try:
        with folder.open(name) as file:
            if size != data["bytes"]:
                problem = f"{size} bytes, {data['bytes']} were written"
            elif hashlib.file_digest(file, "sha256").hexdigest() != data["sha256"]:
                problem = "the checksum differs: damaged since it was written"
            else:
                return
            file.seek(0)
            more = _what_is_wrong(file, name, record["counts"].get("images_out", 0))
            yield f"{name}: {problem}{f' ({more})' if more else ''}"
    except OSError as e:
        if is_remote(folder.path) and not isinstance(e, FileNotFoundError):
            reason = f"cannot be read, so nothing is proved: {e.strerror}"
            raise Unreachable(f"{join(folder.path, name)}: {reason}") from e
        yield f"{name}: cannot be read: {e.strerror}"


def _what_is_wrong(file: BinaryIO, name: str, num_images: int) -> str | None:
    """What can be said about a file that is not what was written."""
    is_records = name.endswith(".tfrecord")
    ids = _record_ids(file, name) if is_records else _prediction_ids(file)
    try:
        found = len(set(ids))
    except DataError as e:
        return str(e).removeprefix(f"{name}: ")
    # An image without predictions leaves no line.
    if found > num_images or (is_records and found < num_images):
        return f"holds {found} images, {num_images} were written"
    return None


def _record_ids(file: BinaryIO, place: str) -> Iterator[ImageId]:
    for index, (offset, data) in enumerate(read_frames(file, place)):
        try:
            yield decode_example(data, category_ids=_AnyName()).image_id
        except DataError as e:
            raise DataError(f"{place}: record {index} at byte {offset}: {e}") from None


def _prediction_ids(file: BinaryIO) -> Iterator[ImageId]:
    try:
        for number, line in enumerate(gzip.GzipFile(fileobj=file), 1):
            try:
                yield orjson.loads(line)["image_id"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                raise DataError(f"line {number} is no prediction") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise DataError(f"not a whole gzip file: {e}") from None


class _Letters:
    """The merged dead letters, compared with those of one unit after the other."""

    def __init__(self, folder: _Folder):
        is_there = DEAD_LETTERS in folder.sizes
        self._open = contextlib.ExitStack()
        path = join(folder.path, DEAD_LETTERS)
        file = self._open.enter_context(reading(path)) if is_there else ()
        self._lines = enumerate(file, 1)
        self._wrong = None if is_there else f"no {DEAD_LETTERS}"

    def __enter__(self) -> "_Letters":
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def expect(self, letters: Iterable[Any], unit: str) -> None:
        """These come next."""
        for letter in letters:
            if self._wrong:
                return
            number, line = next(self._lines, (0, b""))
            if not number:
                self._wrong = f"{DEAD_LETTERS}: ends before those of {unit}"
            elif _loads(line) != letter:
                where = f"{DEAD_LETTERS}: line {number}"
                self._wrong = f"{where} is not what {COMMITS}/{unit}.json says"

    def problems(self) -> Iterator[str]:
        """What is wrong, when those of all units were expected."""
        if self._wrong:
            yield self._wrong
        elif (number := next(self._lines, (0, b""))[0]) > 0:
            yield f"{DEAD_LETTERS}: line {number} is of no unit"


def _wrong_manifest(
    manifest: Mapping[str, Any],
    job: Mapping[str, Any],
    counts: Mapping[str, int],
    entries: list[dict[str, Any]],
) -> Iterator[str]:
    """The manifest repeats what the job and its commit records say; it must still do so."""
    if not manifest:
        yield f"{MANIFEST}: not a JSON object"
        return
    kind, context = OF_JOB[job["job"]], job["plan"]["context"]
    expected = kind.head() | {
        "deepmac": job["version"],
        "options": job["options"],
        "counts": dict(counts),
        "categories": [{"id": i, "name": name} for i, name in context["categories"]],
    }
    for key, value in expected.items():
        if manifest.get(key) != value:
            yield f"{MANIFEST}: '{key}' is not what {JOB} and {COMMITS}/ say"
    for problem in _differences(manifest.get(kind.files), entries):
        yield f"{MANIFEST}: {problem}"


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


def _strays(
    folder: _Folder,
    kind: Kind,
    units: Iterable[str],
    entries: Iterable[Mapping[str, Any]],
) -> Iterator[str]:
    """Names of what the job has not made and what is none of its working files."""
    known = {JOB, RUNS, MANIFEST, DEAD_LETTERS, COMMITS, *_WORKING, *kind.exports}
    known.update(entry["name"] for entry in entries)
    # Whoever stopped between data and record has left one without the other.
    known.update(unit + kind.ending for unit in units)
    records = {f"{unit}.json" for unit in units}
    others = (
        *folder.entries - known,
        *(f"{COMMITS}/{n}" for n in folder.commits.keys() - records),
    )
    return (
        name for name in sorted(others) if not Path(name).name.startswith(_TEMPORARY)
    )


def _object(data: bytes | None) -> dict[str, Any]:
    """The JSON object in the contents of a file; empty where there is none."""
    value = None if data is None else _loads(data)
    return value if isinstance(value, dict) else {}


def _loads(data: bytes) -> Any:
    """What JSON says, also such as only Python writes; None where it is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            return None


class _AnyName(dict[str, int]):
    """Knows every category name: whether one is right, foreign records do not tell."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> int:
        return 0


def _verify_foreign(path: str, result: Verification) -> None:
    for shard in open_records(path).shards:
        result.num_files += 1
        result.num_bytes += shard.num_bytes
        try:
            with reading(shard.path) as file:
                result.num_images += len(list(_record_ids(file, shard.name)))
        except DataError as e:
            result.findings.append(Finding(str(e)))
