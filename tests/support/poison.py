"""A small data set of which a twentieth is broken, in every way that images and annotations can be.

Knows what a job must say of each, and makes the same set without what is broken to compare with.
"""

import copy
import dataclasses
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from small_dataset import HEIGHT, WIDTH, SmallDataset, encode, picture

WHITE = Image.new("RGB", (WIDTH, HEIGHT), "white")
"""An image that the predictor of a test can choke on: no picture of the set is like it."""


@dataclasses.dataclass(frozen=True)
class Letter:
    """A dead letter that must be there, and in which jobs."""

    image_id: Any
    annotation_id: Any
    reason: str
    jobs: tuple[str, ...] = ("build", "label")


class Poisoned:
    """The two data sets.

    Attributes:
        data: the set with what is broken.
        clean: without it.
        letters: that the first must give.
    """

    def __init__(self, folder: Path, num_images: int = 480):
        self.data = SmallDataset(folder / "data", num_images)
        self.clean = SmallDataset(folder / "clean", num_images)
        for data in (self.data, self.clean):
            _make_some_odd(data)
        self.letters: list[Letter] = []
        self._lost: set[int] = set()  # images
        for place, (kind, breaks) in enumerate(IMAGES.items()):
            index = 20 * place + 7
            self._lost.add(100 + index)
            reason, jobs = breaks(self.data, index)
            self._expect_image(kind, index, reason, jobs)
        for place, (reason, breaks) in enumerate(ANNOTATIONS.items()):
            index = 20 * place + 13
            breaks(self.data.annotations[2 * index])
            self._expect_annotation(index, reason)
        self.clean.images = [i for i in self.clean.images if i["id"] not in self._lost]
        self.clean.annotations = [
            a for a in self.clean.annotations if a["image_id"] not in self._lost
        ]
        for data in (self.data, self.clean):
            data.write()
        for place, make in enumerate(LINKS.values()):
            name = self.data.images[20 * (len(IMAGES) - len(LINKS) + place) + 7]
            make(self.data.folder / "images" / name["file_name"])

    def _expect_image(
        self, kind: str, index: int, reason: str, jobs: tuple[str, ...]
    ) -> None:
        entry = self.data.images[index]
        is_nameless = reason in ("id_malformed", "entry_malformed")
        image_id = None if is_nameless else entry["id"]
        self.letters.append(Letter(image_id, None, reason, jobs))
        if is_nameless or reason == "id_duplicate":
            # Its annotations are of an image that is not there.
            self.letters += [
                Letter(100 + index, 2 * index + k, "image_unknown") for k in (0, 1)
            ]

    def _expect_annotation(self, index: int, reason: str) -> None:
        number, image_id = 2 * index, 100 + index
        here = next(a for a in self.clean.annotations if a["id"] == number)
        if reason == "mask_malformed":
            # The box stays, as of an annotation without a mask; `label` reads no masks.
            del here["segmentation"]
            self.letters.append(Letter(image_id, number, reason, ("build",)))
            return
        self.clean.annotations.remove(here)
        broken = self.data.annotations[number]
        if reason == "entry_malformed":
            image_id = number = None
        elif reason == "image_unknown":
            image_id = broken["image_id"]
        elif reason == "id_duplicate":
            number = broken["id"]
        self.letters.append(Letter(image_id, number, reason))

    def expected(self, job: str) -> list[tuple]:
        """(image id, annotation id, reason) of the letters of a job, in no order."""
        return [
            (x.image_id, x.annotation_id, x.reason)
            for x in self.letters
            if job in x.jobs
        ]


Breaks = Callable[[SmallDataset, int], tuple[str, tuple[str, ...]]]
_BOTH = ("build", "label")


def _file(content: bytes | Callable[[bytes], bytes], reason: str) -> Breaks:
    def breaks(data: SmallDataset, index: int):
        name = data.images[index]["file_name"]
        before = encode(picture(index))
        data.files[name] = content if isinstance(content, bytes) else content(before)
        return reason, _BOTH

    return breaks


def _no_file(data: SmallDataset, index: int):
    del data.files[data.images[index]["file_name"]]
    return "image_missing", _BOTH


