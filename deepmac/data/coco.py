"""COCO annotation files: read as a stream, checked entry by entry, turned into instances.

What the file says wrongly is never dropped in silence: an entry that cannot be used becomes a
`Failure`, and what is mended is counted.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from deepmac.categories import Category
from deepmac.data.failures import Failure, Unusable
from deepmac.data.ids import id_from_text
from deepmac.data.json_stream import stream_parts
from deepmac.data.paths import can_name_a_file
from deepmac.data.splits import Split
from deepmac.errors import DataError, OptionError, one_of
from deepmac.instances import RLE, AnnotationId, Box, ImageId, Instance
from deepmac.masks import rle_area, rle_from_segmentation
from deepmac.text import is_unicode, short

LISTS = ("images", "annotations", "categories")
OUT_OF_BOUNDS = ("clip", "drop")

_LEAST, _MOST = -(2**63), 2**63 - 1  # of whole numbers
_LARGEST_AREA = float(np.finfo(np.float32).max)  # that records can hold

Kind = Literal["images", "annotations", "categories"]


class Entries(NamedTuple):
    """Neighbouring entries of one of the lists of a data set.

    Attributes:
        kind: the list.
        first: position of the first of them in it.
        values: what the entries hold; need be no JSON objects.
        texts: the bytes of each as they stand in the file.
    """

    kind: Kind
    first: int
    values: list[Any]
    texts: list[bytes]


def stream_dataset(path: str) -> Iterator[Entries]:
    """The entries of a COCO data set, in the order of the file.

    Raises:
        DataError: not readable or not valid JSON, or one of the three lists is missing.
    """
    found = set()
    for key, position, values, texts in stream_parts(path):
        if key not in LISTS:
            continue
        if position is not None:
            yield Entries(key, position, values, texts)
        elif isinstance(values[0], list):
            found.add(key)
        else:
            raise DataError(f"{path}: '{key}' is not a list")
    if missing := [key for key in LISTS if key not in found]:
        raise DataError(
            f"{path}: no list of {one_of(missing)}; is this a COCO annotation file?"
        )


def read_categories(entries: Iterable[Any], where: str) -> tuple[Category, ...]:
    """The categories of a data set, in the order of their ids.

    Raises:
        DataError: there is none, or one has no id or name, or shares it with another.
    """
    categories: list[Category] = []
    for position, entry in enumerate(entries):
        place = f"{where}: category {position} of the list"
        if not isinstance(entry, dict):
            raise DataError(f"{place} is not a JSON object")
        number, name = _whole(entry.get("id")), entry.get("name")
        if number is None:
            given = short(entry.get("id"))
            raise DataError(f"{place}: its id is {given}, not a whole number")
        if not isinstance(name, str) or not name.strip() or not is_unicode(name):
            raise DataError(f"{place}: its name is {short(name)}, not a text")
        categories.append(Category(number, name.strip()))
    if not categories:
        raise DataError(f"{where}: the list of categories is empty")
    for field in ("id", "name"):
        uses = collections.Counter(getattr(c, field) for c in categories)
        if twice := [value for value, number in uses.items() if number > 1]:
            raise DataError(
                f"{where}: categories share the {field} {one_of(map(repr, twice))}"
            )
    return tuple(sorted(categories, key=lambda c: c.id))


def image_id_of(value: Any) -> ImageId:
    """An id as ids are compared: a whole number, or text that is not the form of one.

    Raises:
        Unusable: the value can be no id.
    """
    if type(value) is int and _LEAST <= value <= _MOST:  # nearly always
        return value
    if (number := _whole(value)) is not None:
        return number
    if isinstance(value, str) and value and is_unicode(value):
        return id_from_text(value)
    raise Unusable(
        "id_malformed", f"an image id must be a number or text, not {short(value)}"
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ImageEntry:
    """An entry of the list of images.

    Attributes:
        id: of the image.
        names: under which its file may lie, to be tried in this order.
        height, width: in pixels; None where the entry has none.
    """

    id: ImageId
    names: tuple[str, ...]
    height: int | None
    width: int | None

    @property
    def file_name(self) -> str:
        return self.names[0]


def read_image_entry(image_id: ImageId, entry: Mapping[str, Any]) -> ImageEntry:
    """Checks an entry of the list of images, whose id is known already.

    Raises:
        Unusable: it has no usable file name or size.
    """
    names = _image_names(entry)
    sides = [entry.get("height"), entry.get("width")]
    height, width = map(_whole, sides)
    for given, side in zip(sides, (height, width), strict=True):
        if given is not None and (side is None or side <= 0):
            raise Unusable("size_malformed", f"height and width are {short(sides)}")
    return ImageEntry(image_id, names, height, width)


def _image_names(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """`file_name`; without one, as in LVIS, the end of `coco_url`: FOLDER/NAME, then NAME."""
    file_name, url = entry.get("file_name"), entry.get("coco_url")
    if file_name is None and url is not None:
        parts = _path_of(url).split("/")[1:][-2:]
        # What LVIS takes from several folders of COCO may lie in one.
        names = ("/".join(parts), parts[-1]) if len(parts) == 2 else tuple(parts)
        if not names or not names[-1] or any(part in (".", "..") for part in parts):
            raise Unusable(
                "file_name_malformed",
                f"there is no file_name, and coco_url {short(url)} does not end in one",
            )
    elif isinstance(file_name, str) and file_name:
        names = (file_name,)
    else:
        raise Unusable("file_name_malformed", f"file_name is {short(file_name)}")
    if not can_name_a_file(names[0]):
        raise Unusable(
            "file_name_malformed", f"no file can have the name {short(names[0])}"
        )
    return names


def _path_of(url: Any) -> str:
    """The path of a URL of the web, which begins with `/`; '' of anything else."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:  # half an address in brackets
        return ""
    return parts.path if parts and parts.scheme in ("http", "https") else ""


