"""The plan of the `build` job: one pass over the annotation file, entries sorted into units."""

import array
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import numpy as np

from deepmac.categories import Category
from deepmac.data.coco import (
    Entries,
    annotation_id_of,
    image_id_of,
    read_categories,
    read_image_entry,
    stream_dataset,
)
from deepmac.data.failures import Unusable
from deepmac.data.image_header import read_header
from deepmac.data.image_source import ImageSource
from deepmac.data.splits import resolve_split
from deepmac.errors import DataError, one_of
from deepmac.instances import AnnotationId, ImageId
from pipelines.json_lines import dump_line
from pipelines.preflight import Problems
from pipelines.shards import shard_index

SAMPLE = 8  # images that are looked at before any work
_MAX_REPEATS = 10_000  # of annotation ids; more of them are two sets in one file
_PIECE = 1 << 18  # ids that are compared at once


class Writer(Protocol):
    """The part of a `PlanWriter` that planning needs."""

    def declare(self, unit_name: str) -> None: ...
    def count_images(self, unit_name: str, number: int) -> None: ...
    def add(self, unit_name: str, item: Mapping[str, Any]) -> None: ...
    def add_line(self, unit_name: str, line: bytes) -> None: ...


class NoWriter:
    """Takes a plan and forgets it: for finding problems alone."""

    def declare(self, unit_name: str) -> None:
        pass

    def count_images(self, unit_name: str, number: int) -> None:
        pass

    def add(self, unit_name: str, item: Mapping[str, Any]) -> None:
        pass

    def add_line(self, unit_name: str, line: bytes) -> None:
        pass


class Sorter(Protocol):
    """Takes images and annotations of a file, each with the id of its image."""

    def take(self, image_ids: Sequence[ImageId], entries: Entries) -> None: ...


def plan_build(
    annotations: str, images: str, split: str, units: Sequence[str], writer: Writer
) -> dict[str, Any]:
    """Sorts the entries of an annotation file into units, and looks at the file as a whole.

    An entry goes to the unit that its image's id hashes to, so images and annotations meet there
    in whatever order the file has them.

    Args:
        annotations: COCO annotation file.
        images: see `ImageSource`.
        split: see `resolve_split`.
        units: names, one for each shard.
        writer: takes {"image": entry} and {"annotation": entry, "position": in the file}.

    Returns:
        JSON: `categories` as [[id, name], ...], `supervised_ids`, and `repeats`, positions of the
        annotations whose id one before them has.

    Raises:
        ProblemsFound: names everything that is wrong at large.
        DataError: the file cannot be read or is no COCO file.
    """
    for unit in units:
        writer.declare(unit)
    return sort_entries(annotations, images, split, _ByHash(writer, units))


@dataclasses.dataclass(frozen=True, slots=True)
class _ByHash:
    """Puts entries as they stand in the file into the unit that the image's id hashes to."""

    writer: Writer
    units: Sequence[str]

    def take(self, image_ids: Sequence[ImageId], entries: Entries) -> None:
        for image_id, line in zip(image_ids, item_lines(entries), strict=True):
            unit = self.units[shard_index(image_id, len(self.units))]
            self.writer.add_line(unit, line)
            if entries.kind == "images":
                self.writer.count_images(unit, 1)


def item_lines(entries: Entries) -> Iterator[bytes]:
    """The lines of images or annotations in a plan, with their texts as in the file."""
    for position, text in enumerate(entries.texts, start=entries.first):
        if b"\n" in text or b"\r" in text:
            value = entries.values[position - entries.first]
            text = dump_line(value).rstrip(b"\n")
        if entries.kind == "images":
            yield b'{"image":%b}\n' % text
        else:
            yield b'{"annotation":%b,"position":%d}\n' % (text, position)


def sort_entries(
    annotations: str, images: str, split: str, sorter: Sorter
) -> dict[str, Any]:
    """As `plan_build`; where the entries go is the matter of a sorter."""
    survey = _Survey()
    for entries in stream_dataset(annotations):
        if entries.kind == "images":
            sorter.take(survey.note_images(entries), entries)
        elif entries.kind == "annotations":
            sorter.take(survey.note_annotations(entries), entries)
        else:
            survey.categories.extend(entries.values)
    return survey.conclude(annotations, images, split)


