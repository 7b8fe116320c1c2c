"""What JSON must look like, said once, and what of it does not: files of ours can be damaged."""

from collections.abc import Iterable
from typing import Any

from deepmac.text import is_unicode, short

_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def misfit(value: Any, shape: Any, place: str = "") -> str | None:
    """The first part of JSON that is not as it must be, in words; None where all is.

    Args:
        value: decoded JSON.
        shape: a type, of which `object` is anything; `[shape]`, a list of any length; a tuple of
            shapes, a list of that length; `{"key": shape}`, an object that has at least these
            keys; `{str: shape}`, an object with any keys.
        place: what the value is called: dotted keys and `[index]`.
    """
    if isinstance(shape, type):
        return None if _is(value, shape) else _wrong(place, value, _WORDS[shape])
    parts: Iterable[tuple[str, Any, Any]]
    if isinstance(shape, list | tuple):
        if not isinstance(value, list):
            return _wrong(place, value, _WORDS[list])
        if isinstance(shape, tuple) and len(value) != len(shape):
            return _wrong(place, value, f"a list of {len(shape)}")
        shapes = shape if isinstance(shape, tuple) else shape * len(value)
        parts = ((f"{place}[{i}]", v, shapes[i]) for i, v in enumerate(value))
    elif not isinstance(value, dict):
        return _wrong(place, value, _WORDS[dict])
    elif str in shape:
        parts = ((_below(place, k), v, shape[str]) for k, v in value.items())
    else:
        for key in shape:
            if key not in value:
                return f"{place or 'it'} has no '{key}'"
        parts = ((_below(place, k), value[k], s) for k, s in shape.items())
    return next(filter(None, (misfit(v, s, name) for name, v, s in parts)), None)


def _is(value: Any, kind: type) -> bool:
    if kind is str:
        return isinstance(value, str) and is_unicode(value)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _below(place: str, key: str) -> str:
    key = key if key.isprintable() else repr(key)
    return f"{place}.{key}" if place else key


def _wrong(place: str, value: Any, wanted: str) -> str:
    return f"{place or 'it'} is {short(value)}, not {wanted}"
