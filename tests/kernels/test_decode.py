"""Encoded images -> RGB, by cases that we make ourselves."""

import io

import numpy as np
import pytest
from PIL import Image

from deepmac.data.decode import ImageTooLarge, decode_rgb
from deepmac.errors import DataError

PIXELS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]] * 2, np.uint8)  # 2 x 3


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(format):
    decoded = decode_rgb(encode(Image.fromarray(PIXELS), format))
    np.testing.assert_array_equal(decoded, PIXELS)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable


def test_a_jpeg_is_decoded_about_right():
    image = np.full((16, 24, 3), [200, 100, 50], np.uint8)
    decoded = decode_rgb(encode(Image.fromarray(image), "JPEG", quality=95))
    np.testing.assert_allclose(decoded, image, atol=3)  # quality 95


@pytest.mark.parametrize(
    ("image", "grey"),
    [
        (Image.fromarray(np.array([[0, 128, 255]], np.uint8)), [0, 128, 255]),
        (Image.fromarray(np.array([[0, 256 * 128, 65535]], np.uint16)), [0, 128, 255]),
        (Image.fromarray(np.array([[0, 1, 1]], bool)), [0, 255, 255]),
    ],
)
def test_grey_of_1_8_and_16_bits_becomes_rgb(image, grey):
    decoded = decode_rgb(encode(image))
    np.testing.assert_array_equal(decoded, np.repeat([grey], 3, 0).T[None])


def test_palette_cmyk_and_transparency_become_rgb():
    colours = Image.fromarray(PIXELS)
    palette = colours.quantize(8)
    alpha = Image.fromarray(np.dstack([PIXELS, np.full((2, 3), 7, np.uint8)]))
    see_through = encode(palette, transparency=bytes([0, 9, 255]))
    for encoded in (encode(palette), encode(alpha), see_through):
        np.testing.assert_array_equal(decode_rgb(encoded), PIXELS)
    white = Image.new("CMYK", (8, 8))
    np.testing.assert_array_equal(decode_rgb(encode(white, "JPEG")), 255)


def test_pixels_stay_as_stored_whatever_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = encode(Image.fromarray(PIXELS), exif=exif)
    np.testing.assert_array_equal(decode_rgb(encoded), PIXELS)


def test_a_large_image_is_refused_by_its_header():
    encoded = encode(Image.new("1", (3000, 2000)))
    with pytest.raises(ImageTooLarge, match=r"2000 x 3000 pixels.* limit of 5000000"):
        decode_rgb(encoded, max_pixels=5_000_000)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"not an image",
        encode(Image.fromarray(PIXELS))[:-30],
        encode(Image.new("RGB", (64, 64)), "JPEG")[:400],
        encode(Image.new("F", (2, 2)), "TIFF"),
    ],
)
def test_damage_is_an_error_of_one_line(encoded):
    with pytest.raises(DataError, match="image") as error:
        decode_rgb(encoded)
    assert "\n" not in str(error.value)
    assert "0x" not in str(error.value)


def test_the_callers_limit_may_be_above_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    file = io.BytesIO()
    Image.new("L", (30, 20)).save(file, "PNG")
    assert decode_rgb(file.getvalue(), max_pixels=600).shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(
        ImageTooLarge, match="20 x 30 pixels, more than the limit of 599"
    ):
        decode_rgb(file.getvalue(), max_pixels=599)
