"""Greedy matching by eye, and its IoU."""

import numpy as np
import pytest

from deepmac.evaluation.matching import match_pairs
from deepmac.evaluation.overlaps import Pairs

HALF = np.array([0.5])


def match_cells(cells, ignored, crowd, thresholds):
    """int64 [A, T, D], ground truth of each detection of some cells, given IoU [D, G] of each."""
    columns, ious, before = [], [], np.zeros(2, np.int64)
    for number, iou in enumerate(cells):
        d, g = np.nonzero(iou >= thresholds.min())
        columns.append([np.full(len(d), number), d + before[0], g + before[1]])
        ious.append(iou[d, g])
        before += iou.shape
    cell, place, truth = np.concatenate(columns, axis=1)
    pairs = Pairs(cell, place, place, truth)
    assigned, places = match_pairs(
        pairs, np.concatenate(ious), ignored, crowd, thresholds
    )
    found = np.full((len(ignored), len(thresholds), before[0]), -1)
    found[:, :, places] = assigned.transpose(1, 2, 0)
    return found


def matched(iou, ignored=None, crowd=None, thresholds=HALF):
    """Ground truth of each detection, for the first range; '-' for none."""
    iou = np.array(iou, np.float64)
    none = np.zeros(iou.shape[1], bool)
    crowd = none if crowd is None else np.array(crowd, bool)
    ignored = crowd if ignored is None else np.array(ignored, bool)
    found = match_cells([iou], ignored[None], crowd, thresholds)
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
    found = match_cells([iou], ignored, np.zeros(2, bool), HALF)
    np.testing.assert_array_equal(found[:, 0], [[0, 1], [1, 0], [0, 1]])


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0)])
def test_nothing_to_match(shape):
    num_detections, num_truths = shape
    ignored = np.zeros((4, num_truths), bool)
    found = match_cells([np.zeros(shape)], ignored, ignored[0], np.array([0.5, 0.75]))
    np.testing.assert_array_equal(found, np.full((4, 2, num_detections), -1))


def test_cells_do_not_know_of_each_other():
    rng = np.random.default_rng(0)
    thresholds = np.array([0.5, 0.75])
    shapes = [(3, 2), (0, 4), (7, 5), (1, 1), (4, 0), (6, 6)]
    cells = [rng.choice([0, 0.5, 0.6, 0.8], shape) for shape in shapes]
    crowds = [rng.random(g) < 0.2 for _, g in shapes]
    ignored = [crowd | (rng.random((3, len(crowd))) < 0.3) for crowd in crowds]
    together = match_cells(
        cells, np.concatenate(ignored, axis=1), np.concatenate(crowds), thresholds
    )
    before = 0
    for (_, num_truths), *one in zip(shapes, cells, ignored, crowds, strict=True):
        alone = match_cells([one[0]], one[1], one[2], thresholds)
        found, together = np.split(together, [alone.shape[2]], axis=2)
        np.testing.assert_array_equal(found, np.where(alone < 0, -1, alone + before))
        before += num_truths
