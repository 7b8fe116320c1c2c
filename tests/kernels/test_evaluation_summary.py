"""Groups, categories, and the IoU at given boxes."""

import dataclasses

import coco_cases
import numpy as np
import pytest
from coco_reference import run_ours, run_reference

from deepmac.evaluation.parameters import AreaRange
from deepmac.evaluation.report import metrics, warnings_from

BOX, HALF, QUARTER = (0, 0, 20, 20), (0, 0, 20, 10), (0, 0, 10, 10)


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("ids", [[5], [2, 9], [9, 2, 5]])
def test_a_group_equals_a_run_of_pycocotools_on_its_categories(iou_type, ids):
    case = coco_cases.mixed().of_type(iou_type)
    *_, stats = run_reference(dataclasses.replace(case, category_ids=ids))
    assert list(run_ours(case).stats_of(ids).values()) == stats.tolist()


def test_the_mean_runs_over_all_entries_at_once():
    # Averaging averages would give other last bits.
    evaluation = run_ours(coco_cases.mixed())
    entries = evaluation.curves.precision[..., 0, 2]
    assert evaluation.stats["AP"] == np.mean(entries[entries > -1])


def given_boxes():
    """Three objects and a crowd; one object has no prediction, one has two."""
    scene = coco_cases.Scene(images=(1, 2), categories=(1, 2))
    scene.object(BOX).object(BOX, category=2).object(BOX, 2, 1).object(BOX, iscrowd=1)
    scene.found(HALF, 0.1, annotation_id=1)
    scene.found(QUARTER, 0.2, annotation_id=2).found(BOX, 0.1, annotation_id=2)
    return scene.found(BOX, 0.9, annotation_id=4).case()


def test_iou_at_given_boxes():
    evaluation = run_ours(given_boxes())
    _, category, iou = evaluation.given_box_ious()
    assert category.tolist() == [0, 1, 0]
    np.testing.assert_array_equal(iou, [0.5, 0.25, np.nan])
    assert evaluation.mean_iou_at_given_boxes() == (0.5 + 0.25 + 0) / 3
    assert evaluation.mean_iou_at_given_boxes([1]) == 0.25
    assert evaluation.mean_iou_at_given_boxes([2]) == 0.25
    warnings = "\n".join(warnings_from(evaluation, [1, 4, 2, 3]))
    assert "annotations that no prediction carries the id of" in warnings
    assert warnings.endswith("1, namely 3")
    assert "an annotation_id that another has too" in warnings


def test_iou_at_given_boxes_by_size_of_the_annotation():
    scene = coco_cases.Scene(images=(1, 2), categories=(1, 2))
    areas = (1023, 1024, 1025, 9216, 9217, 500)  # both ends of a range belong to it
    parts = (20, 15, 10, 5, 4, 0)  # of 20 rows
    for n, (area, part) in enumerate(zip(areas, parts, strict=True)):
        image, category = 1 + n % 2, 1 + (n == 5)
        scene.object(BOX, image, category, area=area)
        if part:
            scene.found((0, 0, 20, part), 0.5, image, category, annotation_id=n + 1)
    scene.object(BOX, 1, 1, area=500, iscrowd=1)
    evaluation = run_ours(scene.case())
    assert evaluation.mean_iou_by_size() == {
        "small": pytest.approx((1 + 0.75 + 0) / 3),
        "medium": pytest.approx((0.75 + 0.5 + 0.25) / 3),
        "large": pytest.approx((0.25 + 0.2) / 2),
    }
    assert evaluation.mean_iou_by_size([2]) == {
        "small": 0,
        "medium": None,
        "large": None,
    }
    assert evaluation.mean_iou_at_given_boxes() == pytest.approx(2.7 / 6)


def test_ranges_of_ones_own_have_an_iou_each():
    ranges = (AreaRange("tiny", 0, 100), AreaRange("rest", 100, 1e10))
    case = given_boxes()
    own = dataclasses.replace(case.parameters, area_ranges=ranges)
    evaluation = run_ours(dataclasses.replace(case, parameters=own))
    assert evaluation.mean_iou_by_size() == {"tiny": None, "rest": 0.25}


def test_without_given_boxes_there_is_no_oracle():
    for case in (coco_cases.mixed(), given_boxes().of_type("bbox")):
        evaluation = run_ours(case)
        assert evaluation.mean_iou_by_size() is None
        assert evaluation.ap_at_given_boxes() is None


