"""Greedy matching by eye, and its IoU."""

import numpy as np
import pytest

from deepmac.evaluation.matching import match_cell

HALF = np.array([0.5])


def matched(iou, ignored=None, crowd=None, thresholds=HALF):
    """Ground truth of each detection, for the first range; '-' for none."""
    iou = np.array(iou, np.float64)
    none = np.zeros(iou.shape[1], bool)
    crowd = none if crowd is None else np.array(crowd, bool)
    ignored = crowd if ignored is None else np.array(ignored, bool)
    found = match_cell(iou, ignored[None], crowd, thresholds)
    rows = ["".join("-" if m < 0 else str(m) for m in row) for row in found[0]]
    return rows[0] if len(rows) == 1 else rows


def test_the_better_score_takes_the_object_first():
    assert matched([[0.6], [0.9]]) == "0-"


def test_each_detection_takes_the_object_of_the_highest_iou():
    assert matched([[0.6, 0.7], [0.8, 0.9]]) == "10"


def test_the_last_of_equals_is_taken():
    assert matched([[0.7, 0.7, 0.6], [0.7, 0.7, 0.7]]) == "12"


def test_the_threshold_itself_is_enough():
    assert matched([[0.5], [0.5 - 1e-16]]) == "0-"
    assert matched([[np.nextafter(0.5, 0)]]) == "-"


def test_thresholds_are_independent():
    iou = [[0.6, 0.0], [0.9, 0.55]]
    assert matched(iou, thresholds=np.array([0.5, 0.6, 0.7])) == ["01", "0-", "-0"]


def test_an_object_that_counts_goes_before_any_ignored_one():
    assert matched([[0.9, 0.5]], ignored=[1, 0]) == "1"
    assert matched([[0.9, 0.4]], ignored=[1, 0]) == "0"


def test_a_crowd_is_taken_again_and_again_but_another_ignored_object_once():
    assert matched([[0.9], [0.8], [0.7]], crowd=[1]) == "000"
    assert matched([[0.9], [0.8], [0.7]], ignored=[1], crowd=[0]) == "0--"


def test_a_taken_object_leaves_the_next_best():
    assert matched([[0.9, 0.6], [0.9, 0.6], [0.9, 0.6]]) == "01-"


def test_ranges_are_independent():
    iou = np.array([[0.9, 0.6], [0.8, 0.7]])
    ignored = np.array([[False, False], [True, False], [True, True]])
    found = match_cell(iou, ignored, np.zeros(2, bool), HALF)
    np.testing.assert_array_equal(found[:, 0], [[0, 1], [1, 0], [0, 1]])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0)])
def test_nothing_to_match(shape):
    num_detections, num_truths = shape
    ignored = np.zeros((4, num_truths), bool)
    found = match_cell(np.zeros(shape), ignored, ignored[0], np.array([0.5, 0.75]))
    np.testing.assert_array_equal(found, np.full((4, 2, num_detections), -1))