class _Survey:
    """What is to be known about an annotation file as a whole, in little memory."""

    def __init__(self):
        self.categories: list[Any] = []
        self._first_images: list[Any] = []
        self._image_ids, self._wanted_ids = _IdLog(), _IdLog()
        self._annotation_ids = _IdLog()
        self._used: set[int | float] = set()  # category ids
        self._num_images = 0

    def note_images(self, entries: Entries) -> list[ImageId]:
        self._num_images += len(entries.values)
        self._first_images += entries.values[: SAMPLE - len(self._first_images)]
        image_ids = [joint_id(entry, "id") for entry in entries.values]
        self._image_ids.extend(entries.first, image_ids)
        return image_ids

    def note_annotations(self, entries: Entries) -> list[ImageId]:
        ids = [annotation_id_of(entry) for entry in entries.values]
        self._annotation_ids.extend(entries.first, ids)
        known = (e.get("category_id") for e in entries.values if isinstance(e, dict))
        self._used.update(c for c in known if isinstance(c, (int, float)))
        image_ids = [joint_id(entry, "image_id") for entry in entries.values]
        self._wanted_ids.extend(entries.first, image_ids)
        return image_ids

    def conclude(self, annotations: str, images: str, split: str) -> dict[str, Any]:
        problems = Problems()
        categories: tuple[Category, ...] = ()
        supervised: frozenset[int] = frozenset()
        with problems.noting():
            categories = read_categories(self.categories, annotations)
            supervised = resolve_split(split, categories).supervised_ids
            if self._used and not self._used & supervised:
                problems.add(
                    f"{annotations}: no annotation has a category of the split '{split}'"
                )
        if not self._num_images:
            problems.add(f"{annotations}: the list of images is empty")
        elif self._wanted_ids.examples and not self._image_ids.meets(self._wanted_ids):
            problems.add(
                f"{annotations}: no annotation has the image_id of an image (images have ids such "
                f"as {one_of(self._image_ids.examples) or 'none'}; annotations want "
                f"{one_of(self._wanted_ids.examples)})"
            )
        with problems.noting():
            look_at(ImageSource(images), self._first_images)
        repeats = self._annotation_ids.repeats()
        if len(repeats) > _MAX_REPEATS:
            problems.add(
                f"{annotations}: {len(repeats)} annotations (such as those at the places "
                f"{one_of(repeats[:3])} of the list) have ids that others before them have; are "
                f"these two sets in one file?"
            )
        problems.raise_any()
        return {
            "categories": [[c.id, c.name] for c in categories],
            "supervised_ids": sorted(supervised),
            "repeats": repeats,
        }


def joint_id(entry: Any, key: str) -> ImageId:
    """The image id at which images and annotations meet; '' where there is no usable one.

    Args:
        entry: an image or an annotation.
        key: where the id stands in it: `id` or `image_id`.
    """
    try:
        return image_id_of(entry.get(key)) if isinstance(entry, dict) else ""
    except Unusable:
        return ""


def look_at(source: ImageSource, entries: Sequence[Any]) -> None:
    """Raises DataError if none of some images can be read: then the directory is wrong."""
    first_error = None
    for entry in entries:
        try:
            read_header(source.read(*read_image_entry(0, entry).names))
            return
        except (Unusable, AttributeError) as e:
            first_error = first_error or e
    if first_error:
        raise DataError(
            f"none of the first {len(entries)} images can be used; the first: {first_error}"
        )


class _IdLog:
    """The ids of a list, for finding them again; 12 or 20 bytes each.

    Attributes:
        examples: the first of them, for error sentences.
    """

    def __init__(self):
        self.examples: list[str] = []
        # Of text a digest: two ids of 128 bits meet by chance in no set there can be.
        self._numbers, self._digests = array.array("q"), bytearray()
        self._number_places, self._text_places = array.array("I"), array.array("I")

    def extend(self, first: int, ids: Sequence[AnnotationId | ImageId | None]) -> None:
        """Adds ids of neighbouring places of the list; None and '' stand for none."""
        if len(self.examples) < 3:
            self.examples += [repr(i) for i in ids[:3] if i not in (None, "")]
        if all(type(i) is int for i in ids):  # nearly always
            self._numbers.extend(cast(Sequence[int], ids))
            self._number_places.extend(range(first, first + len(ids)))
            return
        for place, found in enumerate(ids, start=first):
            if isinstance(found, int):
                self._numbers.append(found)
                self._number_places.append(place)
            elif found:
                digest = hashlib.blake2b(found.encode(), digest_size=16).digest()
                self._digests += digest
                self._text_places.append(place)

    def meets(self, other: "_IdLog") -> bool:
        """Whether an id stands in both."""
        halves = [np.frombuffer(log._digests, np.int64)[::2] for log in (self, other)]
        numbers = [np.frombuffer(log._numbers, np.int64) for log in (self, other)]
        return any(_meet(mine, theirs) for mine, theirs in (numbers, halves))

    def repeats(self) -> list[int]:
        """Places of the ids that stand at an earlier place too, ascending."""
        numbers = np.frombuffer(self._numbers, np.int64)
        texts = np.frombuffer(self._digests, "u8, u8")
        return sorted(
            _repeats(numbers, self._number_places) + _repeats(texts, self._text_places)
        )


def _repeats(values: np.ndarray, places: Sequence[int]) -> list[int]:
    """The places [N], ascending, of the values [N] that are not the first of their kind."""
    ordered = np.sort(values)
    if not (ordered[1:] == ordered[:-1]).any():  # as usual, and at half the memory
        return []
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = order[1:][ordered[1:] == ordered[:-1]]
    return [places[i] for i in again.tolist()]


def _meet(mine: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two arrays share a value; most do early, and then little is looked at."""
    pieces = (theirs[i : i + _PIECE] for i in range(0, len(theirs), _PIECE))
    return any(np.isin(piece, mine, kind="sort").any() for piece in pieces)
