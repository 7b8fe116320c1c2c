"""Large JSON files as a stream: the elements of top-level lists, one at a time.

Each element is decoded by the standard library's scanner, so numbers are exactly those of
`json.load`, in one pass and in memory for one element.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from deepmac.data.json_file import ENDLESS_NUMBER, open_packed
from deepmac.errors import DataError
from deepmac.text import one_line

_CHUNK = 1 << 20
_MAX_VALUE = 1 << 28  # characters; a longer value is a file of another kind
_ENDS_EARLY = "the file ends too early; is it complete?"
_OPEN_STRING = "Unterminated string"  # how the scanner's message begins
_decode = json.JSONDecoder().raw_decode


def stream_members(path: str) -> Iterator[tuple[str, int | None, Any]]:
    """The members of the JSON object in a file (`.gz` too), lists taken apart.

    Yields:
        (key, position, element) for every element of a list; (key, None, value) for a member that
        is something else, and for a list once more at its beginning, with the value [].

    Raises:
        DataError: the file cannot be read, is not valid JSON (says the line and column), holds no
            object, or the same key twice.
    """
    with open_packed(path) as file:
        yield from _members(_Text(file, path))


def _members(text: "_Text") -> Iterator[tuple[str, int | None, Any]]:
    if (first := text.peek()) != "{":
        kind = {"[": "a list", "": "nothing"}.get(first, "a value")
        raise DataError(
            f"{text.path}: holds {kind}, not a JSON object of images and annotations"
        )
    text.take("{")
    keys = set()
    if text.peek() == "}":
        text.take("}")
    else:
        while True:
            key = text.value() if text.peek() == '"' else text.take('"')
            if key in keys:
                raise text.error(f"the key '{one_line(key)}' stands there twice")
            keys.add(key)
            text.take(":")
            if text.peek() == "[":
                yield key, None, []
                for index, element in enumerate(_elements(text)):
                    yield key, index, element
            else:
                yield key, None, text.value()
            if text.take(",}") == "}":
                break
    if text.peek():
        raise text.error("something follows after the end of the JSON object")


def _elements(text: "_Text") -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.take(",]") == "]":
            return


class _Text:
    """The text of a file, of which no more than the current value is held."""

    def __init__(self, file: BinaryIO, path: str):
        self.path = path
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._num_bytes = 0  # read so far
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column = 1, 1  # of the beginning of `_text`

    def peek(self) -> str:
        """The next character that is no white space; '' at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._read(_CHUNK)

    def take(self, wanted: str) -> str:
        """Steps over the next character, which must be one of those wanted."""
        found = self.peek()
        if not found:
            raise self.error(_ENDS_EARLY)
        if found not in wanted:
            names = " or ".join(f"'{c}'" for c in wanted)
            raise self.error(f"{names} belongs here, not '{one_line(found)}'")
        self._at += 1
        return found

    def value(self) -> Any:
        """Decodes the next value and steps over it."""
        if not self.peek():
            raise self.error(_ENDS_EARLY)
        chunk = _CHUNK
        while True:
            try:
                value, end = _decode(self._text, self._at)
                # A number that ends where the text does, or in `1.` or `1e`, may go on.
                after = self._text[end : end + 1]
                if self._ended or (after and after not in ".eE"):
                    self._at = end
                    return value
            except json.JSONDecodeError as e:
                if self._is_final(e):
                    cut_off = self._ended and (
                        e.pos >= len(self._text) or e.msg.startswith(_OPEN_STRING)
                    )
                    message = _ENDS_EARLY if cut_off else e.msg
                    raise self.error(message, e.pos) from None
            except ValueError:
                raise self.error(ENDLESS_NUMBER) from None
            except RecursionError as e:
                raise self.error(str(e)) from None
            if len(self._text) - self._at > _MAX_VALUE:
                raise self.error(f"a value of more than {_MAX_VALUE} characters")
            self._read(chunk)
            chunk *= 2  # a long value is not decoded again for every megabyte

    def error(self, message: str, position: int | None = None) -> DataError:
        before = self._text[: self._at if position is None else position]
        line = self._line + before.count("\n")
        column = len(before) - before.rfind("\n")
        if "\n" not in before:
            column = self._column + len(before)
        return DataError(f"{self.path}:{line}:{column}: not valid JSON: {message}")

    def _is_final(self, error: json.JSONDecodeError) -> bool:
        """Whether more text cannot mend it."""
        if self._ended:
            return True
        near_end = error.pos > len(self._text) - 64
        return not near_end and not error.msg.startswith(_OPEN_STRING)

    def _read(self, size: int) -> None:
        done = self._text[: self._at]
        if "\n" in done:
            self._line += done.count("\n")
            self._column = len(done) - done.rfind("\n")
        else:
            self._column += len(done)
        data = self._file.read(size)
        self._ended = not data
        start = self._num_bytes - len(self._decoder.getstate()[0])
        try:
            more = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as e:
            raise DataError(
                f"{self.path}: byte {start + e.start} is not UTF-8 ({e.reason}); JSON "
                f"must be UTF-8"
            ) from None
        self._text, self._at = self._text[self._at :] + more, 0
        self._num_bytes += len(data)
