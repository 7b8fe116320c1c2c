"""The plan of the `build` job: one pass over the annotation file, entries sorted into units."""

import array
import collections
import dataclasses
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from deepmac.categories import Category
from deepmac.data.coco import (
    Entry,
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


class Writer(Protocol):
    """The part of a `PlanWriter` that planning needs."""

    def declare(self, unit_name: str) -> None: ...
    def add(self, unit_name: str, item: Mapping[str, Any]) -> None: ...
    def add_line(self, unit_name: str, line: bytes) -> None: ...


class NoWriter:
    """Takes a plan and forgets it: for finding problems alone."""

    def declare(self, unit_name: str) -> None:
        pass

    def add(self, unit_name: str, item: Mapping[str, Any]) -> None:
        pass

    def add_line(self, unit_name: str, line: bytes) -> None:
        pass


class Sorter(Protocol):
    """Takes the images and annotations of a file, each with the id of its image."""

    def take(self, image_id: ImageId, entry: Entry) -> None: ...


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

    def take(self, image_id: ImageId, entry: Entry) -> None:
        unit = self.units[shard_index(image_id, len(self.units))]
        self.writer.add_line(unit, item_line(entry))


def item_line(entry: Entry) -> bytes:
    """The line of an image or annotation in a plan, with its text as it stands in the file."""
    text = entry.text
    if b"\n" in text or b"\r" in text:
        text = dump_line(entry.value).rstrip(b"\n")
    if entry.kind == "images":
        return b'{"image":%b}\n' % text
    return b'{"annotation":%b,"position":%d}\n' % (text, entry.position)


def sort_entries(
    annotations: str, images: str, split: str, sorter: Sorter
) -> dict[str, Any]:
    """As `plan_build`; where the entries go is the matter of a sorter."""
    survey = _Survey()
    for entry in stream_dataset(annotations):
        if entry.kind == "images":
            sorter.take(survey.note_image(entry.value), entry)
        elif entry.kind == "annotations":
            image_id = survey.note_annotation(entry.position, entry.value)
            sorter.take(image_id, entry)
        else:
            survey.categories.append(entry.value)
    return survey.conclude(annotations, images, split)


class _Survey:
    """What is to be known about an annotation file as a whole, in little memory."""

    def __init__(self):
        self.categories: list[Any] = []
        self._first_images: list[Any] = []
        self._num_images = 0
        self._image_ids, self._wanted_ids = _IdSample(), _IdSample()
        self._annotation_ids = _IdLog()
        self._uses: collections.Counter[Any] = collections.Counter()  # category id ->

    def note_image(self, entry: Any) -> ImageId:
        self._num_images += 1
        if len(self._first_images) < SAMPLE:
            self._first_images.append(entry)
        image_id = joint_id(entry, "id")
        self._image_ids.add(image_id)
        return image_id

    def note_annotation(self, position: int, entry: Any) -> ImageId:
        self._annotation_ids.add(position, annotation_id_of(entry))
        category_id = entry.get("category_id") if isinstance(entry, dict) else None
        if isinstance(category_id, int | float):
            self._uses[category_id] += 1
        image_id = joint_id(entry, "image_id")
        self._wanted_ids.add(image_id)
        return image_id

    def conclude(self, annotations: str, images: str, split: str) -> dict[str, Any]:
        problems = Problems()
        categories: tuple[Category, ...] = ()
        supervised: frozenset[int] = frozenset()
        with problems.noting():
            categories = read_categories(self.categories, annotations)
            supervised = resolve_split(split, categories).supervised_ids
            if self._uses and not any(self._uses[i] for i in supervised):
                problems.add(
                    f"{annotations}: no annotation has a category of the split '{split}'"
                )
        if not self._num_images:
            problems.add(f"{annotations}: the list of images is empty")
        elif self._wanted_ids and not self._image_ids.meets(self._wanted_ids):
            problems.add(
                f"{annotations}: no annotation has the image_id of an image (images have ids such "
                f"as {one_of(self._image_ids.some())}; annotations want "
                f"{one_of(self._wanted_ids.some())})"
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
    """All ids of a list, for finding those that stand there again; 12 or 20 bytes each."""

    def __init__(self):
        # Of text a digest: two ids of 128 bits meet by chance in no set there can be.
        self._numbers, self._digests = array.array("q"), bytearray()
        self._number_places, self._text_places = array.array("I"), array.array("I")

    def add(self, place: int, annotation_id: AnnotationId | None) -> None:
        if isinstance(annotation_id, int):
            self._numbers.append(annotation_id)
            self._number_places.append(place)
        elif annotation_id is not None:
            text = annotation_id.encode()
            self._digests += hashlib.blake2b(text, digest_size=16).digest()
            self._text_places.append(place)

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


class _IdSample:
    """Some of a set of ids, chosen by hash: two samples meet where the sets do."""

    _LIMIT = 10_000

    def __init__(self):
        self._mask = 0
        self._ids: set[ImageId] = set()

    def add(self, image_id: ImageId) -> None:
        if _hash(image_id) & self._mask == 0:
            self._ids.add(image_id)
            while len(self._ids) > self._LIMIT:
                self._mask = 2 * self._mask + 1
                self._ids = {i for i in self._ids if _hash(i) & self._mask == 0}

    def __bool__(self) -> bool:
        return bool(self._ids)

    def meets(self, other: "_IdSample") -> bool:
        return bool(self._ids & other._ids)

    def some(self) -> list[str]:
        return [repr(i) for i in list(self._ids)[:3]]


def _hash(image_id: ImageId) -> int:
    return zlib.crc32(str(image_id).encode("utf-8", "surrogatepass"))
