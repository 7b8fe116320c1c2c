"""The bootstrap over images: drawn images count as often as they are drawn, from the state alone."""

import copy

import coco_cases
import numpy as np
import pytest
from coco_reference import Case, run_ours
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmac.evaluation.bootstrap import draw_images, interval, resample
from deepmac.evaluation.parameters import Parameters


def repeated(case: Case, times: np.ndarray) -> Case:
    """The case with each image, in order of the ids, so many times, under ids of their own."""
    truth, results = copy.deepcopy(case.truth), []
    ids = sorted(image["id"] for image in truth["images"])
    images, annotations = [], []
    for position, image_id in enumerate(ids):
        for n in range(times[position]):
            new = position * 100 + n
            for image in truth["images"]:
                if image["id"] == image_id:
                    images.append(image | {"id": new})
            for old in truth["annotations"]:
                if old["image_id"] == image_id:
                    number = len(annotations) + 1
                    annotations.append(old | {"id": number, "image_id": new})
            for old in case.results:
                if old["image_id"] == image_id:
                    results.append(old | {"image_id": new})
    truth |= {"images": images, "annotations": annotations}
    return Case(truth=truth, results=results, parameters=case.parameters)


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
@given(times=st.lists(st.integers(0, 3), min_size=4, max_size=4), crowd=st.booleans())
def test_an_image_drawn_twice_counts_as_two_images(times, crowd):
    case = without_ties(coco_cases.mixed())
    evaluation = run_ours(case)
    found = resample(evaluation, np.array([times])).of()
    expected = run_ours(repeated(case, np.array(times))).stats if any(times) else {}
    for name, value in expected.items():
        drawn = found[name][0]
        assert (-1 if np.isnan(drawn) else drawn) == pytest.approx(
            value, abs=2e-7
        )  # float32


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
