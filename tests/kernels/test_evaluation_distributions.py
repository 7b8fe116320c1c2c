"""Curves, histograms and calibration behind the figures, and the choice of what is shown."""

import coco_cases
import numpy as np
import pytest
from coco_reference import (
    form,
    read_truth,
    reference_matches,
    run_ours,
    run_reference,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmac.evaluation.distributions import (
    histogram,
    hits_of,
    iou_by_size,
    precision_curves,
    reliability,
)
from deepmac.evaluation.engine import conclude, match_results
from deepmac.evaluation.selection import choose_galleries


@pytest.mark.parametrize("name", coco_cases.CASES)
def test_curves_average_to_the_reference_s_precision(name):
    case = coco_cases.CASES[name]()
    precision, *_ = run_reference(case)
    curves = precision_curves(run_ours(case))
    thresholds = list(case.parameters.iou_thresholds)
    for label, curve in zip(curves.labels, curves.mean(), strict=True):
        chosen = precision[..., 0, -1]
        if label.startswith("IoU"):
            chosen = chosen[[thresholds.index(float(label[4:]))]]
        own = chosen[chosen > -1]
        if own.size:
            np.testing.assert_allclose(curve.mean(), own.mean(), rtol=1e-12)
        else:
            assert np.isnan(curve).all()


@pytest.mark.parametrize("name", coco_cases.CASES)
def test_hits_are_the_reference_s_matches(name):
    """Which annotation, and with which IoU: pycocotools keeps both, image by image."""
    case = coco_cases.CASES[name]()
    if case.parameters.duplicate_ids == "reference":
        pytest.skip("the reference tells matches by ids, which are not unique here")
    ground_truth, *_ = read_truth(case)
    hits = hits_of(run_ours(case))
    ours = {
        ground_truth.annotation_ids[o]: iou
        for o, iou in zip(hits.ordinal.tolist(), hits.iou.tolist(), strict=True)
    }
    assert ours == pytest.approx(reference_matches(case), rel=1e-6)


def test_a_value_on_an_edge_belongs_above_it_and_1_to_the_last_bin():
    edges, numbers = histogram(np.array([0.5, 0.55, 0.6, 0.7, 0.95, 1.0]), 0.5, 10)
    np.testing.assert_allclose(edges[:3], [0.5, 0.55, 0.6])
    assert numbers.tolist() == [1, 1, 1, 0, 1, 0, 0, 0, 0, 2]


@given(st.lists(st.floats(0, 1), max_size=50))
def test_a_histogram_counts_every_value(values):
    _, numbers = histogram(np.array(values), 0.0, 20)
    assert numbers.sum() == len(values)


def scored(pairs):
    """One image; a detection for each (score, hit or miss)."""
    scene = coco_cases.Scene()
    for i, (score, is_hit) in enumerate(pairs):
        x, y = 24 * (i % 5), 24 * (i // 5)
        scene.object((x, y, 10, 10))
        scene.found((x, y, 10, 10) if is_hit else (x + 12, y, 9, 9), score)
    return run_ours(scene.case())


def test_reliability_seen_by_eye():
    found = reliability(
        scored([(0.05, False), (0.95, True), (0.91, True), (0.92, False), (1.0, True)])
    )
    assert found.number.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 4]
    assert found.right.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert found.share[9] == 0.75
    assert np.isnan(found.share[4])
    assert found.score[9] == pytest.approx(np.mean([0.95, 0.91, 0.92, 1.0]))
    expected = (0.05 * 1 + abs(found.score[9] - 0.75) * 4) / 5
    assert found.error == pytest.approx(expected)


def test_scores_that_are_no_probabilities_have_bins_of_their_own():
    found = reliability(scored([(-5.0, False), (15.0, True)]), num_bins=4)
    assert found.edges.tolist() == [-5, 0, 5, 10, 15]
    assert found.number.tolist() == [1, 0, 0, 1]


def test_what_matches_a_crowd_takes_no_part():
    scene = coco_cases.Scene().object((0, 0, 50, 50), iscrowd=1)
    scene.found((0, 0, 50, 50), 0.9).found((80, 80, 20, 20), 0.3)
    assert reliability(run_ours(scene.case())).number.sum() == 1


def test_iou_by_size_is_that_of_the_objects():
    scene = coco_cases.Scene()
    scene.object((0, 0, 20, 20)).found((0, 0, 20, 10), 0.9)  # small, 0.5
    scene.object((40, 40, 40, 40)).found((40, 40, 40, 40), 0.9)  # medium, 1
    evaluation = run_ours(scene.case())
    found = iou_by_size(evaluation, hits_of(evaluation))
    assert found == {"small": (0.5, 1), "medium": (1.0, 1), "large": None}
    assert iou_by_size(evaluation, hits_of(evaluation), [])["small"] is None


def shared_out(case, seed):
    """The evaluation of a case whose images were evaluated one by one, and merged in any order."""
    truth, known, counts = read_truth(case)
    units = [
        [r for r in case.results if r["image_id"] == i] for i in truth.scope.image_ids
    ]
    partials = [
        match_results(
            (unit, "result {}".format),
            form(case),
            truth,
            known,
            case.parameters,
            name=str(number),
        )
        for number, unit in enumerate(units)
    ]
    np.random.default_rng(seed).shuffle(partials)
    names = list(map(str, range(len(units))))
    return conclude(truth, partials, case.parameters, counts, names)


@given(seed=st.integers(0, 99), for_boxes=st.booleans())
@settings(max_examples=20, deadline=None)
def test_how_the_work_was_shared_out_changes_nothing(seed, for_boxes):
    case = coco_cases.mixed()
    if for_boxes:
        for number, result in enumerate(case.results):
            result["annotation_id"] = number % 30 + 1
    one, other = run_ours(case), shared_out(case, seed)
    assert choose_galleries(one, 5) == choose_galleries(other, 5)
    a, b = reliability(one), reliability(other)
    np.testing.assert_array_equal(a.score, b.score)
    np.testing.assert_array_equal(a.right, b.right)
    np.testing.assert_array_equal(hits_of(one).iou, hits_of(other).iou)


def test_galleries_of_given_boxes_begin_with_what_has_no_prediction():
    scene = coco_cases.Scene()
    for i, width in enumerate((20, 15, 10)):
        scene.object((0, 30 * i, 20, 20))
        scene.found((0, 30 * i, width, 20), 0.5, annotation_id=i + 1)
    scene.object((60, 0, 20, 20))
    worst, best, random = choose_galleries(run_ours(scene.case()), 3)
    assert [g.name for g in (worst, best, random)] == ["worst", "best", "random"]
    assert [(c.ordinal, c.iou) for c in worst.choices] == [
        (3, None),
        (2, 0.5),
        (1, 0.75),
    ]
    assert [c.iou for c in best.choices] == [1.0, 0.75, 0.5]
    assert worst.num_all == 4
    assert len({c.ordinal for c in random.choices}) == 3


def test_galleries_of_detections_name_mistakes_and_what_was_missed():
    scene = coco_cases.Scene(images=(7, 9))
    scene.object((0, 0, 20, 20), image=9).found((0, 0, 20, 18), 0.4, image=9)
    scene.object((60, 60, 30, 30), image=7)
    scene.found((0, 0, 10, 10), 0.8, image=7).found((0, 50, 10, 10), 0.9, image=7)
    galleries = {g.name: g for g in choose_galleries(run_ours(scene.case()), 1)}
    (match,) = galleries["worst"].choices
    assert (match.image, match.ordinal, match.rank) == (1, 1, 0)
    assert match.iou == pytest.approx(0.9)
    (mistake,) = galleries["false"].choices
    assert (mistake.image, mistake.ordinal, mistake.rank) == (0, None, 0)
    assert galleries["false"].num_all == 2
    (missed,) = galleries["missed"].choices
    assert (missed.image, missed.ordinal, missed.rank) == (0, 0, None)


def test_no_gallery_is_asked_for():
    for gallery in choose_galleries(run_ours(coco_cases.mixed()), 0):
        assert gallery.choices == ()
