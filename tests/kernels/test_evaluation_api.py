"""`deepmac.evaluate`: its figures against pycocotools, its inputs, and what it shows."""

import builtins
import copy
import gzip
import json
import subprocess
import sys

import coco_cases
import numpy as np
import pytest
from coco_reference import assert_equal, run_reference

import deepmac
from deepmac.errors import DataError, DeepmacError, OptionError
from deepmac.evaluation.saved import from_bytes
from deepmac.masks import decode_rle


@pytest.fixture(scope="module")
def case():
    return coco_cases.mixed()


@pytest.fixture(scope="module")
def result(case):
    groups = {"a group": ["category 5", 9]}
    return deepmac.evaluate(case.truth, case.results, seen=[2], groups=groups, draws=50)


@pytest.mark.parametrize("name", ["mixed", "text_ids", "a_ground_truth_of_id_zero"])
@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_figures_are_those_of_pycocotools(name, iou_type):
    make = getattr(coco_cases, name)
    case = make().of_type(iou_type)
    done = deepmac.evaluate(case.truth, case.results, iou_type=iou_type, draws=0)
    assert_equal(done.evaluation, run_reference(case))
    assert list(done.stats.values()) == run_reference(case)[3].tolist()
    assert done.precision.shape == (10, 101, len(case.truth["categories"]), 4, 3)
    assert done.recall.shape == done.precision.shape[:1] + done.precision.shape[2:]
    assert done.scores.shape == done.precision.shape


def test_files_give_what_values_give(case, tmp_path):
    truth, results = tmp_path / "truth.json", tmp_path / "results.json.gz"
    truth.write_text(json.dumps(case.truth))
    by_image = sorted(case.results, key=lambda r: r["image_id"])
    results.write_bytes(gzip.compress(json.dumps(by_image).encode()))
    scattered = tmp_path / "scattered.json"
    order = np.random.default_rng(0).permutation(len(case.results))
    scattered.write_text(json.dumps([case.results[i] for i in order]))
    expected = deepmac.evaluate(case.truth, by_image, draws=0)
    read = deepmac.evaluate(str(truth), results, draws=0)
    assert read.to_dict() == expected.to_dict()
    done = deepmac.evaluate(truth, scattered, draws=0)
    np.testing.assert_array_equal(
        done.recall[..., -1], expected.recall[..., -1]
    )  # ties of score are in another order


def test_numpy_numbers_are_welcome(case):
    truth, results = copy.deepcopy(case.truth), copy.deepcopy(case.results)
    for entry in truth["annotations"]:
        entry |= {
            "image_id": np.int64(entry["image_id"]),
            "bbox": np.array(entry["bbox"]),
        }
        entry |= {"id": np.int64(entry["id"]), "area": np.float64(entry["area"])}
    for result in results:
        result |= {
            "image_id": np.int64(result["image_id"]),
            "category_id": np.int32(result["category_id"]),
            "score": np.float64(result["score"]),
        }
        size = list(np.array(result["segmentation"]["size"]))
        result["segmentation"] = {**result["segmentation"], "size": size}
    done = deepmac.evaluate(truth, iter(results), image_ids=np.array([1, 2, 3, 4]))
    assert_equal(done.evaluation, run_reference(case))


def test_masks_polygons_and_boxes_may_be_arrays():
    scene = coco_cases.Scene()
    polygon, box = [1.5, 2, 18, 3, 12.5, 17, 4, 19], [1.5, 2, 16.5, 17]
    scene.object((1, 2, 18, 19))
    scene.object((30, 5, 44, 21))
    scene.found((30, 8, 44, 15), 0.5)
    scene.found((1, 3, 18, 18), 0.75)
    annotations, results = scene.truth["annotations"], scene.results
    annotations[0]["segmentation"] = results[1]["segmentation"] = [polygon, polygon]
    plain = deepmac.evaluate(scene.truth, results, draws=0).to_dict()
    for entry in (annotations[1], results[0]):
        entry["segmentation"] = decode_rle(entry["segmentation"])
    for values in (
        np.array([polygon, polygon]),
        [np.array(polygon), np.array(polygon, np.float32)],
    ):
        annotations[0]["segmentation"] = results[1]["segmentation"] = values
        given = deepmac.evaluate(scene.truth, results, draws=0)
        assert given.to_dict() == plain
        assert 0 < given.stats["AP"] < 1
    for result in results:
        result["bbox"] = box
    plain = deepmac.evaluate(scene.truth, results, iou_type="bbox", draws=0).to_dict()
    for result in results:
        result["bbox"] = np.array(box)
    given = deepmac.evaluate(scene.truth, results, iou_type="bbox", draws=0)
    assert given.to_dict() == plain


