"""Looking before any work is done: every problem found, in one message."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from deepmac.data.files import is_folder, is_remote, reading
from deepmac.errors import DataError, DeepmacError, OptionError


class Problems:
    """Collects what is wrong, so that the user need not find it out piece by piece."""

    def __init__(self):
        self._messages: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._messages)

    def add(self, message: str) -> None:
        if message not in self._messages:
            self._messages.append(message)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Notes an error of the user instead of raising it."""
        try:
            yield
        except ProblemsFound as e:
            for message in e.messages:
                self.add(message)
        except DeepmacError as e:
            self.add(str(e))

    def raise_any(self) -> None:
        """Raises ProblemsFound if there is any."""
        if self._messages:
            raise ProblemsFound(self._messages)


class ProblemsFound(DataError):
    """One or more things are wrong with the input; one line each."""

    def __init__(self, messages: list[str]):
        self.messages = list(messages)
        lines = "".join(f"\n  {message}" for message in messages)
        one = len(messages) == 1
        super().__init__(messages[0] if one else f"{len(messages)} problems:{lines}")


def check_fraction(name: str, value: float) -> None:
    """Raises OptionError unless an option is a fraction."""
    if not 0 <= value <= 1:
        raise OptionError(f"--{name} must be in 0..1, got {value:g}")


def check_readable(path: str) -> None:
    """Raises DataError unless a file, wherever it is, can be read."""
    with reading(path):
        pass


def check_output(path: str) -> None:
    """Raises DataError unless a directory can be written to, or made. Makes nothing.

    Of a remote store only that it is there: whether it takes a file, writing one will tell.
    """
    if is_remote(path):
        is_folder(path)  # made as it is written to; but the bucket must be there
        return
    place = Path(path).absolute()
    try:
        place.is_dir()
    except OSError as e:  # such as a name too long for the file system
        raise DataError(f"{path}: cannot be the output directory: {e.strerror}") from e
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise DataError(f"{path}: cannot be the output directory, {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DataError(f"{path}: no permission to write in {place}")
