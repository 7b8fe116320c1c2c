"""Message classes -> protobuf descriptors, made when they are first needed: no protoc step."""

import enum
import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from deepmac.config.message import Field, Message, fields_of, spellings_of

_PACKAGE = "deepmac"

_SCALARS = {
    bool: descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    int: descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    # The reference has single precision; with double 0.1 stays 0.1 when printed.
    float: descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    str: descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}


@functools.cache
def protobuf_class(cls: type[Message]) -> type[Any]:
    """The protobuf class whose text format is that of a message class.

    Every field of `cls` is there under its name and under each alias. A map is a repeated message
    of `key` and `value`, which reads the same and keeps the order and the repeated keys.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"deepmac/{cls.__name__}.proto", package=_PACKAGE, syntax="proto2"
    )
    for kind in _reachable(cls):
        if issubclass(kind, Message):
            _add_message(file, kind)
        elif issubclass(kind, enum.Enum):
            _add_enum(file, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{_PACKAGE}.{cls.__name__}")
    )


def _reachable(cls: type) -> list[type]:
    """The message and enum classes that a message class is made of, itself first."""
    found = [cls]
    for kind in found:  # grows while it is walked
        if not issubclass(kind, Message):
            continue
        for field in fields_of(kind):
            composite = issubclass(field.kind, (Message, enum.Enum))
            if composite and field.kind not in found:
                found.append(field.kind)
    return found


def _add_message(file: descriptor_pb2.FileDescriptorProto, cls: type[Message]) -> None:
    proto = file.message_type.add(name=cls.__name__)
    if any(field.is_one_of for field in fields_of(cls)):
        proto.oneof_decl.add(name="choice")
    for name, field in spellings_of(cls).items():
        _add_field(proto, name, field)


def _add_field(proto: descriptor_pb2.DescriptorProto, name: str, field: Field) -> None:
    added = proto.field.add(
        name=name,
        # The numbers never leave the process: the text format has names only.
        number=len(proto.field) + 1,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
        if field.shape == "one"
        else descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
    )
    if field.is_one_of:
        added.oneof_index = 0
    if field.is_message:
        added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        added.type_name = f".{_PACKAGE}.{field.kind.__name__}"
    elif issubclass(field.kind, enum.Enum):
        added.type = descriptor_pb2.FieldDescriptorProto.TYPE_ENUM
        added.type_name = f".{_PACKAGE}.{_scope(field.kind)}.{field.kind.__name__}"
    else:
        added.type = _SCALARS[field.kind]


def _add_enum(file: descriptor_pb2.FileDescriptorProto, cls: type[enum.Enum]) -> None:
    # In protobuf the names of values belong to what surrounds the enum, and two have a DEFAULT.
    proto = file.message_type.add(name=_scope(cls)).enum_type.add(name=cls.__name__)
    for member in cls:
        proto.value.add(name=member.name, number=member.value)


def _scope(cls: type) -> str:
    return f"{cls.__name__}Scope"
