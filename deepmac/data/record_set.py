"""Records in any order: which files a set is made of, and at which byte each record begins."""

import concurrent.futures
import dataclasses
import hashlib
import io
import itertools
import os
import posixpath
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from deepmac.categories import Category
from deepmac.data.files import (
    REQUESTS,
    Unreachable,
    find_files,
    is_remote,
    open_file,
    read_file,
    read_range,
)
from deepmac.data.json_shape import misfit
from deepmac.data.manifest import (
    COMMIT_SHAPE,
    COMMITS,
    JOB,
    MANIFEST,
    RECORDS,
    unfinished_text,
)
from deepmac.data.tfrecord import frame_offsets, unframe
from deepmac.errors import DataError, one_of

_COMMIT_SHAPE = COMMIT_SHAPE | {"details": {"offsets": [int]}}
_SHARDS = "*-of-[0-9][0-9][0-9][0-9][0-9]*"
KEPT = "record_offsets.npz"
"""File of the offsets that had to be searched for; see `index_records`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """One TFRecord file: where it is, its bytes, and its records where a manifest says."""

    path: str
    num_bytes: int
    num_images: int | None = None

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceSet:
    """A directory of records, or some of its files, local or remote.

    Attributes:
        path: of the directory.
        files: in the order of their names.
        manifest: of the directory; empty where it has none.
    """

    path: str
    files: tuple[RecordFile, ...]
    manifest: Mapping[str, Any]

    @property
    def categories(self) -> tuple[Category, ...]:
        """Empty where no manifest tells."""
        listed = self.manifest.get("categories", ())
        return tuple(Category(c["id"], c["name"]) for c in listed)

    @property
    def supervised_ids(self) -> frozenset[int]:
        """Categories that keep their masks, as the manifest says."""
        return frozenset(self.manifest.get("supervised_category_ids", ()))

    @property
    def num_masks(self) -> int:
        """That the records hold, as the manifest says."""
        return sum(shard["masks"] for shard in self.manifest.get("shards", ()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordSet:
    """N records of several files, in the order of the files.

    Attributes:
        paths: of the files.
        files: int [N], the file of each record.
        starts, ends: int64 [N], the bytes of the file from which and up to which it goes.
    """

    paths: tuple[str, ...]
    files: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def read(self, number: int) -> bytes:
        """The data of a record.

        Raises:
            Unreachable: the file cannot be read.
            DataError: the record is damaged, or the file is no longer what it was.
        """
        path = self.paths[self.files[number]]
        span = read_range(path, int(self.starts[number]), int(self.ends[number]))
        return unframe(span, self.where(number))

    def where(self, number: int) -> str:
        """The place of a record, for errors."""
        return f"{self.paths[self.files[number]]}: record at byte {self.starts[number]}"

    def of_file(self, path: str) -> range:
        """The numbers of the records of a file."""
        file = self.paths.index(path)
        first, end = np.searchsorted(self.files, [file, file + 1])
        return range(first, end)

    def every(self, step: int) -> "RecordSet":
        """One of `step` records, from the first on."""
        taken = slice(None, None, step)
        return dataclasses.replace(
            self,
            files=self.files[taken],
            starts=self.starts[taken],
            ends=self.ends[taken],
        )


# Which files


def open_each(patterns: Sequence[str]) -> list[SourceSet]:
    """The sets of records that paths of a configuration name.

    Args:
        patterns: directories that `deepmac build` made; directories of other TFRecord files; or
            patterns of files. Of files that a manifest beside them lists, that manifest tells.

    Raises:
        DataError: nothing is there, a set is not finished, or a file is missing from it or is not
            among those that the manifest lists.
    """
    found = [source for pattern in patterns for source in _open(pattern)]
    paths = [file.path for source in found for file in source.files]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise DataError(f"{one_of(twice)}: named twice among {', '.join(patterns)}")
    return found


def _open(pattern: str) -> Iterator[SourceSet]:
    folder = pattern.rstrip("/")
    if (manifest := _manifest(folder)) is not None:
        yield _whole(folder, manifest)
        return
    files = find_files(pattern) or find_files(f"{folder}/{_SHARDS}")
    if not files:
        raise DataError(
            f"{pattern}: no directory of records, and no file that matches it"
        )
    for folder, paths in itertools.groupby(files, posixpath.dirname):
        chosen = [RecordFile(path=path, num_bytes=files[path]) for path in paths]
        manifest = _manifest(folder or ".")
        if manifest is None:
            yield SourceSet(path=folder or ".", files=tuple(chosen), manifest={})
        else:
            yield _part(folder or ".", manifest, chosen)


def _manifest(folder: str) -> dict[str, Any] | None:
    path = f"{folder}/{MANIFEST}"
    data = read_file(path)
    if data is not None:
        return RECORDS.parse(data, path)
    if read_file(f"{folder}/{JOB}") is not None:
        raise DataError(unfinished_text(folder))
    return None


def _whole(folder: str, manifest: dict[str, Any]) -> SourceSet:
    there = find_files(f"{folder}/*")
    files = []
    for entry in manifest[RECORDS.files]:
        path = f"{folder}/{entry['name']}"
        if path not in there:
            raise DataError(f"{path} is missing; run the same build command again")
        size, images = there[path], entry["images"]
        files.append(RecordFile(path=path, num_bytes=size, num_images=images))
    return SourceSet(path=folder, files=tuple(files), manifest=manifest)


def _part(
    folder: str, manifest: dict[str, Any], chosen: Sequence[RecordFile]
) -> SourceSet:
    images = {entry["name"]: entry["images"] for entry in manifest[RECORDS.files]}
    if strange := [file.name for file in chosen if file.name not in images]:
        raise DataError(
            f"{folder}/{MANIFEST} does not list {one_of(strange)}; name files of that set alone, or move "
            f"the others out of its directory"
        )
    files = (dataclasses.replace(f, num_images=images[f.name]) for f in chosen)
    return SourceSet(path=folder, files=tuple(files), manifest=manifest)


# Which bytes


def index_records(
    sources: Sequence[SourceSet], kept_in: str | None = None
) -> RecordSet:
    """Finds every record of sets, in the order of their files.

    Offsets come from the commit records of the job that wrote a file. Where there are none, they
    come from the lengths in the file itself: two reads of a few bytes a record, which takes a
    second for 100,000 records on a local disk, and minutes on a remote store.

    Args:
        sources: from `open_each`.
        kept_in: a local directory in which offsets that had to be searched for are kept for the next time.

    Raises:
        DataError: a file is damaged or holds another number of records than was written.
    """
    known = _load(kept_in)
    searched: dict[str, np.ndarray] = {}

    def offsets_of(source: SourceSet, file: RecordFile) -> np.ndarray:
        offsets = _committed(source, file)
        if offsets is None:
            key = _key(file)
            if (offsets := known.get(key)) is None:
                offsets = _scanned(file)
            searched[key] = offsets
        _check_number(file, len(offsets))
        return offsets

    each = [(source, file) for source in sources for file in source.files]
    num_threads = REQUESTS if any(is_remote(f.path) for _, f in each) else 1
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        offsets = list(pool.map(offsets_of, *zip(*each, strict=True)))
    if kept_in is not None and searched.keys() - known.keys():
        _save(kept_in, searched)
    files = [file for _, file in each]
    counts = [len(o) for o in offsets]
    ends = [
        np.append(o[1:], file.num_bytes)[: len(o)]
        for o, file in zip(offsets, files, strict=True)
    ]
    return RecordSet(
        paths=tuple(file.path for file in files),
        files=np.repeat(np.arange(len(files), dtype=np.int32), counts),
        starts=np.concatenate(offsets),
        ends=np.concatenate(ends),
    )


def _committed(source: SourceSet, file: RecordFile) -> np.ndarray | None:
    """What the job noted when it wrote the file; None if that is not there or does not fit."""
    if not source.manifest:
        return None
    stem = file.name.removesuffix(".tfrecord")
    try:
        record = orjson.loads(read_file(f"{source.path}/{COMMITS}/{stem}.json") or b"")
    except orjson.JSONDecodeError:
        return None
    if misfit(record, _COMMIT_SHAPE) or record["data"]["bytes"] != file.num_bytes:
        return None
    offsets = np.array(record["details"]["offsets"], np.int64)
    edges = np.append(offsets, file.num_bytes)
    fits = len(offsets) == file.num_images and edges[0] == 0
    return offsets if fits and (np.diff(edges) > 0).all() else None


def _scanned(file: RecordFile) -> np.ndarray:
    try:
        with open_file(file.path) as content:
            return np.fromiter(frame_offsets(content, file.path), np.int64)
    except OSError as e:
        raise Unreachable(f"{file.path}: cannot be read: {e.strerror or e}") from None


def _check_number(file: RecordFile, found: int) -> None:
    if file.num_images not in (None, found):
        raise DataError(
            f"{file.path}: holds {found} images, {file.num_images} were written"
        )


def _key(file: RecordFile) -> str:
    return hashlib.sha256(f"{file.num_bytes} {file.path}".encode()).hexdigest()


def _load(folder: str | None) -> dict[str, np.ndarray]:
    data = None if folder is None else read_file(os.path.join(folder, KEPT))
    if data is None:
        return {}
    try:
        with np.load(io.BytesIO(data)) as arrays:
            return dict(arrays)
    except (ValueError, OSError, EOFError):  # of another program, or cut off
        return {}


def _save(folder: str, offsets: Mapping[str, np.ndarray]) -> None:
    path = Path(folder) / KEPT
    temporary = path.with_name(f"{KEPT}.{os.getpid()}-{secrets.token_hex(4)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("xb") as file:
        np.savez(file, allow_pickle=False, **offsets)
    temporary.replace(path)
