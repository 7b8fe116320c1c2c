"""What a configuration message is: a frozen dataclass that stands for a protobuf message.

The classes of `schema` and `training_schema` are written with what is here, and `textproto` reads
it back to build the protobuf descriptors:

    number, text or enum     `mask_size: int = 32`, the default of the reference
    repeated                 `channel_means: tuple[float, ...] = ()`
    map                      `super_categories: Mapping[str, str] = ...`
    message with defaults    `train_config: TrainConfig = TrainConfig()`
    message that may lack    `scale_head_params: PredictionHeadConfig | None = None`
    member of a oneof        `fixed_shape_resizer: OneOf[FixedShapeResizerConfig] = None`
    required                 `num_classes: int`, no default
    not acted on (yet)       `batch_size: Training[int] = 32`, `Annotated[bool, Unused("...")]`
"""

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from deepmac.errors import ConfigError

T = TypeVar("T")


class FieldError(ConfigError):
    """A value that makes no sense: `path: what`. A reader of files puts the place before it.

    Attributes:
        path: names joined by dots, from the message that was checked down to the field.
        what: the rest of the sentence: the value and what is accepted.
    """

    def __init__(self, path: str, what: str):
        super().__init__(f"{path}: {what}" if path else what)
        self.path = path
        self.what = what


@dataclasses.dataclass(frozen=True)
class Unused:
    """A mark for fields of the reference that are understood and not acted on.

    Attributes:
        reason: in a few words, for `deepmac config validate`.
    """

    reason: str


class _OneOfMark:
    """See `OneOf`."""


OneOf = Annotated[T | None, _OneOfMark]
"""A field that excludes its neighbours: of all of them in a message exactly one is set."""

Evaluation = Annotated[T, Unused("`deepmac evaluate` takes it from the command line")]
"""A field of the reference's evaluation loop."""


@typing.dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,)
)
def message(cls: type[T]) -> type[T]:
    """Makes a subclass of `Message` a frozen dataclass."""
    return dataclasses.dataclass(frozen=True, slots=True, kw_only=True)(cls)


@message
class Message:
    """The base of all configuration messages.

    Attributes:
        set_fields: the fields that the file or an override has set, in the spelling used there.
            Not part of equality: a value is the same whether it was written or is the default.
    """

    set_fields: frozenset[str] = dataclasses.field(
        default=frozenset(), compare=False, repr=False
    )

    refused: ClassVar[Mapping[str, str]] = {}
    """Fields of the reference that would ask for something we do not have: name to reason."""

    aliases: ClassVar[Mapping[str, str]] = {}
    """Other spellings of fields: alias to name."""

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            _check_finite(field, getattr(self, field.name))
        members = [f.name for f in fields_of(type(self)) if f.is_one_of]
        chosen = [name for name in members if getattr(self, name) is not None]
        if len(chosen) > 1:
            raise FieldError(chosen[1], f"cannot be set together with '{chosen[0]}'")
        if members and not chosen:
            raise FieldError("", f"one of {', '.join(members)} must be set")
        self.check()

    def check(self) -> None:
        """Checks the values against each other; overridden where a message has rules.

        Raises:
            FieldError: naming the field, relative to this message.
        """

    @property
    def chosen(self) -> "Message":
        """The member of the oneof that is set."""
        members = (getattr(self, f.name) for f in fields_of(type(self)) if f.is_one_of)
        return next(m for m in members if m is not None)

    def spelling_of(self, field: "Field") -> str:
        """The name that a field was set under; its own when it was not set."""
        spellings = [
            field.name,
            *(a for a, n in self.aliases.items() if n == field.name),
        ]
        return next((s for s in spellings if s in self.set_fields), field.name)

    def require(self, field: str, ok: bool, what: str) -> None:
        """Raises a FieldError, `field: what, got VALUE`, unless `ok`."""
        if not ok:
            raise FieldError(field, f"{what}, got {show_value(getattr(self, field))}")

    def require_positive(self, *fields: str) -> None:
        """Raises a FieldError unless all these numbers are greater than 0."""
        for field in fields:
            self.require(field, getattr(self, field) > 0, "must be positive")

    def require_not_negative(self, *fields: str) -> None:
        """Raises a FieldError unless all these numbers are at least 0."""
        for field in fields:
            self.require(field, getattr(self, field) >= 0, "must not be negative")

    def require_fraction(self, *fields: str) -> None:
        """Raises a FieldError unless all these numbers lie in [0, 1]."""
        for field in fields:
            value = getattr(self, field)
            self.require(field, 0 <= value <= 1, "must lie between 0 and 1")


@message
class MapEntry(Message):
    """One entry of a map, as files spell it."""

    key: str
    value: str


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a message class, its annotation taken apart.

    Attributes:
        name: in the class and in files.
        kind: int, float, bool, str, an IntEnum or a Message class, of one value; `MapEntry` for maps.
        shape: how many values it holds.
        default: dataclasses.MISSING when the field is required.
        is_one_of: a member of the message's oneof.
        unused: why it is not acted on, if so.
    """

    name: str
    kind: type
    shape: typing.Literal["one", "repeated", "map"]
    default: Any
    is_one_of: bool
    unused: Unused | None

    @property
    def is_required(self) -> bool:
        """It has no default."""
        return self.default is dataclasses.MISSING

    @property
    def is_message(self) -> bool:
        """Its values are messages."""
        return issubclass(self.kind, Message)


@functools.cache
def fields_of(cls: type[Message]) -> tuple[Field, ...]:
    """The fields of a message class, in the order written."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(
        _field(field, hints[field.name])
        for field in dataclasses.fields(cls)
        if field.name != "set_fields"
    )


@functools.cache
def spellings_of(cls: type[Message]) -> dict[str, Field]:
    """The fields of a message class by name, and by each other spelling of it."""
    fields = {f.name: f for f in fields_of(cls)}
    return fields | {alias: fields[name] for alias, name in cls.aliases.items()}


def _field(field: "dataclasses.Field[Any]", hint: Any) -> Field:
    marks: list[Any] = []
    if typing.get_origin(hint) is Annotated:
        hint, *marks = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (a for a in typing.get_args(hint) if a is not type(None))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    shape: typing.Literal["one", "repeated", "map"] = "one"
    if origin is tuple:
        shape, hint = "repeated", arguments[0]
    elif origin is Mapping:
        if arguments != (str, str):
            raise TypeError(f"{field.name}: maps go from str to str, not {hint}")
        shape, hint = "map", MapEntry
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    unused = next((m for m in marks if isinstance(m, Unused)), None)
    return Field(field.name, hint, shape, default, _OneOfMark in marks, unused)


def _check_finite(field: Field, value: Any) -> None:
    """nan and inf are legal in the text format and sensible in no field of ours."""
    if field.kind is not float or value is None:
        return
    repeated = field.shape == "repeated"
    for i, number in enumerate(value if repeated else (value,)):
        if not math.isfinite(number):
            path = f"{field.name}[{i}]" if repeated else field.name
            raise FieldError(path, f"must be a finite number, got {number}")


def show_value(value: Any) -> str:
    """A value as error messages show it: as it would be written in a file."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(show_value, value))}]"
    return repr(value)
