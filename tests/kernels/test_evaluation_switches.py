"""Where we do better than the reference: by default, or on demand, and saying so."""

import copy

import coco_cases
import pytest
from coco_reference import assert_equal, run_ours, run_reference

from deepmac.errors import DataError
from deepmac.evaluation.parameters import AreaRange, Parameters
from deepmac.evaluation.report import warnings_from

BOX = (0, 0, 20, 20)


def warnings(case):
    evaluation = run_ours(case)
    ids = [a["id"] for a in case.truth["annotations"]]
    return "\n".join(warnings_from(evaluation, ids))


def test_no_warning_without_reason():
    assert warnings(coco_cases.mixed()) == ""


def test_no_predictions_are_a_detector_that_found_nothing():
    case = coco_cases.Scene(categories=(1, 2)).object(BOX).case()
    for iou_type in ("segm", "bbox"):
        stats = run_ours(case.of_type(iou_type)).stats
        assert stats["AP"] == stats["AP50"] == stats["APs"] == stats["AR100"] == 0
        assert stats["APm"] == stats["APl"] == -1
    assert "there are no predictions" in warnings(case)


def test_no_annotations_give_no_figures():
    case = coco_cases.Scene().found(BOX, 0.9).case()
    assert set(run_ours(case).stats.values()) == {-1}
    assert "no annotations" in warnings(case)


def test_id_zero_counts_as_a_match_on_demand():
    scene = coco_cases.Scene().object(BOX, id=0).found(BOX, 0.9)
    assert run_ours(scene.case()).stats["AP"] == 0
    said = warnings(scene.case())
    assert "id 0" in said
    assert said.endswith("at IoU 0.50 these are: 1")
    corrected = scene.case(parameters=Parameters(id_zero="match"))
    assert run_ours(corrected).stats["AP"] == pytest.approx(1)
    assert warnings(corrected) == ""


def test_shared_annotation_ids_are_refused():
    scene = coco_cases.Scene().object(BOX, id=5).object(BOX, id=5).object(BOX, id=6)
    with pytest.raises(DataError, match="annotations share ids: 5; give each its own"):
        run_ours(scene.case())


@pytest.mark.parametrize("key", ["images", "categories"])
def test_shared_ids_of_images_and_categories_are_refused(key):
    case = coco_cases.mixed()
    case.truth[key].append(copy.deepcopy(case.truth[key][0]))
    with pytest.raises(DataError, match=f"{key} share ids: [45]"):
        run_ours(case)


def test_images_listed_twice_can_be_reproduced():
    case = coco_cases.mixed(parameters=Parameters(duplicate_ids="reference"))
    case.truth["images"].append(copy.deepcopy(case.truth["images"][0]))
    assert_equal(run_ours(case), run_reference(case))


def test_masks_of_another_size_are_refused_by_name():
    truth = coco_cases.Scene().object(BOX, segmentation=coco_cases.rle(BOX, 90))
    expected = r"annotation 1: mask of \[90, 90\] pixels .* in an image of \[120, 120\]"
    with pytest.raises(DataError, match=expected):
        run_ours(truth.case())
    found = coco_cases.Scene().object(BOX).found(BOX, 0.9)
    found.found(BOX, 0.9, segmentation=coco_cases.rle(BOX, 90))
    with pytest.raises(DataError, match="result 1: mask of"):
        run_ours(found.case())
    tolerant = found.case(parameters=Parameters(wrong_size="reference"))
    assert "of another size than the image, never matched: 1" in warnings(tolerant)


def test_a_missing_crowd_flag_is_none_and_a_missing_area_that_of_the_mask():
    whole = coco_cases.mixed()
    whole.truth["annotations"] = [
        a | {"iscrowd": 0} for a in whole.truth["annotations"]
    ]
    lacking = copy.deepcopy(whole)
    for annotation in lacking.truth["annotations"]:
        del annotation["iscrowd"], annotation["area"]
    for iou_type in ("segm", "bbox"):
        assert_equal(
            run_ours(lacking.of_type(iou_type)), run_reference(whole.of_type(iou_type))
        )
    said = warnings(lacking)
    assert "annotations without 'iscrowd', taken as 0: 30" in said
    assert "annotations without 'area'" in said


