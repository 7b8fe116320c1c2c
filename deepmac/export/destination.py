"""The directory of an export: there as a whole, or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deepmac.errors import OptionError

FACTS = "export.json"
"""What was exported, and how far it was from the network; its presence marks an export."""


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raises OptionError unless an export may be put at `out`: into an empty place, or, with
    `overwrite`, over another export."""
    # Path's own methods raise on names that are too long.
    if not os.path.lexists(out) or (os.path.isdir(out) and not any(out.iterdir())):
        return
    if not os.path.isfile(out / FACTS):
        raise OptionError(f"{out}: is there, and is no export; name another directory")
    if not overwrite:
        raise OptionError(f"{out}: holds an export; --overwrite replaces it")


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when all is done, and else vanishes."""
    out = out.resolve()  # of a link, what it leads to is replaced
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)
    except OSError as e:
        raise OptionError(f"{out}: cannot be written: {e.strerror}") from None
    with beside as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        yield folder
        _replace(out, folder, Path(temporary) / "old")


def _replace(out: Path, new: Path, old: Path) -> None:
    try:
        if out.exists():
            out.rename(old)
        new.rename(out)
    except OSError as e:
        if old.exists() and not out.exists():
            old.rename(out)
        raise OptionError(f"{out}: cannot be put in place: {e.strerror}") from None
