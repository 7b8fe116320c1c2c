"""The command line as a user meets it: real processes, exit statuses, one-line errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from deepmac.cli import COMMANDS, LATER

HEAVY = ("tensorflow", "keras", "jax", "apache_beam", "cv2", "pycocotools", "numpy")


def deepmac(*args, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "deepmac", *args],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


def test_help_names_every_command_and_loads_nothing_heavy():
    program = (
        "import sys, resource\n"
        "from deepmac.cli import main\n"
        "status = main(['--help'])\n"
        "seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])\n"
        "print('status:', status, 'cpu below half a second:', seconds < 0.5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert "heavy: []" in done.stdout
    assert "status: 0 cpu below half a second: True" in done.stdout
    assert all(name in done.stdout for name in COMMANDS)


def test_the_lower_rows_load_without_tensorflow_keras_or_beam():
    """style.md's layering: evaluation and configs must not pay for a network."""
    program = (
        "import sys, pkgutil, importlib, deepmac, deepmac.config, deepmac.evaluation\n"
        "names = ['errors', 'instances', 'categories', 'boxes', 'masks', 'paste', 'commands',\n"
        "         'data.coco', 'data.splits', 'data.records', 'data.paths', 'predictors']\n"
        "for package in (deepmac.config, deepmac.evaluation):\n"
        "    names += [f'{package.__name__[8:]}.{m.name}'\n"
        "              for m in pkgutil.iter_modules(package.__path__)]\n"
        "for name in names:\n"
        "    importlib.import_module('deepmac.' + name)\n"
        "print([m for m in ('tensorflow', 'keras', 'jax', 'apache_beam') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["biuld"], "no such command 'biuld'; did you mean 'build'?"),
        (
            ["frobnicate"],
            "no such command 'frobnicate'; there are quickstart, build, train, label, evaluate, compare, benchmark, data, config, checkpoint, export, doctor",
        ),
        (["--versoin"], "no such option: --versoin; did you mean '--version'?"),
        *[([name], f"'{name}' is not available yet") for name in LATER],
    ],
)
def test_a_mistake_is_one_line_and_status_2(args, sentence):
    done = deepmac(*args)
    assert done.returncode == 2
    assert done.stderr == f"error: {sentence}\n"
    assert done.stdout == ""


def test_without_arguments_the_help_is_shown():
    done = deepmac()
    assert done.returncode == 2
    assert "quickstart" in done.stdout


@pytest.mark.parametrize("name", ["build", "label", "evaluate", "quickstart"])
def test_every_job_explains_each_of_its_options(name):
    done = deepmac(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout
    assert "Apache Beam" in done.stdout


@pytest.mark.parametrize("name", ["build", "label", "evaluate"])
def test_a_misspelt_option_of_a_job_names_the_right_one(name):
    done = deepmac(name, "--oot", "x")
    assert done.returncode == 2
    assert done.stderr == "error: no such option: --oot; did you mean '--out'?\n"


@pytest.mark.parametrize(
    ("command", "given", "missing"),
    [
        (["-m", "deepmac", "build"], "--annotations a --images b", "--out"),
        (["-m", "deepmac", "build"], "", "--annotations"),
        (["-m", "deepmac", "label"], "--out x", "--model"),
        (["-m", "deepmac", "evaluate"], "--ground_truth x --out y", "--predictions"),
        (["-m", "pipelines.build_dataset"], "--images b --out x", "--annotations"),
        (["-m", "pipelines.infer"], "--model box", "--out"),
        (["-m", "pipelines.evaluate"], "--ground_truth x", "--predictions"),
    ],
)
def test_a_missing_option_is_named(command, given, missing):
    done = subprocess.run(
        [sys.executable, *command, *given.split()], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: missing option {missing} (see ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_somebody_elses_pipelines_folder_is_not_picked_up(tmp_path: Path):
    decoy = tmp_path / "pipelines"
    decoy.mkdir()
    (decoy / "__init__.py").write_text("raise RuntimeError('the decoy was imported')")
    done = subprocess.run(
        [Path(sys.executable).parent / "deepmac", "build", "--help"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--annotations" in done.stdout


def test_a_foreign_pipelines_package_on_the_path_is_named(tmp_path: Path):
    decoy = tmp_path / "pipelines"
    decoy.mkdir()
    (decoy / "__init__.py").write_text("")
    (decoy / "build_dataset.py").write_text("command = None")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from deepmac.cli import main; sys.exit(main(['build']))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"found another package named 'pipelines' at {decoy}" in done.stderr
