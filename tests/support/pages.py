"""The code of a page of documentation, block by block, and a run of it as a reader would."""

import contextlib
import dataclasses
import io
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from deepmac.errors import DeepmacError

ROOT = Path(__file__).resolve().parents[2]
_NUMBER = re.compile(r"[+-]?\d+\.\d+")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block between two fences: its language, what else stands behind the fence, its lines."""

    language: str
    notes: str
    text: str


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """The blocks of a page in its order: all, or those of a language that have no notes."""
    found = re.findall(
        r"^```(\w*) ?(.*)\n((?:.*\n)*?)```$", page.read_text("utf-8"), re.MULTILINE
    )
    every = [Block(*parts) for parts in found]
    if language is None:
        return every
    return [b for b in every if b.language == language and not b.notes]


def run_page(page: Path, folder: Path) -> Iterator[tuple[Block, str]]:
    """Runs the `sh` and `python` blocks of a page in a folder, one after the other.

    The blocks of Python share their names. A block noted `fails` must, with status 2 or an error of
    ours.

    Yields:
        Each `text` block, and what the block before it has printed.
    """
    names: dict[str, object] = {}
    printed = ""
    for block in blocks(page):
        if block.language == "sh":
            printed = _run_commands(block, folder)
        elif block.language == "python":
            printed = _run_python(block, folder, names)
        else:
            yield block, printed


def _run_commands(block: Block, folder: Path) -> str:
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env.pop("COLUMNS", None)
    done = subprocess.run(
        ["bash", "-e", "-c", block.text],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
    )
    fails = block.notes == "fails"
    assert done.returncode == (2 if fails else 0), block.text + done.stderr[-3000:]
    return done.stderr if fails else done.stdout


def _run_python(block: Block, folder: Path, names: dict[str, object]) -> str:
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        try:
            exec(compile(block.text, "page", "exec"), names)
        except DeepmacError as e:
            assert block.notes == "fails", block.text
            return f"{type(e).__module__}.{type(e).__name__}: {e}"  # a traceback's end
    assert block.notes != "fails", block.text
    return said.getvalue()


def assert_shown(block: Block, printed: str) -> None:
    """What a `text` block shows is what was printed.

    Spaces at the ends of lines and empty lines do not count. `...` stands for any lines, or for the
    rest of a line. With the note `within X` numbers with a decimal point may be X off.
    """
    tolerance = float(block.notes.removeprefix("within ") or 0)
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    at, skips = 0, False
    for shown in filter(str.strip, block.text.splitlines()):
        if shown == "...":
            skips = True
            continue
        rest = lines[at:] if skips else lines[at : at + 1]
        offset = next(
            (n for n, line in enumerate(rest) if _agree(shown, line, tolerance)), None
        )
        assert offset is not None, f"shown: {shown}\nprinted: {rest[:3]}"
        at, skips = at + offset + 1, False
    assert skips or at == len(lines), f"not shown: {lines[at:]}"


def _agree(shown: str, line: str, tolerance: float) -> bool:
    if shown.endswith("..."):
        return line.startswith(shown.removesuffix("..."))
    if _NUMBER.split(shown.rstrip()) != _NUMBER.split(line):
        return False
    pairs = zip(_NUMBER.findall(shown), _NUMBER.findall(line), strict=True)
    return all(
        math.isclose(float(a), float(b), rel_tol=0, abs_tol=tolerance + 1e-9)
        for a, b in pairs
    )
