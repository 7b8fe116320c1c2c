"""Masks as PNG files: 8-bit grey, 0 background, 1 foreground, as both record readers expect.

A mask's rows above and below its box hold nothing, and only the rows of the box are ever made and
compressed: the compressed forms of empty rows are kept, and a deflate stream is made of blocks
that can be put one after the other.
"""

import functools
import struct
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from isal import isal_zlib

from deepmac.errors import DataError
from deepmac.instances import RLE
from deepmac.masks import (
    MOST_PIXELS,
    coco_mask,
    encode_rle,
    rle_area,
    rle_runs,
    too_many_pixels,
)

# Of a mask it makes less than zlib's level 6, 40 times as fast. Levels below 3 have no code of
# their own for the newer processors, so that all of a kind write the same bytes.
_DEFLATE_LEVEL = 1
_ZLIB_HEADER = b"\x78\x01"
_ADLER = 65521
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY_8_BIT = (8, 0, 0, 0, 0)  # bits, colour type, compression, filters, no interlace


def encode_mask_png(rle: RLE) -> bytes:
    """A mask as a PNG file of the full image size, values 0 and 1."""
    height, width = rle["size"]
    if not rle_area(rle):  # has no box
        return blank_mask_png(height, width)
    left, top, box_width, box_height = map(int, coco_mask.toBbox(rle))
    columns = _columns(rle, left, left + box_width)
    rows = np.zeros((box_height, 1 + width), np.uint8)  # begin with filter type 0
    rows[:, 1 + left : 1 + left + box_width] = columns[top : top + box_height]
    return _png(height, width, top, rows)


def _columns(rle: RLE, start: int, stop: int) -> np.ndarray:
    """Columns [start, stop) of a mask, 0/1 [H, stop - start]."""
    height, _ = rle["size"]
    ends = np.cumsum(rle_runs(rle["counts"]))
    ends -= start * height
    np.maximum(ends, 0, out=ends)
    np.minimum(ends, (stop - start) * height, out=ends)
    values = np.zeros(len(ends), np.uint8)
    values[1::2] = 1  # runs of 0 and 1 in turn
    runs = ends.copy()
    runs[1:] -= ends[:-1]
    return values.repeat(runs).reshape(stop - start, height).T


@functools.lru_cache(maxsize=64)
def blank_mask_png(height: int, width: int) -> bytes:
    """The mask of nothing, which stands where a mask is hidden or not known.

    Raises:
        DataError: the image is larger than masks can be.
    """
    if height * width > MOST_PIXELS:
        raise DataError(too_many_pixels(height, width))
    return _png(height, width, height, np.zeros((0, 1 + width), np.uint8))


def decode_mask_png(data: bytes) -> RLE:
    """The mask of a grey image file; every value above 0 is foreground (0/1 and 0/255 both read).

    Raises:
        DataError: not an image.
    """
    return encode_rle(mask_pixels(data) > 0)


def mask_pixels(data: bytes, num_rows: int | None = None) -> np.ndarray:
    """The pixels of a grey image file. Fastest for files of ours.

    Args:
        data: the file.
        num_rows: as many rows from the top are needed; more may come.

    Returns:
        uint8 [num_rows or more, W], read only.

    Raises:
        DataError: not an image.
    """
    pixels = _unfiltered_pixels(data, num_rows)
    if pixels is None:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        except cv2.error:
            pixels = None
    if pixels is None:
        raise DataError("a mask is not a readable image")
    return pixels


def _unfiltered_pixels(data: bytes, num_rows: int | None) -> np.ndarray | None:
    """The pixels of a PNG file in which rows stand as they are, as in ours; None for any other."""
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height, *kind = struct.unpack(">IIBBBBB", data[16:29])
    if tuple(kind) != _GREY_8_BIT:
        return None
    size = (1 + width) * (height if num_rows is None else min(height, num_rows))
    try:
        # What lies below is not even inflated.
        stream = isal_zlib.decompressobj()
        rows = stream.decompress(b"".join(_image_data(data)), size) if size else b""
    except isal_zlib.IsalError:  # pyright: ignore[reportGeneralTypeIssues]  (its stubs)
        return None
    if len(rows) != size:
        return None
    pixels = np.frombuffer(rows, np.uint8).reshape(-1, 1 + width)
    return None if pixels[:, 0].any() else pixels[:, 1:]


def _image_data(data: bytes) -> Iterator[bytes]:
    """The compressed pixels in a PNG file, piece by piece."""
    position = len(_SIGNATURE)
    while len(name := data[position + 4 : position + 8]) == 4 and name != b"IEND":
        (length,) = struct.unpack_from(">I", data, position)
        if name == b"IDAT":
            yield data[position + 8 : position + 8 + length]
        position += length + 12


def _png(height: int, width: int, top: int, rows: np.ndarray) -> bytes:
    """A grey PNG file of which all rows but some are 0.

    Args:
        height, width: of the image in pixels.
        top: how many rows lie above `rows`.
        rows: uint8 [h, 1 + width], each with its filter type before its pixels.
    """
    above = top * (1 + width)
    below = height * (1 + width) - above - rows.size
    # Adler-32 is (sum of all sums so far, sum of the bytes), the latter beginning with 1.
    adler = isal_zlib.adler32(rows, (above % _ADLER) << 16 | 1)
    adler_sums = ((adler >> 16) + below * (adler & 0xFFFF)) % _ADLER
    pixels = (
        _ZLIB_HEADER,
        _zeros(above, is_last=False),
        _deflate(rows, is_last=False) if rows.size else b"",
        _zeros(below, is_last=True),
        struct.pack(">HH", adler_sums, adler & 0xFFFF),
    )
    header = struct.pack(">IIBBBBB", width, height, *_GREY_8_BIT)
    return b"".join(
        (
            _SIGNATURE,
            *_chunk(b"IHDR", header),
            *_chunk(b"IDAT", b"".join(pixels)),
            *_chunk(b"IEND", b""),
        )
    )


@functools.lru_cache(maxsize=1024)
def _zeros(num: int, *, is_last: bool) -> bytes:
    """Deflate blocks of `num` zeros."""
    return _deflate(bytes(num), is_last=is_last)


def _deflate(data: bytes | np.ndarray, *, is_last: bool) -> bytes:
    """Deflate blocks that end with a byte; which no others may follow if they are the last."""
    stream = isal_zlib.compressobj(_DEFLATE_LEVEL, isal_zlib.DEFLATED, -15)
    end = isal_zlib.Z_FINISH if is_last else isal_zlib.Z_SYNC_FLUSH
    return stream.compress(data) + stream.flush(end)


def _chunk(kind: bytes, data: bytes) -> Sequence[bytes]:
    crc = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", crc)
