"""tf.Example messages without TensorFlow: named lists of bytes, float32 or int64 numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from deepmac.errors import DataError

Feature = Sequence[bytes] | np.ndarray
"""A list of bytes, or float32 or int64 [n]."""


def encode(features: Mapping[str, Feature]) -> bytes:
    """A tf.Example in its wire form; features in the order of their names.

    Written by hand, so that the bytes of an image are copied once: protobuf's classes copy them
    again and again on the way.

    Args:
        features: name -> bytes, or numbers: integer arrays become int64, others float32.
    """
    entries: list[bytes] = []
    for name in sorted(features):
        key = name.encode()
        feature = _field(b"\x12", _feature(features[name]))
        entries += _field(b"\n", [b"\n", _varint(len(key)), key, *feature])
    return b"".join(_field(b"\n", entries))


def _feature(values: Feature) -> list[bytes]:
    """The parts of a Feature; a list without values is present all the same."""
    if not isinstance(values, np.ndarray):
        texts: list[bytes] = []
        for text in values:
            texts += (b"\n", _varint(len(text)), text)
        return _field(b"\n", texts)
    if values.dtype.kind in "iub":
        packed, tag = b"".join(map(_varint, values.tolist())), b"\x1a"
    else:
        packed, tag = values.astype("<f4").tobytes(), b"\x12"
    return _field(tag, [b"\n", _varint(len(packed)), packed] if packed else [])


def _field(tag: bytes, parts: list[bytes]) -> list[bytes]:
    """The parts of a field that holds those parts: a message or bytes.

    Args:
        tag: number and wire type of the field, `number << 3 | 2`: b"\n" is the first field.
        parts: of its content, to be written one after the other.
    """
    return [tag, _varint(sum(map(len, parts))), *parts]


def _varint(value: int) -> bytes:
    """7 bits a byte, lowest first; negative numbers as 64 bits in two's complement."""
    if 0 <= value < 128:
        return _BYTES[value]
    value &= (1 << 64) - 1
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    digits.append(value)
    return bytes(digits)


_BYTES = [bytes((value,)) for value in range(128)]


def decode(data: bytes) -> dict[str, Feature]:
    """The features of a tf.Example.

    A feature without a value is an empty list, whatever its type.

    Raises:
        DataError: the bytes are no tf.Example.
    """
    try:
        example = _Example.FromString(data)
    except message.DecodeError as e:
        raise DataError(f"not a tf.Example: {e}") from None
    return {name: _values(f) for name, f in example.features.feature.items()}


def _values(feature) -> Feature:
    kind = feature.WhichOneof("kind")
    if kind == "float_list":
        return np.array(feature.float_list.value, np.float32)
    if kind == "int64_list":
        return np.array(feature.int64_list.value, np.int64)
    return list(feature.bytes_list.value)


def _make_message_class() -> Any:
    """tensorflow/core/example/{example,feature}.proto, whose wire form is frozen."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        # Names of our own: TensorFlow registers its messages under its names in the same process.
        name="deepmac/example.proto",
        package="deepmac",
        syntax="proto3",
    )

    def add(to, name, number, kind, *, repeated=False, type_name=None, oneof=None):
        field = to.field.add(name=name, number=number, type=kind)
        field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        if type_name:
            field.type_name = f".deepmac.{type_name}"
        if oneof is not None:
            field.oneof_index = oneof

    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        add(file.message_type.add(name=name), "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes", "float", "int64"), start=1):
        type_name = f"{name.title()}List"
        add(
            feature,
            f"{name}_list",
            number,
            kinds.TYPE_MESSAGE,
            type_name=type_name,
            oneof=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, kinds.TYPE_STRING)
    add(entry, "value", 2, kinds.TYPE_MESSAGE, type_name="Feature")
    map_type = "Features.FeatureEntry"
    add(features, "feature", 1, kinds.TYPE_MESSAGE, repeated=True, type_name=map_type)
    example = file.message_type.add(name="Example")
    add(example, "features", 1, kinds.TYPE_MESSAGE, type_name="Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("deepmac.Example")
    return message_factory.GetMessageClass(found)


_Example = _make_message_class()