def test_a_missing_area_without_a_mask_is_that_of_the_box():
    scene = coco_cases.Scene().object((0, 0, 40, 40)).found((0, 0, 40, 40), 0.9)
    del scene.truth["annotations"][0]["area"]
    del scene.truth["annotations"][0]["segmentation"]
    stats = run_ours(scene.case().of_type("bbox")).stats
    assert (stats["APs"], stats["APm"]) == (-1, pytest.approx(1))


def test_a_missing_area_in_an_image_without_size_is_that_of_the_box():
    scene = coco_cases.Scene().object((0, 0, 40, 40)).found((0, 0, 40, 40), 0.9)
    del scene.truth["annotations"][0]["area"]
    del scene.truth["images"][0]["height"]
    scene.results[0]["bbox"] = [0, 0, 40, 40]
    stats = run_ours(scene.case().of_type("bbox")).stats
    assert (stats["APs"], stats["APm"]) == (-1, pytest.approx(1))


def test_unknown_categories_are_counted():
    said = warnings(coco_cases.results_of_an_unknown_category())
    assert "predictions left out, of categories" in said
    said = warnings(coco_cases.annotations_of_unknown_images_and_categories())
    assert "of images that the ground truth does not list: 1" in said
    assert "of categories that the ground truth does not list: 1" in said


def test_box_and_mask_the_mask_decides_sizes_on_demand():
    case = coco_cases.results_with_box_and_mask()
    assert "with box and mask" in warnings(case)
    corrected = coco_cases.Case(
        truth=case.truth,
        results=case.results,
        parameters=Parameters(result_area="mask"),
    )
    without_boxes = copy.deepcopy(case)
    for result in without_boxes.results:
        del result["bbox"]
    assert_equal(run_ours(corrected), run_reference(without_boxes))
    assert warnings(corrected) == ""


def test_a_stored_ignore_is_honoured_on_demand():
    scene = coco_cases.Scene().object(BOX).object((40, 0, 20, 20), ignore=1)
    scene.found(BOX, 0.9)
    assert run_ours(scene.case()).stats["AR100"] == 0.5
    assert_equal(run_ours(scene.case()), run_reference(scene.case()))
    assert "stored 'ignore'" in warnings(scene.case())
    honoured = scene.case(parameters=Parameters(ignore_field="honour"))
    assert run_ours(honoured).stats["AR100"] == 1
    assert warnings(honoured) == ""


def test_precision_at_the_largest_limit_has_its_own_name():
    case = coco_cases.large_limits()
    stats = run_ours(case).stats
    assert stats["AP"] == -1
    assert 0 < stats["AP@1000"] < 1
    assert list(stats)[6:9] == ["AR10", "AR300", "AR1000"]
    assert "AP@1000 has the precision at 1000" in warnings(case)


def test_fewer_than_three_limits():
    stats = run_ours(coco_cases.mixed(parameters=Parameters(max_dets=(100,)))).stats
    usual = run_ours(coco_cases.mixed()).stats
    for name in ("AP", "AP50", "APm", "AR100", "ARs"):
        assert stats[name] == usual[name]
    assert "AR1" not in stats


def test_area_ranges_of_other_names_are_reported():
    ranges = (AreaRange("all", 0, 1e10), AreaRange("tiny", 0, 1024))
    stats = run_ours(coco_cases.mixed(parameters=Parameters(area_ranges=ranges))).stats
    usual = run_ours(coco_cases.mixed()).stats
    assert (stats["AP_tiny"], stats["AR_tiny"]) == (usual["APs"], usual["ARs"])
    assert stats["APs"] == -1


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_no_images_and_no_categories_are_no_crash(iou_type):
    nothing = coco_cases.Scene(images=(), categories=()).case().of_type(iou_type)
    assert set(run_ours(nothing).stats.values()) == {-1}
    without_categories = coco_cases.Scene(categories=()).found(BOX, 0.9).case()
    stats = run_ours(without_categories.of_type(iou_type)).stats
    assert set(stats.values()) == {-1}
