"""What the first bytes of a JPEG or PNG file say, and whether its last ones are there.

Reads no pixels: a few microseconds an image, where decoding takes milliseconds.
"""

import dataclasses
import struct

from deepmac.data.failures import Unusable

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # of colour types; 3 is a palette of RGB
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_SIGNATURES = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What an image file declares.

    Attributes:
        format: `jpeg` or `png`.
        height, width: pixels as stored, before any turning.
        channels: 1 grey, 2 grey + alpha, 3 colour, 4 CMYK (JPEG) or colour + alpha (PNG).
        bits: per channel.
        orientation: of EXIF, 1-8; 1 is upright.
        is_complete: the end marker is there.
    """

    format: str
    height: int
    width: int
    channels: int
    bits: int
    orientation: int
    is_complete: bool


def image_format(encoded: bytes) -> str | None:
    """`jpeg` or `png`, by the first bytes; None for anything else."""
    if encoded.startswith(b"\xff\xd8"):
        return "jpeg"
    return "png" if encoded.startswith(_PNG) else None


def read_header(encoded: bytes) -> ImageHeader:
    """Reads the header of an image file.

    Raises:
        Unusable: it is neither JPEG nor PNG (says what it is), or the header is damaged.
    """
    kind = image_format(encoded)
    try:
        if kind:
            return _jpeg(encoded) if kind == "jpeg" else _png(encoded)
    except (struct.error, IndexError, KeyError):
        raise Unusable("image_malformed", "the header is damaged or cut off") from None
    if not encoded:
        raise Unusable("image_empty", "the file is empty")
    other = _kind(encoded)
    raise Unusable(
        "image_unsupported", f"neither JPEG nor PNG{f', but {other}' if other else ''}"
    )


def _kind(encoded: bytes) -> str | None:
    """What else a file is, as far as its first bytes tell."""
    if encoded[4:8] == b"ftyp":
        return "HEIF, AVIF or a film"
    if encoded[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "HTML or XML, such as the answer of a server that has no such image"
    names = (n for start, n in _SIGNATURES.items() if encoded.startswith(start))
    return next(names, None)


def _png(encoded: bytes) -> ImageHeader:
    width, height, bits, colour_type = struct.unpack_from(">IIBB", encoded, 16)
    if encoded[12:16] != b"IHDR" or not (width and height):
        raise KeyError
    exif = encoded.find(b"eXIf", 33, encoded.find(b"IDAT", 33))
    return ImageHeader(
        format="png",
        height=height,
        width=width,
        channels=_PNG_CHANNELS[colour_type],
        bits=bits,
        orientation=_orientation(encoded[exif + 4 :]) if exif > 0 else 1,
        is_complete=encoded.rfind(_PNG_END) > 0,
    )


def _jpeg(encoded: bytes) -> ImageHeader:
    position, orientation = 2, 1
    while True:
        if encoded[position] != 0xFF:
            raise KeyError
        marker = encoded[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", encoded, position)
        if marker in _START_OF_FRAME:
            bits, height, width, channels = struct.unpack_from(
                ">BHHB", encoded, position + 2
            )
            break
        if marker == 0xE1 and encoded.startswith(b"Exif\0\0", position + 2):
            orientation = _orientation(encoded[position + 8 : position + length])
        position += length
    if not (width and height):
        raise KeyError
    return ImageHeader(
        format="jpeg",
        height=height,
        width=width,
        channels=channels,
        bits=bits,
        orientation=orientation,
        # A thumbnail's end marker lies before the frame. From the first scan on, FF is followed by
        # 00, a restart or the marker of a table, none of which has a symbol FF.
        is_complete=0
        < encoded.find(b"\xff\xda", position)
        < encoded.rfind(b"\xff\xd9"),
    )


def _orientation(tiff: bytes) -> int:
    """Tag 0x112 of the first directory of an EXIF block; 1 where it is missing or nonsense."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
