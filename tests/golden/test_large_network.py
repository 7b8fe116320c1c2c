"""The largest published network: opened and used within the time and memory of a small machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow  # a gigabyte of weights is written, read and used
def test_240_million_parameters_open_in_a_minute_and_6_gib(tmp_path):
    command = [sys.executable, "-m", "benchmarks.load_240m", "--folder", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    measured = json.loads(result.stdout)
    assert measured["parameters"] > 240_000_000
    assert measured["open_seconds"] < 60
    assert measured["second_image_peak_gib"] < 6
