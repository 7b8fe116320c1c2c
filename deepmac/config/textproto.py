"""Text protos <-> message classes, by protobuf's own `text_format`.

    document = read(text, PipelineConfig, "my.config")    the file's own mistakes are found here
    document.override("model.center_net.num_classes=5")   as `--set` has it
    config = document.build()                             values are checked here
    to_text(config)                                       only what was set, or differs from defaults

Every mistake is a ConfigError of one line, `my.config:61:7: model.center_net.num_classes: what`.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from google.protobuf import text_format

from deepmac.config.descriptors import protobuf_class
from deepmac.config.explain import explain, place_of, syntax, unknown_field
from deepmac.config.message import Field, FieldError, Message, fields_of, spellings_of
from deepmac.config.places import Entry, read_entries
from deepmac.config.printing import quote
from deepmac.errors import ConfigError
from deepmac.text import is_unicode

M = TypeVar("M", bound=Message)


class Document(Generic[M]):
    """A message on its way from a file to a checked value.

    Attributes:
        source: what errors call the file.
        ignored: places and paths of fields that were skipped because nobody knows them (only of
            lenient reading).
    """

    def __init__(self, cls: type[M], raw: Any, entries: list[Entry], source: str):
        self._cls = cls
        self._raw = raw
        self.source = source
        self._places: dict[str, str] = {}
        for entry in entries:
            line, column = entry.name_at if _opens(entry) else entry.value_at
            self._places.setdefault(entry.path, f"{source}:{line}:{column}")
        unknown = {e.path: e for e in reversed(entries) if e.parent and e.field is None}
        self.ignored = [
            f"{source}:{e.name_at[0]}:{e.name_at[1]}: {e.path}"
            for e in sorted(unknown.values(), key=lambda e: e.name_at)
        ]

    def override(self, assignment: str) -> None:
        """Sets one field: `path.to.field=value`, the value written as in a file.

        What was in the field before is gone: a repeated field is replaced by a list `[1, 2]`, a
        message by `{ ... }`. Quotes around text may be left out. `[i]` after a name picks an
        element of a repeated message. Setting a member of a oneof unsets the other members.

        Raises:
            ConfigError: no such field, or not a value for it.
        """
        if not is_unicode(assignment):
            raise ConfigError(f"--set {assignment!a}: is not UTF-8")
        place = f"--set {' '.join(assignment.splitlines())}"
        path, equals, value = assignment.partition("=")
        path = path.strip()
        if not (path and equals and path.isprintable()):
            raise ConfigError(f"{place}: must be path.to.field=value")
        try:
            *parents, last = path.split(".")
            cls, raw = self._descend(parents)
            _find_field(cls, last, parents, self._cls)
            _replace_field(raw, cls, parents, last, value.strip())
        except FieldError as e:
            raise ConfigError(f"{place}: {e}") from None
        below = (f"{path}.", f"{path}[")
        for stale in [p for p in self._places if p.startswith(below)]:
            del self._places[stale]
        self._places[path] = place
        for around in _outwards(path):
            self._places.setdefault(around, place)

    def _descend(self, names: list[str]) -> tuple[type[Message], Any]:
        """The message at a path; messages that are not there yet are made."""
        cls: type[Message] = self._cls
        raw = self._raw
        for depth, step in enumerate(names):
            path = ".".join(names[: depth + 1])
            name, index = _split_index(step)
            field = _find_field(cls, name, names[:depth], self._cls)
            if not field.is_message:
                raise FieldError(path, "is a value, it has no fields")
            if field.shape == "one":
                if index is not None:
                    raise FieldError(path, "is not repeated, it takes no [index]")
                raw = getattr(raw, name)
                raw.SetInParent()
            else:
                elements = getattr(raw, name)
                if index is None or index >= len(elements):
                    raise FieldError(
                        path,
                        f"there are {len(elements)} of {name}: pick one, {name}[0] is the first, "
                        f"or replace them all by a list",
                    )
                raw = elements[index]
            cls = field.kind
        return cls, raw

    def build(self) -> M:
        """The message, every rule of its class checked.

        Raises:
            ConfigError: a value breaks a rule, or a required field is missing.
        """
        with self.located():
            return _from_protobuf(self._raw, self._cls)

    @contextlib.contextmanager
    def located(self) -> Iterator[None]:
        """Inside, a FieldError becomes a ConfigError that says where the field is."""
        try:
            yield
        except FieldError as e:
            raise ConfigError(f"{self.place_of(e.path)}: {e}") from None

    def place_of(self, path: str) -> str:
        """`file:line:column` of a field, or of the nearest thing around it that was written."""
        for around in (path, *_outwards(path)):
            for spelling in (around, f"{around}[0]"):
                if spelling in self._places:
                    return self._places[spelling]
        return f"{self.source}:1:1"


def _outwards(path: str) -> Iterator[str]:
    """`a.b[1].c` -> `a.b[1]`, `a.b`, `a`."""
    while len(shorter := re.sub(r"(\[\d+\]|\.?[^.\[]*)$", "", path, count=1)) < len(
        path
    ):
        path = shorter
        if path:
            yield path


def read(text: str, cls: type[M], source: str, *, lenient: bool = False) -> Document[M]:
    """Parses a text proto.

    Args:
        text: the whole of it.
        cls: the class of the outermost message.
        source: what to call it in errors, usually the path.
        lenient: skip fields that are not known instead of refusing them; see `Document.ignored`.

    Raises:
        ConfigError: it is not a text proto of this class.
    """
    raw = protobuf_class(cls)()
    try:
        text_format.Parse(text, raw, allow_unknown_field=lenient)
    except text_format.ParseError as e:
        entries = read_entries(text, cls)
        line, column = place_of(e, entries)
        what = explain(e, entries, cls) or syntax(e, text)
        raise ConfigError(f"{source}:{line}:{column}: {what}") from None
    except RecursionError:
        raise ConfigError(f"{source}: messages are nested too deeply") from None
    return Document(cls, raw, read_entries(text, cls), source)


def _find_field(
    cls: type[Message], name: str, parents: list[str], root: type[Message]
) -> Field:
    known = spellings_of(cls)
    if name not in known:
        raise unknown_field(cls, name, parents, root)
    return known[name]


def _replace_field(
    raw: Any, cls: type[Message], parents: list[str], name: str, value: str
) -> None:
    """Puts a value, as text, into a field of a protobuf message."""
    path = ".".join([*parents, name])
    field = spellings_of(cls)[name]
    if field.kind is str and value[:1] not in ("'", '"', "["):
        value = quote(value)
    text = f"{name}: {value}"
    given = type(raw)()
    try:
        text_format.Parse(text, given)
    except text_format.ParseError as e:
        error = explain(e, read_entries(text, cls), cls)
        if error is None:
            raise FieldError(path, syntax(e, text)) from None
        inner = ".".join([*parents, error.path])
        raise FieldError(inner, error.what) from None
    if any(other.name != name for other, _ in given.ListFields()):
        raise FieldError(path, f"takes one value, got '{value}'")
    for spelling, other in spellings_of(cls).items():
        if other.name == field.name:
            raw.ClearField(spelling)
    raw.MergeFrom(given)


def _split_index(step: str) -> tuple[str, int | None]:
    """`name[2]` -> (`name`, 2); `name` -> (`name`, None)."""
    match = re.fullmatch(r"(.*)\[(\d+)\]", step)
    return (match[1], int(match[2])) if match else (step, None)


def _opens(entry: Entry) -> bool:
    """What is wrong with a whole message is shown at its name; with a value, at the value."""
    return entry.value in ("{", "<")


def _from_protobuf(raw: Any, cls: type[M]) -> M:
    """A protobuf message as a checked value; paths of errors start at this message."""
    values: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    for spelling, field in spellings_of(cls).items():
        value = getattr(raw, spelling)
        if not (raw.HasField(spelling) if field.shape == "one" else len(value)):
            continue
        if field.name in spelled:
            raise FieldError(
                spelling,
                f"is another spelling of '{spelled[field.name]}', which is set too",
            )
        spelled[field.name] = spelling
        values[field.name] = _field_value(field, spelling, value)
    for field in fields_of(cls):
        if field.is_required and field.name not in values:
            raise FieldError(field.name, "is missing")
    try:
        return cls(set_fields=frozenset(spelled.values()), **values)
    except FieldError as e:
        name, rest = re.fullmatch(r"([^.\[]*)(.*)", e.path, re.DOTALL).groups()  # pyright: ignore
        raise FieldError(spelled.get(name, name) + rest, e.what) from None


def _field_value(field: Field, spelling: str, value: Any) -> Any:
    if field.shape == "one":
        return _one_value(field, spelling, value)
    elements = [
        _one_value(field, f"{spelling}[{i}]", element)
        for i, element in enumerate(value)
    ]
    if field.shape == "repeated":
        return tuple(elements)
    entries: dict[str, str] = {}
    for i, entry in enumerate(elements):
        if entry.key in entries:
            raise FieldError(f"{spelling}[{i}].key", f"is there twice: '{entry.key}'")
        entries[entry.key] = entry.value
    return entries


def _one_value(field: Field, path: str, value: Any) -> Any:
    if field.is_message:
        try:
            return _from_protobuf(value, field.kind)
        except FieldError as e:
            raise FieldError(f"{path}.{e.path}".rstrip("."), e.what) from None
    return field.kind(value)
