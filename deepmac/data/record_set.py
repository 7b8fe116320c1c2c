"""Records in any order: which files a set is made of, and at which byte each record begins."""

import dataclasses
import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson

from deepmac.data.directory import RecordDirectory, Shard, open_records
from deepmac.data.json_shape import misfit
from deepmac.data.manifest import COMMIT_SHAPE, COMMITS, MANIFEST, unfinished
from deepmac.data.paths import require_local
from deepmac.data.tfrecord import frame_offsets, unframe
from deepmac.errors import DataError, one_of

_COMMIT_SHAPE = COMMIT_SHAPE | {"details": {"offsets": [int]}}


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
            DataError: it is damaged, or the file is no longer what it was.
        """
        path = self.paths[self.files[number]]
        start, end = int(self.starts[number]), int(self.ends[number])
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(start)
                span = file.read(end - start)
        except OSError as e:
            raise DataError(f"{path}: cannot be read: {e.strerror or e}") from None
        return unframe(span, self.where(number))

    def where(self, number: int) -> str:
        """The place of a record, for errors."""
        return f"{self.paths[self.files[number]]}: record at byte {self.starts[number]}"

    def every(self, step: int) -> "RecordSet":
        """One of `step` records, from the first on."""
        taken = slice(None, None, step)
        return dataclasses.replace(
            self,
            files=self.files[taken],
            starts=self.starts[taken],
            ends=self.ends[taken],
        )


def open_each(patterns: Sequence[str]) -> list[RecordDirectory]:
    """The sets of records that paths of a configuration name.

    Args:
        patterns: directories that `deepmac build` made; directories of other TFRecord files; or
            patterns of files. Of files that a manifest beside them lists, that manifest tells.

    Raises:
        DataError: nothing is there, a set is not finished, or a file is not among those that the
            manifest beside it lists.
    """
    return [found for pattern in patterns for found in _open(pattern)]


def _open(pattern: str) -> Iterator[RecordDirectory]:
    require_local(pattern)
    if os.path.isdir(pattern):
        yield open_records(pattern)
        return
    names = sorted(name for name in glob.glob(pattern) if os.path.isfile(name))
    if not names:
        raise DataError(f"{pattern}: no such directory, and no file that matches it")
    for folder, in_folder in itertools.groupby(names, os.path.dirname):
        yield _open_files(folder or ".", list(in_folder))


def _open_files(folder: str, names: list[str]) -> RecordDirectory:
    if problem := unfinished(folder) if not _has_manifest(folder) else None:
        raise DataError(problem)
    if not _has_manifest(folder):
        return RecordDirectory(
            path=folder,
            categories=(),
            split=None,
            supervised_ids=None,
            shards=tuple(Shard(path=Path(name)) for name in names),
            manifest={},
        )
    records = open_records(folder)
    by_name = {shard.path.name: shard for shard in records.shards}
    if strange := [n for n in map(os.path.basename, names) if n not in by_name]:
        raise DataError(
            f"{folder}/{MANIFEST} does not list {one_of(strange)}; name files of one set, or take the "
            f"others out of its directory"
        )
    shards = tuple(by_name[os.path.basename(name)] for name in names)
    return dataclasses.replace(records, shards=shards)


def _has_manifest(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, MANIFEST))


def index_records(directories: Sequence[RecordDirectory]) -> RecordSet:
    """Finds every record of sets, in the order of their files.

    Offsets come from the commit records of the job that wrote a file, or else from the lengths in
    the file itself: two reads of a few bytes a record.

    Raises:
        DataError: a file is damaged or holds another number of records than was written.
    """
    paths, files, starts, ends = [], [], [], []
    for directory in directories:
        for shard in directory.shards:
            size = shard.path.stat().st_size
            offsets = _committed_offsets(directory, shard, size)
            if offsets is None:
                offsets = _scanned_offsets(shard)
            files.append(np.full(len(offsets), len(paths), np.int32))
            starts.append(offsets)
            ends.append(np.append(offsets[1:], size)[: len(offsets)])
            paths.append(str(shard.path))
    return RecordSet(
        paths=tuple(paths),
        files=np.concatenate(files),
        starts=np.concatenate(starts),
        ends=np.concatenate(ends),
    )


def _committed_offsets(
    directory: RecordDirectory, shard: Shard, size: int
) -> np.ndarray | None:
    """What the job noted when it wrote the file; None if that is not there or does not fit."""
    path = Path(directory.path) / COMMITS / f"{shard.path.stem}.json"
    try:
        record = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    if misfit(record, _COMMIT_SHAPE) or record["data"]["bytes"] != size:
        return None
    offsets = np.array(record["details"]["offsets"], np.int64)
    edges = np.append(offsets, size)
    fits = len(offsets) == shard.num_images and edges[0] == 0
    return offsets if fits and (np.diff(edges) > 0).all() else None


def _scanned_offsets(shard: Shard) -> np.ndarray:
    try:
        with shard.path.open("rb") as file:
            offsets = np.fromiter(frame_offsets(file, str(shard.path)), np.int64)
    except OSError as e:
        raise DataError(f"{shard.path}: cannot be read: {e.strerror or e}") from None
    if shard.num_images not in (None, len(offsets)):
        raise DataError(
            f"{shard.path}: holds {len(offsets)} images, {shard.num_images} were written"
        )
    return offsets
