"""`deepmac.cocoeval.COCOeval` against the class of pycocotools whose place it takes."""

import contextlib
import copy
import dataclasses
import gzip
import io
import json
from typing import Any

import coco_cases
import numpy as np
import pycocotools.cocoeval
import pytest
from coco_reference import Case
from hypothesis import HealthCheck, given, settings
from pycocotools.coco import COCO
from random_cases import cases

import deepmac.cocoeval
from deepmac.errors import DataError, DeepmacError, OptionError
from deepmac.evaluation.parameters import Parameters

# Many of the sets are unusual on purpose: test_evaluation_failures.py reads what is told of them.
pytestmark = pytest.mark.filterwarnings("ignore::deepmac.cocoeval.EvaluationWarning")

CASES = coco_cases.of_both_types()
FIGURES = ("precision", "recall", "scores")


def coco_objects(case: Case) -> tuple[COCO, COCO]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(case.truth)
        truth.createIndex()
        return truth, truth.loadRes(copy.deepcopy(case.results))


def set_params(params: Any, case: Case) -> None:
    parameters = case.parameters
    params.iouThrs = np.array(parameters.iou_thresholds)
    params.recThrs = np.array(parameters.recall_thresholds)
    params.maxDets = list(parameters.max_dets)
    params.areaRng = [[a.low, a.high] for a in parameters.area_ranges]
    params.areaRngLbl = [a.label for a in parameters.area_ranges]
    params.useCats = int(parameters.use_categories)
    if case.image_ids is not None:
        params.imgIds = list(case.image_ids)
    if case.category_ids is not None:
        params.catIds = list(case.category_ids)


