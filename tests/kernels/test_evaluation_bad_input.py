"""One table of what cannot be evaluated, and the sentence that a user gets for it."""

import json

import coco_cases
import pytest
from coco_reference import run_ours

from deepmac.errors import DataError, DeepmacError, OptionError
from deepmac.evaluation.ground_truth import read_ground_truth, read_scope
from deepmac.evaluation.parameters import AreaRange, Parameters
from deepmac.evaluation.results_file import ResultsFile

NAN, INF = float("nan"), float("inf")
BOX = (0, 0, 20, 20)


def with_truth(**changes):
    """A data set whose second annotation has something wrong with it."""
    return coco_cases.Scene().object(BOX).object(BOX, **changes).found(BOX, 0.9).case()


def with_result(**changes):
    return (
        coco_cases.Scene()
        .object(BOX)
        .found(BOX, 0.9)
        .found(BOX, **{"score": 0.8, **changes})
        .case()
    )


def without(case, part, key, index=-1):
    """The case, but an entry of a part, by default the last, lacks a key."""
    entries = case.results if part == "results" else case.truth[part]
    del entries[index][key]
    return case


def with_images(*images):
    case = with_truth()
    case.truth["images"] = list(images)
    return case


SIZE = [120, 120]
MASKS = {
    "polygon of four numbers": ([[1, 2, 3, 4]], "a polygon needs at least 6 numbers"),
    "odd polygon": ([[1, 2, 3, 4, 5, 6, 7]], "a polygon is a list of x, y"),
    "empty polygons": ([], "an empty list of polygons"),
    "flat polygon": ([1, 2, 3, 4, 5, 6], "a polygon needs at least 6 numbers, got 1"),
    "polygon with text": ([[1, 2, 3, 4, "5", 6]], "not a number"),
    "polygon with NaN": ([[1, 2, 3, 4, NAN, 6]], "not finite"),
    "polygon with infinity": ([[1, 2, 3, 4, INF, 6]], "not finite"),
    "polygon on the moon": ([[1, 2, 3, 4, 4e8, 6]], "far outside any image"),
    "mask as a number": (7, "neither a list of polygons nor an RLE"),
    "mask without counts": ({"size": SIZE}, "nor an RLE with 'size' and 'counts'"),
    "size of three": ({"size": [1, 2, 3], "counts": "0"}, r"RLE size is \[1, 2, 3\]"),
    "size of text": ({"size": ["120", "120"], "counts": "0"}, "RLE size is"),
    "counts too short": ({"size": SIZE, "counts": "54"}, "add up to 9 pixels"),
    "counts cut off": ({"size": SIZE, "counts": "`"}, "cut off"),
    "counts of another alphabet": ({"size": SIZE, "counts": "äö"}, "not part of"),
    "counts as numbers, too few": ({"size": SIZE, "counts": [5, 4]}, "add up to 9 pixels"),
    "counts as fractions": ({"size": SIZE, "counts": [0.5]}, "neither whole numbers nor text"),
    "negative counts": ({"size": SIZE, "counts": [-1, 14401]}, "add up to"),
}  # fmt: skip

