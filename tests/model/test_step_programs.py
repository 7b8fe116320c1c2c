"""What steps of training compile to, on either backend; rematerialisation."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepmac.config.load import load_config
from deepmac.errors import OptionError
from deepmac.train.run import RunOptions, train

ROOT = Path(__file__).parents[2]

has_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"
)


def run(*command: str, **environment: str) -> Any:
    environment |= {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def on_jax() -> dict:
    return run(
        "tests/support/measured_steps.py",
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_backend_optimization_level=0",
    )


@has_jax
def test_jax_compiles_nothing_after_the_first_step(on_jax):
    # The pass, the sum of two parts, the update.
    assert on_jax["compiled"] == [3, 3, 3]
    assert on_jax["compilations"] == 1  # what `compile` made is what runs
    assert np.isfinite(on_jax["losses"]).all()


def test_tensorflow_traces_nothing_after_the_first_step():
    found = run("tests/support/measured_steps.py", KERAS_BACKEND="tensorflow")
    assert found["compiled"] == [4, 4, 4]  # and the norm of the gradient
    assert np.isfinite(found["losses"]).all()


@has_jax
def test_the_state_lies_on_the_device_once(on_jax):
    # And the losses and the batch, which are small.
    assert all(1 <= copies < 1.1 for copies in on_jax["copies"]), on_jax["copies"]


@has_jax
def test_steps_never_leave_the_device(on_jax):
    assert on_jax["leaving"] == []
    assert on_jax["callback"]  # one that does is seen


@has_jax
def test_rematerialised_steps_keep_little_and_change_nothing(on_jax):
    plain, rematerialised = on_jax["kept"]
    assert rematerialised < plain / 3
    assert max(on_jax["differences"]) < 2e-3
    assert np.median(on_jax["differences"]) < 1e-5
    assert min(on_jax["statistics_moved"]) > 0


def test_tensorflow_refuses_to_rematerialise_before_anything_is_written(tmp_path):
    options = RunOptions(model_dir=tmp_path / "run", rematerialise=True)
    with pytest.raises(OptionError, match=r"^--rematerialise: not on tensorflow; set"):
        train(load_config("center_net_deepmac_tiny"), options)
    assert not (tmp_path / "run").exists()


@has_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "parameters"),
    [
        ("512x512_voc_only", 4, 217_128_733),
        ("1024x1024_coco", 1, 240_895_261),
    ],
)
def test_published_steps_lower_without_memory(name, images, parameters):
    found = run(
        *("-m", "benchmarks.step_memory", "--measure", "--quick"),
        *("--config", f"center_net_deepmac_{name}", "--batch", str(images)),
        "--rematerialise",
        KERAS_BACKEND="jax",
    )
    # The architecture's table, embedding heads of 3x3.
    assert found["parameters"] == parameters
    assert found["leaving"] == []
    assert (
        found["peak"] < 3e9
    )  # of this process: the weights and Adam's slots alone are 2.6e9


@has_jax
@pytest.mark.slow
def test_devices_send_each_other_gradients_and_nothing_of_their_images():
    alone, four = run(
        *("tests/support/shared_passes.py", "1", "4"),
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0",
    )
    assert alone["sent"] == {}
    assert set(four["sent"]) == {"all-reduce"}
    # Beside the gradients only losses and the statistics of norms.
    assert four["sent"]["all-reduce"] < 1.05 * four["weights"]
    assert four["memory"] < 1.05 * alone["memory"]