@dataclasses.dataclass(slots=True)
class ReadInstances:
    """The instances of one image, and what became of its annotations.

    Attributes:
        instances: in the order of the annotations.
        failures: an annotation that is not among the instances (stages `annotation`, `box`), or
            is so without its mask (stage `mask`).
        counts: of all annotations, `instances_out` + `annotations_failed`; of `instances_out`,
            `masks_kept` + `masks_hidden` (by the split) + `masks_missing` (the file has none) +
            `masks_failed`; what was mended: `boxes_clipped`, `areas_mended`; and `crowds`,
            `masks_empty`, `annotations_without_id`.
    """

    instances: list[Instance] = dataclasses.field(default_factory=list)
    failures: list[Failure] = dataclasses.field(default_factory=list)
    counts: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceReader:
    """Turns annotations into instances.

    Attributes:
        category_ids: those of the data set.
        split: which masks to keep.
        out_of_bounds: `clip` cuts boxes that reach beyond the image at its border; `drop` does as
            the reference's converters: annotations that reach beyond the right or the lower border
            fail, by however little.
    """

    category_ids: frozenset[int]
    split: Split
    out_of_bounds: str = "clip"

    def __post_init__(self):
        if self.out_of_bounds not in OUT_OF_BOUNDS:
            raise OptionError(
                f"out_of_bounds is one of {one_of(OUT_OF_BOUNDS)}, got {self.out_of_bounds!r}"
            )

    def read(
        self, image_id: ImageId, height: int, width: int, annotations: Iterable[Any]
    ) -> ReadInstances:
        """Reads the annotations of one image of height x width pixels."""
        result = ReadInstances()
        for annotation in annotations:
            annotation_id = annotation_id_of(annotation)
            stage = "annotation"
            try:
                category_id = self._category(annotation)
                is_crowd = _is_crowd(annotation.get("iscrowd"))
                stage = "box"
                box = self._box(annotation.get("bbox"), height, width, result.counts)
            except Unusable as e:
                result.counts["annotations_failed"] += 1
                result.failures.append(failure_of(image_id, annotation_id, stage, e))
                continue
            rle = None
            try:
                rle = self._mask(annotation, category_id, height, width, result.counts)
            except Unusable as e:
                # The object is there all the same: without its box it would train as background.
                result.counts["masks_failed"] += 1
                result.failures.append(failure_of(image_id, annotation_id, "mask", e))
            result.counts["instances_out"] += 1
            result.counts["crowds"] += is_crowd
            result.counts["annotations_without_id"] += annotation_id is None
            result.instances.append(
                Instance(
                    box=box,
                    category_id=category_id,
                    annotation_id=annotation_id,
                    area=_area(annotation.get("area"), box, rle, result.counts),
                    is_crowd=is_crowd,
                    mask_rle=rle,
                    mask_weight=0.0 if rle is None else 1.0,
                )
            )
        return result

    def check(
        self, image_id: ImageId, height: int, width: int, instances: Iterable[Instance]
    ) -> ReadInstances:
        """As `read`, of what has been read before, from records say; masks are left alone."""
        result = ReadInstances()
        for instance in instances:
            annotation_id = instance.annotation_id
            stage = "annotation"
            try:
                if instance.category_id not in self.category_ids:
                    raise _unknown_category(instance.category_id)
                stage = "box"
                if not all(map(math.isfinite, instance.box)):
                    raise Unusable("box_malformed", f"box {instance.box} is not finite")
                name = f"box {instance.box} (ymin, xmin, ymax, xmax)"
                box = self._inside(instance.box, name, height, width, result.counts)
            except Unusable as e:
                result.counts["annotations_failed"] += 1
                result.failures.append(failure_of(image_id, annotation_id, stage, e))
                continue
            result.counts["instances_out"] += 1
            result.counts["crowds"] += instance.is_crowd
            result.counts["annotations_without_id"] += annotation_id is None
            result.instances.append(dataclasses.replace(instance, box=box))
        return result

    def _category(self, annotation: Any) -> int:
        if not isinstance(annotation, dict):
            raise Unusable(
                "annotation_malformed", "the annotation is not a JSON object"
            )
        given = annotation.get("category_id")
        category_id = _whole(given)
        if category_id is None or category_id not in self.category_ids:
            raise _unknown_category(given)
        return category_id

    def _box(
        self, bbox_xywh: Any, height: int, width: int, counts: collections.Counter[str]
    ) -> Box:
        if bbox_xywh is None:
            raise Unusable("box_missing", "the annotation has no bbox")
        if not (
            isinstance(bbox_xywh, list)
            and len(bbox_xywh) == 4
            and all(map(_is_finite, bbox_xywh))
        ):
            raise Unusable(
                "box_malformed",
                f"bbox must be four finite numbers x, y, width, height, not {short(bbox_xywh)}",
            )
        x, y, box_width, box_height = map(float, bbox_xywh)
        name = f"bbox {bbox_xywh}"
        if box_width <= 0 or box_height <= 0:
            raise Unusable("box_empty", f"{name} has no area")
        box = (y, x, y + box_height, x + box_width)
        return self._inside(box, name, height, width, counts)

    def _inside(
        self,
        box: Box,
        name: str,
        height: int,
        width: int,
        counts: collections.Counter[str],
    ) -> Box:
        """The part of a box that lies inside the image; `name` is for error sentences."""
        y, x, bottom, right = box
        if bottom <= y or right <= x:
            raise Unusable("box_empty", f"{name} has no area")
        where = f"{name} in an image of {height} x {width} (height x width) pixels"
        if self.out_of_bounds == "drop":
            if right > width or bottom > height:
                raise Unusable("box_out_of_bounds", where)
            return box
        top, left = max(y, 0.0), max(x, 0.0)
        low, far = min(bottom, float(height)), min(right, float(width))
        if low <= top or far <= left:
            raise Unusable("box_outside", where)
        counts["boxes_clipped"] += (top, left, low, far) != box
        return (top, left, low, far)

    def _mask(
        self,
        annotation: Mapping[str, Any],
        category_id: int,
        height: int,
        width: int,
        counts: collections.Counter[str],
    ) -> RLE | None:
        if not self.split.keeps_mask(category_id):
            counts["masks_hidden"] += 1
            return None
        segmentation = annotation.get("segmentation")
        if segmentation is None or segmentation == []:
            counts["masks_missing"] += 1
            return None
        try:
            rle = rle_from_segmentation(segmentation, height, width)
        except DataError as e:
            raise Unusable("mask_malformed", str(e)) from e
        counts["masks_kept"] += 1
        counts["masks_empty"] += rle_area(rle) == 0
        return rle


