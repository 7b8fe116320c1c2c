"""Equal to pycocotools on random data, under any sharding, merge order, and after a save."""

import collections
import random

import coco_cases
import numpy as np
import pytest
from coco_reference import (
    Case,
    assert_equal,
    read_results,
    read_truth,
    run_ours,
    run_reference,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_cases import cases

from deepmac.errors import DataError
from deepmac.evaluation.accumulate import finalize
from deepmac.evaluation.engine import conclude, match_images, match_results
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.state import (
    Partial,
    by_category,
    count_truths,
    empty_partial,
    merge,
)
from deepmac.evaluation.summary import Evaluation

MANY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
SOME = settings(MANY, max_examples=75)


@MANY
@given(case=cases())
def test_random_sets_equal_pycocotools(case):
    assert_equal(run_ours(case), run_reference(case))


def shards_of(case: Case, num_shards: int, seed: int) -> list[Partial]:
    """The case's images dealt to shards: for each, its ground truth and its detections."""
    truth, known, counts = read_truth(case)
    detections, parameters = read_results(case, known, truth.scope), case.parameters
    home = np.random.default_rng(seed).integers(
        0, num_shards, len(truth.scope.image_ids)
    )
    partials = []
    for shard in range(num_shards):
        images = np.flatnonzero(home == shard)
        truth_here = truth.take(np.flatnonzero(np.isin(truth.image, images)))
        found_here = detections.take(np.flatnonzero(np.isin(detections.image, images)))
        partials.append(count_truths(truth_here, images, parameters, counts))
        partials.append(match_images(truth_here, found_here, parameters))
    return partials


def merge_at_random(partials: list[Partial], seed: int) -> Partial:
    """Merges groups of two or three, in any order, saving and loading on the way."""
    rng = random.Random(seed)
    partials = list(partials)
    while len(partials) > 1:
        rng.shuffle(partials)
        some = [partials.pop() for _ in range(min(len(partials), rng.choice([2, 3])))]
        partials.append(Partial.from_bytes(merge(some).to_bytes()))
    return partials[0]


@SOME
@given(case=cases(), num_shards=st.sampled_from([1, 2, 7]), seed=st.integers(0, 99))
def test_any_sharding_and_merge_order_gives_the_same(case, num_shards, seed):
    whole = run_ours(case)
    merged = merge_at_random(shards_of(case, num_shards, seed), seed)
    curves = finalize(merged, whole.parameters, whole.scope)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(
            getattr(curves, name), getattr(whole.curves, name)
        )


@SOME
@given(case=cases(), num_shards=st.sampled_from([1, 2, 7]), seed=st.integers(0, 99))
def test_merging_each_category_on_its_own_gives_the_same(case, num_shards, seed):
    whole = run_ours(case)
    pieces = collections.defaultdict(list)
    for partial in shards_of(case, num_shards, seed):
        for category, piece in by_category(partial):
            pieces[category].append(piece)
    for category, some in pieces.items():
        assert category == -1 or all({*p.category} == {category} for p in some)
    merged = merge_at_random([merge_at_random(s, seed) for s in pieces.values()], seed)
    curves = finalize(merged, whole.parameters, whole.scope)
    for name in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(
            getattr(curves, name), getattr(whole.curves, name)
        )


def test_a_piece_that_got_lost_is_told():
    case = coco_cases.mixed()
    truth, known, counts = read_truth(case)
    unit = case.results, lambda i: f"result {i}"
    partial = match_results(unit, "mask", truth, known, case.parameters, name="a")
    *pieces, rest = (piece for _, piece in by_category(partial))
    message = rf"{len(partial.score) - len(pieces[0].score)} of {len(partial.score)} detections"
    with pytest.raises(DataError, match=message):
        conclude(truth, [*pieces[1:], rest], case.parameters, counts, ["a"])
    with pytest.raises(DataError, match="1 of 1 units of results got lost: a; run"):
        conclude(truth, [], case.parameters, counts, ["a"])


@pytest.mark.parametrize("name", coco_cases.CASES)
def test_every_trap_survives_one_image_a_shard(name):
    case = coco_cases.CASES[name]()
    truth, known, counts = read_truth(case)
    detections, parameters = read_results(case, known, truth.scope), case.parameters
    partials = [empty_partial(parameters, truth.scope)]  # an empty shard
    for image in range(len(truth.scope.image_ids)):
        truth_here = truth.take(np.flatnonzero(truth.image == image))
        found_here = detections.take(np.flatnonzero(detections.image == image))
        images = np.array([image])
        partials.append(count_truths(truth_here, images, parameters, counts))
        partials.append(match_images(truth_here, found_here, parameters))
    partial = merge(partials[::-1])
    curves = finalize(partial, parameters, truth.scope)
    assert_equal(
        Evaluation(parameters, truth.scope, curves, partial), run_reference(case)
    )


def test_the_same_image_twice_is_refused_by_name():
    case = coco_cases.mixed()
    partials = shards_of(case, 1, 0)
    with pytest.raises(DataError, match=r"hold the ground truth of image 1 \(4 such"):
        merge([*partials, partials[0]], image_ids=(1, 2, 3, 4))
    with pytest.raises(DataError, match="hold the detections of image number 0"):
        merge([*partials, partials[1]])


def test_other_parameters_are_refused_by_name():
    one = shards_of(coco_cases.mixed(), 1, 0)
    other = shards_of(coco_cases.mixed(parameters=Parameters(id_zero="match")), 1, 0)
    with pytest.raises(DataError, match="'id_zero' is reference in one and match"):
        merge([one[0], other[1]])
    fewer = shards_of(coco_cases.some_images(), 1, 0)
    with pytest.raises(DataError, match=r"'images' is 4 .* in one and 2"):
        merge([one[0], fewer[1]])


def test_an_image_left_out_is_named():
    case = coco_cases.mixed()
    truth, known, counts = read_truth(case)
    detections, parameters = read_results(case, known, truth.scope), case.parameters
    partial = merge(
        [
            count_truths(truth, np.array([0, 1, 3]), parameters, counts),
            match_images(truth, detections, parameters),
        ]
    )
    with pytest.raises(DataError, match="1 of 4 images were not evaluated: 3"):
        finalize(partial, parameters, truth.scope)


@pytest.mark.parametrize("chunk", [1, 7, 30, 1000])
def test_how_many_are_matched_at_once_does_not_matter(chunk):
    case = coco_cases.mixed()
    truth, known, counts = read_truth(case)
    unit = (case.results, "result {}".format)
    partial = match_results(
        unit, "mask", truth, known, case.parameters, name="a", chunk=chunk
    )
    assert_equal(
        conclude(truth, [partial], case.parameters, counts, ["a"]), run_reference(case)
    )


def test_a_unit_of_results_that_got_lost_is_noticed():
    case = coco_cases.mixed()
    truth, known, counts = read_truth(case)
    unit = (case.results, "result {}".format)
    partial = match_results(unit, "mask", truth, known, case.parameters, name="a")
    conclude(truth, [partial], case.parameters, counts, ["a"])
    with pytest.raises(DataError, match="1 of 2 units of results got lost: b; run"):
        conclude(truth, [partial], case.parameters, counts, ["a", "b"])


def test_the_state_is_small():
    scene = coco_cases.Scene(images=range(100))
    for image in range(100):
        scene.object((0, 0, 20, 20), image)
        for n in range(100):
            box = (0, 0, 20, 20) if n < 8 else (60, 60, 20, 20)
            scene.found(box, n / 100, image)
    truth, known, _ = read_truth(scene.case())
    detections = read_results(scene.case(), known, truth.scope)
    partial = match_images(truth, detections, Parameters())
    assert len(partial.score) == 10_000
    # Row, hits and ignored, annotation, IoU
    matched_bits = len(partial.matched) * (4 + 2 * 5 + 4 + 4)
    assert partial.nbytes - matched_bits <= 13 * 10_000
    assert len(partial.to_bytes()) <= 13 * 10_000 + matched_bits + 10_000


def test_a_file_that_is_no_state_is_refused():
    with pytest.raises(DataError, match="not a partial evaluation result"):
        Partial.from_bytes(b"something else")
