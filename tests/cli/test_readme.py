"""Every command of the README, run as written, in the order written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks

PAGE = ROOT / "README.md"
README = PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_command_of_the_readme_runs_as_written(tmp_path: Path):
    """Blocks marked `sh` share one directory, as if typed one after the other."""
    script = "set -e -x\n" + "\n".join(block.text for block in blocks(PAGE, "sh"))
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_python_of_the_readme_compiles_and_names_what_exists():
    import deepmac

    for block in blocks(PAGE, "python"):
        compile(block.text, "README.md", "exec")
        for name in re.findall(r"\bdeepmac\.(\w+)", block.text):
            assert hasattr(deepmac, name), name


def test_the_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    code = [block.text for name in ("text", "sh") for block in blocks(PAGE, name)]
    code += re.findall(r"`([^`\n]+)`", README)
    targets = re.findall(r"^make (\S+)", "\n".join(code), re.MULTILINE)
    assert {"quickstart", "test", "venv"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_that_the_readme_links_to_exists():
    for link in re.findall(r"\]\(([^)#]+?)\)", README):
        if "://" not in link:
            assert (ROOT / link).exists(), link
