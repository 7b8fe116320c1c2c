"""What a target is, and what becomes of one input."""

import abc
import dataclasses
import random
import traceback
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from deepmac.errors import DeepmacError


class Target(abc.ABC):
    """Something of ours that reads bytes.

    Args:
        folder: its own place on disk, filled by `prepare`.
    """

    name: str

    @classmethod
    def prepare(cls, folder: Path) -> None:
        """Writes what all runs share, once."""
        del folder

    def __init__(self, folder: Path):
        self.folder = folder

    @abc.abstractmethod
    def seeds(self) -> list[bytes]:
        """Valid inputs, or nearly valid ones, to start from."""

    @abc.abstractmethod
    def mutate(self, rng: random.Random, data: bytes, other: bytes) -> bytes:
        """A changed input; parts may come from the other one."""

    @abc.abstractmethod
    def examples(self) -> st.SearchStrategy[bytes]:
        """Inputs made from scratch."""

    @abc.abstractmethod
    def check(self, data: bytes) -> str:
        """Reads an input with our code and asserts the laws.

        Returns:
            A word for what became of it; `accepted` where nothing was wrong.

        Raises:
            DeepmacError: the input was refused, as it should be.
        """


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an input.

    Attributes:
        kind: `accepted` or the like, the class of our error, or that of a finding.
        novelty: the error's sentence without its numbers and quotations: inputs with a new one
            are worth starting from.
        finding: the traceback, if this should not have happened.
        place: names a finding: exception and the innermost place of ours.
    """

    kind: str
    novelty: str = ""
    finding: str | None = None
    place: str = ""


def outcome_of(check: Callable[[bytes], str], data: bytes) -> Outcome:
    """Runs a check on one input."""
    try:
        return Outcome(check(data))
    except DeepmacError as e:
        try:
            require_one_line(e)
        except AssertionError as bad:
            return _finding(bad)
        return Outcome(type(e).__name__, novelty_of(e))
    except Exception as e:
        return _finding(e)


def require_one_line(error: DeepmacError) -> None:
    """Law of every error: one line (a list of problems: a line for each)."""
    lines = getattr(error, "messages", [str(error)])
    for line in lines:
        assert len(line.splitlines()) == 1, f"not one line: {line!r}"


def novelty_of(error: BaseException) -> str:
    """An error's sentence as a pattern."""
    words = str(error).split("'")[::2]  # without what is quoted
    text = "".join(c for c in " ".join(words) if c.isalpha() or c == " ")
    return f"{type(error).__name__} {text[:60]}"


def _finding(error: Exception) -> Outcome:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f for f in frames if "/deepmac/" in f.filename or "/pipelines/" in f.filename
    ]
    ours = [f for f in ours if "site-packages" not in f.filename] or frames
    law = frames[-1].lineno if isinstance(error, AssertionError) else ""
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    place = f"{type(error).__name__} at {where} {law}".strip()
    return Outcome(
        type(error).__name__, place, "".join(traceback.format_exception(error)), place
    )