@pytest.mark.parametrize(
    ("segmentation", "sentence"),
    [
        (
            np.ones((120, 120), np.uint8),
            r"array of uint8 \[120, 120\]; give a mask as bool",
        ),
        (np.ones((1, 120, 120), bool), r"array of bool \[1, 120, 120\]; give a mask"),
        (
            np.ones((90, 120), bool),
            r"mask of \[90, 120\] pixels .* image of \[120, 120\]",
        ),
        (np.ones(8), r"a polygon needs at least 6 numbers, got 1\.0"),
    ],
)
def test_arrays_that_are_no_masks_are_told(segmentation, sentence):
    scene = coco_cases.Scene()
    scene.object((1, 2, 18, 19))
    scene.found((1, 2, 18, 19), 0.5)
    scene.results[0]["segmentation"] = segmentation
    with pytest.raises(DataError, match=sentence):
        deepmac.evaluate(scene.truth, scene.results, draws=0)


def test_parameters_reach_the_evaluation(case):
    done = deepmac.evaluate(
        case.truth,
        case.results,
        iou_thresholds=np.array([0.5, 0.75]),
        area_ranges={"all": (0, 1e10), "tiny": (0, 400)},
        max_dets=[10, 1, 50],
        categories="category 5,2",
        image_ids=[4, 2],
        draws=0,
    )
    assert done.precision.shape == (2, 101, 2, 2, 3)
    assert done.counts["images"] == 2
    assert {"AP_tiny", "AP@50"} <= done.stats.keys()
    assert [row["id"] for row in done.per_category] == [2, 5]
    agnostic = deepmac.evaluate(case.truth, case.results, use_categories=False, draws=0)
    assert agnostic.per_category == []
    assert agnostic.recall.shape[1] == 1


def test_groups_are_means_over_their_categories(case, result):
    assert list(result.groups) == ["seen", "unseen", "a group"]
    alone = deepmac.evaluate(case.truth, case.results, categories=[5, 9], draws=0)
    for name in ("unseen", "a group"):
        group = result.groups[name]
        assert {k: group[k] for k in alone.stats} == alone.stats
        assert group["categories"] == 2


def test_groups_without_any_category_are_told(case):
    groups = {"empty": [], "outside": [2], "inside": [5]}
    done = deepmac.evaluate(
        case.truth, case.results, seen=[5], groups=groups, categories=[5, 9], draws=0
    )
    assert list(done.groups) == ["seen", "unseen", "inside"]
    told = "groups left out, of which no category is evaluated: empty, outside"
    assert told in done.warnings
    done.plot_pr()
    alone = deepmac.evaluate(
        case.truth, case.results, seen=[5], categories=[5], draws=0
    )
    assert list(alone.groups) == ["seen"]
    assert not any("groups left out" in warning for warning in alone.warnings)


def test_no_predictions_find_nothing(case):
    done = deepmac.evaluate(case.truth, [], draws=0)
    assert done.stats["AP"] == 0
    assert any("there are no predictions" in warning for warning in done.warnings)


def test_masks_for_given_boxes_are_measured(case):
    results = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "segmentation": a["segmentation"],
            "score": 0.5,
            "annotation_id": a["id"],
        }
        for a in case.truth["annotations"]
    ]
    done = deepmac.evaluate(case.truth, results, draws=0)
    assert done.mean_iou_at_gt_boxes == 1
    assert "IoU at boxes 1.000" in repr(done)


def test_the_document_is_what_is_saved(result, tmp_path):
    result.save(tmp_path / "metrics.json")
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored == json.loads(json.dumps(result.to_dict()))
    assert stored["segm"]["stats"] == result.stats
    with pytest.raises(OptionError, match=r"must end in \.json or \.npz"):
        result.save(tmp_path / "metrics.csv")
    with pytest.raises(DataError, match="cannot be written"):
        result.save(tmp_path / "nowhere" / "metrics.json")


