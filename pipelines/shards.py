"""Shards: stable names, stable membership, and the offsets of their records."""

import hashlib
import io

from deepmac.data.tfrecord import frame_parts
from deepmac.errors import OptionError
from deepmac.instances import ImageId
from deepmac.text import one_line

MAX_SHARDS = 99_999


def shard_names(name: str, num_shards: int) -> list[str]:
    """`NAME-00000-of-00064`, ...: also the names of the work units, without the ending.

    Raises:
        OptionError: the name is no file name, or the number is out of range.
    """
    if not name.isprintable() or "/" in name or name[:1] in ("", "."):
        raise OptionError(f"--name must be a plain file name, not '{one_line(name)}'")
    if not 1 <= num_shards <= MAX_SHARDS:
        raise OptionError(f"--num_shards must be in 1..{MAX_SHARDS}, got {num_shards}")
    return [f"{name}-{index:05}-of-{num_shards:05}" for index in range(num_shards)]


def shard_index(image_id: ImageId, num_shards: int) -> int:
    """The shard of an image: depends on its id alone, not on its place in any file."""
    if isinstance(image_id, int):
        text = b"%d" % image_id
    else:
        text = image_id.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8)
    return int.from_bytes(digest.digest(), "little") % num_shards


class ShardWriter:
    """Writes records one after the other.

    Attributes:
        offsets: byte at which each record begins, for reading in any order.
    """

    def __init__(self, out: io.RawIOBase):
        self._out = out
        self.offsets: list[int] = []

    def write(self, record: bytes) -> None:
        self.offsets.append(self._out.tell())
        for part in frame_parts(record):
            self._out.write(part)
