"""Image files, through the header reader, the decoder, the mask reader and the labelling."""

import io
import random
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from deepmac.data.assemble import check_image
from deepmac.data.coco import ImageEntry
from deepmac.data.decode import decode_rgb
from deepmac.data.image_header import read_header
from deepmac.data.mask_png import decode_mask_png
from deepmac.errors import DataError, DeepmacError
from deepmac.instances import Example, Instance
from deepmac.label import Settings, label_images
from deepmac.predictors import open_predictor
from fuzzing.mutation import mutate_bytes
from fuzzing.target import Target, require_one_line

_HEIGHT, _WIDTH = 12, 17
_MAX_PIXELS = 1 << 20
_PNG = b"\x89PNG\r\n\x1a\n"
_TOKENS = (
    *(
        b"IHDR",
        b"IDAT",
        b"IEND\xaeB`\x82",
        b"PLTE",
        b"tRNS",
        b"eXIf",
        b"iCCP",
        b"acTL",
        b"fcTL",
        b"zTXt",
    ),
    *(
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\xda",
        b"\xff\xc0",
        b"\xff\xc2",
        b"\xff\xc4",
        b"\xff\xdb",
        b"\xff\xdd",
    ),
    *(
        b"\xff\xe1",
        b"\xff\xee",
        b"Exif\0\0",
        b"Adobe\0",
        b"II*\0",
        b"MM\0*",
        b"\x12\x01\x03\0",
        b"\x01\x12\0\x03",
    ),
    *(
        b"RIFF",
        b"WEBP",
        b"VP8 ",
        b"VP8L",
        b"VP8X",
        b"ANMF",
        b"GIF89a",
        b"\x21\xff\x0bNETSCAPE2.0",
        b"BM",
    ),
    *(b"P6", b"P5", b"P7", b"Pf", b"\x01\x01", b"\x01\x11", b"\x01\x00", b"\x01\x03"),
)


