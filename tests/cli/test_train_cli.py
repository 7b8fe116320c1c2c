"""`deepmac train` as the reference's commands call its trainer."""

import pytest

from deepmac.cli import main


def said(capsys, *argv: str) -> str:
    """The one line of an error."""
    required = ("--pipeline_config_path", "no_such_config", "--model_dir", "run")
    assert main(["train", *required, *argv]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    "argv",
    [
        ("--alsologtostderr",),
        ("--logtostderr", "--record_summaries=False"),
        ("--use_tpu=False", "--record_summaries"),
        ("--sample_1_of_n_eval_examples=10", "--checkpoint_every_n=500"),
    ],
)
def test_flags_of_the_reference_that_are_known(capsys, argv):
    assert "no_such_config: neither a file" in said(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("--use_tpu",), "--use_tpu: not needed; on a TPU host install"),
        (("--use_tpu=true",), "--use_tpu: not needed; on a TPU host install"),
        (("--tpu_name", "mine"), "--tpu_name: not needed; on a TPU host"),
        (("--checkpoint_dir", "run"), "--checkpoint_dir: evaluation by itself is"),
        (("--eval_timeout=3600",), "--eval_timeout: evaluation by itself is"),
        (("--eval_on_train_data",), "--eval_on_train_data: name the training records"),
    ],
)
def test_flags_of_the_reference_that_are_not_needed_say_what_is(capsys, argv, told):
    assert told in said(capsys, *argv)
