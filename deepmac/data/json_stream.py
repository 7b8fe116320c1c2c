"""Large JSON files as a stream: the elements of the outer lists, some at a time.

One pass, in memory for a piece of the file. Objects are decoded in batches (`json_batches`);
what that leaves alone, and all that is wrong, is read by the standard library's scanner. So
values are exactly those of `json.load`, and errors have line and column.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from deepmac.data.json_batches import Objects, decode_objects, take_objects
from deepmac.data.json_file import ENDLESS_NUMBER, open_packed
from deepmac.errors import DataError
from deepmac.text import one_line

_CHUNK = 1 << 16  # bytes; what is decoded of it stays in the processor's cache
_WINDOW = 1 << 12  # bytes in which the scanner looks for the end of a value at first
_MAX_VALUE = 1 << 28  # bytes; a longer value is a file of another kind
_NEAR_END = 64  # characters: what is cut off there may be a beginning of something
_ENDS_EARLY = "the file ends too early; is it complete?"
_OPEN_STRING = "Unterminated string"  # how the scanner's message begins
_decode = json.JSONDecoder().raw_decode


class NotAList(DataError):
    """A file holds another JSON value than a list."""


class Part(NamedTuple):
    """A part of the JSON object in a file: neighbouring elements of a list, or a whole member.

    Attributes:
        key: of the member.
        position: of the first element in its list; None of a member that is no list, and once at
            the beginning of each list, whose one value is [] then.
        values: of the elements, or of the member.
        texts: the bytes of each as they stand in the file; they may have line breaks.
    """

    key: str
    position: int | None
    values: list[Any]
    texts: list[bytes]


def stream_members(path: str) -> Iterator[tuple[str, int | None, Any]]:
    """The members of the JSON object in a file (`.gz` too), lists taken apart.

    Yields:
        (key, position, element) for every element of a list; (key, None, value) for a member that
        is something else, and for a list once more at its beginning, with the value [].

    Raises:
        DataError: the file cannot be read, is not valid JSON (says the line and column), holds no
            object, or the same key twice.
    """
    for key, position, values, _ in stream_parts(path):
        if position is None:
            yield key, None, values[0]
        else:
            for index, value in enumerate(values, start=position):
                yield key, index, value


def stream_parts(path: str) -> Iterator[Part]:
    """As `stream_members`, several elements at a time, each with its text."""
    with open_packed(path) as file:
        yield from _members(_Text(file, path))


def stream_list(
    path: str, decode: Callable[[bytes], list[Any] | None] = decode_objects
) -> Iterator[tuple[int, list[Any]]]:
    """The elements of the JSON list in a file, several at a time.

    Args:
        path: of the file (`.gz` too).
        decode: makes values of a list of objects. What it refuses (None) is decoded as by
            `json.load`, one at a time.

    Yields:
        Position of the first element, and the values.

    Raises:
        NotAList: the file holds something else.
        DataError: as `stream_members`.
    """
    with open_packed(path) as file:
        text = _Text(file, path)
        if (first := text.peek()) != "[":
            kind = {"{": "an object", "": "nothing"}.get(first, "a value")
            raise NotAList(f"{path}: holds {kind}, not a JSON list")
        for position, elements in _elements(text, decode):
            yield position, elements.values
        if text.peek():
            raise text.error("something follows after the end of the JSON list")


def _members(text: "_Text") -> Iterator[Part]:
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
            key = text.value()[0] if text.peek() == '"' else text.take('"')
            if key in keys:
                raise text.error(f"the key '{one_line(key)}' stands there twice")
            keys.add(key)
            text.take(":")
            if text.peek() == "[":
                yield Part(key, None, [[]], [b"[]"])
                for position, elements in _elements(text, decode_objects):
                    yield Part(key, position, elements.values, elements.texts())
            else:
                value, written = text.value()
                yield Part(key, None, [value], [written])
            if text.take(",}") == "}":
                break
    if text.peek():
        raise text.error("something follows after the end of the JSON object")


def _elements(
    text: "_Text", decode: Callable[[bytes], list[Any] | None]
) -> Iterator[tuple[int, Objects]]:
    """(position, elements) of a list."""
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    position = 0
    while True:
        while batch := text.objects(decode):
            yield position, batch
            position += len(batch.values)
        value, written = text.value()
        size = len(written)
        yield position, Objects([value], written, [(size - 1, size + 1)], size)
        position += 1
        if text.take(",]") == "]":
            return


class _Text:
    """The text of a file, of which little more than the current value is held."""

    def __init__(self, file: BinaryIO, path: str):
        self.path = path
        self._file = file
        self._data, self._at, self._ended = file.read(len(codecs.BOM_UTF8)), 0, False
        self._tried = 0  # up to where batches are not to be had
        self._num_done = 0  # bytes before `_data`
        if self._data == codecs.BOM_UTF8:
            self._num_done, self._data = len(self._data), b""
        self._line, self._column = 1, 1  # of the beginning of `_data`

    def peek(self) -> str:
        """The next character that is no white space; '' at the end."""
        while True:
            while self._at < len(self._data) and self._data[self._at] in b" \t\r\n":
                self._at += 1
            if self._at < len(self._data):
                # One that is no ASCII belongs nowhere here, but in an error sentence.
                if found := self._window(4):
                    return found[0]
            elif self._ended:
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

    def objects(self, decode: Callable[[bytes], list[Any] | None]) -> Objects | None:
        """Steps over as many objects as can be had at once, and the comma after them."""
        if self.peek() != "{" or self._at < self._tried:
            return None
        if len(self._data) - self._at < _CHUNK and not self._ended:
            self._read(_CHUNK)
        batch = take_objects(self._data[self._at :], decode)
        if batch is None:
            self._tried = len(self._data)
        else:
            self._at += batch.end
        return batch

    def value(self) -> tuple[Any, bytes]:
        """Decodes the next value and steps over it; returns it and its text."""
        if not self.peek():
            raise self.error(_ENDS_EARLY)
        size = _WINDOW
        while True:
            window, shows_end = self._window(size), self._shows_end(size)
            try:
                value, end = _decode(window)
                # A number that ends where the text does, or in `1.` or `1e`, may go on.
                after = window[end : end + 1]
                goes_on = not after or after in ".eE"
                if shows_end or not goes_on or end < len(window) - _NEAR_END:
                    start = self._at
                    self._at += len(window[:end].encode())
                    return value, self._data[start : self._at]
            except json.JSONDecodeError as e:
                if shows_end or _is_final(e, window):
                    cut_off = shows_end and (
                        e.pos >= len(window) or e.msg.startswith(_OPEN_STRING)
                    )
                    message = _ENDS_EARLY if cut_off else e.msg
                    raise self.error(message, window[: e.pos]) from None
            except ValueError:
                raise self.error(ENDLESS_NUMBER) from None
            except RecursionError as e:
                raise self.error(str(e)) from None
            if size > _MAX_VALUE:
                raise self.error(f"a value of more than {_MAX_VALUE} bytes")
            # Doubled, so that a long value is not decoded again for every piece.
            if size < (held := len(self._data) - self._at):
                size *= 2
            else:
                self._read(max(_CHUNK, held))

    def error(self, message: str, after: str = "") -> DataError:
        """An error at the current place, or after a text that begins there."""
        line, column = self._place(self._data[: self._at] + after.encode())
        return DataError(f"{self.path}:{line}:{column}: not valid JSON: {message}")

    def _place(self, done: bytes) -> tuple[int, int]:
        """Line and column after some bytes from the beginning of `_data`."""
        *before, last = done.rsplit(b"\n", 1)
        if before:
            return self._line + 1 + before[0].count(b"\n"), 1 + _num_characters(last)
        return self._line, self._column + _num_characters(last)

    def _window(self, size: int) -> str:
        """The text of the next bytes, without a character that is cut off at their end."""
        data = self._data[self._at : self._at + size]
        try:
            return codecs.utf_8_decode(data, "strict", self._shows_end(size))[0]
        except UnicodeDecodeError as e:
            raise DataError(
                f"{self.path}: byte {self._num_done + self._at + e.start} is not UTF-8 "
                f"({e.reason}); JSON must be UTF-8"
            ) from None

    def _shows_end(self, size: int) -> bool:
        """Whether a window of so many bytes reaches the end of the file."""
        return self._ended and self._at + size >= len(self._data)

    def _read(self, size: int) -> None:
        done = self._data[: self._at]
        self._line, self._column = self._place(done)
        data = self._file.read(size)
        self._ended = not data
        self._data, self._at = self._data[self._at :] + data, 0
        self._tried -= len(done)
        self._num_done += len(done)


def _is_final(error: json.JSONDecodeError, window: str) -> bool:
    """Whether text after the window cannot mend it."""
    near_end = error.pos > len(window) - _NEAR_END
    return not near_end and not error.msg.startswith(_OPEN_STRING)


def _num_characters(data: bytes) -> int:
    return len(data.decode("utf-8", "replace"))