class Images(Target):
    """The bytes of a file."""

    name = "images"

    def __init__(self, folder):
        super().__init__(folder)
        self._predictor = open_predictor("box")

    def seeds(self) -> list[bytes]:
        pixels = np.random.default_rng(0).integers(
            0, 256, (_HEIGHT, _WIDTH, 3), np.uint8
        )
        rgb = Image.fromarray(pixels)
        rgba = rgb.convert("RGBA")
        rgba.putalpha(rgb.convert("L"))
        exif = Image.Exif()
        exif[0x0112] = 6
        deep = Image.fromarray((pixels[..., 0].astype(np.uint16) << 7) + 3)
        palette = rgb.quantize(8)
        kinds = [(rgb.convert(mode), "JPEG", {}) for mode in ("RGB", "L", "CMYK")]
        kinds += [(rgb, "JPEG", {"progressive": True}), (rgb, "JPEG", {"exif": exif})]
        kinds += [(image, "PNG", {}) for image in (rgb, rgba, palette, deep)]
        kinds += [(rgb.convert(mode), "PNG", {}) for mode in ("L", "LA", "1")]
        kinds += [
            (palette, "PNG", {"transparency": bytes(range(8))}),
            (rgb, "PNG", {"exif": exif}),
        ]
        kinds += [(rgb, "WEBP", {"lossless": lossless}) for lossless in (True, False)]
        kinds += [
            (rgba, "WEBP", {"save_all": True, "append_images": [rgba.rotate(90)]})
        ]
        kinds += [
            (palette, "GIF", {"save_all": True, "append_images": [rgb.rotate(180)]})
        ]
        kinds += [
            (rgb, "BMP", {}),
            (palette, "BMP", {}),
            (rgb, "PPM", {}),
            (deep, "PPM", {}),
        ]
        kinds += [
            (rgb, "TIFF", {"compression": c})
            for c in (None, "tiff_lzw", "jpeg", "packbits")
        ]
        kinds += [
            (deep, "TIFF", {}),
            (rgb.convert("1"), "TIFF", {"compression": "group4"}),
        ]
        seeds = [b"", b"<html>404</html>"]
        for image, kind, options in kinds:
            file = io.BytesIO()
            image.save(file, kind, **options)
            seeds.append(file.getvalue())
        return seeds

    def mutate(self, rng: random.Random, data: bytes, other: bytes) -> bytes:
        changed = mutate_bytes(rng, data, other, _TOKENS)
        # Half of the PNGs get checksums that fit: else nothing behind them is ever reached.
        return with_checksums(changed) if rng.random() < 0.5 else changed

    def examples(self) -> st.SearchStrategy[bytes]:
        number = st.integers(0, 40) | st.sampled_from(
            [2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1]
        )
        kinds = st.tuples(
            number,
            number,
            st.sampled_from([1, 2, 4, 8, 16, 3]),
            st.integers(0, 7),
            st.integers(0, 2),
        )
        chunks = st.lists(
            st.tuples(st.sampled_from(_TOKENS[:10]), st.binary(max_size=40)), max_size=3
        )
        pngs = st.tuples(kinds, chunks, st.binary(max_size=300)).map(lambda v: _png(*v))
        segments = st.lists(
            st.tuples(st.integers(0xC0, 0xFE), st.binary(max_size=40)), max_size=8
        )
        jpegs = st.tuples(segments, st.binary(max_size=60)).map(lambda v: _jpeg(*v))
        others = st.tuples(st.sampled_from(_TOKENS), st.binary(max_size=200)).map(
            b"".join
        )
        return st.one_of(pngs, jpegs, others, st.binary(max_size=100))

    def check(self, data: bytes) -> str:
        header = size = None
        try:
            header = read_header(data)
            size = header.height, header.width
            check_image(data, ImageEntry(1, "a.jpg", None, None), _MAX_PIXELS)
        except DataError as e:
            require_one_line(e)
        self._read_as_mask(data)
        self._label(data, size or (_HEIGHT, _WIDTH))
        image = decode_rgb(data, _MAX_PIXELS)
        assert image.dtype == np.uint8
        assert image.flags.owndata
        assert image.flags.writeable
        assert image.shape[2:] == (3,)
        assert image.size <= 3 * _MAX_PIXELS
        if size is not None:
            assert image.shape[:2] == size, (image.shape, size)
        return "accepted" if header else "accepted by the decoder alone"

    def _label(self, data: bytes, size: tuple[int, int]) -> None:
        height, width = size
        instance = Instance(
            box=(0.0, 0.0, height * 0.75, width * 0.75), category_id=1, annotation_id=7
        )
        example = Example(
            image_id=3,
            file_name="a",
            height=height,
            width=width,
            encoded=data,
            instances=(instance,),
        )
        settings = Settings(max_pixels=_MAX_PIXELS)
        (labels,) = label_images([example], self._predictor, settings)
        assert (labels.failure is None) == (len(labels.rows) == 1)
        if labels.failure is None:
            assert labels.rows[0]["segmentation"]["size"] == [height, width]
        else:
            assert len(labels.failure.message.splitlines()) == 1
            assert labels.failure.reason in (
                "image_damaged",
                "image_too_large",
                "size_differs",
            )

    @staticmethod
    def _read_as_mask(data: bytes) -> None:
        try:
            rle = decode_mask_png(data)
        except DeepmacError as e:
            require_one_line(e)
        else:
            assert min(rle["size"]) > 0


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what is in them; other files as they are."""
    if not data.startswith(_PNG):
        return data
    parts, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if len(body) < 4 + length:
            break
        parts.append(
            struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        )
        at += 12 + length
    return b"".join([*parts, data[at:]])


def _png(
    kind: tuple[int, ...], chunks: list[tuple[bytes, bytes]], pixels: bytes
) -> bytes:
    height, width, bits, colour, interlace = kind
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    parts = [
        (b"IHDR", header),
        *chunks,
        (b"IDAT", zlib.compress(pixels)),
        (b"IEND", b""),
    ]
    content = b"".join(
        struct.pack(">I", len(d)) + n[:4] + d + bytes(4) for n, d in parts
    )
    return with_checksums(_PNG + content)


def _jpeg(segments: list[tuple[int, bytes]], scan: bytes) -> bytes:
    parts = [struct.pack(">BBH", 0xFF, kind, len(d) + 2) + d for kind, d in segments]
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xda\0\x02" + scan + b"\xff\xd9"
