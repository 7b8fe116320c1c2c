"""Changes to bytes, to text and to JSON values, as fuzzers make them."""

import copy
import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

MAX_BYTES = 1 << 16
_NUMBERS = (
    *(0, 1, -1, 7, 16, 32, 64, 100, 127, 128, 255, 256, 1000, 1024, 4096, 32767, 32768, 65535),
    *(65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1),
)  # fmt: skip


def mutate_bytes(
    rng: random.Random, data: bytes, other: bytes, tokens: Sequence[bytes] = ()
) -> bytes:
    """A few changes in a row; `tokens` are what the format is made of."""
    changed = bytearray(data[:MAX_BYTES])
    for _ in range(1 << rng.randrange(4)):
        _change(rng, changed, other, tokens)
    return bytes(changed[:MAX_BYTES])


def _change(
    rng: random.Random, data: bytearray, other: bytes, tokens: Sequence[bytes]
) -> None:
    at = rng.randrange(len(data) + 1)
    length = min(1 << rng.randrange(8), len(data) - at)
    match rng.randrange(10):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(data):
            data[at] = rng.randrange(256)
        case 2:
            number = rng.choice(_NUMBERS) * rng.choice((1, 1, -1))
            size = rng.choice((1, 2, 4, 8))
            order = rng.choice("<>")
            packed = struct.pack(order + "Q", number % 2 ** (8 * size))
            data[at : at + size] = packed[:size] if order == "<" else packed[-size:]
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = data[at : at + length] * rng.randrange(1, 4)
        case 5:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        case 6 if rng.random() < 0.2:
            del data[at:]
        case 7 if other:
            start = rng.randrange(len(other))
            piece = other[start : start + (1 << rng.randrange(10))]
            data[at : at + rng.choice((0, len(piece)))] = piece
        case 8 if tokens:
            data[at : at + rng.choice((0, length))] = rng.choice(tokens)
        case _:
            there = rng.randrange(len(data) + 1)
            data[at : at + length] = data[there : there + length]


# JSON.

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1.0, 1e-320, 1e308, -1e308, 5e-324),
    *(float("nan"), float("inf"), -float("inf"), 255, 2**31 - 1, 2**31, 2**32 - 1, 2**32),
    *(2**53 + 1, -(2**63), 2**63 - 1, 2**63, 2**64, 10**400, -(10**400), 1e6, 1e7, 65536.5),
    *("", "0", "1", "-1", "1.0", "a", "\0", "\n", "\ud800", "\u2028", "é", "x" * 300, "/", ".."),
    *([], {}, [[]], [{}], [None], [0], {"": 0}, [1, 2, 3, 4], [1, 2, 3, 4, 5, 6], {"size": [1, 1]}),
)  # fmt: skip


def mutate_json(
    rng: random.Random, data: bytes, other: bytes, keys: Sequence[str] = ()
) -> bytes:
    """Changes values inside a JSON document; now and then its bytes as well."""
    if rng.random() < 0.1:
        return mutate_bytes(rng, data, other, JSON_TOKENS)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(rng, data, other, JSON_TOKENS)
    for _ in range(1 << rng.randrange(3)):
        value = _change_value(rng, value, keys)
    try:
        return json.dumps(value).encode()[:MAX_BYTES]
    except (ValueError, RecursionError):  # two swaps have tied a knot
        return data


JSON_TOKENS = tuple(
    b'{ } [ ] , : " \\ null true NaN Infinity 1e999 -0 0.1e-5 \\ud800 \xff \xef\xbb\xbf'.split()
)


def _change_value(rng: random.Random, root: Any, keys: Sequence[str]) -> Any:
    holder, key = _choose(rng, root)
    if holder is None:
        return _odd_value(rng) if rng.random() < 0.1 else root
    match rng.randrange(8):
        case 0 | 1 | 2:
            holder[key] = _odd_value(rng)
        case 3:
            del holder[key]
        case 4 if isinstance(holder, list):
            holder.insert(key, holder[rng.randrange(len(holder))])
        case 5 if isinstance(holder, dict) and keys:
            holder[rng.choice(keys)] = rng.choice((_odd_value(rng), holder[key]))
        case 6:
            value = holder[key]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and abs(value) < 1e300:
                factor = rng.choice((-1, 2, 0.5, 10, 1e3, 1e9))
                holder[key] = value * factor + rng.choice((0, 1, -1))
            else:
                holder[key] = [value]
        case _:
            there, place = _choose(rng, root)  # values change places
            assert there is not None
            holder[key], there[place] = there[place], holder[key]
    return root


def _odd_value(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(ODD_VALUES))


def _choose(rng: random.Random, root: Any) -> tuple[Any, Any]:
    """A list or object, and an index or key of it: deep ones as often as shallow ones."""
    holder, key, value = None, None, root
    while (
        isinstance(value, list | dict)
        and value
        and (holder is None or rng.random() < 0.85)
    ):
        holder = value
        key = (
            rng.randrange(len(value))
            if isinstance(value, list)
            else rng.choice(list(value))
        )
        value = holder[key]
    return holder, key


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON, and what passes for it, can hold."""
    leaves = (
        st.sampled_from(ODD_VALUES[:-10])
        | st.integers(-5, 50)
        | st.floats()
        | st.text(max_size=5)
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=6)
            | st.dictionaries(st.text(max_size=5), inner, max_size=4)
        ),
        max_leaves=12,
    )


# Inputs of several kinds: the first byte says which.

Mutator = Callable[[random.Random, bytes, bytes], bytes]


def mutate_kinds(
    rng: random.Random, data: bytes, other: bytes, mutators: Sequence[Mutator]
) -> bytes:
    """Changes the rest of an input as its kind wants it; seldom the kind."""
    kind = (data[0] if data else 0) % len(mutators)
    same = bool(other) and other[0] % len(mutators) == kind
    if rng.random() < 0.01:
        return bytes([rng.randrange(len(mutators))]) + data[1:]
    rest = mutators[kind](rng, data[1:], other[1:] if same else data[1:])
    return bytes([kind]) + rest
