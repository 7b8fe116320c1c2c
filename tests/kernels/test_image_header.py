"""Image headers against Pillow, and against files cut off at every byte."""

import io

import numpy as np
import pytest
from PIL import Image

from deepmac.data.failures import Unusable
from deepmac.data.image_header import read_header


def encoded(kind, mode="RGB", size=(23, 17), **options):
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation, kind="JPEG"):
    exif = Image.Exif()
    exif[0x010F] = "a camera"  # a tag before it
    exif[0x0112] = orientation
    return encoded(kind, exif=exif)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(mode, progressive):
    header = read_header(encoded("JPEG", mode, progressive=progressive))
    assert (header.format, header.height, header.width) == ("jpeg", 17, 23)
    assert header.channels == {"RGB": 3, "L": 1, "CMYK": 4}[mode]
    assert (header.bits, header.orientation, header.is_complete) == (8, 1, True)


@pytest.mark.parametrize(
    ("mode", "channels", "bits"),
    [
        ("RGB", 3, 8),
        ("L", 1, 8),
        ("LA", 2, 8),
        ("RGBA", 4, 8),
        ("P", 3, 8),
        ("1", 1, 1),
    ],
)
def test_png(mode, channels, bits):
    header = read_header(encoded("PNG", mode))
    assert (header.format, header.height, header.width) == ("png", 17, 23)
    assert (header.channels, header.bits) == (channels, bits)
    assert header.is_complete


def test_a_16_bit_png():
    file = io.BytesIO()
    Image.fromarray(np.zeros((5, 7), np.uint16)).save(file, "PNG")
    header = read_header(file.getvalue())
    assert (header.height, header.width, header.channels, header.bits) == (5, 7, 1, 16)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind, orientation):
    assert read_header(turned(orientation, kind)).orientation == orientation


def test_an_orientation_that_does_not_exist_is_upright():
    assert read_header(turned(77)).orientation == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_cut_off_anywhere_is_never_complete(kind):
    whole = turned(6, kind)
    assert read_header(whole).is_complete
    for length in range(len(whole)):
        try:
            is_complete = read_header(whole[:length]).is_complete
        except Unusable:
            is_complete = False
        assert not is_complete


def test_an_end_marker_in_a_thumbnail_is_not_that_of_the_image():
    thumbnail = encoded("JPEG", size=(4, 4))
    whole = encoded("JPEG")
    block = b"Exif\0\0" + thumbnail
    with_thumbnail = (
        whole[:2]
        + b"\xff\xe1"
        + (len(block) + 2).to_bytes(2, "big")
        + block
        + whole[2:]
    )
    assert read_header(with_thumbnail).is_complete
    assert read_header(with_thumbnail).width == 23
    assert not read_header(with_thumbnail[:-2]).is_complete


def test_bytes_after_the_end_do_not_matter():
    assert read_header(encoded("JPEG") + b"\0" * 50).is_complete
    assert read_header(encoded("PNG") + b"more").is_complete


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "image_empty", "the file is empty"),
        (encoded("GIF"), "image_unsupported", "but GIF"),
        (encoded("BMP"), "image_unsupported", "but BMP"),
        (encoded("WEBP"), "image_unsupported", "but WebP"),
        (encoded("TIFF"), "image_unsupported", "but TIFF"),
        (b"<html>", "image_unsupported", "neither JPEG nor PNG"),
        (b"\xff\xd8\xff\xe0", "image_malformed", "damaged or cut off"),
        (b"\xff\xd8no markers", "image_malformed", "damaged or cut off"),
    ],
)
def test_other_files_are_told_apart(data, reason, message):
    with pytest.raises(Unusable, match=message) as caught:
        read_header(data)
    assert caught.value.reason == reason
