"""COCO results of the usual forms, decoded into typed objects: several times faster than into dicts.

What has another form, be it wrong or only unusual, becomes dicts and goes the general way, which
knows what to say. Values are those of `json.loads`; where a floating-point number is
meant, that of the number written.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from deepmac.data.json_batches import decode_objects


class TypedMask(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A compressed RLE as JSON has it."""

    size: tuple[int, int]
    counts: str


class TypedResult(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What every result has."""

    image_id: int | str
    category_id: int | str
    score: float


class MaskResult(TypedResult, frozen=True, gc=False, forbid_unknown_fields=True):
    """A result with a mask and no box."""

    segmentation: TypedMask


class BoxResult(TypedResult, frozen=True, gc=False, forbid_unknown_fields=True):
    """A result with a box and no mask."""

    bbox: tuple[float, float, float, float]


class BoxMaskResult(TypedResult, frozen=True, gc=False, forbid_unknown_fields=True):
    """A result with both."""

    bbox: tuple[float, float, float, float]
    segmentation: TypedMask


TYPES = (MaskResult, BoxResult, BoxMaskResult)
_DECODERS = {kind: msgspec.json.Decoder(list[kind]) for kind in TYPES}


def decoder_like(first: Any) -> Callable[[bytes], list[Any] | None]:
    """What decodes lists of results of the form of one result, a dict.

    Lists that hold anything else become dicts, as of `json_batches.decode_objects`.
    """
    keys = set(first) if isinstance(first, dict) else set()
    kind = next((k for k in TYPES if set(k.__struct_fields__) == keys), None)
    if kind is None:
        return decode_objects
    decoder = _DECODERS[kind]

    def decode(data: bytes) -> list[Any] | None:
        try:
            return decoder.decode(data)
        except msgspec.DecodeError:
            return decode_objects(data)

    return decode


def alike(results: Sequence[Any]) -> Sequence[Any]:
    """The results, all of one type; as dicts where they were of several."""
    kinds = set(map(type, results))
    if len(kinds) <= 1 or kinds.isdisjoint(TYPES):
        return results
    return as_dicts(results)


def as_dicts(values: Sequence[Any]) -> list[Any]:
    """The same without typed objects, as `json.loads` would have given them."""
    return [
        msgspec.to_builtins(v) if isinstance(v, msgspec.Struct) else v for v in values
    ]


def are_typed(items: Sequence[Any]) -> bool:
    """Whether items that are alike are typed objects."""
    return bool(items) and isinstance(items[0], msgspec.Struct)


def field_of(items: Sequence[Any], key: str) -> list[Any]:
    """A field of typed objects that are alike; None for each where they have no such field."""
    if key not in items[0].__struct_fields__:
        return [None] * len(items)
    return list(map(operator.attrgetter(key), items))
