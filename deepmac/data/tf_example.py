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

    Args:
        features: name -> bytes, or numbers: integer arrays become int64, others float32.
    """
    example = _Example()
    for name, values in features.items():
        feature = example.features.feature[name]
        if not isinstance(values, np.ndarray):
            # Setting the list, rather than adding to it, makes empty lists present too.
            feature.bytes_list.value[:] = values
            feature.bytes_list.SetInParent()
        elif values.dtype.kind in "iub":
            feature.int64_list.value[:] = values.astype(np.int64).tolist()
            feature.int64_list.SetInParent()
        else:
            feature.float_list.value[:] = values.astype(np.float32).tolist()
            feature.float_list.SetInParent()
    return example.SerializeToString(deterministic=True)


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
