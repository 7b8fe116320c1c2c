"""NumPy's numbers and arrays inside of JSON-like values, as Python's own."""

from typing import Any

import numpy as np

_PLAIN = frozenset({int, float, str, bool, bytes, type(None)})


def plain(value: Any) -> Any:
    """The value with numbers and lists where it held NumPy's; a part without any is not copied.

    A mask stays an array.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value if is_mask_array(value) else value.tolist()
    if isinstance(value, dict):
        if _PLAIN.issuperset(map(type, value.values())):
            return value
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        if type(value) is list and _PLAIN.issuperset(map(type, value)):
            return value
        return [plain(v) for v in value]
    return value


def is_mask_array(value: Any) -> bool:
    """Whether it is an array of bool [height, width]."""
    return isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype == bool