def run(module: Any, case: Case, objects: tuple[COCO, COCO] | None = None) -> Any:
    """The object after all three steps, with what it printed as `.said`."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        done = module.COCOeval(
            *(objects or coco_objects(case)), case.parameters.iou_type
        )
        set_params(done.params, case)
        done.evaluate()
        done.accumulate()
        if len(done.params.maxDets) >= 3:
            done.summarize()
    done.said = [
        line for line in said.getvalue().splitlines() if not line.startswith("DONE")
    ]
    return done


def both(case: Case) -> tuple[Any, Any]:
    return run(deepmac.cocoeval, case), run(pycocotools.cocoeval, case)


def assert_same(ours: Any, reference: Any) -> None:
    for name in FIGURES:
        np.testing.assert_array_equal(
            ours.eval[name], reference.eval[name], strict=True
        )
    assert ours.eval["counts"] == reference.eval["counts"]
    np.testing.assert_array_equal(ours.stats, reference.stats, strict=True)
    assert ours.said == reference.said
    for name in vars(reference.params):
        assert np.array_equal(
            getattr(ours.params, name), getattr(reference.params, name)
        ), name


def assert_same_images(ours: Any, reference: Any) -> None:
    """`evalImgs` and `ious` hold equal values of equal types."""
    assert len(ours.evalImgs) == len(reference.evalImgs)
    for one, other in zip(ours.evalImgs, reference.evalImgs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.keys() == other.keys()
            for name, value in other.items():
                assert type(one[name]) is type(value), name
                np.testing.assert_array_equal(one[name], value, err_msg=name)
    assert ours.ious.keys() == reference.ious.keys()
    for key, value in reference.ious.items():
        np.testing.assert_array_equal(ours.ious[key], value, strict=True)


@pytest.mark.parametrize("name", CASES)
def test_every_trap_gives_what_pycocotools_gives(name):
    ours, reference = both(CASES[name])
    assert_same(ours, reference)
    assert_same_images(ours, reference)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_random_sets_give_what_pycocotools_gives(case):
    ours, reference = both(case)
    assert_same(ours, reference)
    assert_same_images(ours, reference)


def test_the_detections_are_those_that_the_object_holds():
    """Filtered, of other areas, out of order, with ids of their own."""
    case = coco_cases.mixed()
    truth, found = coco_objects(case)
    by_hand = COCO()
    by_hand.dataset = {
        **truth.dataset,
        "annotations": [
            a | {"id": 1000 + 7 * n, "area": 400.0 * n}
            for n, a in enumerate(found.dataset["annotations"][::-2])
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        by_hand.createIndex()
    ours, reference = (
        run(module, case, copy.deepcopy((truth, by_hand)))
        for module in (deepmac.cocoeval, pycocotools.cocoeval)
    )
    assert_same(ours, reference)
    assert_same_images(ours, reference)
    assert len(set(ours.stats)) > 6


def test_figures_of_nothing_are_numbers_too():
    case = coco_cases.mixed()
    case.truth["annotations"] = []
    ours, reference = both(case)
    assert set(ours.stats) == {-1}
    assert_same(ours, reference)


def test_no_detections_find_nothing():
    case = coco_cases.mixed()
    truth, _ = coco_objects(case)
    nothing = COCO()
    nothing.dataset = truth.dataset | {"annotations": []}
    with contextlib.redirect_stdout(io.StringIO()):
        nothing.createIndex()
    ours, reference = (
        run(module, case, copy.deepcopy((truth, nothing)))
        for module in (deepmac.cocoeval, pycocotools.cocoeval)
    )
    assert_same(ours, reference)
    assert_same_images(ours, reference)
    assert ours.stats[0] == 0


def test_numpy_numbers_are_welcome():
    case = coco_cases.mixed()
    truth, found = coco_objects(case)
    for annotation in (*truth.dataset["annotations"], *found.dataset["annotations"]):
        annotation["image_id"] = np.int64(annotation["image_id"])
        annotation["category_id"] = np.int32(annotation["category_id"])
        annotation["area"] = np.float32(annotation["area"])
        size = np.array(annotation["segmentation"]["size"], np.int32)
        annotation["segmentation"]["size"] = list(size)
    for annotation in found.dataset["annotations"]:
        annotation["score"] = np.float32(annotation["score"] / 3)
    assert_same(
        run(deepmac.cocoeval, case, copy.deepcopy((truth, found))),
        run(pycocotools.cocoeval, case, copy.deepcopy((truth, found))),
    )


def test_without_categories_their_given_order_decides_ties():
    case = coco_cases.mixed(
        parameters=Parameters(use_categories=False), category_ids=[9, 2, 5]
    )
    assert_same(*both(case))


def test_it_can_be_run_again_with_other_params():
    case = coco_cases.mixed()
    ours, reference = both(case)
    for done in (ours, reference):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            done.params.iouType = "bbox"
            done.params.imgIds = [3, 1]
            done.evaluate()
            done.accumulate()
            done.summarize()
        done.said = said.getvalue().splitlines()[-12:]
    assert_same(ours, reference)
    assert_same_images(ours, reference)


@pytest.mark.parametrize(
    "changes",
    [
        {"recThrs": np.array([0.0, 0.1, 0.9])},
        {"maxDets": [1, 100]},
        {"maxDets": [100, 10, 1]},
        {"maxDets": [100, 100, 100]},
        {"areaRngLbl": ["w", "x", "y", "z"]},
    ],
    ids=str,
)
def test_accumulate_takes_other_params(changes):
    case = coco_cases.mixed()
    ours, reference = both(case)
    for done in (ours, reference):
        params = copy.copy(done.params)
        for name, value in changes.items():
            setattr(params, name, value)
        with contextlib.redirect_stdout(io.StringIO()):
            done.accumulate(params)
        assert done.eval["params"] is params
    assert ours.eval["counts"] == reference.eval["counts"]
    for name in FIGURES:
        np.testing.assert_array_equal(ours.eval[name], reference.eval[name])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("imgIds", [1, 2]),
        ("catIds", [9]),
        ("iouThrs", np.array([0.5])),
        ("areaRng", [[0, 1024]]),
        ("maxDets", [1, 10, 50]),
        ("useCats", 0),
    ],
)
def test_accumulate_refuses_what_was_not_evaluated(name, value, capsys):
    done = run(deepmac.cocoeval, coco_cases.mixed())
    params = copy.copy(done.params)
    setattr(params, name, value)
    if name == "areaRng":
        params.areaRngLbl = ["small"]
    with pytest.raises(OptionError, match=f"accumulate: {name} not as evaluate"):
        done.accumulate(params)


def test_the_order_of_the_steps_is_told(capsys):
    done = deepmac.cocoeval.COCOeval(*coco_objects(coco_cases.mixed()), "bbox")
    assert done.evalImgs == []
    assert done.ious == {}
    with pytest.raises(DeepmacError, match="call evaluate"):
        done.accumulate()
    with pytest.raises(DeepmacError, match="call accumulate"):
        done.summarize()
    with pytest.raises(DeepmacError, match="needs cocoGt and cocoDt"):
        deepmac.cocoeval.COCOeval().evaluate()


def test_what_it_does_not_do_is_told_in_a_sentence(capsys):
    truth, found = coco_objects(coco_cases.mixed())
    with pytest.raises(OptionError, match="use pycocotools for keypoints"):
        deepmac.cocoeval.COCOeval(truth, found, "keypoints")
    with pytest.raises(OptionError, match="got 'segms'; did you mean 'segm'"):
        deepmac.cocoeval.COCOeval(truth, found, "segms")
    done = deepmac.cocoeval.COCOeval(truth, found)
    with pytest.raises(DeepmacError, match="no evaluateImg: all images are matched"):
        done.evaluateImg(1, 1, [0, 1e10], 100)
    assert not hasattr(done, "computeIoU")
    with pytest.raises(AttributeError, match="has no attribute 'evalute'"):
        done.evalute  # noqa: B018
    done.params.recThrs = [0.5, 0.1]
    with pytest.raises(OptionError, match="recThrs must ascend"):
        done.evaluate()
    done = deepmac.cocoeval.COCOeval(truth, found)
    done.params.maxDets = [10]
    done.evaluate()
    done.accumulate()
    with pytest.raises(OptionError, match="need three limits"):
        done.summarize()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("score", float("nan"), "cocoDt: annotation 4: score is nan"),
        ("id", 0, "detections need ids above 0"),
        ("bbox", [1, 2, 3], "cocoDt: annotation 4: bbox is .*, not four numbers"),
    ],
)
def test_what_cannot_be_evaluated_is_named(key, value, sentence, capsys):
    truth, found = coco_objects(coco_cases.mixed())
    found.dataset["annotations"][3][key] = value
    found.createIndex()
    with pytest.raises(DataError, match=sentence):
        deepmac.cocoeval.COCOeval(truth, found, "bbox").evaluate()


def test_an_image_without_size_is_named(capsys):
    truth, found = coco_objects(coco_cases.mixed())
    del truth.imgs[1]["height"]
    with pytest.raises(DataError, match="its image 1 has no height and width"):
        deepmac.cocoeval.COCOeval(truth, found).evaluate()


def test_its_coco_holds_what_that_of_pycocotools_holds(tmp_path, capsys):
    """Plain, `.gz`, and both forms of results, which a list and an array give too."""
    for case in (coco_cases.mixed(), coco_cases.results_with_boxes_only()):
        truth, results = tmp_path / "truth.json.gz", tmp_path / "results.json"
        truth.write_bytes(gzip.compress(json.dumps(case.truth).encode()))
        results.write_text(json.dumps(case.results))
        ours = deepmac.cocoeval.COCO(truth)
        reference, found = coco_objects(case)
        assert vars(ours).items() >= vars(reference).items()
        for source in (results, str(results), case.results):
            assert repr(vars(ours.loadRes(copy.deepcopy(source)))) == repr(vars(found))
    array = np.array([[1, 0, 0, 20, 18, 0.9, 1]])
    for coco in (ours, reference):
        assert coco.loadRes(array).anns[1]["bbox"] == [0, 0, 20, 18]


def test_its_coco_takes_what_lacks_lists(capsys):
    """Images alone, as of a test set; and data sets that are filled later."""
    truth = deepmac.cocoeval.COCO()
    truth.dataset = {"images": [{"id": 4}], "categories": [{"id": 2}]}
    truth.createIndex()
    assert truth.loadRes([]).anns == {}
    result = {"image_id": 4, "category_id": 2, "score": 1.0, "bbox": [0, 0, 1, 1]}
    assert truth.loadRes([result]).anns[1]["area"] == 1
    del truth.dataset["categories"]
    with pytest.raises(DataError, match="cocoGt: has no 'categories'"):
        truth.loadRes([result])
    for dataset, sentence in (
        ([], "cocoGt: holds .*, not an object with 'images'"),
        ({"images": {}}, "cocoGt: 'images' is {}, not a list"),
        ({"categories": [{}]}, "cocoGt: category 0 of the list has no 'id'"),
    ):
        truth.dataset = dataset
        with pytest.raises(DataError, match=sentence):
            truth.createIndex()
    with pytest.raises(DataError, match="results: holds 3, not a list of results"):
        truth.loadRes(3)


def gathered(module: Any, case: Case) -> Any:
    """What a script does that shares out the images: each worker has two, in no order."""
    truth, found = coco_objects(case)
    whole = module.COCOeval(truth, found, case.parameters.iou_type)
    set_params(whole.params, case)
    image_ids = np.random.default_rng(0).permutation(whole.params.imgIds)
    ids, cells = [], []
    with contextlib.redirect_stdout(io.StringIO()):
        for some in np.array_split(image_ids, -(-len(image_ids) // 2)):
            worker = module.COCOeval(truth, found, case.parameters.iou_type)
            set_params(worker.params, case)
            worker.params.imgIds = list(some)
            worker.evaluate()
            shape = (-1, len(worker.params.areaRng), len(some))
            ids += worker.params.imgIds
            cells.append(np.asarray(worker.evalImgs).reshape(shape))
        order = np.argsort(ids)
        whole.evalImgs = list(np.concatenate(cells, axis=2)[..., order].flatten())
        whole.params.imgIds = list(np.array(ids)[order])
        whole._paramsEval = copy.deepcopy(whole.params)
        whole.accumulate()
        if len(whole.params.maxDets) >= 3:
            whole.summarize()
    return whole


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_images_gathered_from_workers_give_what_pycocotools_gives(case):
    if case.category_ids is not None:
        case = dataclasses.replace(case, category_ids=sorted(set(case.category_ids)))
    ours = gathered(deepmac.cocoeval, case)
    reference = gathered(pycocotools.cocoeval, case)
    for name in FIGURES:
        np.testing.assert_array_equal(
            ours.eval[name], reference.eval[name], strict=True
        )
    assert ours.eval["counts"] == reference.eval["counts"]
    assert list(ours.stats) == list(reference.stats)


@pytest.mark.parametrize("name", CASES)
def test_every_trap_is_accumulated_from_images(name):
    reference = run(pycocotools.cocoeval, CASES[name])
    ours = deepmac.cocoeval.COCOeval(iouType=reference.params.iouType)
    ours.params = copy.deepcopy(reference.params)
    ours._paramsEval = copy.deepcopy(reference._paramsEval)
    ours.evalImgs = reference.evalImgs
    with contextlib.redirect_stdout(io.StringIO()):
        ours.accumulate()
    for name in FIGURES:
        np.testing.assert_array_equal(ours.eval[name], reference.eval[name])


def test_images_that_do_not_fit_are_told(capsys):
    done = run(deepmac.cocoeval, coco_cases.mixed())
    images = done.evalImgs
    for wrong, sentence in (
        (images[1:], r"evalImgs has \d+ entries, and params 3 categories x 4 areaRng"),
        ([3, *images[1:]], r"evalImgs\[0\] is 3, neither None nor an object with dtS"),
        ([{**images[0], "dtMatches": [[]]}, *images[1:]], r"\[0\]: dtMatches is \[1,"),
        (images[::-1][:4] + images[4:], "have different dtScores"),
    ):
        done.evalImgs = wrong
        with pytest.raises(DataError, match=sentence):
            done.accumulate()
    done.evalImgs = []
    with pytest.raises(DeepmacError, match="call evaluate"):
        done.accumulate()
