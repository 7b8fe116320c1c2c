"""Which backend Keras gets, in a fresh interpreter."""

import os
import subprocess
import sys
import textwrap

import pytest


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def selected(*installed: str, **environment: str) -> str:
    code = f"""
        import importlib.util, os
        find = importlib.util.find_spec
        # Of these two, only some are there.
        importlib.util.find_spec = lambda name, *rest: (
            (find("json") if name in {installed!r} else None)
            if name in ("tensorflow", "jax")
            else find(name, *rest)
        )
        from deepmac.backend import select_backend
        from deepmac.errors import DeepmacError
        try:
            select_backend()
            print(os.environ.get("KERAS_BACKEND", "Keras's default"))
        except DeepmacError as e:
            print(e)
    """
    return run(code, **environment).stdout.strip()


@pytest.mark.parametrize(
    ("installed", "environment", "expected"),
    [
        (["tensorflow", "jax"], {}, "Keras's default"),
        (["tensorflow"], {}, "Keras's default"),
        (["jax"], {}, "jax"),
        (["jax"], {"KERAS_BACKEND": "jax"}, "jax"),
        (
            ["jax"],
            {"KERAS_BACKEND": "torch"},
            "KERAS_BACKEND is torch, which is not installed: pip install torch, or leave "
            "KERAS_BACKEND unset",
        ),
        (
            ["tensorflow"],
            {"KERAS_BACKEND": "tensorflw"},
            "KERAS_BACKEND is tensorflw, which Keras does not know; did you mean 'tensorflow'?; "
            "set it to tensorflow or jax, or leave it unset",
        ),
        *(
            (
                [there],
                {"KERAS_BACKEND": asked},
                f"KERAS_BACKEND is {asked}, which is not installed: pip install {asked}, "
                f"or leave KERAS_BACKEND unset",
            )
            for there, asked in (("jax", "tensorflow"), ("tensorflow", "jax"))
        ),
        (
            [],
            {},
            "the network needs TensorFlow or JAX: pip install tensorflow (or jax)",
        ),
    ],
)
def test_jax_takes_over_where_tensorflow_is_missing(installed, environment, expected):
    assert selected(*installed, **environment) == expected


def test_tensorflow_says_nothing_where_it_was_told_not_to():
    result = run(
        "import deepmac.model.hourglass, keras; print(keras.config.backend())",
        TF_CPP_MIN_LOG_LEVEL="2",
    )
    assert (result.stdout, result.stderr) == ("tensorflow\n", "")


def test_errors_of_python_are_still_seen():
    result = run(
        "import deepmac.model.hourglass, sys; sys.exit('seen')",
        TF_CPP_MIN_LOG_LEVEL="2",
    )
    assert result.stderr == "seen\n"
