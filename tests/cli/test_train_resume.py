"""`deepmac train`, killed and told to stop at any moment, in processes of its own."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_training

NUM_STEPS = 8


@pytest.fixture(scope="module")
def overrides(tmp_path_factory) -> list[str]:
    return small_training.write_records(tmp_path_factory.mktemp("records"))


def start(
    overrides: list[str],
    model_dir: Path,
    *more: str,
    backend: str = "tensorflow",
    **environment: str,
):
    command = [sys.executable, "-m", "deepmac", "train", "--model_dir", str(model_dir)]
    command += ["--pipeline_config_path", small_training.CONFIG]
    for override in overrides:
        command += ["--set", override]
    command += ["--num_train_steps", str(NUM_STEPS), "--evaluate_every_n", "0", *more]
    # XLA need not optimise what is run for a few steps.
    hasty = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    environment = os.environ | hasty | {"KERAS_BACKEND": backend} | environment
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def run(*args, **kwargs) -> str:
    process = start(*args, **kwargs)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return said


def stop_after(process, model_dir: Path, step: int, how: signal.Signals) -> str:
    """Sends a signal once the checkpoint of a step is there."""
    while not (model_dir / f"step-{step:08d}").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(how)
    return process.communicate()[1]


def final_state(model_dir: Path, step: int = NUM_STEPS) -> dict[str, np.ndarray]:
    with np.load(model_dir / f"step-{step:08d}" / "state.npz") as stored:
        return dict(stored)


def assert_same(one: Path, other: Path) -> None:
    state, expected = final_state(one), final_state(other)
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "num_kills"), [("tensorflow", 5), ("jax", 2)])
def test_a_run_killed_at_random_steps_ends_with_the_same_weights(
    overrides, tmp_path, backend, num_kills
):
    # JAX finds what it has compiled; every process would compile it again.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    run(overrides, tmp_path / "whole", backend=backend, **cache)
    steps = sorted(random.Random(0).sample(range(1, NUM_STEPS), num_kills))
    for step in steps:
        # All are kept: where this process sleeps, that one may come to its end.
        every = ("--checkpoint_every_n", "1", "--checkpoint_max_to_keep", "9")
        process = start(
            overrides, tmp_path / "killed", *every, backend=backend, **cache
        )
        stop_after(process, tmp_path / "killed", step, signal.SIGKILL)
    said = run(overrides, tmp_path / "killed", backend=backend, **cache)
    assert "going on after step" in said
    assert_same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_told_to_stop_saves_what_it_has_and_goes_on(overrides, tmp_path):
    run(overrides, tmp_path / "whole")
    process = start(overrides, tmp_path / "stopped")
    said = stop_after(process, tmp_path / "stopped", 0, signal.SIGTERM)
    assert process.returncode == 143, said
    run(overrides, tmp_path / "stopped")
    assert_same(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
def test_two_hosts_make_the_run_of_one(overrides, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # With a rate of 1 and no momentum a weight changes by its gradient.
    plain = (
        *("--num_train_steps", "1", "--set"),
        "train_config.optimizer={momentum_optimizer: {momentum_optimizer_value: 0 "
        "learning_rate: {constant_learning_rate: {learning_rate: 1}}}}",
    )
    hosts = [
        start(
            overrides,
            tmp_path / "two",
            "--distributed",
            *plain,
            backend="jax",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES="2",
            JAX_PROCESS_ID=str(number),
        )
        for number in range(2)
    ]
    for host in hosts:
        _, said = host.communicate()
        assert host.returncode == 0, said
    groups = ("--normaliser_groups", "2")
    run(overrides, tmp_path / "one", *groups, *plain, backend="jax")
    together, alone = (changes(tmp_path / name) for name in ("two", "one"))
    assert len(alone) > 100
    for name, expected in alone.items():
        largest = np.abs(expected).max()
        assert largest > 0, name
        apart = np.abs(together[name] - expected).max()
        assert apart < 1e-4 * largest, (name, apart, largest)


def changes(model_dir: Path) -> dict[str, np.ndarray]:
    """What the first step has done to each variable of the network."""
    before, after = (final_state(model_dir, step) for step in (0, 1))
    return {n: after[n] - before[n] for n in after if n.startswith("model/")}
