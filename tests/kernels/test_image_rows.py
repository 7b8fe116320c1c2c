"""An evaluation of rows that were grouped by image: any grouping gives the figures of the file."""

import collections

import coco_cases
import numpy as np
import pytest
from coco_reference import saved_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from random_cases import cases

from deepmac.errors import DataError
from deepmac.evaluation.engine import evaluate, figures
from deepmac.evaluation.ground_truth import read_ground_truth, read_scope
from deepmac.evaluation.image_rows import (
    UNIT,
    contribute,
    facts_of,
    frame_of,
    ids_by_number,
    in_order,
)
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.results_file import place_of
from deepmac.evaluation.state import OF_DETECTIONS, merge


def rows_by_image(truth, results):
    """As a shuffle groups them: every row on its own, but for an image's results, whose order counts."""
    grouped = collections.defaultdict(lambda: ([], [], []))
    for image in truth["images"]:
        grouped[image["id"]][0].append(image)
    for annotation in reversed(truth["annotations"]):
        grouped[annotation["image_id"]][1].append(annotation)
    for image_id in dict.fromkeys(result["image_id"] for result in results):
        mine = [r for r in results if r["image_id"] == image_id]
        grouped[image_id][2].append(mine)
    return [in_order(image_id, *parts) for image_id, parts in grouped.items()]


def evaluated(truth, results, parameters, groups=None):
    rows = rows_by_image(truth, results)
    facts = [fact for some in rows for fact in facts_of(some)]
    categories = truth["categories"]
    frame = frame_of(facts, categories, parameters)
    parts = [
        contribute(some, frame, categories, parameters, "mask")
        for some in (groups(rows) if groups else [rows])
        if some
    ]
    partial = merge([partial for partial, _ in parts], frame.scope.image_ids)
    ids = ids_by_number([pair for _, some in parts for pair in some], parameters)
    return figures(partial, parameters, frame.scope, [UNIT]), ids


def from_file(truth, results, parameters):
    known = read_scope(truth, parameters, "truth")
    ground_truth, counts = read_ground_truth(truth, parameters, "truth")
    place = place_of(results, lambda i: f"result {i}")
    units = [(results, place)]
    evaluation = evaluate(ground_truth, known, units, "mask", parameters, counts)
    return evaluation, ground_truth.annotation_ids


@settings(max_examples=60, deadline=None)
@given(case=cases(), data=st.data())
def test_any_grouping_of_the_images_gives_the_figures_of_the_file(case, data):
    def groups(rows):
        rows = data.draw(st.permutations(rows))
        cut = data.draw(st.integers(0, len(rows)))
        return [rows[:cut], rows[cut:]]

    mine, ids = evaluated(case.truth, case.results, case.parameters, groups)
    reference, reference_ids = from_file(case.truth, case.results, case.parameters)
    assert saved_bytes(mine, {}) == saved_bytes(reference, {})
    assert [i for i in ids if i is not None] == list(reference_ids)


def test_annotations_of_other_categories_and_images_take_no_part_and_are_counted():
    case = coco_cases.annotations_of_unknown_images_and_categories()

    def one_by_one(rows):
        return [[some] for some in rows]

    mine, _ = evaluated(case.truth, case.results, case.parameters, one_by_one)
    reference, _ = from_file(case.truth, case.results, case.parameters)
    assert mine.stats == reference.stats
    assert mine.partial.counts == reference.partial.counts


def test_the_state_takes_at_most_16_bytes_a_detection():
    scene = coco_cases.Scene(range(300), range(90)).object((0, 0, 10, 10), 1, 1)
    rng = np.random.default_rng(0)
    for _ in range(3000):
        scene.found(
            (0, 0, 10, 10), rng.random(), int(rng.integers(300)), int(rng.integers(90))
        )
    mine, _ = evaluated(scene.truth, scene.results, Parameters())
    size = sum(getattr(mine.partial, name).nbytes for name in OF_DETECTIONS)
    assert size <= 16 * len(mine.partial.score)


def test_the_order_in_which_rows_come_together_does_not_matter():
    rows = [{"image_id": 1, "score": 0.5, "category_id": n} for n in range(5)]
    rows[2]["segmentation"] = {"size": [2, 2], "counts": b"13"}
    rows[3]["segmentation"] = np.ones((2, 2), bool)
    annotations = [{"id": n, "image_id": 1} for n in (3, "b", 20, "a", 1)]
    there = in_order(1, [], annotations, rows)
    back = in_order(1, [], annotations[::-1], rows[::-1])
    assert repr(there) == repr(back)
    assert [a["id"] for a in there.annotations] == [1, 3, 20, "a", "b"]


def test_a_list_keeps_its_order():
    rows = [{"image_id": 1, "score": 0.5, "category_id": n} for n in (2, 1, 3)]
    assert in_order(1, [], [], [rows]).results == rows


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda truth, results: truth["images"].append(truth["images"][0]),
            "images share the id 1",
        ),
        (
            lambda truth, results: results[0].update(image_id=77),
            "a prediction for image 77: the ground truth has no image 77",
        ),
        (
            lambda truth, results: results[0].update(score=None),
            "a prediction for image 1: score is None",
        ),
        (
            lambda truth, results: truth["annotations"][1].update(id=1),
            "ground truth: 1 ids belong to several annotations, such as 1",
        ),
        (
            lambda truth, results: truth["images"][0].pop("height"),
            "ground truth: image 1 has height None",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_an_error(spoil, message):
    scene = coco_cases.Scene([1, 2], [1])
    scene.object((0, 0, 5, 5), 1).object((0, 0, 5, 5), 2).found((0, 0, 5, 5), 0.5, 1)
    spoil(scene.truth, scene.results)
    with pytest.raises(DataError) as caught:
        evaluated(
            scene.truth,
            scene.results,
            Parameters(),
            lambda rows: [[some] for some in rows],
        )
    assert message in str(caught.value)
