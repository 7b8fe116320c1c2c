"""The report on how a file and a model fit."""

import pytest

from deepmac.checkpoint.report import Status, compare
from deepmac.errors import CheckpointError


def test_each_variable_has_one_of_four_states():
    report = compare(
        "ckpt-1",
        file={"a": (1, 2), "b": (3,), "d": ()},
        model={"a": (1, 2), "b": (4,), "c": (5,)},
    )
    states = {entry.name: entry.status for entry in report.entries}
    assert states == {
        "a": Status.LOADED,
        "b": Status.SHAPE_DIFFERS,
        "c": Status.MISSING,
        "d": Status.UNUSED,
    }
    assert report.summary() == "1 loaded, 1 missing, 1 shape differs, 1 unused"


def test_the_table_shows_both_shapes():
    report = compare("ckpt-1", file={"x/b": (3, 1), "x/d": ()}, model={"x/b": (4, 1)})
    assert report.table().splitlines() == [
        "status         count  file    model  variables",
        "shape differs  1      3x1     4x1    x/b",
        "unused         1      scalar  -      x/d",
    ]


def test_a_long_table_is_grouped_by_prefix():
    file = {f"net/{i}/{leaf}": (1,) for i in range(30) for leaf in "ab"}
    lines = compare("ckpt-1", file=file, model={"top": (1,)}).table(max_rows=5)
    assert [line.split() for line in lines.splitlines()[1:]] == [
        ["missing", "1", "-", "1", "top"],
        ["unused", "60", "net/*"],
    ]


def test_a_perfect_fit_has_an_empty_table():
    assert compare("ckpt-1", file={"a": (1,)}, model={"a": (1,)}).table() == ""


def test_patterns_accept_what_does_not_fit():
    report = compare("ckpt-1", file={"old/x": (1,)}, model={"new/x": (1,), "y": (1,)})
    assert [entry.name for entry in report.unmatched()] == ["new/x", "old/x", "y"]
    assert [e.name for e in report.unmatched(["old/*", "y"])] == ["new/x"]
    assert report.unmatched(["*"]) == []


def test_a_pattern_for_nothing_is_a_mistake():
    report = compare("ckpt-1", file={}, model={"mask/x": (1,)})
    with pytest.raises(CheckpointError, match=r"'mask/y' .* did you mean 'mask/x'\?"):
        report.unmatched(["mask/y"])
