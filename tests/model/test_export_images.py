"""Decoding, resizing and padding inside an exported network against their NumPy twins."""

import io

import numpy as np
import pytest
from PIL import Image

from deepmac import resize as on_host
from deepmac.config.schema import (
    FixedShapeResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    ResizeType,
)
from deepmac.data import decode

tf = pytest.importorskip("tensorflow")


def keep_aspect(shorter: int, longer: int, **fields) -> ImageResizerConfig:
    resizer = KeepAspectRatioResizerConfig(
        min_dimension=shorter, max_dimension=longer, pad_to_max_dimension=True, **fields
    )
    return ImageResizerConfig(keep_aspect_ratio_resizer=resizer)


def fixed(height: int, width: int, **fields) -> ImageResizerConfig:
    resizer = FixedShapeResizerConfig(height=height, width=width, **fields)
    return ImageResizerConfig(fixed_shape_resizer=resizer)


RESIZERS = {
    "padded": keep_aspect(64, 64),
    "two limits": keep_aspect(40, 64),
    "padded in colour": keep_aspect(64, 64, per_channel_pad_value=(10.5, 20.1, 30.0)),
    "nearest": keep_aspect(64, 64, resize_method=ResizeType.NEAREST_NEIGHBOR),
    "fixed": fixed(40, 56),
    "fixed, nearest": fixed(40, 56, resize_method=ResizeType.NEAREST_NEIGHBOR),
}


@pytest.mark.parametrize(
    "resizer",
    [keep_aspect(512, 512), keep_aspect(1024, 1024), keep_aspect(600, 1024)],
)
def test_sizes_are_equal_to_the_pixel(resizer):
    from deepmac.export.images import new_size

    sizes = np.random.default_rng(0).integers(1, 3000, (2000, 2)).astype(np.int32)
    # What comes in photographs, and sides that end halfway between two pixels.
    sizes[:4] = [(333, 500), (426, 640), (1, 5000), (2048, 3)]
    sizes[4:40, 0] = np.arange(1, 73, 2)
    sizes[4:40, 1] = 2 * resizer.chosen.max_dimension
    new = tf.function(
        lambda all_sizes: tf.map_fn(lambda size: new_size(size, resizer), all_sizes)
    )(sizes)
    expected = [on_host.geometry(*map(int, size), resizer)[:2] for size in sizes]
    np.testing.assert_array_equal(new, expected)


@pytest.mark.parametrize("name", RESIZERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pixels_are_equal(name, dtype):
    from deepmac.export.images import resize_images

    resizer = RESIZERS[name]
    resize = tf.function(
        lambda images: resize_images(images, resizer),
        input_signature=[tf.TensorSpec((None, None, None, 3), dtype)],
    )
    rng = np.random.default_rng(0)
    for size in [(45, 64), (63, 37), (30, 30), (200, 90), (64, 64), (1, 1), (7, 500)]:
        images = rng.integers(0, 256, (2, *size, 3)).astype(dtype)
        resized, true_shapes = resize(images)
        for number, image in enumerate(images):
            expected, geometry = on_host.resize_image(image, resizer)
            # Equal on x86; a processor that fuses the blends may round once less.
            np.testing.assert_allclose(resized[number], expected, atol=3e-5)
            np.testing.assert_array_equal(true_shapes[number], geometry[:2])


def encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Soft shapes, which JPEG was made for, of an odd size."""
    y, x = np.mgrid[:37, :51] / 8.0
    planes = [np.sin(x), np.cos(y + x), np.sin(x * y / 4)]
    return Image.fromarray((127.5 + 120 * np.stack(planes, -1)).astype(np.uint8))


def decoded(data: bytes) -> np.ndarray:
    from deepmac.export.images import decode_rgb

    return tf.function(decode_rgb)(data).numpy()


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {"quality": 70}),
        ("JPEG", "RGB", {"subsampling": 0, "progressive": True}),
        ("JPEG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "LA", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("BMP", "RGB", {}),
        ("GIF", "P", {}),
    ],
)
def test_files_decode_to_the_pixels_that_label_sees(picture, form, mode, options):
    data = encoded(picture.convert(mode), form, **options)
    np.testing.assert_array_equal(decoded(data), decode.decode_rgb(data))


def test_sixteen_bits_keep_their_upper_eight(picture):
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257 - 100
    data = encoded(Image.fromarray(grey), "PNG")
    np.testing.assert_array_equal(decoded(data), decode.decode_rgb(data))


def test_cmyk_becomes_rgb(picture):
    data = encoded(picture.convert("CMYK"), "JPEG", quality=95)
    expected = decode.decode_rgb(data).astype(int)
    # Pillow and TensorFlow round the product of two inks differently.
    assert abs(decoded(data).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 cut off"])
def test_what_is_no_image_is_an_error(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(data)
