"""Two evaluations compared, against the same done the slow way with pycocotools."""

import copy
import dataclasses
import math

import coco_cases
import numpy as np
import pytest
from coco_reference import Case, run_ours, run_reference
from repeated_images import repeated

from deepmac.errors import DataError
from deepmac.evaluation.bootstrap import draw_images
from deepmac.evaluation.comparison import compare, image_scores
from deepmac.evaluation.comparison_report import (
    Compared,
    conclusions,
    csv_of,
    document_of,
    markdown,
    notes,
)
from deepmac.evaluation.summary import Evaluation

IMAGES = range(1, 13)


def scene(seed: int, quality: float, *, given: bool = False) -> Case:
    """Two objects of each of two categories in each of 12 images, found more or less well."""
    places, rng = np.random.default_rng(0), np.random.default_rng(seed)
    made = coco_cases.Scene(images=IMAGES, categories=(3, 8))
    for image in IMAGES:
        for n in range(4):
            x, y, size = 60 * (n % 2), 60 * (n // 2), int(places.integers(20, 55))
            category = 3 if n < 2 else 8
            made.object((x, y, size, size), image, category)
            width = max(1, int(size * min(1, rng.normal(quality, 0.2))))
            extra = {"annotation_id": len(made.truth["annotations"])} if given else {}
            made.found((x, y, width, size), rng.random(), image, category, **extra)
    return made.case()


@pytest.fixture(scope="module")
def pair() -> tuple[Case, Case]:
    return scene(1, 0.7), scene(2, 0.85)


def reference_figures(case: Case, category_ids: list[int]) -> np.ndarray:
    *_, stats = run_reference(dataclasses.replace(case, category_ids=category_ids))
    return np.where(stats < 0, np.nan, stats)


@pytest.mark.parametrize("ids", [[3, 8], [8]])
def test_differences_equal_those_of_pycocotools_on_repeated_images(pair, ids):
    num_draws = 15
    found = compare(*map(run_ours, pair), {"g": ids}, num_draws=num_draws, seed=5)
    change = reference_figures(pair[1], ids) - reference_figures(pair[0], ids)
    drawn = []
    for times in draw_images(len(IMAGES), num_draws, seed=5):
        a, b = (reference_figures(repeated(case, times), ids) for case in pair)
        drawn.append(b - a)
    deviations = np.array(drawn) - np.mean(drawn, axis=0)
    for figure, (name, difference) in enumerate(found.groups["g"].items()):
        if figure == 12:
            break
        if np.isnan(change[figure]):
            assert difference.value is None
            assert difference.interval is None
            continue
        assert difference.value == pytest.approx(change[figure], abs=1e-12)
        if difference.interval is None:  # not enough images with small objects
            assert name in ("APs", "ARs")
            assert ids == [8]
            continue
        half = np.quantile(np.abs(deviations[:, figure]), 0.95)
        expected = change[figure] - half, change[figure] + half
        assert difference.interval == pytest.approx(expected, abs=2e-6), name
        better = (change[figure] + deviations[:, figure] > 1e-9).mean()
        assert difference.share_better == pytest.approx(better)
    if len(ids) == 1:
        assert found.categories[8] == found.groups["g"]


def test_swapping_the_two_turns_every_sign(pair):
    one, two = map(run_ours, pair)
    forth = compare(one, two, {"g": [3]}, num_draws=50).groups["g"]["AP"]
    back = compare(two, one, {"g": [3]}, num_draws=50).groups["g"]["AP"]
    assert (back.first, back.second) == (forth.second, forth.first)
    assert back.interval == pytest.approx([-v for v in forth.interval[::-1]])
    assert back.share_better == pytest.approx(1 - forth.share_better)


def test_an_evaluation_does_not_differ_from_itself(pair):
    one = run_ours(pair[0])
    found = compare(one, run_ours(pair[0]), {"g": [3]}, num_draws=20)
    for differences in (*found.groups.values(), *found.categories.values()):
        for difference in differences.values():
            assert difference.value in (0, None)
            assert difference.interval in ((0, 0), None)
            assert not difference.is_shown
    assert list(found.images) == []
    assert "A and B do equally well on g (AP, 95%)" in conclusions(as_read(one, found))


def as_read(evaluation: Evaluation, found, **changes) -> Compared:
    return Compared(
        **{
            "first": "a",
            "second": "b",
            "comparison": found,
            "parameters": evaluation.parameters,
            "scope": evaluation.scope,
            "groups": {"g": [3]},
            "num_draws": 20,
            "seed": 0,
            "num_images": 3,
        }
        | changes
    )


def test_images_that_changed_most_come_first(pair):
    better = copy.deepcopy(pair[0])
    for result in better.results:  # one image perfect, one empty
        if result["image_id"] == 4:
            truth = [
                a
                for a in better.truth["annotations"]
                if (a["image_id"], a["category_id"]) == (4, result["category_id"])
            ]
            x = result["segmentation"] == truth[0]["segmentation"]
            result["segmentation"] = truth[int(x)]["segmentation"]
    better = dataclasses.replace(
        better, results=[r for r in better.results if r["image_id"] != 9]
    )
    one, two = run_ours(pair[0]), run_ours(better)
    before, after = (image_scores(e, at_given_boxes=False) for e in (one, two))
    changed = compare(one, two, {}, num_draws=1).images
    assert {c.image_id for c in changed} == {
        i for i, a, b in zip(IMAGES, before, after, strict=True) if a != b
    }
    sizes = [abs(c.second - c.first) for c in changed]
    assert sizes == sorted(sizes, reverse=True)
    assert after[8] == 0
    assert 9 in {c.image_id for c in changed}


def test_the_score_of_an_image_is_its_recall_in_pycocotools(pair):
    scores = image_scores(run_ours(pair[0]), at_given_boxes=False)
    for image, score in zip(IMAGES, scores, strict=True):
        case = dataclasses.replace(pair[0], image_ids=[image])
        *_, stats = run_reference(case)
        assert score == pytest.approx(stats[8])  # AR100; as many objects of each


def test_at_given_boxes_the_mean_iou_is_compared_too():
    one, two = (run_ours(scene(s, q, given=True)) for s, q in ((1, 0.6), (2, 0.9)))
    found = compare(one, two, {}, num_draws=200)
    everything = found.groups["all"]
    difference = everything["mean_iou_at_gt_boxes"]
    a, b = (e.mean_iou_at_given_boxes() for e in (one, two))
    assert (difference.first, difference.second) == (a, b)
    # The error of a mean, from the textbook: images are drawn, each with four objects.
    change = image_scores(two, at_given_boxes=True)
    change = change - image_scores(one, at_given_boxes=True)
    half = 1.96 * change.std() / math.sqrt(len(change))
    low, high = difference.interval
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)  # of 200 draws
    assert found.at_given_boxes
    read = conclusions(as_read(one, found))
    assert read[1].startswith("B is better on all categories by 0.")
    assert read[1].endswith("(IoU at boxes, 95%)")
    assert everything["ap_at_gt_boxes"] == everything["AP"]
    # Every object is small or medium: their changes, weighted, are the whole.
    sizes = [everything[f"mean_iou_at_gt_boxes_{s}"] for s in ("small", "medium")]
    small = np.mean([a["area"] <= 32**2 for a in scene(1, 0.6).truth["annotations"]])
    parts = small * sizes[0].value + (1 - small) * sizes[1].value
    assert parts == pytest.approx(difference.value)
    assert all(d.interval is not None for d in sizes)
    assert everything["mean_iou_at_gt_boxes_large"].value is None
    page = markdown(as_read(one, found))
    for label in ("IoU, small", "IoU, medium", "AP at boxes"):
        assert f"| {label} | 0." in page
    assert "IoU, large" not in page


