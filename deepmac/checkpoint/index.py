"""The index of a reference checkpoint, looked at before TensorFlow does.

TensorFlow ends the process where an index asks for a tensor that cannot be, so what it says of each
is checked first. The file is a table as LevelDB writes it: blocks of sorted keys with their values,
a block of the places of these blocks, and a footer with the place of that.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from deepmac.errors import CheckpointError

_FOOTER_BYTES = 48
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_PLAIN = 0  # how a block is packed; TensorFlow packs none


def check_index(prefix: str) -> None:
    """Makes sure that TensorFlow survives the index of the checkpoint with this prefix.

    Raises:
        CheckpointError: it is damaged, or its entries contradict themselves.
    """
    path = f"{prefix}.index"
    try:
        content = Path(path).read_bytes()
        entries = dict(_entries(content))
        problem = _problem(entries)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read: {e.strerror}") from None
    except (IndexError, ValueError, struct.error):
        problem = "its table is broken"
    if problem is not None:
        raise CheckpointError(
            f"{path}: damaged, or not the index of a checkpoint ({problem})"
        )


def _problem(entries: dict[bytes, bytes]) -> str | None:
    """What TensorFlow would not survive, in words."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import tensor_bundle_pb2

    try:
        header = tensor_bundle_pb2.BundleHeaderProto.FromString(entries.pop(b"", b""))
        tensors = {
            key.decode(): tensor_bundle_pb2.BundleEntryProto.FromString(value)
            for key, value in entries.items()
        }
    except (DecodeError, UnicodeDecodeError):
        return "an entry is no description of a tensor"
    for name, tensor in tensors.items():
        shape = [dim.size for dim in tensor.shape.dim]
        if tensor.shape.unknown_rank or min(shape, default=0) < 0:
            return f"{name!a} has the shape {shape}"
        if not 0 <= tensor.shard_id < header.num_shards or tensor.offset < 0:
            return f"{name!a} lies in no data file"
        if not _holds(tensor, math.prod(shape)):
            return f"{name!a} of the shape {shape} does not fit its {tensor.size} bytes"
    return None


def _holds(tensor: Any, num: int) -> bool:
    """Whether the bytes of a tensor can be those of `num` numbers or texts."""
    import tensorflow as tf

    try:
        width = tf.dtypes.as_dtype(tensor.dtype).size
    except TypeError:
        return False
    if tensor.slices:  # its parts are tensors of their own
        return True
    if tensor.dtype == tf.string.as_datatype_enum:
        return num <= tensor.size  # a length of each is there at least
    return tensor.size == num * width


def _entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table.

    Raises:
        ValueError, IndexError, struct.error: it is none.
    """
    footer = content[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.endswith(_MAGIC):
        raise ValueError("no footer")
    at = 0
    for _ in range(2):  # the place of the meta data, which nobody needs, comes first
        place, at = _numbers(footer, at, 2)
    for _, handle in _block(content, *place):
        yield from _block(content, *_numbers(handle, 0, 2)[0])


def _block(content: bytes, offset: int, size: int) -> list[tuple[bytes, bytes]]:
    block = content[offset : offset + size + 1]
    (crc,) = struct.unpack_from("<I", content, offset + size + 1)
    if len(block) <= size or block[size] != _PLAIN or _masked_crc(block) != crc:
        raise ValueError("damaged block")
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    at, end = 0, size - 4 * (restarts + 1)
    items, key = [], b""
    while at < end:
        (shared, more, length), at = _numbers(block, at, 3)
        if shared > len(key) or at + more + length > end:
            raise ValueError("damaged entry")
        key = key[:shared] + block[at : at + more]
        items.append((key, block[at + more : at + more + length]))
        at += more + length
    return items


def _numbers(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """Whole numbers of seven bits a byte, lowest first, and where they end."""
    numbers = []
    for _ in range(count):
        number = shift = 0
        while True:
            byte = data[at]
            number |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                break
            if shift > 63:
                raise ValueError("number without end")
        numbers.append(number)
    return numbers, at


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
