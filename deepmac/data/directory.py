"""A directory of records: its manifest, its shards, and the examples in them."""

import dataclasses
import glob
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from deepmac.categories import Category
from deepmac.data.files import (
    find_files,
    is_folder,
    join,
    list_folder,
    read_file,
    reading,
)
from deepmac.data.manifest import MANIFEST, RECORDS, unfinished
from deepmac.data.records import decode_example
from deepmac.data.tfrecord import read_frames
from deepmac.errors import DataError
from deepmac.instances import Example


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One TFRecord file of a set.

    Attributes:
        path: of the file, local or remote.
        num_bytes: of the file, or what the manifest says.
        num_images, sha256: what the manifest says; None for files without one.
    """

    path: str
    num_bytes: int
    num_images: int | None = None
    sha256: str | None = None

    @property
    def name(self) -> str:
        """Of the file, without its directory."""
        return posixpath.basename(self.path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordDirectory:
    """A set of records.

    Attributes:
        path: what was opened.
        categories: in the order of their ids; empty where no manifest or caller says.
        split: which categories keep their masks, as `build` was told; None if unknown.
        supervised_ids: ids of those categories; None if unknown.
        shards: in the order of their names.
        manifest: the whole of it; empty for records of other writers.
    """

    path: str
    categories: tuple[Category, ...]
    split: str | None
    supervised_ids: frozenset[int] | None
    shards: tuple[Shard, ...]
    manifest: Mapping[str, Any]

    def examples(self, *, with_masks: bool = True) -> Iterator[Example]:
        """Every image, shard by shard.

        Raises:
            DataError: a record is damaged, or a shard holds another number than was written.
        """
        for shard in self.shards:
            yield from self.read_shard(shard, with_masks=with_masks)

    def read_shard(self, shard: Shard, *, with_masks: bool = True) -> Iterator[Example]:
        """The images of one shard, in the order stored; see `examples`."""
        category_ids = {c.name: c.id for c in self.categories} or None
        index = -1
        with reading(shard.path) as file:
            frames = read_frames(file, shard.path)
            for index, (offset, data) in enumerate(frames):
                try:
                    yield decode_example(
                        data, category_ids=category_ids, with_masks=with_masks
                    )
                except DataError as e:
                    where = f"{shard.path}: record {index} at byte {offset}"
                    raise DataError(f"{where}: {e}") from None
        # Cut off between two records, a file is as whole as any.
        if shard.num_images is not None and index + 1 != shard.num_images:
            raise DataError(
                f"{shard.path}: holds {index + 1} images, {shard.num_images} were written"
            )


def open_records(
    path: str, *, categories: tuple[Category, ...] = ()
) -> RecordDirectory:
    """Opens records: a directory that `deepmac build` made, or files of another writer.

    Args:
        path: a directory with a manifest; else a directory of TFRecord files, or a pattern.
        categories: for files without a manifest.

    Raises:
        DataError: nothing is there, the directory is incomplete, or holds something else.
    """
    if (manifest := read_file(join(path, MANIFEST))) is not None:
        where = join(path, MANIFEST)
        return _with_manifest(path, RECORDS.parse(manifest, where))
    if problem := unfinished(path):
        raise DataError(problem)
    pattern, is_directory = path, is_folder(path)
    if is_directory:
        pattern = join(glob.escape(path), "*-of-[0-9][0-9][0-9][0-9][0-9]*")
    found = find_files(pattern)
    if not found and not is_directory:
        raise DataError(f"{path}: no such directory, and no file that matches it")
    if not found:
        raise DataError(f"{path}: no {MANIFEST} and no TFRecord files there")
    return RecordDirectory(
        path=path,
        categories=tuple(categories),
        split=None,
        supervised_ids=None,
        shards=tuple(Shard(path=p, num_bytes=size) for p, size in found.items()),
        manifest={},
    )


def read_records(path: str, *, with_masks: bool = True) -> Iterator[Example]:
    """The images of a directory of records, shard by shard; see `open_records`."""
    return open_records(path).examples(with_masks=with_masks)


def _with_manifest(path: str, manifest: dict[str, Any]) -> RecordDirectory:
    shards = tuple(
        Shard(
            path=join(path, shard["name"]),
            num_images=shard["images"],
            num_bytes=shard["bytes"],
            sha256=shard["sha256"],
        )
        for shard in manifest[RECORDS.files]
    )
    there = list_folder(path)
    for shard in shards:
        if shard.name not in there:
            raise DataError(
                f"{shard.path} is missing; run the same build command again"
            )
    return RecordDirectory(
        path=path,
        categories=tuple(Category(c["id"], c["name"]) for c in manifest["categories"]),
        split=manifest["split"],
        supervised_ids=frozenset(manifest["supervised_category_ids"]),
        shards=shards,
        manifest=manifest,
    )