def test_ap_at_given_boxes_is_ap_where_every_prediction_is_for_one():
    case = given_boxes()
    evaluation = run_ours(case)
    assert evaluation.ap_at_given_boxes() == evaluation.stats["AP"]
    assert evaluation.ap_at_given_boxes([2]) == evaluation.stats_of([2])["AP"]
    few = dataclasses.replace(case.parameters, max_dets=(1, 5))
    narrow = run_ours(dataclasses.replace(case, parameters=few))
    assert narrow.ap_at_given_boxes() == narrow.stats["AP@5"]
    case.results.append(
        {k: v for k, v in case.results[0].items() if k != "annotation_id"}
    )
    assert run_ours(case).ap_at_given_boxes() is None
    case.results[-1]["annotation_id"] = 99
    assert run_ours(case).ap_at_given_boxes() is None


def test_predictions_without_annotation_ids_have_no_iou_at_given_boxes():
    evaluation = run_ours(coco_cases.mixed())
    assert evaluation.mean_iou_at_given_boxes() is None
    assert evaluation.mean_iou_at_given_boxes([5]) is None


def test_score_and_rank_do_not_matter_for_given_boxes():
    scene = coco_cases.Scene()
    for n in range(120):  # the last 20 are beyond the limit of 100
        scene.object((n % 100, 0, 20, 20)).found(
            (n % 100, 0, 20, 20), 1 - n / 200, annotation_id=n + 1
        )
    assert run_ours(scene.case()).mean_iou_at_given_boxes() == 1


def test_ids_as_text_and_as_numbers_are_the_same():
    scene = coco_cases.Scene().object(BOX, id="17").object(BOX, id="a")
    scene.found(HALF, 0.9, annotation_id=17).found(BOX, 0.8, annotation_id="a")
    assert run_ours(scene.case()).mean_iou_at_given_boxes() == 0.75


def test_an_annotation_id_of_another_image_does_not_join():
    scene = coco_cases.Scene(images=(1, 2)).object(BOX, id=1)
    scene.object(BOX, 2, id=2).found(BOX, 0.9, annotation_id=2)
    evaluation = run_ours(scene.case())
    assert evaluation.mean_iou_at_given_boxes() == 0
    counts = evaluation.partial.counts
    assert counts["predictions_with_unknown_annotation_id"] == 1


def test_an_image_without_annotations_has_nothing_to_join():
    scene = coco_cases.Scene().found(BOX, 0.9, annotation_id=2)
    counts = run_ours(scene.case()).partial.counts
    assert counts["predictions_with_unknown_annotation_id"] == 1


def test_an_empty_mask_has_iou_zero():
    scene = (
        coco_cases.Scene()
        .object((0, 0, 0, 0))
        .found((0, 0, 0, 0), 0.9, annotation_id=1)
    )
    assert run_ours(scene.case()).mean_iou_at_given_boxes() == 0


def test_a_category_without_objects_has_no_mean_iou():
    case = given_boxes()
    case.truth["categories"].append({"id": 3, "name": "c"})
    assert run_ours(case).mean_iou_at_given_boxes([3]) is None


def test_metrics_have_the_promised_shape():
    case = given_boxes()
    document = metrics(
        {"segm": run_ours(case), "bbox": run_ours(case.of_type("bbox"))},
        {"seen": [1], "unseen": [2]},
        [1, 4, 2, 3],
    )
    assert list(document) == [
        *("segm", "bbox", "area_ranges", "bootstrap", "counts", "warnings")
    ]
    assert document["area_ranges"]["small"] == [0, 1024]
    masks = document["segm"]
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    names += ["AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    assert list(masks["stats"]) == names
    assert list(masks["groups"]) == ["seen", "unseen"]
    assert masks["groups"]["seen"].keys() == {
        *names,
        "mean_iou_at_gt_boxes",
        "mean_iou_at_gt_boxes_by_size",
        "ap_at_gt_boxes",
        "intervals",
        "categories",
    }
    assert masks["groups"]["unseen"]["mean_iou_at_gt_boxes"] == 0.25
    assert masks["mean_iou_at_gt_boxes"] == 0.25
    assert document["bbox"]["mean_iou_at_gt_boxes"] is None
    first, second = masks["per_category"]
    assert (first["id"], first["name"], first["groups"]) == (1, "category 1", ["seen"])
    assert first["annotations"] == 2  # the crowd does not count
    assert second["groups"] == ["unseen"]
    assert second["AP"] == masks["groups"]["unseen"]["AP"]
    assert document["counts"] == {
        "images": 2,
        "categories": 2,
        "annotations": 4,
        "annotations_crowd": 1,
        "predictions": 4,
        "annotations_without_prediction": 1,
        "predictions_for_given_boxes": 4,
        "predictions_sharing_an_annotation_id": 1,
    }
