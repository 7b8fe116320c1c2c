"""Where in a text proto each field stands: protobuf's parser does not tell when it succeeds."""

import dataclasses
from typing import Any

from google.protobuf import text_format

from deepmac.config.message import Field, Message, spellings_of

Place = tuple[int, int]
"""Line and column, both from 1."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One `name: value`, one element of a list, or one `name { ... }`.

    Attributes:
        path: dotted, from the root; `[i]` after the name of a repeated field.
        name: the last name of the path, as spelled.
        parent: the class of the message it stands in; None below an unknown field.
        field: what it is there; None when the name is unknown.
        name_at: where the name stands.
        value_at: where the value, or the opening brace, stands.
        value: the first token of the value.
    """

    path: str
    name: str
    parent: type[Message] | None
    field: Field | None
    name_at: Place
    value_at: Place
    value: str


class _Scope:
    """An open brace or bracket: what the walk is inside of."""

    def __init__(self, cls: type[Message] | None, path: str, opened: Entry | None):
        self.cls = cls
        self.path = path
        self.opened = opened  # the list's field, when a bracket
        self.counts: dict[str, int] = {}  # elements seen of each repeated field


def read_entries(text: str, root: type[Message]) -> list[Entry]:
    """The entries of a text proto, in order.

    It walks the tokens that protobuf's own public tokenizer finds, so that both see the same text,
    and judges nothing: at what it does not understand it stops, since the parser has refused the
    text there or before.

    Args:
        text: the whole text.
        root: the class of the outermost message.
    """
    return _Walk(text, root).entries


class _Walk:
    def __init__(self, text: str, root: type[Message]):
        self.tokens = text_format.Tokenizer(text.split("\n"))
        self.entries: list[Entry] = []
        self.scopes = [_Scope(root, "", None)]
        while not self.tokens.AtEnd() and self._step():
            pass

    def _step(self) -> bool:
        """Reads an entry, or closes a scope; False when it is lost."""
        tokens, scope = self.tokens, self.scopes[-1]
        if tokens.token in ("}", ">", "]"):
            self.scopes.pop()
            tokens.NextToken()
            return bool(self.scopes)
        if tokens.token in (",", ";"):
            tokens.NextToken()
            return True
        if scope.opened is not None:
            listed = scope.opened
            self._value(self.scopes[-2], listed.name, listed.name_at)
            return True
        name, name_at = tokens.token, self._here()
        if not tokens.TryConsumeIdentifier():
            return False
        tokens.TryConsume(":")
        if tokens.token == "[":
            entry = self._entry(scope, name, name_at, scope.path + name)
            self.scopes.append(_Scope(scope.cls, scope.path, entry))
            tokens.NextToken()
        else:
            self._value(scope, name, name_at)
        return True

    def _value(self, scope: _Scope, name: str, name_at: Place) -> None:
        """Records the value that begins here, and steps over it or into its brace."""
        path = scope.path + name
        field = _find(scope.cls, name)
        if field is None or field.shape != "one":
            index = scope.counts.get(name, 0)
            scope.counts[name] = index + 1
            path += f"[{index}]" if field else ""
        self._entry(scope, name, name_at, path)
        tokens = self.tokens
        if tokens.token in ("{", "<"):
            inner = field.kind if field and field.is_message else None
            self.scopes.append(_Scope(inner, f"{path}.", None))
            tokens.NextToken()
        elif tokens.token[:1] in ("'", '"'):
            while tokens.token[:1] in ("'", '"'):
                tokens.NextToken()
        else:
            tokens.NextToken()

    def _entry(self, scope: _Scope, name: str, name_at: Place, path: str) -> Entry:
        field = _find(scope.cls, name)
        entry = Entry(
            path, name, scope.cls, field, name_at, self._here(), self.tokens.token
        )
        self.entries.append(entry)
        return entry

    def _here(self) -> Place:
        # An error is the tokenizer's one public way to tell where it stands.
        where: Any = self.tokens
        error = where.ParseError("")
        return error.GetLine(), error.GetColumn()


def _find(cls: type[Message] | None, name: str) -> Field | None:
    return spellings_of(cls).get(name) if cls is not None else None
