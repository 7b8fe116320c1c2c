"""What is said on the terminal while the user waits."""

import contextlib
from collections.abc import Iterator

from rich.console import Console


@contextlib.contextmanager
def announce(text: str) -> Iterator[None]:
    """Says on a terminal what is being waited for, until the block ends."""
    console = Console(stderr=True)
    with console.status(text) if console.is_terminal else contextlib.nullcontext():
        yield