BAD = {
    # the ground truth
    "annotation without id": (lambda: without(with_truth(), "annotations", "id"), "truth: annotation 1 of the list has no 'id'"),
    "annotation without image": (lambda: without(with_truth(), "annotations", "image_id"), "annotation 2 has no 'image_id'"),
    "annotation without category": (lambda: without(with_truth(), "annotations", "category_id"), "annotation 2 has no 'category_id'"),
    "annotation without mask": (lambda: without(with_truth(), "annotations", "segmentation"), "annotation 2 has no mask, so 'segm' cannot be evaluated on: category 1; name the others as categories, or use iou_type 'bbox'"),
    "annotation that is a number": (lambda: coco_cases.Case(truth=with_truth().truth | {"annotations": [3]}, results=[]), "annotation 0 of the list is not an object but 3"),
    "annotation id that is a list": (lambda: with_truth(id=[1]), r"\[1\] is not an id"),
    "annotation id true": (lambda: with_truth(id=True), "True is not an id"),
    "image id true": (lambda: with_images({"id": True, "height": 9, "width": 9}), "True is not an id"),
    "image of an annotation true": (lambda: with_truth(image_id=True), "annotation 2 has True where an id belongs"),
    "image of a result true": (lambda: with_result(image_id=True), "result 1 .*has True where an id belongs"),
    "image id that is an object": (lambda: with_truth(image_id={}), "where an id belongs"),
    "area of text": (lambda: with_truth(area="12"), "annotation 2: area is '12', not a number"),
    "area of no text, beside a missing one": (lambda: without(with_truth(area=""), "annotations", "area", 0), "annotation 2: area is '', not a number"),
    "area NaN": (lambda: with_truth(area=NAN), "annotation 2: area is nan"),
    "crowd of text": (lambda: with_truth(iscrowd="0"), "annotation 2: iscrowd is '0', neither 0 nor 1"),
    "box of three": (lambda: with_truth(bbox=[1, 2, 3]).of_type("bbox"), r"annotation 2: bbox is \[1, 2, 3\], not four numbers"),
    "area of 400 digits": (lambda: with_truth(area=10**400), "annotation 2: area is beyond any number"),
    "box of 400 digits": (lambda: with_truth(bbox=[1, 2, 10**400, 4]).of_type("bbox"), "annotation 2: bbox is beyond any number"),
    "box of text": (lambda: with_truth(bbox=[1, 2, 3, "4"]).of_type("bbox"), "bbox is '4', not a number"),
    "no box": (lambda: without(with_truth(), "annotations", "bbox").of_type("bbox"), "annotation 2 has no 'bbox'"),
    "image without size": (lambda: with_images({"id": 1, "height": 9}), "image 1 has height 9 and width None"),
    "image without id": (lambda: with_images({"height": 9}), "image 0 of the list has no 'id'"),
    "image ids of two kinds": (lambda: with_images({"id": 1, "height": 9, "width": 9}, {"id": "a", "height": 9, "width": 9}), "image ids must be all numbers or all text"),
    "image id of 65 bits": (lambda: with_images({"id": 2**64, "height": 9, "width": 9}), "store ids like it as text"),
    "image id NaN": (lambda: with_images({"id": NAN, "height": 9, "width": 9}), "store ids like it as text"),
    "image id too long for a number": (lambda: with_images({"id": 1e300, "height": 9, "width": 9}), "store ids like it as text"),
    # results
    "score NaN": (lambda: with_result(score=NAN), "result 1: score is nan"),
    "score infinite": (lambda: with_result(score=-INF), "result 1: score is -inf"),
    "score of text": (lambda: with_result(score="0.8"), "result 1: score is '0.8', not a number"),
    "score true": (lambda: with_result(score=True), "result 1: score is True, not a number"),
    "no score": (lambda: without(with_result(), "results", "score"), "result 1 has no 'score'"),
    "no category": (lambda: without(with_result(), "results", "category_id"), "result 1 has no 'category_id'"),
    "unknown image": (lambda: with_result(image_id=8), "result 1: the ground truth has no image 8"),
    "annotation_id that is a list": (lambda: with_result(annotation_id=[1]), r"result 1: annotation_id is \[1\], not an id"),
    "image id as text": (lambda: with_result(image_id="1"), "has no image '1'; ids there are numbers, as 1"),
    "later result without mask": (lambda: without(with_result(), "results", "segmentation"), "result 1 has no 'segmentation'"),
    "later result without box": (lambda: coco_cases.Scene().object(BOX).found(BOX, 0.9, bbox=[0, 0, 1, 1]).found(BOX, 0.8).case(), "result 1 has no 'bbox'"),
    "neither box nor mask": (lambda: coco_cases.Case(truth=with_truth().truth, results=[{"image_id": 1, "category_id": 1, "score": 1}]), "result 0 has neither 'bbox' nor 'segmentation'"),
    "box infinite": (lambda: coco_cases.Scene().object(BOX).found(BOX, 0.9, bbox=[0, 0, INF, 1]).case().of_type("bbox"), "result 0: bbox is inf"),
    "empty box": (lambda: with_result(bbox=[]).of_type("bbox"), r"result 1: bbox is \[\], not four numbers"),
    "result that is a list": (lambda: coco_cases.Case(truth=with_truth().truth, results=[[]]), r"result 0 is not an object but \[\]"),
    # what to evaluate
    "category that is not there": (lambda: coco_cases.mixed(category_ids=[5, 77]), "no category with id 77"),
    "image that is not there": (lambda: coco_cases.mixed(image_ids=[11]), "no image with id 11; did you mean '1'"),
    **{f"ground truth: {name}": (lambda m=mask: with_truth(segmentation=m), f"annotation 2: .*{sentence}") for name, (mask, sentence) in MASKS.items()},
    **{f"result: {name}": (lambda m=mask: with_result(segmentation=m), f"result 1: .*{sentence}") for name, (mask, sentence) in MASKS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_sentence(name):
    make, sentence = BAD[name]
    with pytest.raises(DeepmacError, match=sentence) as caught:
        run_ours(make())
    assert "\n" not in str(caught.value)


TRUTHS = {
    "results instead": ([], "holds a list, as a results file does"),
    "a number": (3, "holds 3, not a COCO data set"),
    "no categories": ({"images": [], "annotations": []}, "it has no 'categories' but 'images', 'annotations'"),
    "nothing at all": ({}, "it has no 'images' but nothing"),
    "category name with half a pair": ({"images": [], "annotations": [], "categories": [{"id": 1, "name": "\ud800"}]}, r"the name of category 1 is '\\ud800', not Unicode"),
    "category id with half a pair": ({"images": [], "annotations": [], "categories": [{"id": "\ud800"}]}, r"id '\\ud800' is not Unicode"),
    "image id with half a pair": ({"images": [{"id": "\ud800", "height": 1, "width": 1}], "annotations": [], "categories": []}, r"id '\\ud800' is not Unicode"),
    "images in an object": ({"images": {}, "annotations": [], "categories": []}, "'images' is {}, not a list"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUTHS)
def test_what_is_no_ground_truth_is_said(name):
    dataset, sentence = TRUTHS[name]
    with pytest.raises(DataError, match=sentence):
        read_scope(dataset, Parameters(), "gt.json")


def test_annotations_of_which_none_has_an_image_are_said():
    dataset = {
        "images": [{"id": "1", "height": 9, "width": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 2, 2]}
        ],
        "categories": [{"id": 2}],
    }
    sentence = "of any image: the first has image_id 1, the first image the id '1'"
    with pytest.raises(DataError, match=sentence):
        read_ground_truth(dataset, Parameters(iou_type="bbox"), "gt.json")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"annotations": [], "images": []}, "holds a ground truth, not a list of res"),
        ({"annotations": [], "categories": []}, "holds a ground truth, not a list"),
        (
            {"info": {}, "annotations": [{"image_id": 1}]},
            "an object with a list under 'annotations' .give that list alone., not a list of",
        ),
        ({}, "holds an object, not a list of results"),
        ("text", "holds a value, not a list of results"),
    ],
)
def test_what_is_no_results_file_is_said(document, sentence, tmp_path):
    path = tmp_path / "dt.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=sentence):
        ResultsFile(str(path)).first()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"iou_type": "segn"}, "got 'segn'; did you mean 'segm'"),
        ({"iou_thresholds": (0.5, 1.5)}, "above 0 and up to 1, got 0.5, 1.5"),
        ({"iou_thresholds": (0.0,)}, "above 0"),
        ({"iou_thresholds": ()}, "iou_thresholds"),
        ({"max_dets": (1, 1, 100)}, "different numbers of at least 1, got 1, 1, 100"),
        ({"max_dets": (0, 1)}, "at least 1"),
        ({"max_dets": ()}, "max_dets"),
        ({"area_ranges": (AreaRange("a", 5, 1),)}, "range 'a' runs from 5 to 1"),
        ({"area_ranges": (AreaRange("a", 0, 1), AreaRange("a", 1, 2))}, "labels of their own"),
        ({"area_ranges": ()}, "area ranges"),
    ],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_refused(changes, sentence):
    with pytest.raises(OptionError, match=sentence):
        Parameters(**changes)
