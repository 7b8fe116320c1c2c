"""The image of the workers: what can be said of it without building it."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
LINES = re.sub(r"\\\n\s*", "", (HOME / "Dockerfile").read_text()).splitlines()


def lines_of(instruction):
    return [
        line.split(maxsplit=1)[1]
        for line in LINES
        if line.startswith(f"{instruction} ")
    ]


def test_workers_have_the_beam_that_starts_their_jobs():
    base = next(line for line in lines_of("FROM") if "apache/" in line)
    found = re.fullmatch(r"apache/beam_python3\.11_sdk:([\d.]+) AS deepmac", base)
    assert found[1] == version("apache-beam")


def test_what_is_copied_is_there_and_is_all_that_the_package_is_made_of():
    copied = {name for line in lines_of("COPY") for name in line.split()[:-1]}
    copied.discard("${MODEL}")
    assert all((HOME / name).exists() for name in copied)
    assert copied == {
        *("pyproject.toml", "setup.py", "README.md", "LICENSE"),
        *("configs", "deepmac", "pipelines"),
    }
    ignored = (HOME / ".dockerignore").read_text().split()
    assert not copied & {*ignored}


def test_requirements_are_those_of_the_package(tmp_path):
    run = next(line for line in lines_of("RUN") if line.startswith("python -c"))
    command, _, _ = run.partition(" > ")
    command = command.replace("python -c", f"{sys.executable} -c")
    done = subprocess.run(
        ["bash", "-c", f"EXTRAS=gcp,jax; {command}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=HOME,
    )
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    expected = [*project["dependencies"], *extras["gcp"], *extras["jax"]]
    assert done.stdout.splitlines() == expected
