"""`deepmac checkpoint` as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepmac.checkpoint.load import open_weights
from deepmac.checkpoint.writer import write_reference
from deepmac.cli import main

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
        (["diff", str(CHECKPOINT)], "missing argument"),
        (["diff", str(CHECKPOINT), "nowhere/a"], "directory nowhere does not exist"),
        (["diff", "a", "b", "--tolerance=-1"], "--tolerance must be 0 or more"),
        (["diff", "a", "b", "--tolerence=1"], "--tolerence"),
        (["convert", "nowhere/a", "b.weights.h5"], "nowhere does not exist"),
        (["convert", str(CHECKPOINT), "b.h5"], "must end in .weights.h5"),
        (["convert", str(CHECKPOINT), "b", "--to=keras"], "'keras' is not one of"),
        (["inspct"], "did you mean 'inspect'?"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = checkpoint(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def in_process(capsys, *arguments: str) -> tuple[int, str, str]:
    status = main(["checkpoint", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_convert_and_diff(tmp_path, capsys):
    ours = str(tmp_path / "a.weights.h5")
    result = checkpoint("convert", str(CHECKPOINT), ours)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"{ours}: weights of deepmac, 242 variables of 648,679 parameters, read back and "
        f"equal to {CHECKPOINT / 'ckpt-1'}",
        "left out, since they are no weights of the model: rng (1), save_counter (1), step (1)",
    ]
    status, out, err = in_process(capsys, "diff", str(CHECKPOINT), ours)
    assert (status, err) == (0, "")
    assert out.endswith("variables: 242 equal\n")
    assert "second  " + ours + ": weights written by deepmac" in out
    status, out, err = in_process(capsys, "convert", str(CHECKPOINT), ours)
    assert (status, out) == (2, "")
    assert err == f"error: {ours} is there already; --overwrite replaces it\n"


def test_diff_of_what_differs(tmp_path, capsys):
    weights = open_weights(CHECKPOINT)
    values = {name: weights.read(name) for name in weights.variables}
    bias = "_mask_net/project_out/bias"
    values[bias] = values[bias] + np.float32(0.25)
    del values["_mask_net/project_out/kernel"]
    other = str(tmp_path / "ckpt-0")
    write_reference(other, {n: v.shape for n, v in values.items()}, values.__getitem__)
    status, out, _ = in_process(capsys, "diff", str(CHECKPOINT), other)
    assert status == 1
    assert "variables: 240 equal, 1 only in first, 1 value differs" in out
    row = lines_with(bias, out)[0]
    assert row[:8] == ["value", "1", "1", "1", "1", "of", "1", "0.25"]
    status, out, _ = in_process(
        capsys, "diff", str(CHECKPOINT), other, "--tolerance", "0.3"
    )
    assert status == 1
    assert "variables: 241 equal, 1 only in first\n" in out
