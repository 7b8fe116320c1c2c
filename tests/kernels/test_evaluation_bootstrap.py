"""The bootstrap over images: drawn images count as often as they are drawn, from the state alone."""

import coco_cases
import numpy as np
import pycocotools.mask
import pytest
from coco_reference import Case, run_ours, run_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from repeated_images import repeated

from deepmac.evaluation.bootstrap import (
    draw_images,
    interval,
    intervals,
    resample,
)
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


@pytest.mark.parametrize("name", [*coco_cases.CASES, "objects_of_every_size"])
def test_every_image_once_gives_the_figures(name):
    cases = coco_cases.CASES | {"objects_of_every_size": objects_of_every_size}
    evaluation = run_ours(cases[name]())
    once = np.ones((2, len(evaluation.scope.image_ids)), int)
    resampled = resample(evaluation, once)
    groups = [evaluation.scope.category_ids]
    if evaluation.parameters.use_categories:
        groups += [[c] for c in evaluation.scope.category_ids]
    for ids in groups:
        found = resampled.of(ids if evaluation.parameters.use_categories else None)
        figures = evaluation.figures(
            ids if evaluation.parameters.use_categories else None
        )
        for figure, value in figures.items():
            drawn = found.get(figure, np.full(2, np.nan))
            assert drawn[0] == drawn[1] or np.isnan(drawn).all()
            shown = None if np.isnan(drawn[0]) else drawn[0]
            if value is None:
                assert shown is None, figure
            else:
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


BOXES = ((0, 0, 20, 20), (40, 0, 40, 40), (0, 20, 100, 100))  # one of each size
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}


def objects_of_every_size(*, missing: int | None = None, **more) -> Case:
    """Objects of each size and of two categories in 14 images, some on the edge of a range.

    Args:
        missing: number of an object that nothing was predicted for.
        more: of a further prediction, if any.
    """
    rng = np.random.default_rng(3)
    scene = coco_cases.Scene(images=range(1, 15), categories=(1, 2))
    for image in range(1, 15):
        for box in BOXES[: 1 + image % 3]:
            category = 1 + int(rng.random() < 0.3)
            edge = {"area": 32.0**2} if rng.random() < 0.2 else {}
            scene.object(box, image, category, **edge)
            number, part = len(scene.truth["annotations"]), rng.uniform(0.3, 1)
            found = (*box[:3], int(box[3] * part))
            if number != missing:
                score = rng.random()
                scene.found(found, score, image, category, annotation_id=number)
        scene.object((0, 0, 9, 9), image, 1, iscrowd=1)
    if more:
        scene.found(BOXES[0], 0.5, **more)
    return scene.case()


def ious_by_hand(case: Case, times: np.ndarray, category_ids: list[int]) -> dict:
    """Mean IoU at boxes of each size, of a list in which every image stands so many times."""
    by_id = {r["annotation_id"]: r["segmentation"] for r in case.results}
    lists = {name: [] for name in ("", *(f"_{size}" for size in SIZES))}
    for truth in case.truth["annotations"]:
        if truth["iscrowd"] or truth["category_id"] not in category_ids:
            continue
        iou = 0.0
        if truth["id"] in by_id:
            masks = [by_id[truth["id"]]], [truth["segmentation"]]
            iou = float(pycocotools.mask.iou(*masks, [0])[0, 0])
        for _ in range(times[truth["image_id"] - 1]):
            lists[""].append(iou)
            for size, (low, high) in SIZES.items():
                if low <= truth["area"] <= high:
                    lists[f"_{size}"].append(iou)
    return {
        f"mean_iou_at_gt_boxes{name}": np.mean(some) if some else np.nan
        for name, some in lists.items()
    }


def test_the_iou_of_each_size_equals_that_of_repeated_images():
    case = objects_of_every_size(missing=5)
    weights = draw_images(14, 12)
    weights[0] = np.arange(14) % 3 == 0  # no large objects
    resampled = resample(run_ours(case), weights)
    for ids in ([1, 2], [1], [2]):
        found = resampled.of(ids)
        for draw, times in enumerate(weights):
            for name, expected in ious_by_hand(case, times, ids).items():
                np.testing.assert_allclose(found[name][draw], expected, err_msg=name)
    assert np.isnan(resampled.of()["mean_iou_at_gt_boxes_large"][0])


def test_figures_at_given_boxes_have_intervals_where_enough_images_have_such_objects():
    evaluation = run_ours(objects_of_every_size(missing=5))
    deviations = resample(evaluation, draw_images(14, 40)).deviations()
    found = intervals(evaluation.figures(), deviations)
    # All 14 images have small objects, 5 have large ones.
    assert "mean_iou_at_gt_boxes_small" in found
    assert "mean_iou_at_gt_boxes_large" not in found
    for name in ("mean_iou_at_gt_boxes_small", "mean_iou_at_gt_boxes"):
        low, high = found[name]
        assert low < evaluation.figures()[name] < high


def test_ap_at_given_boxes_is_ap_where_every_prediction_was_given_a_box():
    evaluation = run_ours(objects_of_every_size())
    resampled = resample(evaluation, draw_images(14, 40))
    for ids in (None, [1]):
        figures = evaluation.figures(ids)
        found = intervals(figures, resampled.deviations(ids))
        assert figures["ap_at_gt_boxes"] == figures["AP"]
        assert found["ap_at_gt_boxes"] == found["AP"]
    other = run_ours(objects_of_every_size(image=1, category=1))
    assert other.figures()["ap_at_gt_boxes"] is None
    found = resample(other, draw_images(14, 40)).deviations()
    assert "ap_at_gt_boxes" not in found
    assert "mean_iou_at_gt_boxes" in found


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
