"""A short version of `python -m chaos flink`; benchmarks/README.md has the table of a long one."""

import os
import subprocess
import sys
from pathlib import Path

import engine_files
import pytest
from chaos import network

pytestmark = pytest.mark.engines
ROOT = Path(__file__).resolve().parents[2]
KINDS = ["task manager killed", "launcher killed"]
_CUT = "host cut off"


def test_jobs_recover_from_faults(tmp_path):
    """On a cluster of its own, in a process of its own, whose hosts may be cut off."""
    if reason := engine_files.missing("flink"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    kinds = KINDS if network.missing() else [*KINDS, _CUT]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "chaos", "flink", f"--trials={len(kinds)}"),
            *(f"--kinds={','.join(kinds)}", "--seed=1", "--cut=15"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "support")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout, done.stderr)
    for kind in kinds:
        assert f"| {kind}" in done.stdout
