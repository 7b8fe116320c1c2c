"""Whole JSON files, fast: for what is needed at once and fits into memory."""

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import orjson

from deepmac.data.files import open_file
from deepmac.errors import DataError

ENDLESS_NUMBER = "a whole number of more digits than Python reads"


@contextlib.contextmanager
def open_packed(path: str) -> Iterator[BinaryIO]:
    """A file to read; what gzip has packed is unpacked, also where the name does not say so.

    Raises:
        DataError: it cannot be opened, or read inside the block.
    """
    try:
        with open_file(path) as file:
            if path.endswith(".gz") or file.peek(2)[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise DataError(f"{path}: not a whole gzip file: {e}") from None
    except OSError as e:
        raise DataError(f"{path}: cannot be read: {e.strerror}") from None


def read_bytes(path: str) -> bytes:
    """The contents of a file, unpacked if gzip has packed it.

    Raises:
        DataError: it cannot be read.
    """
    with open_packed(path) as file:
        return file.read()


def read_json(path: str) -> Any:
    """What a JSON file holds (`.gz` too). Numbers are the nearest float64 to what is written.

    NaN and Infinity, which JSON does not know but many writers write, are read: whoever uses the
    numbers can name the object that has them.

    Raises:
        DataError: the file cannot be read or is not JSON; says line and column.
    """
    data = read_bytes(path)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _explain(data, path)


def read_json_lines(path: str) -> list[Any]:
    """The values of a file with one JSON value a line (`.gz` too); see `read_json`."""
    lines = read_bytes(path).splitlines()
    try:
        return [orjson.loads(line) for line in lines]
    except orjson.JSONDecodeError:
        return list(_explained_lines(lines, path))


def _explained_lines(lines: list[bytes], path: str) -> Iterator[Any]:
    for number, line in enumerate(lines, start=1):
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            yield _explain(line, path, number)


def _explain(data: bytes, path: str, line: int = 1) -> Any:
    """What the more lenient reader of the standard library makes of it, or why it cannot."""
    try:
        return json.loads(data)
    except json.JSONDecodeError as e:
        if not data.strip():
            raise DataError(f"{path}: is empty, not JSON") from None
        raise DataError(
            f"{path}:{line + e.lineno - 1}:{e.colno}: not valid JSON: {e.msg}"
        ) from None
    except UnicodeDecodeError as e:
        raise DataError(
            f"{path}: byte {e.start} is not UTF-8; JSON must be UTF-8"
        ) from None
    except RecursionError:
        raise DataError(f"{path}: not usable JSON: nested too deeply") from None
    except ValueError:
        raise DataError(f"{path}: not usable JSON: {ENDLESS_NUMBER}") from None