def test_the_state_is_saved_too(result, tmp_path):
    result.save(tmp_path / "state.npz")
    evaluation, groups = from_bytes((tmp_path / "state.npz").read_bytes())
    assert evaluation.stats == result.stats
    assert groups == result.group_ids


def test_intervals_come_from_draws_of_the_images():
    scene = coco_cases.Scene(images=range(1, 41))
    for image in range(1, 41):
        scene.object((0, 0, 20, 20), image)
        scene.found((0, 0, 20, 10 + image % 11), 1 - image / 50, image)
    done = deepmac.evaluate(scene.truth, scene.results, draws=200, seed=1)
    low, high = done.intervals["AP"]
    assert low < done.stats["AP"] < high
    again = deepmac.evaluate(scene.truth, scene.results, draws=200, seed=1)
    assert again.intervals == done.intervals
    assert deepmac.evaluate(scene.truth, scene.results, draws=0).intervals == {}
    groups = done.to_dataframe("groups")
    assert list(groups.loc["all", ["AP_low", "AP_high"]]) == [low, high]
    assert f"[{low:.3f}, {high:.3f}]" in done._repr_html_()


def test_as_data_frames(result):
    table = result.to_dataframe()
    assert list(table.index) == [f"category {i}" for i in (2, 5, 9)]
    assert table.loc["category 5", "AP"] == result.per_category[1]["AP"]
    assert table["APl"].isna().all()  # no object is that large
    groups = result.to_dataframe("groups")
    assert list(groups.index) == ["all", "seen", "unseen", "a group"]
    assert groups.loc["all", "AP50"] == result.stats["AP50"]
    assert groups.loc["seen", "categories"] == 1
    with pytest.raises(OptionError, match="did you mean 'groups'"):
        result.to_dataframe("group")


def test_precision_recall_curves(result):
    ax = result.plot_pr(iou=0.5)
    labels = [line.get_label().partition(" (")[0] for line in ax.lines]
    assert labels == ["all", "seen", "unseen", "a group"]
    # The mean over recalls of the curve is what AP50 is.
    assert ax.lines[0].get_ydata().mean() == pytest.approx(result.stats["AP50"])
    drawn = result.plot_pr(categories=["category 5", 9], ax=ax)
    assert drawn is ax
    assert len(ax.lines) == 6
    with pytest.raises(OptionError, match=r"iou is one of 0\.50, .*got 0\.51"):
        result.plot_pr(iou=0.51)
    with pytest.raises(OptionError, match="area is one of all, small"):
        result.plot_pr(area="tiny")
    with pytest.raises(OptionError, match="did you mean 'category 5'"):
        result.plot_pr(categories=["categry 5"])
    with pytest.raises(OptionError, match="categories is 5, not a list of names or"):
        result.plot_pr(categories=5)
    with pytest.raises(OptionError, match=r"there is no \[5\] here"):
        result.plot_pr(categories=[[5]])
    with pytest.raises(OptionError, match=r"iou is one of 0\.50, .*got '0\.5'"):
        result.plot_pr(iou="0.5")
    with pytest.raises(OptionError, match=r"area is one of all, small.*got '3'"):
        result.plot_pr(area=3)


