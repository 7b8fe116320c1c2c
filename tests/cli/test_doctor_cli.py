"""`deepmac doctor` as a user meets it: once as things are here, once in a broken environment."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def doctor(*args, **environment) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deepmac", "doctor", *args],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=300,
    )


def test_everything_works_where_the_tests_run(tmp_path):
    done = doctor("--json", "--out", str(tmp_path / "new"), "--timeout=240")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["fit"]
    found = {f["name"]: f for s in told["sections"] for f in s["findings"]}
    missing = [name for name, f in found.items() if f["state"] == "missing"]
    assert missing == []
    for name in ("Python", "tensorflow", "Keras", "TensorFlow", "FnApiRunner"):
        assert found[name]["state"] == "ok", found[name]
    formats = " ".join(
        f["text"]
        for s in told["sections"]
        if s["title"] == "Formats"
        for f in s["findings"]
    )
    for name in ("progressive", "CMYK", "16 bits", "mask PNG", "TFRecord", "GrabCut"):
        assert name in formats
    assert list(tmp_path.iterdir()) == []


def test_what_is_broken_is_told_with_its_remedy_and_nothing_else_breaks(tmp_path):
    stubs = {
        "tensorflow": "import os; os.abort()",
        "jax": "raise RuntimeError('no plugin')",
        "cv2": "raise ImportError('libGL.so.1: cannot open shared object file')",
        "apache_beam": "raise TypeError('Descriptors cannot be created directly.\\nIf ...')",
    }
    for name, code in stubs.items():
        (tmp_path / f"{name}.py").write_text(code)
    done = doctor(PYTHONPATH=str(tmp_path), COLUMNS="200")
    assert done.returncode == 2
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in (
        "missing TensorFlow crashed with SIGABRT",
        "warning JAX RuntimeError: no plugin",
        "missing FnApiRunner TypeError: Descriptors cannot be created directly.",
        "missing GrabCut ImportError: libGL.so.1: cannot open shared object file",
    ):
        assert line in lines
        assert lines[lines.index(line) + 1].startswith("-> ")
    assert "Traceback" not in done.stdout + done.stderr
    assert lines[-1].startswith("missing: Keras, TensorFlow,")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--cloud=bucket"], "--cloud must be gs://BUCKET or gs://BUCKET/FOLDER"),
        (["--timeout=0"], "--timeout must be more than 0"),
        (["--ouput=x"], "no such option: --ouput; did you mean '--out'?"),
    ],
)
def test_a_mistake_is_one_line(args, sentence):
    done = doctor(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {sentence}")
    assert done.stderr.count("\n") == 1


def test_the_parent_loads_nothing_heavy():
    program = (
        "import sys, deepmac.commands.doctor, deepmac.doctor.packages\n"
        "heavy = ('tensorflow', 'keras', 'jax', 'apache_beam', 'cv2', 'numpy', 'PIL')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_command_line_without_its_own_packages_says_so():
    program = (
        "import sys; sys.modules['click'] = None\n"
        "from deepmac.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: the Python package 'click' is not installed; "
    )
    assert done.stderr.count("\n") == 1
