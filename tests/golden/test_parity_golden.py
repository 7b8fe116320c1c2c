"""The network against arrays recorded from the reference, as `benchmarks/parity.py` tabulates it.

Cases that are small enough lie beside this file, each with a note; the others are the project's.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent

COMMITTED = [
    "preprocess",
    "targets",
    "cores",
    "backbones/three_stacks",
    "mask_heads/hourglass10",
    "mask_heads/resnet20",
    "mask_heads/embedding_projection",
    "mask_heads/cond_inst3",
    "full_hg10_roialign",
    "full_fullres_weak",
]
SHARED = [
    "preprocess",
    "targets",
    "cores",
    "backbones/hourglass_10",
    "backbones/hourglass_100",
    "backbones/hourglass_104_reduced",
    "backbones/hourglass_20",
    "backbones/hourglass_32",
    "backbones/hourglass_52",
    "backbones/three_stacks",
    "mask_heads/hourglass10",
    "mask_heads/hourglass20",
    "mask_heads/hourglass20_uniform_size",
    "mask_heads/hourglass20_no_shortcut",
    "mask_heads/hourglass32",
    "mask_heads/hourglass52",
    "mask_heads/hourglass100",
    "mask_heads/resnet4",
    "mask_heads/resnet8",
    "mask_heads/resnet12",
    "mask_heads/resnet16",
    "mask_heads/resnet20",
    "mask_heads/fully_connected",
    "mask_heads/embedding_projection",
    "mask_heads/cond_inst1",
    "mask_heads/cond_inst2",
    "mask_heads/cond_inst3",
    "full_hg10_roialign",
    "full_2stack_roialign",
    "full_2stack_laststage_3x3",
    "full_fullres_weak",
    "train_steps",
]


@pytest.fixture(scope="module")
def load() -> Iterator[Callable[[str], ModuleType]]:
    """`benchmarks` is no package of ours: it is found in the project's root."""
    root = str(HERE.parents[1])
    sys.path.insert(0, root)
    yield importlib.import_module
    sys.path.remove(root)


@pytest.mark.parametrize("case", COMMITTED)
def test_committed_recording(load, case):
    assert_within_tolerance(load("benchmarks.parity_cases").compare(HERE, case))


@pytest.mark.parametrize("case", SHARED)
def test_shared_recording(load, shared_golden, case):
    assert_within_tolerance(
        load("benchmarks.parity_cases").compare(shared_golden, case)
    )


def test_no_recording_is_left_out(load, shared_golden):
    case_names = load("benchmarks.parity_cases").case_names
    assert case_names(HERE) == COMMITTED
    assert case_names(shared_golden) == SHARED


@pytest.mark.slow
def test_recordings_on_jax(load):
    """In a process of its own: Keras has one backend. XLA compiles without optimising.

    Those beside this file: all of them take a quarter of an hour, and are in docs/parity.md.
    """
    parity = load("benchmarks.parity")
    hasty = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    differences = parity.measure(HERE, parity.ON_JAX | hasty)
    assert_within_tolerance(differences)
    assert list(dict.fromkeys(d.case for d in differences)) == COMMITTED
    assert any("training" in d.group for d in differences)


def test_the_table_names_every_group_of_arrays(load):
    parity = load("benchmarks.parity")
    Difference = load("benchmarks.recordings").Difference
    first = Difference("a", "x", "masks", 1e-6, 1e-4)
    closer = Difference("a", "y", "masks", 5e-6, 1e-3)  # but less so for its tolerance
    trained = Difference("a", "z", "masks, training", 0.0, 0.0)
    lines = parity.table([first, closer, trained], [first, trained], [closer])
    assert lines.splitlines()[2:] == [
        "| a | masks | 2 | 1.0e-06 | 1.0e-06 | 5.0e-06 | 1.0e-04 |",
        "| a | masks, training | 1 | 0 | 0 | - | equal |",
    ]


def assert_within_tolerance(differences):
    assert differences
    assert [d for d in differences if not d.error <= d.tolerance] == []
