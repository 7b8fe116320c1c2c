"""Image files that people really have, one of each kind in one data set, built and labelled: each
ends as a dead letter with its reason, or is used, and costs the others nothing."""

import json
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from small_dataset import HEIGHT, WIDTH, SmallDataset, encode, picture, square

from pipelines import build_dataset, infer

Make = Callable[[Path], object]


def content(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


def png(height: int, width: int, colour: int = 2) -> bytes:
    """A PNG that says it is of this size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(bytes(99))),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def forbidden(path: Path) -> None:
    path.write_bytes(png(HEIGHT, WIDTH))
    path.chmod(0)
    if os.access(path, os.R_OK):  # nothing is forbidden to root; but this is no file
        path.unlink()
        with socket.socket(socket.AF_UNIX) as unreadable:
            unreadable.bind(str(path))


RGB = picture(0)
FRAMES = {"save_all": True, "append_images": [RGB.rotate(90)]}
TURNED = Image.Exif()
TURNED[0x0112] = 6
ALPHA = RGB.convert("RGBA")
ALPHA.putalpha(128)

BAD = {  # file name: what is there, reason, words of the message
    "bomb.png": (content(png(2**31 - 1, 2**31 - 1)), "image_too_large", "2147483647 x 2147483647 pixels, more than"),
    "long.png": (content(png(1, 2**31 - 1)), "image_too_large", "1 x 2147483647 pixels, more than --max_pixels="),
    "empty.jpg": (content(b""), "image_empty", "the file is empty"),
    "page.jpg": (content(b"\n<!DOCTYPE html><html>"), "image_unsupported", "but HTML or XML, such as the answer of"),
    "moving.gif": (content(encode(RGB.quantize(8), "GIF", **FRAMES)), "image_unsupported", "but GIF"),
    "moving.webp": (content(encode(RGB, "WEBP", **FRAMES)), "image_unsupported", "but WebP"),
    "scan.jpg": (content(encode(RGB, "TIFF")), "image_unsupported", "but TIFF"),
    "phone.jpg": (content(b"\0\0\0\x18ftypheic" + bytes(40)), "image_unsupported", "but HEIF, AVIF or a film"),
    "cut.jpg": (content(encode(RGB)[:-30]), "image_truncated", "the end marker is missing"),
    "head.jpg": (content(encode(RGB)[:20]), "image_malformed", "the header is damaged or cut off"),
    "head.png": (content(png(3, 5)[:20]), "image_malformed", "the header is damaged or cut off"),
    "nothing.png": (content(png(0, 5)), "image_malformed", "the header is damaged or cut off"),
    "colour.png": (content(png(HEIGHT, WIDTH, colour=5)), "image_malformed", "the header is damaged"),
    "size.png": (content(encode(picture(1, 9, 8), "PNG")), "size_differs", "has 9 x 8 pixels (height x width)"),
    "zero.png": (lambda path: path.symlink_to("/dev/zero"), "image_unreadable", "zero.png: a device, not a file"),
    "loop.png": (lambda path: path.symlink_to(path.name), "image_unreadable", "Too many levels of symbolic links"),
    "folder.png": (Path.mkdir, "image_unreadable", "folder.png: Is a directory"),
    "good 0.jpg/a.png": (None, "image_unreadable", "good 0.jpg/a.png: Not a directory"),
    "secret.png": (forbidden, "image_unreadable", "secret.png: "),
    "dangling.png": (lambda path: path.symlink_to("nowhere"), "image_missing", "dangling.png: no such file"),
    "sub/none.png": (None, "image_missing", "sub/none.png: no such file"),
    "line\nend\x1b.png": (None, "image_missing", "line\\nend\\x1b.png: no such file"),
    "x" * 300: (None, "image_unreadable", "File name too long"),
    "../outside.png": (None, "file_name_malformed", "../outside.png: leads out of the directory of images"),
    "a/../../outside.png": (None, "file_name_malformed", "leads out of the directory of images"),
    "/etc/hostname": (None, "file_name_malformed", "/etc/hostname: leads out of the directory of images"),
}  # fmt: skip

GOOD = {  # file name: what is there
    "really a png.jpg": content(encode(RGB, "PNG")),
    "really a jpeg.png": content(encode(RGB)),
    "palette.png": content(
        encode(RGB.quantize(8), "PNG", transparency=bytes(range(8)))
    ),
    "alpha.png": content(encode(ALPHA, "PNG")),
    "inks.jpg": content(encode(RGB.convert("CMYK"))),
    "grey.jpg": content(encode(RGB.convert("L"))),
    "turned.jpg": content(encode(RGB, exif=TURNED)),
    "line\nend.png": content(encode(RGB, "PNG")),
    "behind the end.jpg": content(encode(RGB) + bytes(1000)),
    "-rf *.png": content(encode(RGB, "PNG")),
    "link.png": lambda path: path.symlink_to("alpha.png"),
}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Job -> (dead letters by image id, counts); and file name -> image id."""
    folder = tmp_path_factory.mktemp("files")
    data = SmallDataset(folder, num_images=0)
    images = folder / "images"
    images.mkdir()
    (images / "good 0.jpg").write_bytes(encode(RGB))
    (folder / "outside.png").write_bytes(encode(RGB, "PNG"))
    makers = {name: make for name, (make, _, _) in BAD.items()} | GOOD
    ids = {name: number for number, name in enumerate(makers, 1)}
    for name, make in makers.items():
        if make is not None:
            make(images / name)
        entry = {"id": ids[name], "file_name": name, "height": HEIGHT, "width": WIDTH}
        data.images.append(entry)
        data.annotate(ids[name], ids[name], 1, square(2, 3, 9))
    data.write()
    done = {}
    for name, main, more in (
        ("build", build_dataset.main, ["--split=all", "--num_shards=2"]),
        ("label", infer.main, ["--model=grabcut"]),
    ):
        out = folder / name
        assert (
            main([*data.flags, f"--out={out}", "--max_failed_fraction=1", *more]) == 0
        )
        letters = [
            json.loads(x) for x in (out / "dead_letters.jsonl").read_text().splitlines()
        ]
        counts = json.loads((out / "manifest.json").read_text())["counts"]
        done[name] = {x["image_id"]: x for x in letters}, counts
    return done, ids


@pytest.mark.parametrize("job", ["build", "label"])
@pytest.mark.parametrize("name", BAD, ids=lambda name: ascii(name[:20]))
def test_a_bad_file_is_a_dead_letter(jobs, job, name):
    done, ids = jobs
    letter = done[job][0][ids[name]]
    _, reason, words = BAD[name]
    assert (letter["reason"], letter["annotation_id"]) == (reason, None)
    assert words in letter["message"]
    assert len(letter["message"].splitlines()) == 1


@pytest.mark.parametrize("job", ["build", "label"])
def test_unusual_files_are_used_and_nothing_else_is_lost(jobs, job):
    letters, counts = jobs[0][job]
    assert len(letters) == len(BAD)
    assert (counts["images_out"], counts["images_failed"]) == (len(GOOD), len(BAD))
    odd = ("images_cmyk", "images_greyscale", "images_turned")
    assert [counts[name] for name in odd] == [1, 1, 1]