def annotation_id_of(annotation: Any) -> AnnotationId | None:
    """An annotation's id as ids are compared, see `image_id_of`; None where it has none."""
    if not isinstance(annotation, dict):
        return None
    try:
        return image_id_of(annotation.get("id"))
    except Unusable:
        return None


def _unknown_category(given: Any) -> Unusable:
    return Unusable("category_unknown", f"no category has the id {short(given)}")


def _is_crowd(value: Any) -> bool:
    if value in (None, 0, 1):
        return bool(value)
    raise Unusable("crowd_malformed", f"iscrowd is {short(value)}, neither 0 nor 1")


def _area(
    value: Any, box: Box, rle: RLE | None, counts: collections.Counter[str]
) -> float:
    if _is_finite(value) and 0 <= value <= _LARGEST_AREA:
        return float(value)
    counts["areas_mended"] += 1
    if rle is not None:
        return float(rle_area(rle))
    return (box[2] - box[0]) * (box[3] - box[1])


def failure_of(
    image_id: ImageId | None,
    annotation_id: AnnotationId | None,
    stage: str,
    error: Unusable,
) -> Failure:
    """The failure that an error amounts to."""
    cause = error.__cause__ or error
    name = type(cause).__name__
    return Failure(image_id, annotation_id, stage, error.reason, name, str(error))


def _whole(value: Any) -> int | None:
    """A whole number of at most 64 bits, also when written as `5.0`; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value) if _LEAST <= value <= _MOST else None


def _is_finite(value: Any) -> bool:
    try:
        return (type(value) is float or type(value) is int) and math.isfinite(value)
    except OverflowError:  # a whole number beyond floating point
        return False
