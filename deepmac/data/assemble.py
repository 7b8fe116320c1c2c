"""COCO entries and image files -> examples: the work of the `build` job without the job."""

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from deepmac.data.coco import (
    ImageEntry,
    InstanceReader,
    annotation_id_of,
    failure_of,
    image_id_of,
    read_image_entry,
)
from deepmac.data.decode import MAX_PIXELS, decode_rgb
from deepmac.data.failures import Failure, Unusable
from deepmac.data.ids import id_order
from deepmac.data.image_header import ImageHeader, read_header
from deepmac.data.paths import printable
from deepmac.errors import DataError
from deepmac.instances import Example, ImageId
from deepmac.stage_times import StageTimes
from deepmac.text import is_unicode


@dataclasses.dataclass(slots=True)
class Assembly:
    """What a set of entries amounts to. Complete when its examples have been taken.

    Attributes:
        failures: images and annotations that could not be used.
        counts: `images_in` = `images_out` + `images_failed`; `annotations_in` = `instances_out` +
            `annotations_failed` + `annotations_of_failed_images`; see `ReadInstances` and
            `check_image` for the others.
    """

    failures: list[Failure] = dataclasses.field(default_factory=list)
    counts: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Assembler:
    """Joins images with their annotations and checks both.

    Attributes:
        read_images: the names that each of some image files may have -> the bytes of each or why
            there are none, in order, as they are taken.
        reader: of the annotations.
        repeats: positions in the file of annotations whose id one before them has; these fail.
        max_pixels: larger images fail.
        verify_images: decode every image.
        times: of the stages `read` (an image file) and `check` (it and its annotations).
    """

    read_images: Callable[[Iterable[Sequence[str]]], Iterator[bytes | Unusable]]
    reader: InstanceReader
    repeats: Set[int]
    max_pixels: int = MAX_PIXELS
    verify_images: bool = False
    times: StageTimes = dataclasses.field(default_factory=StageTimes)

    def examples(
        self, items: Iterable[Mapping[str, Any]], into: Assembly
    ) -> Iterator[Example]:
        """The examples of a set of entries, in the order of the image ids.

        Args:
            items: {"image": entry} or {"annotation": entry, "position": in the file}, in the order
                of the file. All entries of an image must be among them.
            into: filled as the examples are taken.
        """
        images, annotations = self._sort(items, into)
        in_order = sorted(images, key=id_order)
        each = iter(self.read_images(images[i].names for i in in_order))
        for image_id in in_order:
            mine = annotations.pop(image_id, [])
            try:
                entry = images[image_id]
                with self.times.of("read"):
                    found = next(each)
                started = time.perf_counter_ns()
                if isinstance(found, Unusable):
                    raise found
                encoded, header = found, self._check(found, entry, into.counts)
            except Unusable as e:
                into.counts["images_failed"] += 1
                into.counts["annotations_of_failed_images"] += len(mine)
                into.failures.append(failure_of(image_id, None, "image", e))
                continue
            read = self.reader.read(image_id, header.height, header.width, mine)
            self.times.note("check", time.perf_counter_ns() - started)
            into.counts.update(read.counts)
            into.failures.extend(read.failures)
            into.counts["images_out"] += 1
            into.counts["images_without_instances"] += not read.instances
            yield Example(
                image_id=image_id,
                file_name=entry.file_name,
                height=header.height,
                width=header.width,
                instances=tuple(read.instances),
                encoded=encoded,
            )
        for image_id, orphans in annotations.items():
            lost = Unusable("image_unknown", f"no image has the id {image_id!r}")
            for annotation in orphans:
                self._fail_annotation(annotation, image_id, lost, into)

    def _sort(
        self, items: Iterable[Mapping[str, Any]], into: Assembly
    ) -> tuple[dict[ImageId, ImageEntry], dict[ImageId, list[Any]]]:
        """The entries by image id, without those that have none or stand there twice."""
        images: dict[ImageId, ImageEntry] = {}
        failed: set[ImageId] = set()
        annotations: dict[ImageId, list[Any]] = collections.defaultdict(list)
        for item in items:
            if "image" not in item:
                into.counts["annotations_in"] += 1
                self._note_annotation(item, annotations, into)
                continue
            into.counts["images_in"] += 1
            image_id = None
            try:
                image_id = image_id_of(_member(item["image"], "id"))
                if image_id in images:
                    raise Unusable(
                        "id_duplicate", f"another image has the id {image_id!r} too"
                    )
                images[image_id] = read_image_entry(image_id, item["image"])
            except Unusable as e:
                into.counts["images_failed"] += 1
                into.failures.append(failure_of(image_id, None, "entry", e))
                failed.update(() if image_id is None else (image_id,))
        for image_id in failed - images.keys():
            lost = annotations.pop(image_id, [])
            into.counts["annotations_of_failed_images"] += len(lost)
        return images, annotations

    def _note_annotation(
        self,
        item: Mapping[str, Any],
        annotations: dict[ImageId, list[Any]],
        into: Assembly,
    ) -> None:
        annotation, image_id = item["annotation"], None
        try:
            image_id = image_id_of(_member(annotation, "image_id"))
            if item["position"] in self.repeats:
                raise Unusable(
                    "id_duplicate",
                    f"an annotation before it has the id {annotation_id_of(annotation)!r}",
                )
            annotations[image_id].append(annotation)
        except Unusable as e:
            self._fail_annotation(annotation, image_id, e, into)

    @staticmethod
    def _fail_annotation(
        annotation: Any, image_id: ImageId | None, error: Unusable, into: Assembly
    ) -> None:
        into.counts["annotations_failed"] += 1
        annotation_id = annotation_id_of(annotation)
        into.failures.append(failure_of(image_id, annotation_id, "entry", error))

    def _check(
        self, encoded: bytes, entry: ImageEntry, counts: collections.Counter[str]
    ) -> ImageHeader:
        try:
            header = check_image(encoded, entry, self.max_pixels)
            if self.verify_images:
                decode_rgb(encoded, self.max_pixels)
        except DataError as e:
            reason = e.reason if isinstance(e, Unusable) else "image_damaged"
            message = f"{printable(entry.file_name)}: {e}"
            raise Unusable(reason, message) from e.__cause__
        counts["image_bytes"] += len(encoded)
        counts["images_greyscale"] += header.channels < 3
        counts["images_cmyk"] += header.format == "jpeg" and header.channels == 4
        counts["images_16_bit"] += header.bits > 8
        counts["images_turned"] += header.orientation != 1
        counts["sizes_mended"] += entry.height is None or entry.width is None
        counts["names_not_utf8"] += not is_unicode(entry.file_name)
        return header


def check_image(encoded: bytes, entry: ImageEntry, max_pixels: int) -> ImageHeader:
    """Checks an image file by its header, size and end marker; decodes nothing.

    Raises:
        Unusable: not a JPEG or PNG, cut off, too large, or not of the size that the entry says.
    """
    header = read_header(encoded)
    height, width = header.height, header.width
    if height * width > max_pixels:
        raise Unusable(
            "image_too_large",
            f"{height} x {width} pixels, more than --max_pixels={max_pixels}",
        )
    if not header.is_complete:
        raise Unusable(
            "image_truncated", "the end marker is missing: the file is cut off"
        )
    said = (entry.height or height, entry.width or width)
    if said != (height, width):
        turned = header.orientation >= 5 and said == (width, height)
        hint = (
            f"; EXIF orientation {header.orientation} turns it, but boxes must refer to the pixels as "
            f"stored"
        )
        raise Unusable(
            "size_differs",
            f"the file has {height} x {width} pixels (height x width), the annotation file says "
            f"{said[0]} x {said[1]}{hint if turned else ''}",
        )
    return header


def _member(entry: Any, key: str) -> Any:
    if not isinstance(entry, Mapping):
        raise Unusable("entry_malformed", "the entry is not a JSON object")
    return entry.get(key)