def test_where_one_of_the_two_was_not_given_boxes_images_are_scored_alike(pair):
    one, two = run_ours(scene(1, 0.7, given=True)), run_ours(pair[0])
    found = compare(one, two, {}, num_draws=2)
    assert found.groups["all"]["mean_iou_at_gt_boxes"].value is None
    assert not found.at_given_boxes
    assert list(found.images) == []  # the same masks


def test_too_few_images_give_no_interval():
    few = coco_cases.Scene(images=range(1, 21), categories=(1, 2))
    for image in range(1, 21):
        few.object((0, 0, 20, 20), image).found((0, 0, 20, 15), 0.5, image)
    few.object((40, 0, 20, 20), 3, 2).found((40, 0, 20, 16), 0.5, 3, 2)
    one = run_ours(few.case())
    few.results[-1]["segmentation"] = coco_cases.rle((40, 0, 20, 20))
    two = run_ours(few.case())
    found = compare(one, two, {"rare": [2]}, num_draws=30)
    rare = found.groups["rare"]["AP"]
    assert rare.value == pytest.approx(0.3)
    assert rare.interval is None
    assert not rare.is_shown
    read = as_read(one, found, groups={"rare": [2]})
    assert "on rare B - A is +0.300 (AP, no interval)" in conclusions(read)
    assert markdown(read).count("| rare |") == 1
    assert found.groups["all"]["AP"].interval is not None


