"""JSON as jobs write it: equal values give equal bytes."""

import json
from typing import Any

import orjson


def dump_line(value: Any) -> bytes:
    """JSON in one line. Equal values give equal bytes; text that is not Unicode survives."""
    try:
        return orjson.dumps(
            value, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
        )
    except TypeError:  # lone surrogates, whole numbers beyond 64 bits
        return json.dumps(value, sort_keys=True).encode() + b"\n"


def load_line(line: bytes) -> Any:
    """The inverse of `dump_line`."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


def dump_document(value: Any) -> bytes:
    """JSON for people and programs: sorted keys, indented."""
    return orjson.dumps(
        value,
        option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )
