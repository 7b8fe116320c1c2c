"""Each format that the jobs read or write, on something small made in memory, and back.

Every check returns a line about what it has tried, and raises if it does not come out as it must.
Imports libraries that may be broken: run it through `deepmac.doctor.trials`.
"""

import dataclasses
import gzip
import importlib.metadata
import io
from collections.abc import Callable
from typing import Any

import numpy as np

_SIZE = 48, 64  # height, width


class Wrong(Exception):
    """A library works, but not as it must."""


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """A check.

    Attributes:
        package: that it needs most; empty where that is Python itself.
        run: returns what was tried; raises if it does not come out as it must.
        is_needed: False for formats that few data sets have.
    """

    package: str
    run: Callable[[], str]
    is_needed: bool = True


def _picture() -> np.ndarray:
    """A smooth picture, uint8 [H, W, 3]: what JPEG keeps well."""
    rows, cols = np.indices(_SIZE)
    return np.stack([rows * 4, cols * 3, rows + cols], axis=-1).astype(np.uint8)


def _disc() -> np.ndarray:
    """A mask, bool [H, W]."""
    rows, cols = np.indices(_SIZE)
    return (rows - 24) ** 2 + (cols - 32) ** 2 < 15**2


def _check_image(kind: str, mode: str, tolerance: float, **options: Any) -> str:
    """Encodes a picture with Pillow and decodes it as the jobs do."""
    from PIL import Image, __version__

    from deepmac.data.decode import decode_rgb

    image = Image.fromarray(_picture()).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    found = decode_rgb(file.getvalue()).astype(float)
    difference = np.abs(found - np.asarray(image.convert("RGB"))).mean()
    if difference > tolerance:
        raise Wrong(f"its pixels come back {difference:.1f} grey levels off")
    return f"Pillow {__version__}"


def _check_sixteen_bits() -> str:
    from PIL import Image, __version__

    from deepmac.data.decode import decode_rgb

    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    if not (decode_rgb(file.getvalue())[..., 0] == grey >> 8).all():
        raise Wrong("16-bit grey does not come back as its upper 8 bits")
    return f"Pillow {__version__}"


def _check_masks() -> str:
    from isal import isal_zlib  # noqa: F401  (what encodes them)

    from deepmac.data.mask_png import decode_mask_png, encode_mask_png
    from deepmac.masks import encode_rle

    rle = encode_rle(_disc())
    if decode_mask_png(encode_mask_png(rle)) != rle:
        raise Wrong("a mask does not come back as it was")
    return f"isal {_version('isal')}"


def _check_run_lengths() -> str:
    from deepmac.masks import decode_rle, encode_rle, rle_area

    rle = encode_rle(_disc())
    if rle_area(rle) != _disc().sum() or (decode_rle(rle) != _disc()).any():
        raise Wrong("a mask does not come back as it was")
    return f"pycocotools {_version('pycocotools')}"


def _check_records() -> str:
    import google_crc32c

    from deepmac.data.tfrecord import frame, read_frames

    if google_crc32c.value(b"123456789") != 0xE3069283:  # RFC 3720's check value
        raise Wrong("CRC-32C of the check value is wrong")
    framed = frame(b"one") + frame(b"two")
    if [data for _, data in read_frames(io.BytesIO(framed), "memory")] != [
        b"one",
        b"two",
    ]:
        raise Wrong("records do not come back as they were")
    if google_crc32c.implementation != "c":
        raise Wrong("google-crc32c runs in pure Python, hundreds of times slower")
    return f"google-crc32c {_version('google-crc32c')}"


def _check_gzip() -> str:
    data = bytes(1000)
    if gzip.decompress(gzip.compress(data, 6, mtime=0)) != data:
        raise Wrong("data do not come back as they were")
    return "zlib"


def _check_json() -> str:
    import orjson

    value = {"größe": [1, 2.5, None, True]}
    if orjson.loads(orjson.dumps(value)) != value:
        raise Wrong("a value does not come back as it was")
    return f"orjson {orjson.__version__}"


def _check_weights() -> str:
    import h5py

    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file["kernel"] = _picture()
        if not (file["kernel"][()] == _picture()).all():  # pyright: ignore
            raise Wrong("an array does not come back as it was")
    return f"h5py {h5py.__version__}"


def _check_configurations() -> str:
    from deepmac.config.load import config_names, load_config

    for name in config_names():
        load_config(name)
    return f"protobuf {_version('protobuf')}"


def _check_drawing() -> str:
    import cv2

    from deepmac.overlays import draw

    drawn = draw(_picture(), masks=[_disc()], labels=["disc"])
    if not cv2.imencode(".png", drawn)[0]:
        raise Wrong("a picture cannot be encoded")
    return f"OpenCV {cv2.__version__}"


def _check_grabcut() -> str:
    import cv2

    from deepmac.predictors.grabcut import grabcut_mask

    image = np.full((*_SIZE, 3), 40, np.uint8)
    image[_disc()] = 220, 180, 60
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    mask, _ = grabcut_mask(image, np.array([9.0, 17.0, 39.0, 47.0]))
    overlap = (mask & _disc()).sum() / (mask | _disc()).sum()
    if overlap < 0.8:
        raise Wrong(f"finds a bright disc with an IoU of {overlap:.2f} only")
    return f"OpenCV {cv2.__version__}"


def _version(package: str) -> str:
    return importlib.metadata.version(package)


CHECKS = {
    "JPEG, baseline": Check("pillow", lambda: _check_image("JPEG", "RGB", 4)),
    "JPEG, progressive": Check(
        "pillow", lambda: _check_image("JPEG", "RGB", 4, progressive=True)
    ),
    "JPEG, grey": Check("pillow", lambda: _check_image("JPEG", "L", 4)),
    "JPEG, CMYK": Check("pillow", lambda: _check_image("JPEG", "CMYK", 4)),
    "PNG, 8 bits": Check("pillow", lambda: _check_image("PNG", "RGB", 0)),
    "PNG, palette": Check("pillow", lambda: _check_image("PNG", "P", 0)),
    "PNG, 16 bits": Check("pillow", _check_sixteen_bits),
    "mask PNG": Check("isal", _check_masks),
    "run lengths": Check("pycocotools", _check_run_lengths),
    "TFRecord": Check("google-crc32c", _check_records),
    "gzip": Check("", _check_gzip),
    "JSON": Check("orjson", _check_json),
    "weights files": Check("h5py", _check_weights),
    "configurations": Check("protobuf", _check_configurations),
    "drawing": Check("opencv-python-headless", _check_drawing),
    "GrabCut": Check("opencv-python-headless", _check_grabcut),
    "WebP": Check("pillow", lambda: _check_image("WEBP", "RGB", 8), is_needed=False),
    "TIFF": Check("pillow", lambda: _check_image("TIFF", "RGB", 0), is_needed=False),
}
