"""Charts: values land where they belong, and what is written stays text."""

import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac import charts

AXES = charts.Axes(
    x=(0, 10), y=(0, 1), width=130, height=80, left=20, right=10, top=5, bottom=25
)


def test_the_corners_of_the_area_are_the_ends_of_the_axes():
    assert (AXES.across(0), AXES.across(10)) == (20, 120)
    assert (AXES.down(0), AXES.down(1)) == (55, 5)
    assert (AXES.end, AXES.floor) == (120, 55)


def test_a_logarithmic_axis_has_equal_steps_for_equal_ratios():
    axes = charts.Axes(
        x=(1, 100), y=(0, 1), width=120, height=50, left=10, right=10, is_log=True
    )
    assert [axes.across(v) for v in (1, 10, 100)] == pytest.approx([10, 60, 110])


def test_a_curve_goes_through_its_points():
    curve = charts.curve(AXES, [0, 5, 10], [0, 0.5, 1], "red")
    assert 'points="20.0,55.0 70.0,30.0 120.0,5.0"' in curve


def test_steps_are_flat_over_each_bin_and_end_on_the_ground():
    steps = charts.steps(AXES, [0, 5, 10], [1, 0.5], "red")
    points = steps.partition('points="')[2].partition('"')[0]
    assert points == ("20.0,55.0 20.0,5.0 70.0,5.0 70.0,30.0 120.0,30.0 120.0,55.0")


def test_ticks_reach_the_end():
    assert charts.even_ticks(0.3, 1, 0.1, ".1f")[-1] == (pytest.approx(1), "1.0")
    assert [words for _, words in charts.even_ticks(0, 0.5, 0.25, ".2f")] == [
        "0.00",
        "0.25",
        "0.50",
    ]


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_keep_their_order_and_stay_apart(heights):
    moved = charts.apart(heights)
    assert all(m >= h for m, h in zip(moved, heights, strict=True))
    by_height = [moved[i] for i in sorted(range(len(heights)), key=heights.__getitem__)]
    gaps = [b - a for a, b in itertools.pairwise(by_height)]
    assert all(gap >= 15 - 1e-9 for gap in gaps)


def test_words_stay_words():
    nasty = "<script>\"'&"
    parts = [
        *charts.grid(AXES, [(0, nasty)], [(1, nasty)], nasty, nasty),
        charts.text(0, 0, nasty),
        charts.box(0, 0, 1, 1, "red", nasty),
        charts.dot(AXES, 1, 1, "red"),
        *charts.whisker(0, 1, 2, "red"),
    ]
    for picture in (
        charts.document(parts, 130, 80),
        charts.embedded(parts, 130, 80, nasty),
    ):
        root = ElementTree.fromstring(picture)
        texts = [e.text for e in root.iter() if e.tag.endswith(("text", "title"))]
        assert texts == [nasty] * 6
    assert root.get("aria-label") == nasty


def test_a_box_has_no_negative_sides():
    assert 'x="1.0" y="2.0" width="3.0" height="4.0"' in charts.box(4, 6, 1, 2, "red")
    assert math.isfinite(AXES.across(5))