def test_without_draws_and_without_categories(pair):
    cases = [
        dataclasses.replace(
            case, parameters=dataclasses.replace(case.parameters, use_categories=False)
        )
        for case in pair
    ]
    found = compare(*map(run_ours, cases), {}, num_draws=0)
    assert found.categories == {}
    assert found.groups["all"]["AP"].value is not None
    assert found.groups["all"]["AP"].interval is None
    read = as_read(run_ours(cases[0]), found, groups={}, num_draws=0)
    assert notes(read) == []
    assert "no interval" in markdown(read)


def test_nothing_found_and_nothing_there():
    empty = coco_cases.Scene(images=IMAGES).case()
    one = run_ours(empty)
    read = as_read(one, compare(one, one, {}, num_draws=3), groups={})
    (conclusion,) = conclusions(read)
    assert conclusion.startswith("no conclusion: there is no object that AP could")
    assert document_of(read)["groups"]["all"]["AP"]["difference"] is None
    assert csv_of(read).count(b"\n") == 1 + 2 * 17


def different(pair: tuple[Case, Case]):
    a = pair[1]

    def with_truth(change) -> Case:
        truth = copy.deepcopy(a.truth)
        change(truth)
        return dataclasses.replace(a, truth=truth)

    more_images = with_truth(lambda t: t["images"].append(t["images"][0] | {"id": 77}))
    yield more_images, r"same images \(12 in A, 13 in B\): only B has 77"
    yield dataclasses.replace(a, image_ids=[1, 2, 3]), "only A has 4, 5, 6, 7, ..."
    yield dataclasses.replace(a, category_ids=[8]), r"categories .*: only A has 3"
    narrower = dataclasses.replace(a.parameters, max_dets=(1, 10, 50))
    yield (
        dataclasses.replace(a, parameters=narrower),
        "max_dets is 1, 10, 100 in A and 1, 10, 50 in B",
    )
    yield a.of_type("bbox"), "iou_type is segm in A and bbox in B"
    fewer = with_truth(lambda t: t["annotations"].pop())
    yield fewer, "48 annotations in A, 47 in B"
    other = with_truth(lambda t: t["annotations"][0].update(category_id=8))
    yield other, "differ in the categories of the annotations"
    crowd = with_truth(lambda t: t["annotations"][0].update(iscrowd=1))
    yield crowd, "differ in the sizes, or in which are crowds"


def test_what_cannot_be_compared_is_named(pair):
    one = run_ours(pair[0])
    for case, sentence in different(pair):
        with pytest.raises(DataError, match=sentence):
            compare(one, run_ours(case), {}, num_draws=1)
