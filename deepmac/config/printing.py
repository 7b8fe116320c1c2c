"""Message classes -> text protos."""

import dataclasses
import enum
import textwrap
from collections.abc import Iterator
from typing import Any

from google.protobuf import text_encoding

from deepmac.config.message import Field, Message, fields_of

_WIDTH = 88


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a text proto.

    Attributes:
        text: without the line's end.
        is_default: shows a value that nobody has set.
    """

    text: str
    is_default: bool


def to_text(value: Message) -> str:
    """A message as a text proto.

    It has what was set and what differs from its default, in the spelling that was read, repeated
    fields in their order. Read again it gives an equal value with the same fields set.
    """
    return "".join(f"{line.text}\n" for line in lines_of(value))


def lines_of(
    value: Message, *, with_defaults: bool = False, indent: str = ""
) -> Iterator[Line]:
    """The lines of `to_text`.

    Args:
        value: the message.
        with_defaults: show every field, also those that were not set.
        indent: stands before each line.
    """
    for field in fields_of(type(value)):
        name = value.spelling_of(field)
        content = getattr(value, field.name)
        written = name in value.set_fields or content != field.default
        if written or (with_defaults and content is not None):
            for line in _field_lines(field, name, content, with_defaults, indent):
                yield line if written else Line(line.text, is_default=True)


def quote(text: str) -> str:
    """Text as a text proto has it: in quotes, special characters escaped."""
    return f'"{text_encoding.CEscape(text.encode(), True)}"'


def _field_lines(
    field: Field, name: str, content: Any, with_defaults: bool, indent: str
) -> Iterator[Line]:
    if field.shape == "map":
        for key, text in content.items():
            pair = f"key: {_scalar(key)} value: {_scalar(text)}"
            yield Line(f"{indent}{name} {{ {pair} }}", is_default=False)
    elif field.is_message:
        for element in content if field.shape == "repeated" else (content,):
            inner = list(
                lines_of(element, with_defaults=with_defaults, indent=f"{indent}  ")
            )
            if inner:
                yield Line(f"{indent}{name} {{", is_default=False)
                yield from inner
                yield Line(f"{indent}}}", is_default=False)
            else:
                yield Line(f"{indent}{name} {{}}", is_default=False)
    elif field.shape == "repeated":
        yield from _list_lines(f"{indent}{name}: ", [_scalar(v) for v in content])
    else:
        yield Line(f"{indent}{name}: {_scalar(content)}", is_default=False)


def _list_lines(start: str, elements: list[str]) -> Iterator[Line]:
    """`name: [a, b, c]`, over several lines when it is long."""
    one_line = f"{start}[{', '.join(elements)}]"
    if len(one_line) <= _WIDTH or any(e.startswith('"') for e in elements):
        yield Line(one_line, is_default=False)
        return
    indent = " " * (len(start) - len(start.lstrip()))
    inner = f"{indent}  "
    yield Line(f"{start}[", is_default=False)
    wrapped = textwrap.wrap(
        ", ".join(elements), _WIDTH, initial_indent=inner, subsequent_indent=inner
    )
    for text in wrapped:
        yield Line(text, is_default=False)
    yield Line(f"{indent}]", is_default=False)


def _scalar(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quote(value)
    return repr(value)
