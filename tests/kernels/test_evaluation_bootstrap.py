"""The bootstrap over images: drawn images count as often as they are drawn, from the state alone."""

import coco_cases
import numpy as np
import pytest
from coco_reference import Case, run_ours, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from repeated_images import repeated

from deepmac.evaluation.bootstrap import draw_images, interval, resample
from deepmac.evaluation.parameters import Parameters


def without_ties(case: Case) -> Case:
    """Scores that differ: among equal ones the copies of an image would be mixed."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(case.results))
    results = [
        r | {"score": 0.1 + 0.8 * int(n) / len(order)}
        for r, n in zip(case.results, order, strict=True)
    ]
    return Case(truth=case.truth, results=results, parameters=case.parameters)


@settings(max_examples=30, deadline=None)
@given(times=st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_an_image_drawn_twice_counts_as_two_images_in_pycocotools(times):
    case = without_ties(coco_cases.mixed())
    evaluation = run_ours(case)
    found = resample(evaluation, np.array([times])).of()
    drawn = repeated(case, np.array(times))
    if not drawn.results:  # pycocotools cannot evaluate that
        return
    *_, stats = run_reference(drawn)
    for (name, value), expected in zip(found.items(), stats.tolist(), strict=False):
        ours = -1 if np.isnan(value[0]) else value[0]
        assert ours == pytest.approx(expected, abs=2e-7), name  # float32


@pytest.mark.parametrize("name", coco_cases.CASES)
def test_every_image_once_gives_the_figures(name):
    evaluation = run_ours(coco_cases.CASES[name]())
    once = np.ones((2, len(evaluation.scope.image_ids)), int)
    resampled = resample(evaluation, once)
    groups = [evaluation.scope.category_ids]
    if evaluation.parameters.use_categories:
        groups += [[c] for c in evaluation.scope.category_ids]
    for ids in groups:
        found = resampled.of(ids if evaluation.parameters.use_categories else None)
        stats = evaluation.stats
        if evaluation.parameters.use_categories:
            stats = evaluation.stats_of(ids)
        for figure, value in stats.items():
            drawn = found[figure]
            assert drawn[0] == drawn[1] or np.isnan(drawn).all()
            shown = -1 if np.isnan(drawn[0]) else drawn[0]
            assert shown == pytest.approx(value, abs=2e-7), figure


def test_draws_are_of_as_many_images_and_always_the_same():
    drawn = draw_images(50, 20, seed=3)
    assert (drawn.sum(axis=1) == 50).all()
    assert len(np.unique(drawn, axis=0)) == 20
    np.testing.assert_array_equal(drawn, draw_images(50, 20, seed=3))
    assert (drawn != draw_images(50, 20, seed=4)).any()


def test_an_interval_holds_95_percent_of_the_draws_about_the_figure():
    draws = np.random.default_rng(0).permutation(np.linspace(-1, 1, 1001))
    assert interval(0.5, draws) == pytest.approx((-0.45, 1.45))
    assert interval(0.3, draws, 0.5) == pytest.approx((-0.2, 0.8))


def test_the_iou_at_given_boxes_is_resampled():
    scene = coco_cases.Scene(images=[1, 2])
    for image, iou_half in ((1, False), (2, True)):
        scene.object((0, 0, 20, 20), image)
        box = (0, 0, 20, 10) if iou_half else (0, 0, 20, 20)
        scene.found(box, 0.5, image)
    case = scene.case(parameters=Parameters())
    annotations = {a["image_id"]: a["id"] for a in case.truth["annotations"]}
    for result in case.results:
        result["annotation_id"] = annotations[result["image_id"]]
    evaluation = run_ours(case)
    found = resample(evaluation, np.array([[1, 1], [2, 0], [0, 2], [1, 3]])).of()
    expected = [0.75, 1.0, 0.5, 0.625]
    np.testing.assert_allclose(found["mean_iou_at_gt_boxes"], expected)


def test_few_images_tell_nothing_of_others():
    scene = coco_cases.Scene(images=range(1, 13), categories=(1, 2))
    for image in range(1, 13):
        scene.object((0, 0, 20, 20), image).found((0, 0, 20, 15), 0.5, image)
        if image < 10:
            scene.object((40, 0, 40, 40), image, 2)
    resampled = resample(run_ours(scene.case()), draw_images(12, 8))
    assert {"AP", "APs", "AR1"} <= resampled.deviations([1]).keys()
    assert "APm" not in resampled.deviations()
    assert resampled.deviations([2]) == {}


def test_draws_of_no_images_and_no_draws():
    assert draw_images(0, 3).shape == (3, 0)
    evaluation = run_ours(coco_cases.mixed())
    assert resample(evaluation, draw_images(4, 0)).deviations() == {}
