"""`deepmac config` as a user meets it: real processes."""

import os
import subprocess
import sys

import pytest

from deepmac.config.load import config_names, load_config

NAME = "center_net_deepmac_512x512_voc_only"
NET = "model.center_net"


def config(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "deepmac", "config", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def refusal(*args) -> str:
    """The one line on stderr of a run that ends with status 2."""
    done = config(*args)
    assert done.returncode == 2, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_list_names_every_configuration_in_columns():
    done = config("list")
    assert done.returncode == 0
    header, *rows = done.stdout.splitlines()
    assert header.split("  ")[0] == "name"
    assert [row.split()[0] for row in rows] == config_names()
    assert all(ord(c) < 128 for c in done.stdout)


def test_on_a_terminal_list_is_coloured():
    done = config("list", FORCE_COLOR="1", COLUMNS="140", TERM="xterm-256color")
    assert "\x1b[" in done.stdout
    assert NAME in done.stdout


@pytest.mark.parametrize("flags", [(), ("--only_set",)])
def test_what_show_prints_is_the_configuration(tmp_path, flags):
    done = config("show", NAME, "--set", f"{NET}.num_classes=95", *flags)
    assert done.returncode == 0
    path = tmp_path / "shown.config"
    path.write_text(done.stdout)
    assert load_config(path) == load_config(NAME, [f"{NET}.num_classes=95"])


def test_show_marks_what_was_not_set():
    lines = config("show", NAME).stdout.splitlines()
    assert "      num_init_channels: 64  # default" in lines
    assert "      mask_size: 32" in lines
    lines = config("show", NAME, "--only_set").stdout.splitlines()
    assert not any("num_init_channels" in line for line in lines)
    assert "      mask_size: 32" in lines


def test_long_lines_are_not_broken_when_piped():
    shown = config("show", NAME, COLUMNS="40").stdout
    assert shown == config("show", NAME, COLUMNS="200").stdout


def test_validate_says_what_is_not_acted_on():
    done = config("validate", "center_net_deepmac_1024x1024_coco_tpu-128")
    assert done.returncode == 0
    sections = [s.splitlines() for s in done.stdout.split("\n\n")]
    titles = [section[0] for section in sections]
    assert titles[0] == "center_net_deepmac_1024x1024_coco.config: valid"
    title = "understood, not acted on: empty slots have weight 0 in any case"
    assert sections[titles.index(title)][1:] == [
        "  train_config.unpad_groundtruth_tensors"
    ]
    assert "fine_tune is read as detection" in done.stdout
    assert "PATH_TO_BE_CONFIGURED/ckpt-51" in done.stdout


def test_validate_lenient_lists_the_unknown(tmp_path):
    path = tmp_path / "my.config"
    path.write_text(config("show", NAME).stdout + "nonsense { a: [1, 2] }\n")
    assert refusal("validate", str(path)).endswith(": nonsense: no such field")
    done = config("validate", str(path), "--lenient")
    assert done.returncode == 0
    assert "not known, ignored" in done.stdout
    assert f"{path}:" in done.stdout


MISTAKES = [
    ("mask_size: 32", "mask_sise: 32", "mask_sise: no such field; did you mean 'mask_size'?"),
    ("mask_size: 32", "mask_size: 33", "mask_size: must be a multiple of 32 for hourglass52, got 33"),
    ("mask_size: 32", "mask_size: 32.5", "mask_size: must be a whole number, got '32.5'"),
    ("task_loss_weight: 5.0", "task_loss_weight: nan", "task_loss_weight: must be a finite number, got nan"),
    ('"hourglass52"', '"hourglas52"', "cond_inst<D>; did you mean 'hourglass52'?"),
    ("mask_type: PNG_MASKS", "mask_type: PNG_MASK", "got 'PNG_MASK'; did you mean 'PNG_MASKS'?"),
]  # fmt: skip


@pytest.mark.parametrize(("good", "bad", "end"), MISTAKES)
def test_a_mistake_in_a_file_is_one_line_with_its_place(tmp_path, good, bad, end):
    text = config("show", NAME, "--only_set").stdout
    before, after = text.split(good, 1)
    path = tmp_path / "bad.config"
    path.write_text(before + bad + after)
    line = refusal("validate", str(path))
    assert line.startswith(f"error: {path}:{before.count(chr(10)) + 1}:")
    assert line.endswith(end)


@pytest.mark.parametrize(
    ("args", "end"),
    [
        (("validate", "no/such.config"), "error: no/such.config: no such file"),
        (("validate", NAME[:-1]), f"did you mean '{NAME}'?"),
        (("show", NAME, "--set", "num_clases=5"), f"num_clases: no such field; did you mean '{NET}.num_classes'?"),
        (
            ("show", NAME, "--set", f"{NET}.num_clases=5"),
            f"--set {NET}.num_clases=5: {NET}.num_clases: no such field; did you mean 'num_classes'?",
        ),
        (("show", NAME, "--st", "a=5"), "no such option: --st; did you mean '--set'?"),
        (("show",), "missing argument NAME|PATH (see deepmac config show --help)"),
        (("lst",), "error: no such command 'config lst'; did you mean 'list'?"),
        (("qqq",), "error: no such command 'config qqq'; there are list, show, validate"),
        (("diff", "a", "b"), "error: 'config diff' is not available yet"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(args, end):
    assert refusal(*args).endswith(end)
