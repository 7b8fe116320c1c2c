"""Columns of numbers out of lists of JSON objects, with errors that name the object."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from deepmac.errors import DataError
from deepmac.evaluation.outlines import Outlines
from deepmac.evaluation.run_lengths import RunLengths
from deepmac.evaluation.typed_results import are_typed, field_of
from deepmac.text import short

_Columns = TypeVar("_Columns", bound=Any)

Place = Callable[[int], str]
"""Says where row i comes from: the beginning of an error sentence."""


def column(items: Sequence[Any], key: str, place: Place) -> list[Any]:
    """`item[key]` of every item; they are alike (see `typed_results`).

    Raises:
        DataError: an item is not an object, or has no such key.
    """
    if are_typed(items):
        return field_of(items, key)
    try:
        return [item[key] for item in items]
    except (KeyError, TypeError, IndexError):
        pass
    for row, item in enumerate(items):
        if not isinstance(item, dict):
            raise DataError(f"{place(row)} is not an object but {short(item)}")
        if key not in item:
            raise DataError(f"{place(row)} has no '{key}'{count(items, key)}")
    raise AssertionError(key)


def optional(items: Sequence[Any], key: str) -> list[Any]:
    """`item.get(key)` of every object; they are alike."""
    if are_typed(items):
        return field_of(items, key)
    return [item.get(key) for item in items]


def count(items: Sequence[Any], key: str) -> str:
    """` (3 in all)`: how many lack a key, where it is more than one."""
    lacking = sum(isinstance(i, dict) and key not in i for i in items)
    return f" ({lacking} in all)" if lacking > 1 else ""


def index_of(values: Sequence[Any], known: dict[Any, int], place: Place) -> np.ndarray:
    """Position of each id, int64 [N]; -1 where it is not known.

    Raises:
        DataError: an id is a list, an object, true or false.
    """
    try:
        # true would be the id 1
        if bool not in set(map(type, values)):
            return np.array([known.get(v, -1) for v in values], np.int64)
    except TypeError:
        pass
    row = next(i for i, v in enumerate(values) if isinstance(v, bool | list | dict))
    raise DataError(f"{place(row)} has {short(values[row])} where an id belongs")


def numbers(values: Sequence[Any], name: str, place: Place) -> np.ndarray:
    """float64 [N], exactly the JSON numbers.

    Raises:
        DataError: a value is not a number, or not finite.
    """
    if not {type(v) for v in values} <= {int, float}:
        for row, value in enumerate(values):
            # NumPy's own numbers are welcome from Python, text that looks like a number is not.
            if isinstance(value, bool) or not isinstance(value, _NUMBERS):
                raise DataError(f"{place(row)}: {name} is {short(value)}, not a number")
    try:
        result = np.array(values, np.float64).reshape(len(values))
    except OverflowError:
        row = next(i for i, v in enumerate(values) if abs(v) > sys.float_info.max)
        raise DataError(f"{place(row)}: {name} is beyond any number") from None
    if not np.isfinite(result).all():
        bad = np.flatnonzero(~np.isfinite(result))
        more = f" ({len(bad)} in all)" if len(bad) > 1 else ""
        raise DataError(
            f"{place(int(bad[0]))}: {name} is {result[bad[0]]}{more}, not a finite number"
        )
    return result


def boxes(values: Sequence[Any], name: str, place: Place) -> np.ndarray:
    """float64 [N, 4] of lists of four finite numbers.

    Raises:
        DataError: a value is something else.
    """
    for row, value in enumerate(values):
        if not isinstance(value, list | tuple | np.ndarray) or len(value) != 4:
            raise DataError(f"{place(row)}: {name} is {short(value)}, not four numbers")
    flat = [v for value in values for v in value]
    return numbers(flat, name, lambda i: place(i // 4)).reshape(-1, 4)


def take_rows(columns: _Columns, rows: np.ndarray) -> _Columns:
    """A dataclass of columns (arrays, lists, masks) as long as each other, with some of their rows.

    Empty ones stay empty; what is no column stays what it is.
    """
    changes = {}
    for field in dataclasses.fields(columns):
        values = getattr(columns, field.name)
        if isinstance(values, np.ndarray) and len(values):
            changes[field.name] = values[rows]
        elif isinstance(values, list) and values:
            changes[field.name] = [values[i] for i in rows.tolist()]
        elif isinstance(values, RunLengths | Outlines) and len(values):
            changes[field.name] = values.take(rows)
    return dataclasses.replace(columns, **changes)


_NUMBERS = (int, float, np.integer, np.floating)
