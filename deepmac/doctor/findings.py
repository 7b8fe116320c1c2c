"""What was found out, one fact each."""

import dataclasses
import enum
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any


class State(enum.StrEnum):
    """How a fact is to be taken.

    Only `MISSING` keeps something from working that every user needs, or that was asked for.
    """

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    MISSING = "missing"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A fact.

    Attributes:
        name: what it is about.
        state: how to take it.
        text: the fact, in one line.
        remedy: the command or the setting that changes it; empty where there is nothing to do.
    """

    name: str
    state: State
    text: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Facts that belong together."""

    title: str
    findings: Sequence[Finding]

    def with_pip(self, program: str, option: str = "") -> "Section":
        """The same, with another program for pip in the remedies, and an option for it."""

        def spoken(found: re.Match) -> str:
            return f"{program} {found[1]}{option}"

        return Section(
            self.title,
            [
                dataclasses.replace(
                    f, remedy=re.sub(r"\bpip ((?:un)?install)\b", spoken, f.remedy)
                )
                for f in self.findings
            ],
        )


def is_fit(sections: Iterable[Section]) -> bool:
    """Whether nothing that is needed is missing."""
    return all(f.state != State.MISSING for s in sections for f in s.findings)


def as_json(sections: Iterable[Section]) -> list[dict[str, Any]]:
    """The sections as JSON values."""
    return [
        {
            "title": section.title,
            "findings": [dataclasses.asdict(f) for f in section.findings],
        }
        for section in sections
    ]


def pip_install(*requirements: str, before: str = "") -> str:
    """The command that installs requirements; `before` holds further options."""
    words = ["pip", "install", *before.split(), *requirements]
    return shlex.join(words)


def gib(num_bytes: float) -> str:
    """A number of bytes for people."""
    return f"{num_bytes / 2**30:.1f} GiB"
