"""Several devices make the same step as one: losses, gradients, statistics, averages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "devices_agree.py"


def apart(backend: str, num_devices: int, num_groups: int) -> dict[str, float]:
    flags = (
        f"--xla_force_host_platform_device_count={num_devices} "
        "--xla_backend_optimization_level=0"
    )
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": flags,
        "PYTHONPATH": str(SCRIPT.parent),
    }
    done = subprocess.run(
        [sys.executable, SCRIPT, str(num_devices), str(num_groups)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize(
    ("num_devices", "num_groups"),
    [
        (8, 1),  # normalised over the whole batch
        (2, 2),  # each by itself, as the reference's replicas
    ],
)
def test_several_devices_make_the_step_of_one(backend, num_devices, num_groups):
    differences = apart(backend, num_devices, num_groups)
    assert len(differences) > 100
    # Losses are computed in float32, everything else in float64.
    assert max(differences.values()) <= 1e-5, differences
