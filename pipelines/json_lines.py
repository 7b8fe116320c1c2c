"""JSON as jobs write it: equal values give equal bytes."""

import json
from typing import Any

import orjson

from deepmac.errors import DataError


def dump_line(value: Any) -> bytes:
    """JSON in one line; equal values give equal bytes.

    What Python's JSON can hold and others' cannot survives too: text that is not Unicode, numbers
    that are not finite, and (as floating point) whole numbers of more than 64 bits.

    Raises:
        DataError: the value is nested too deeply.
    """
    try:
        line = orjson.dumps(
            value, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        )
        if b"null" not in line:  # else it may have been a number that is not finite
            return line
    except TypeError:
        pass
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise DataError("a value is nested too deeply to be written as JSON") from None
    return text.encode() + b"\n"


def load_line(line: bytes) -> Any:
    """The inverse of `dump_line` and `dump_document`."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


def dump_document(value: Any) -> bytes:
    """JSON for people and programs: sorted keys, indented."""
    try:
        return orjson.dumps(
            value,
            option=orjson.OPT_SORT_KEYS
            | orjson.OPT_INDENT_2
            | orjson.OPT_APPEND_NEWLINE,
        )
    except TypeError:  # a path that is no Unicode, say
        return json.dumps(value, sort_keys=True, indent=2).encode() + b"\n"
