"""TFRecord framing: each record with its length and two checksums.

A record is its length (uint64, little endian), the masked CRC-32C of those 8 bytes, the data, and
the masked CRC-32C of the data.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from deepmac.errors import DataError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def frame(data: bytes) -> bytes:
    """A record as it stands in the file."""
    return b"".join(frame_parts(data))


def frame_parts(data: bytes) -> tuple[bytes, bytes, bytes]:
    """What `frame` is made of, for who writes it: header, data, footer."""
    length = len(data).to_bytes(8, "little")
    header = length + _FOOTER.pack(_masked_crc(length))
    return header, data, _FOOTER.pack(_masked_crc(data))


def read_frames(file: BinaryIO, where: str) -> Iterator[tuple[int, bytes]]:
    """The records of a file with the byte offset at which each begins.

    Args:
        file: at its beginning.
        where: name of the file, for errors.

    Raises:
        DataError: a checksum differs or the file ends within a record; names the record.
    """
    offset = 0
    for index in range(1 << 62):
        data = _read_frame(file, f"{where}: record {index} at byte {offset}")
        if data is None:
            return
        yield offset, data
        offset += _HEADER.size + len(data) + _FOOTER.size


def frame_offsets(file: BinaryIO, where: str) -> Iterator[int]:
    """The byte offset at which each record of a file begins; their data is not read.

    Args:
        file: open for reading, anywhere.
        where: name of the file, for errors.

    Raises:
        DataError: the file ends within a record, or the checksum of a length differs.
    """
    size, offset = file.seek(0, io.SEEK_END), 0
    for index in range(1 << 62):
        if offset == size:
            return
        place = f"{where}: record {index} at byte {offset}"
        file.seek(offset)
        length = _read_length(file.read(_HEADER.size), place)
        yield offset
        offset += _HEADER.size + length + _FOOTER.size
        if offset > size:
            raise DataError(f"{place}: the file ends within the record")


def read_frame_at(file: BinaryIO, offset: int, where: str) -> bytes:
    """The one record that begins at a byte offset."""
    file.seek(offset)
    data = _read_frame(file, f"{where}: record at byte {offset}")
    if data is None:
        raise DataError(f"{where}: no record at byte {offset}, the file ends before")
    return data


def unframe(span: bytes, where: str) -> bytes:
    """The data of a record, from the bytes of all of it; the inverse of `frame`.

    Raises:
        DataError: a checksum differs, or the bytes end within the record.
    """
    data = _read_frame(io.BytesIO(span), where)
    if data is None:
        raise DataError(f"{where}: the file ends before")
    return data


def _read_frame(file: BinaryIO, where: str) -> bytes | None:
    header = file.read(_HEADER.size)
    if not header:
        return None
    length = _read_length(header, where)
    data = file.read(length)
    footer = file.read(_FOOTER.size)
    if len(data) < length or len(footer) < _FOOTER.size:
        raise DataError(f"{where}: the file ends within the record")
    if _masked_crc(data) != _FOOTER.unpack(footer)[0]:
        raise DataError(f"{where}: the checksum of its data differs: damaged")
    return data


def _read_length(header: bytes, where: str) -> int:
    if len(header) < _HEADER.size:
        raise DataError(f"{where}: the file ends within the record")
    length, length_crc = _HEADER.unpack(header)
    if _masked_crc(header[:8]) != length_crc:
        raise DataError(
            f"{where}: the checksum of its length differs: damaged, or no TFRecord"
        )
    return length


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
