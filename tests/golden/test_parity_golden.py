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
    "cores",
    "backbones/three_stacks",
    "mask_heads/hourglass10",
    "full_hg10_roialign",
]
SHARED = [
    "preprocess",
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
    "full_hg10_roialign",
    "full_2stack_roialign",
    "full_2stack_laststage_3x3",
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
def test_the_table_names_every_group_of_arrays(load):
    parity = load("benchmarks.parity")
    differences = parity.measure(HERE, parity.WITHOUT_ONEDNN)
    assert_within_tolerance(differences)
    lines = parity.table(differences, differences).splitlines()
    cells = [tuple(line.split(" | ")[:2]) for line in lines[2:]]
    groups = {(f"| {d.case}", d.group) for d in differences}
    assert set(cells) == groups
    assert len(cells) == len(groups)


def assert_within_tolerance(differences):
    assert differences
    assert [d for d in differences if not d.error <= d.tolerance] == []
