"""`deepmac checkpoint` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKPOINT = Path(__file__).parents[1] / "golden" / "full_hg10_roialign" / "checkpoint"


def checkpoint(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deepmac", "checkpoint", *arguments]
    # JAX, imported by other tests, leaves a level there that is not the user's wish.
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


@pytest.fixture(scope="module")
def inspected() -> subprocess.CompletedProcess[str]:
    return checkpoint("inspect", str(CHECKPOINT), "--variables")


def lines_with(text: str, output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines() if text in line]


def test_inspect_says_what_it_is_and_nothing_else(inspected):
    assert inspected.returncode == 0
    assert inspected.stderr == ""  # not a word from TensorFlow
    first = inspected.stdout.splitlines()[0]
    assert first.endswith("ckpt-1: a reference checkpoint of training step 0")


def test_inspect_infers_the_configuration(inspected):
    for field, value in [
        ("feature_extractor.type", '"hourglass_10"'),
        ("num_classes", "4"),
        ("deepmac_mask_estimation.network_type", '"hourglass20"'),
        ("embedding heads", "1x3"),
    ]:
        assert lines_with(field, inspected.stdout)[0][-1] == value
    assert "the nearest is center_net_deepmac_tiny, but for" in inspected.stdout


def test_inspect_counts_parameters_and_lists_variables(inspected):
    # Parameters of the architecture's table: 399,648 trained and 1,728 of the norms.
    assert ["_feature_extractor", "401,376", "70"] in lines_with(
        "_feature_extractor ", inspected.stdout
    )
    assert lines_with("total", inspected.stdout) == [["total", "648,679", "242"]]
    kernel = "_mask_net/_net/conv_input/conv_block/conv/kernel"
    assert lines_with(kernel, inspected.stdout) == [[kernel, "3x3x16x8"]]


def test_a_configuration_that_fits(tmp_path):
    config = CHECKPOINT.parent / "pipeline.config"
    result = checkpoint("inspect", str(CHECKPOINT), "--config", str(config))
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1].endswith("pipeline.config: 242 loaded")


def test_a_configuration_that_does_not_fit():
    config = CHECKPOINT.parent / "pipeline.config"
    override = "model.center_net.deepmac_mask_estimation.network_type=hourglass10"
    result = checkpoint(
        "inspect", str(CHECKPOINT), "--config", str(config), "--set", override
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert 'network_type: "hourglass20" (it has "hourglass10")' in result.stderr
    assert "missing  " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nowhere/ckpt-1"], "the directory nowhere does not exist"),
        (["inspect", __file__], "not a checkpoint"),
        (["inspect", str(CHECKPOINT), "--set", "a=1"], "--set needs --config"),
        (["diff"], "'checkpoint diff' is not available yet"),
        (["convert"], "'checkpoint convert' is not available yet"),
        (["inspct"], "did you mean 'inspect'?"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = checkpoint(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
