"""Parse errors, in our words: the field, what it takes, what was probably meant."""

import difflib
import enum
import re

from google.protobuf import text_format

from deepmac.config.message import Field, FieldError, Message, fields_of, spellings_of
from deepmac.config.places import Entry, Place
from deepmac.errors import did_you_mean, one_of
from deepmac.text import one_line


def place_of(error: text_format.ParseError, entries: list[Entry]) -> Place:
    """Line and column of a parse error."""
    line, column = error.GetLine(), error.GetColumn()
    if line is not None and column is not None:
        return line, column
    # Inside a field that is skipped the parser names the token and not the place.
    token = str(error).removeprefix("Invalid field value: ")
    skipped = (e for e in entries if e.field is None and e.value == token)
    return next((e.value_at for e in skipped), (1, 1))


def explain(
    error: text_format.ParseError, entries: list[Entry], root: type[Message]
) -> FieldError | None:
    """The parser's error in our words; None when it is about the grammar, not about a field."""
    at = (error.GetLine(), error.GetColumn())
    for i, entry in enumerate(entries):
        field = entry.field
        if entry.parent is None:
            continue
        if entry.name_at == at and field is None:
            parents = entry.path.split(".")[:-1]
            return unknown_field(entry.parent, entry.name, parents, root)
        if entry.name_at == at and field is not None and field.is_one_of:
            return FieldError(entry.path, _oneof_conflict(entry, entries[:i]))
        if entry.value_at != at or field is None:
            continue
        twice = next((e for e in entries[:i] if e.path == entry.path), None)
        if twice and "multiple" in str(error):
            return FieldError(
                entry.path, f"is there twice, first in line {twice.name_at[0]}"
            )
        what = _wrong_value(field, entry.value, str(error))
        return FieldError(entry.path, what) if what else None
    return None


def _wrong_value(field: Field, value: str, message: str) -> str | None:
    """What a field takes instead of this token."""
    if field.is_message and value not in ("{", "<"):
        return f"is a message, it takes {{ ... }}, got '{value}'"
    if field.is_message or re.search(r'Expected "[:{}\[\],]"', message):
        return None
    if field.kind is bool:
        hint = did_you_mean(value, ("true", "false"))
        return f"must be true or false, got '{value}'{hint}"
    if field.kind is float:
        return f"must be a number, got '{value}'"
    if issubclass(field.kind, enum.Enum):
        names = [m.name for m in field.kind]
        hint = did_you_mean(value, names)
        return f"must be one of {one_of(names)}, got '{value}'{hint}"
    if field.kind is int:
        size = " of 32 bits" if "out of range" in message.lower() else ""
        return f"must be a whole number{size}, got '{value}'"
    if value[:1] not in ("'", '"'):
        return f"must be text in quotes, got '{value}'"
    return "the closing quote is missing" if "ending quote" in message else None


def _oneof_conflict(entry: Entry, before: list[Entry]) -> str:
    message_path = entry.path[: -len(entry.name)]
    for other in reversed(before):
        is_sibling = other.path == message_path + other.name
        if is_sibling and other.field and other.field.is_one_of:
            return (
                f"cannot be set together with '{other.name}' (line {other.name_at[0]})"
            )
    return "cannot be set together with another choice"


def syntax(error: text_format.ParseError, text: str) -> str:
    """The parser's own words about the grammar, and what stands there."""
    line_number, column = error.GetLine() or 1, error.GetColumn() or 1
    message = str(error)
    line = text.split("\n")[line_number - 1]
    message = message.removeprefix(f"{line_number}:{column} : ")
    for quoted in (f"'{line}': ", "'': "):
        message = message.removeprefix(quoted)
    if closing := re.fullmatch(r'Expected "([}>])"\.', message):
        return f"the text ends without the closing '{closing[1]}'"
    found = re.match(r"\S+", line[column - 1 :])
    if message.startswith("Expected identifier") or "extensions" in message:
        message = "expected the name of a field"
    what = message[:1].lower() + message[1:].rstrip(".")
    return one_line(f"{what}, got '{found[0][:40]}'" if found else what)


def unknown_field(
    cls: type[Message], name: str, parents: list[str], root: type[Message]
) -> FieldError:
    path = ".".join([*parents, name])
    if name in cls.refused:
        return FieldError(path, cls.refused[name])
    hint = did_you_mean(name, spellings_of(cls)) or _did_you_mean_elsewhere(name, root)
    return FieldError(path, f"no such field{hint}")


def _did_you_mean_elsewhere(name: str, root: type[Message]) -> str:
    """As `did_you_mean`, among the fields of all messages: people forget the path before a name."""
    paths = _paths_by_name(root)
    # Among so many names a weak likeness means nothing.
    close = difflib.get_close_matches(name, paths, n=1, cutoff=0.8)
    return f"; did you mean '{paths[close[0]]}'?" if close else ""


def _paths_by_name(cls: type[Message], prefix: str = "") -> dict[str, str]:
    """The last name of every path below a message class -> the first such path."""
    paths: dict[str, str] = {}
    for field in fields_of(cls):
        path = prefix + field.name
        paths.setdefault(field.name, path)
        if field.is_message:
            element = path if field.shape == "one" else f"{path}[0]"
            paths = _paths_by_name(field.kind, f"{element}.") | paths
    return paths