def test_what_is_not_installed_is_named(result, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] in ("pandas", "matplotlib"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    for name in ("pandas", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DeepmacError, match="needs pandas: pip install pandas"):
        result.to_dataframe()
    with pytest.raises(DeepmacError, match="needs matplotlib: pip install matplotlib"):
        result.plot_pr()


def test_how_it_shows_itself(result):
    assert repr(result).startswith("<EvaluationResult segm: AP ")
    assert "3 categories" not in repr(result)
    assert "unseen" in str(result)
    assert "AP50" in str(result)
    page = result._repr_html_()
    assert "<th>unseen</th>" in page
    assert page.count("<tr>") == 1 + len(result.stats)


def test_hostile_names_are_escaped(case):
    groups = {"<script>": [5]}
    done = deepmac.evaluate(case.truth, case.results, groups=groups, draws=0)
    assert "<script>" not in done._repr_html_()
    assert "&lt;script&gt;" in done._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"ground_truth": 3}, "ground_truth is 3, neither a path nor"),
        ({"ground_truth": "nowhere.json"}, "nowhere.json"),
        ({"predictions": {"image_id": 1}}, "neither a path nor a list of results"),
        ({"predictions": "nowhere.json"}, "nowhere.json"),
        ({"predictions": [{"image_id": 1}]}, "result 0 .* has neither 'bbox' nor"),
        ({"iou_type": "bbx"}, "did you mean 'bbox'"),
        ({"categories": ["categry 5"]}, "categories: .* did you mean 'category 5'"),
        ({"seen": "categry 5"}, "seen: .* did you mean 'category 5'"),
        (
            {"groups": {"x": [77]}},
            r"groups\['x'\]: the ground truth has no category 77",
        ),
        ({"seen": [5], "groups": {"seen": [9]}}, "there is a group 'seen' already"),
        ({"image_ids": [77]}, "no image with id 77"),
        ({"seen": [5], "use_categories": False}, "seen and groups need categories"),
        ({"draws": -1}, "draws must not be negative, got -1"),
        ({"draws": "3"}, "draws is '3', not a whole number"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"seed": 1.5}, r"seed is 1\.5, not a whole number"),
        (
            {"max_dets": 5},
            r"max_dets is 5, not a list of whole numbers, such as \[1, 10",
        ),
        ({"max_dets": "1,10"}, "max_dets is '1,10', not a list of whole numbers"),
        ({"max_dets": [1, 2.5]}, r"max_dets holds 2\.5, not a whole number"),
        ({"iou_thresholds": 0.5}, r"iou_thresholds is 0\.5, not a list of numbers"),
        ({"iou_thresholds": ["x"]}, "iou_thresholds holds 'x', not a number"),
        (
            {"area_ranges": {"a": (1,)}},
            r"area_ranges: 'a' is \(1,\), not \(low, high\)",
        ),
        ({"area_ranges": {"a": 1}}, r"area_ranges: 'a' is 1, not \(low, high\) under"),
        ({"area_ranges": [(0, 1)]}, r"area_ranges is \[.*, not ranges by their label"),
        ({"groups": ["x"]}, r"groups is \['x'\], not categories by the name of their"),
        ({"groups": {5: [5]}}, "the name of a group is text, got 5"),
        ({"groups": {"x": 5}}, r"groups\['x'\] is 5, neither a list of categories nor"),
        ({"seen": 5}, "seen is 5, neither a list of categories nor a text such as"),
        ({"categories": [[5]]}, r"categories: the ground truth has no category \[5\]"),
        ({"categories": ["5"]}, "no category '5'; ids there are numbers, as 2$"),
        ({"seen": [True]}, "seen: the ground truth has no category True"),
        ({"image_ids": 1}, r"image_ids is 1, not a list of ids, such as \[1, 2\]"),
        ({"image_ids": "1"}, "image_ids is '1', not a list of ids"),
        ({"image_ids": ["1"]}, "no image with id '1'; ids there are numbers, as 1$"),
        ({"image_ids": [[1]]}, r"image_ids holds \[1\], not an id"),
        ({"label_map": "map.txt", "ground_truth": "x.json"}, "label_map is for"),
    ],
    ids=str,
)
def test_mistakes_are_told_in_a_sentence(case, arguments, sentence):
    given = {"ground_truth": case.truth, "predictions": case.results} | arguments
    with pytest.raises(DeepmacError, match=sentence):
        deepmac.evaluate(**given)


def test_evaluating_loads_nothing_heavy(case, tmp_path):
    paths = [tmp_path / "truth.json", tmp_path / "results.json"]
    for path, value in zip(paths, (case.truth, case.results), strict=True):
        path.write_text(json.dumps(value))
    heavy = ("tensorflow", "keras", "jax", "apache_beam", "pandas", "matplotlib")
    code = (
        "import sys, deepmac, deepmac.cocoeval\n"
        f"result = deepmac.evaluate({str(paths[0])!r}, {str(paths[1])!r}, draws=0)\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
