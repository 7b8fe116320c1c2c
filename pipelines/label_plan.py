"""The plan of the `label` job: images in the order of their ids, cut into ranges, or shards."""

import array
import bisect
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deepmac.data.coco import Entries, read_categories
from deepmac.data.directory import RecordDirectory
from deepmac.data.files import absolute
from deepmac.data.image_source import ImageSource
from deepmac.data.json_stream import stream_members
from deepmac.errors import DataError, OptionError
from deepmac.instances import ImageId
from pipelines.build_plan import (
    SAMPLE,
    Writer,
    item_lines,
    joint_id,
    look_at,
    sort_entries,
)
from pipelines.shards import MAX_SHARDS, shard_names

NAME = "predictions"


def plan_boxes(
    annotations: str, images: str, unit_images: int | None, writer: Writer
) -> dict[str, Any]:
    """Sorts images and their annotations into units, and looks at the file as a whole.

    Args:
        annotations: COCO annotation file. It is read once where the images stand before the
            annotations, as they usually do, and twice otherwise.
        images: see `deepmac.data.image_source.ImageSource`.
        unit_images: the most images that a unit may have; None leaves it to `unit_length`.
        writer: takes {"image": entry} and {"annotation": entry, "position": in the file}.

    Returns:
        JSON: `categories` and `repeats`, see `plan_build`.

    Raises:
        ProblemsFound: names everything that is wrong at large.
        DataError: the file cannot be read or is no COCO file, or has no images.
    """
    ranges = Ranges(_image_ids(annotations), unit_images, annotations)
    for unit in ranges.units:
        writer.declare(unit)
    sorter = _ByRange(writer, ranges)
    context = sort_entries(annotations, images, "all", sorter)
    return {key: context[key] for key in ("categories", "repeats")}


def plan_images(
    annotations: str, images: str, unit_images: int | None, writer: Writer
) -> dict[str, Any]:
    """As `plan_boxes`, for images alone: the file need not have annotations or categories."""
    ranges = Ranges(_image_ids(annotations), unit_images, annotations)
    for unit in ranges.units:
        writer.declare(unit)
    categories, first_images = [], []
    for key, position, entry in stream_members(annotations):
        if position is not None and key == "images":
            unit = ranges.unit_of(joint_id(entry, "id"))
            writer.add(unit, {"image": entry})
            writer.count_images(unit, 1)
            if position < SAMPLE:
                first_images.append(entry)
        elif position is not None and key == "categories":
            categories.append(entry)
    look_at(ImageSource(images), first_images)
    found = read_categories(categories, annotations) if categories else ()
    return {"categories": [[c.id, c.name] for c in found], "repeats": []}


def plan_records(directory: RecordDirectory, writer: Writer) -> dict[str, Any]:
    """A unit for each shard; its item holds the shard's path and number of images if known."""
    names = shard_names(NAME, len(directory.shards))
    for name, shard in zip(names, directory.shards, strict=True):
        path = absolute(shard.path)
        writer.add(name, {"shard": path, "num_images": shard.num_images})
        if shard.num_images is not None:
            writer.count_images(name, shard.num_images)
    categories = [[c.id, c.name] for c in directory.categories]
    return {"categories": categories, "repeats": []}


def records_digest(directory: RecordDirectory) -> str:
    """Changes with the contents of records: of their checksums, where a manifest has them.

    Of files without a manifest, the names and sizes must do: reading them would take as long as
    many a job.
    """
    digest = hashlib.sha256()
    for shard in directory.shards:
        facts = (shard.name, shard.sha256 or shard.num_bytes)
        digest.update(repr(facts).encode())
    return digest.hexdigest()


def unit_length(num_images: int) -> int:
    """Images of a unit where nobody says: some thirty units, so that workers can share them and
    little is lost by a stop, but neither tiny ones nor such as take hours."""
    return min(max(-(-num_images // 32), 4), 256)


class Ranges:
    """Image ids in order, cut into ranges of equal length; the last may be shorter.

    Attributes:
        units: names of the ranges.
    """

    def __init__(self, image_ids: Iterable[ImageId], length: int | None, where: str):
        """Ranges of ids, by default of `unit_length`; an id that stands there twice counts once.

        Raises:
            DataError: there are no ids.
            OptionError: there would be more ranges than there can be files.
        """
        self._ids = _InOrder(image_ids)
        if not len(self._ids):
            raise DataError(f"{where}: the list of images is empty")
        length = length or unit_length(len(self._ids))
        self._length = length
        count = -(-len(self._ids) // length)
        if count > MAX_SHARDS:
            least = -(-len(self._ids) // MAX_SHARDS)
            raise OptionError(
                f"--unit_images={length} would make {count} files, more than {MAX_SHARDS}; "
                f"use at least {least}"
            )
        self.units = shard_names(NAME, count)

    def unit_of(self, image_id: ImageId) -> str:
        """The unit of an id; one that is not there goes to a neighbour, always the same."""
        place = self._ids.place_of(image_id)
        return self.units[min(place // self._length, len(self.units) - 1)]


class _InOrder:
    """Different ids as `id_order` sorts them; a number takes 8 bytes, so millions fit."""

    def __init__(self, image_ids: Iterable[ImageId]):
        numbers, texts = array.array("q"), set()
        for image_id in image_ids:
            if isinstance(image_id, int):
                numbers.append(image_id)
            else:
                texts.add(image_id)
        self._numbers = array.array("q", np.unique(np.frombuffer(numbers, np.int64)))
        self._texts = sorted(texts)

    def __len__(self) -> int:
        return len(self._numbers) + len(self._texts)

    def place_of(self, image_id: ImageId) -> int:
        """How many ids stand before it."""
        if isinstance(image_id, int):
            return bisect.bisect_left(self._numbers, image_id)
        return len(self._numbers) + bisect.bisect_left(self._texts, image_id)


@dataclasses.dataclass(frozen=True, slots=True)
class _ByRange:
    """Puts entries into the unit in whose range the image's id lies."""

    writer: Writer
    ranges: Ranges

    def take(self, image_ids: Sequence[ImageId], entries: Entries) -> None:
        units = map(self.ranges.unit_of, image_ids)
        if entries.kind == "images":
            for unit, line in zip(units, item_lines(entries), strict=True):
                self.writer.add_line(unit, line)
                self.writer.count_images(unit, 1)
            return
        for position, (unit, value) in enumerate(
            zip(units, entries.values, strict=True), start=entries.first
        ):
            if isinstance(value, dict):
                # Most of a file, and of no use here.
                value.pop("segmentation", None)
            self.writer.add(unit, {"annotation": value, "position": position})


def _image_ids(annotations: str) -> Iterator[ImageId]:
    """The ids of the images of a file, read up to the end of their list."""
    began = False
    for key, position, entry in stream_members(annotations):
        if key == "images" and position is not None:
            began = True
            yield joint_id(entry, "id")
        elif began:
            return