def _entry(reason: str, **changes: Any) -> Breaks:
    def breaks(data: SmallDataset, index: int):
        data.images[index].update(changes)
        return reason, _BOTH

    return breaks


def _is_number(data: SmallDataset, index: int):
    data.images[index] = 7
    return "entry_malformed", _BOTH


def _has_id_of_another(data: SmallDataset, index: int):
    data.images[index]["id"] = 100
    return "id_duplicate", _BOTH


def _makes_the_predictor_fail(data: SmallDataset, index: int):
    data.files[data.images[index]["file_name"]] = encode(WHITE, "PNG")
    return "predictor_failed", ("label",)


def _link(data: SmallDataset, index: int):
    """A name without a file; see `LINKS`."""
    del data.files[data.images[index]["file_name"]]
    return "image_unreadable", _BOTH


def _png(height: int, width: int) -> bytes:
    """A PNG that says it is of this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def _damaged_inside(before: bytes) -> bytes:
    content = bytearray(encode(picture(1), "PNG"))  # whose checksums tell
    content[len(content) // 2] ^= 255
    return bytes(content)


LINKS = {
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a directory": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
IMAGES: dict[str, Breaks] = {
    "missing": _no_file,
    "empty": _file(b"", "image_empty"),
    "a web page": _file(b"\n<!DOCTYPE html><html>", "image_unsupported"),
    "a GIF": _file(encode(picture(0).quantize(8), "GIF"), "image_unsupported"),
    "a WebP": _file(encode(picture(0), "WEBP"), "image_unsupported"),
    "a TIFF": _file(encode(picture(0), "TIFF"), "image_unsupported"),
    "of a phone": _file(b"\0\0\0\x18ftypheic" + bytes(40), "image_unsupported"),
    "cut short": _file(lambda before: before[:-30], "image_truncated"),
    "the header cut": _file(lambda before: before[:20], "image_malformed"),
    "no height": _file(_png(0, 5), "image_malformed"),
    "a bomb": _file(_png(2**31 - 1, 2**31 - 1), "image_too_large"),
    "another size": _file(encode(picture(1, 9, 8), "PNG"), "size_differs"),
    "pixels damaged": _file(_damaged_inside, "image_damaged"),
    "size negative": _entry("size_malformed", width=-WIDTH),
    "size a text": _entry("size_malformed", height=str(HEIGHT)),
    "no name": _entry("file_name_malformed", file_name=None),
    "name outside": _entry("file_name_malformed", file_name="../annotations.json"),
    "name too long": _entry("image_unreadable", file_name="x" * 300),
    "id a list": _entry("id_malformed", id=[1]),
    "id of another": _has_id_of_another,
    "entry a number": _is_number,
    "too much for the predictor": _makes_the_predictor_fail,
    **dict.fromkeys(LINKS, _link),
}
ANNOTATIONS: dict[str, Callable[[Any], object]] = {
    "box_missing": lambda a: a.pop("bbox"),
    "box_malformed": lambda a: a.update(bbox=[1, 2, 3]),
    "box_empty": lambda a: a.update(bbox=[3, 4, 0, 5]),
    "box_outside": lambda a: a.update(bbox=[WIDTH + 8, 2, 5, 5]),
    "category_unknown": lambda a: a.update(category_id=5),
    "crowd_malformed": lambda a: a.update(iscrowd="no"),
    "image_unknown": lambda a: a.update(image_id=5),
    "id_duplicate": lambda a: a.update(id=0),
    "mask_malformed": lambda a: a.update(segmentation=[[1, 2, 3, 4]]),
}


def _make_some_odd(data: SmallDataset) -> None:
    """Images that are unusual and do no harm."""
    inks, grey = picture(2).convert("CMYK"), picture(3).convert("L")
    alpha = copy.copy(picture(4)).convert("RGBA")
    contents = [
        encode(inks),
        encode(grey),
        encode(alpha, "PNG"),
        encode(picture(5)) + b"?",
    ]
    for image, content in zip(data.images[2::20], contents, strict=False):
        data.files[image["file_name"]] = content
