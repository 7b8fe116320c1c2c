"""Where other evaluators fail without a reason, or go on without a word: what is said here.

Each mistake is made in files for `deepmac evaluate`, in values for `deepmac.evaluate`, and in files for
`deepmac.cocoeval`. It is refused in one sentence; or it is evaluated as pycocotools does, with a
warning that says how many there are. docs/evaluate.md has the same table.
"""

import contextlib
import copy
import dataclasses
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coco_cases
import pycocotools.coco
import pycocotools.cocoeval
import pytest
from pages import ROOT

import deepmac
from deepmac.cli import main
from deepmac.cocoeval import COCO, COCOeval, EvaluationWarning
from deepmac.errors import DeepmacError

PAGE = ROOT / "docs" / "evaluate.md"
TRUTH, RESULTS = "annotations.json", "results.json"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A mistake, and what is said of it.

    Attributes:
        make: makes the mistake in a ground truth and its results.
        said: by the command and by `deepmac.evaluate`.
        adapter: by `deepmac.cocoeval`; None for the same.
        is_told: the command warns and goes on; else it refuses. For the adapter: `adapter_tells`.
    """

    make: Callable[[dict, list], Any]
    said: str
    adapter: str | None = None
    is_told: bool = False
    adapter_tells: bool | None = None


def scene() -> tuple[dict, list]:
    """Two images, 7 and 8, with an object of each of two categories, 3 and 5, found nearly."""
    made = coco_cases.Scene(images=(7, 8), categories=(3, 5))
    for image in (7, 8):
        for category in (3, 5):
            left = 30 * category - 80
            made.object((left, 0, 20, 20), image, category)
            made.found((left, 0, 20, 18), 0.9, image, category)
    return made.truth, made.results


def set_in(part: str, key: str, value: Any, index: int = 1):
    """Sets a key of an entry of the results or of a list of the ground truth."""

    def make(truth, results):
        (results if part == "results" else truth[part])[index][key] = value

    return make


def without(part: str, key: str, index: int = 1):
    def make(truth, results):
        del (results if part == "results" else truth[part])[index][key]

    return make


def in_all_results(**changes: Callable[[dict], Any]):
    def make(truth, results):
        for result in results:
            result |= {key: change(result) for key, change in changes.items()}

    return make


def boxes_alone(truth, results):
    for result in results:
        del result["segmentation"]
        result["bbox"] = [0, 0, 40, 40]


SMALL = coco_cases.rle((70, 0, 20, 18), 90)  # of 90 x 90 pixels, in an image of 120
FAILURES = {
    "a result of an unknown image": Failure(
        set_in("results", "image_id", 9),
        "results.json: result 1 (image 9): the ground truth has no image 9; give the ground truth that they were made for, or leave such results out",
    ),
    "a result of an unknown category": Failure(
        set_in("results", "category_id", 4),
        "predictions left out, of categories that the ground truth does not list: 1",
        "detections left out, of categories that cocoGt does not have (its ids are 3, 5): 1",
        is_told=True,
    ),
    "results of unknown categories alone": Failure(
        in_all_results(category_id=lambda r: r["category_id"] - 1),
        "no prediction has the category_id of a category evaluated, as 3, 5: every object counts as missed",
        "detections left out, of categories that cocoGt does not have (its ids are 3, 5): 4",
        is_told=True,
    ),
    "an annotation of an unknown image": Failure(
        set_in("annotations", "image_id", 9),
        "annotations left out, of images that the ground truth does not list: 1",
        "annotations of cocoGt left out, of images that it does not list: 1",
        is_told=True,
    ),
    "image ids as text": Failure(
        in_all_results(image_id=lambda r: str(r["image_id"])),
        "results.json: result 0 (image '7'): the ground truth has no image '7' (4 in all); ids there are numbers, as 7",
    ),
    "category ids as text": Failure(
        in_all_results(category_id=lambda r: str(r["category_id"])),
        "results.json: result 0 (image 7): the ground truth has no category '3'; ids there are numbers, as 3",
        "detections left out, of categories that cocoGt does not have (its ids are 3, 5): 4",
        adapter_tells=True,
    ),
    "an annotation of id 0": Failure(
        set_in("annotations", "id", 0),
        "an annotation has the id 0: as in pycocotools, detections that match it count as misses (id_zero 'match' corrects that); at IoU 0.50 these are: 1",
        "an annotation of cocoGt has the id 0: detections that match it count as misses; give it another id; at IoU 0.50 these are: 1",
        is_told=True,
    ),
    "two annotations of one id": Failure(
        set_in("annotations", "id", 1),
        "annotations.json: annotations share ids: 1; give each its own, or say duplicate_ids 'reference' to use the last of each, as pycocotools does",
        "annotations of cocoGt that share their id with a later one, which stands for all; give each its own: 1",
        adapter_tells=True,
    ),
    "two images of one id": Failure(
        lambda truth, results: truth["images"].append(truth["images"][0]),
        "annotations.json: images share ids: 7; give each its own, or say duplicate_ids 'reference' to use the last of each, as pycocotools does",
        "images of cocoGt that share their id with a later one, which stands for all; give each its own: 1",
        adapter_tells=True,
    ),
    "two categories of one id": Failure(
        lambda truth, results: truth["categories"].append(truth["categories"][0]),
        "annotations.json: categories share ids: 3; give each its own, or say duplicate_ids 'reference' to use the last of each, as pycocotools does",
        "categories of cocoGt that share their id with a later one, which stands for all; give each its own: 1",
        adapter_tells=True,
    ),
    "no results": Failure(
        lambda truth, results: results.clear(),
        "there are no predictions: every object counts as missed",
        "there are no detections: every object counts as missed",
        is_told=True,
    ),
    "a mask of another size than the image": Failure(
        set_in("results", "segmentation", SMALL),
        "results.json: result 1 (image 7): mask of [90, 90] pixels (height, width) in an image of [120, 120]; with wrong_size 'reference' such masks never match, as in pycocotools",
        "detections whose masks are of another size than the image, never matched: 1",
        adapter_tells=True,
    ),
    "a true mask of another size": Failure(
        set_in("annotations", "segmentation", SMALL),
        "annotations.json: annotation 2: mask of [90, 90] pixels (height, width) in an image of [120, 120]; with wrong_size 'reference' such masks never match, as in pycocotools",
        "annotations of cocoGt whose masks are of another size than the image, never matched: 1",
        adapter_tells=True,
    ),
    "a score that is NaN": Failure(
        set_in("results", "score", float("nan")),
        "results.json: result 1 (image 7): score is nan, not a finite number",
        "cocoDt: annotation 2: score is nan, not a finite number",
    ),
    "no score": Failure(
        without("results", "score"),
        "results.json: result 1 (image 7) has no 'score'",
        "cocoDt: annotation 2 has no 'score'",
    ),
    "no image_id": Failure(
        without("results", "image_id"), "results.json: result 1 has no 'image_id'"
    ),
    "no category_id": Failure(
        without("results", "category_id"),
        "results.json: result 1 (image 7) has no 'category_id'",
    ),
    "no segmentation": Failure(
        without("results", "segmentation"),
        "results.json: result 1 (image 7) has no 'segmentation'",
    ),
    "neither box nor mask": Failure(
        without("results", "segmentation", index=0),
        "results.json: result 0 (image 7) has neither 'bbox' nor 'segmentation' but ['category_id', 'image_id', 'score']",
    ),
    "no true mask": Failure(
        without("annotations", "segmentation"),
        "annotations.json: annotation 2 has no mask, so 'segm' cannot be evaluated on: category 5; name the others as categories, or use iou_type 'bbox'",
        "cocoGt: annotation 2 has no 'segmentation'",
    ),
    "no id of an annotation": Failure(
        without("annotations", "id"),
        "annotations.json: annotation 1 of the list has no 'id'",
    ),
    "no area": Failure(
        without("annotations", "area"),
        "annotations without 'area', taken from the mask, or from the box where there is none: 1",
        "cocoGt: annotation 2 has no 'area'",
        is_told=True,
        adapter_tells=False,
    ),
    "no iscrowd": Failure(
        without("annotations", "iscrowd"),
        "annotations without 'iscrowd', taken as 0: 1",
        "annotations of cocoGt without 'iscrowd', taken as 0: 1",
        is_told=True,
    ),
    "no height of an image": Failure(
        without("images", "height", index=0),
        "annotations.json: image 7 has height None and width 120; masks need whole numbers above 0, up to 536870911 pixels",
        "cocoGt: annotation 1: its image 7 has no height and width",
    ),
    "results with box and mask": Failure(
        in_all_results(bbox=lambda r: [0, 0, 40, 40]),
        "predictions with box and mask, of which the box decides what is small, medium or large, as in pycocotools (result_area 'mask' takes the mask): 4",
        "detections whose area is not that of their mask, as that of results with box and mask, which decides what is small, medium or large: 4",
        is_told=True,
    ),
    "results with boxes alone": Failure(
        boxes_alone,
        "predictions without 'segmentation', whose boxes are taken for masks, as in pycocotools (iou_type 'bbox' compares boxes): 4",
        "detections whose mask is the rectangle of their box, as that of results without a mask: 4",
        is_told=True,
    ),
}  # fmt: skip


@pytest.fixture(params=FAILURES)
def failure(request, tmp_path, monkeypatch) -> Failure:
    """Each mistake, made in files of the working directory."""
    made = FAILURES[request.param]
    monkeypatch.chdir(tmp_path)
    truth, results = scene()
    made.make(truth, results)
    Path(TRUTH).write_text(json.dumps(truth))
    Path(RESULTS).write_text(json.dumps(results))
    return made


def test_the_command_says_it(failure, capsys):
    argv = f"evaluate --ground_truth {TRUTH} --predictions {RESULTS} --out out --draws 0 --no_report"
    status = main(argv.split())
    said = capsys.readouterr()
    if failure.is_told:
        assert status == 0
        assert f"warning: {failure.said}\n" in said.out
        document = json.loads(Path("out/metrics.json").read_text())
        assert failure.said in document["warnings"]
        assert list(document["segm"]["stats"].values())[:12] == figures_of_pycocotools()
    else:
        assert status == 2
        assert said.err == f"error: {failure.said}\n"
        assert not Path("out/metrics.json").exists()


def test_the_function_says_it(failure):
    truth, results = (
        json.loads(Path(TRUTH).read_text()),
        json.loads(Path(RESULTS).read_text()),
    )
    given = copy.deepcopy((truth, results))
    said = failure.said.replace(TRUTH, "ground_truth").replace(RESULTS, "predictions")
    if failure.is_told:
        assert said in deepmac.evaluate(truth, results, draws=0).warnings
    else:
        with pytest.raises(DeepmacError) as caught:
            deepmac.evaluate(truth, results, draws=0)
        assert str(caught.value) == said
    assert repr((truth, results)) == repr(given)  # NaN is unlike itself


def test_the_adapter_says_it(failure, capsys):
    said = failure.adapter or failure.said
    tells = failure.is_told if failure.adapter_tells is None else failure.adapter_tells
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not tells:
            with pytest.raises(DeepmacError) as refused:
                figures_of(COCO, COCOeval)
            assert str(refused.value) == said
            return
        figures = figures_of(COCO, COCOeval)
    of_us = [w for w in caught if w.category is EvaluationWarning]
    assert said in [str(warning.message) for warning in of_us]
    assert {Path(warning.filename).name for warning in of_us} == {Path(__file__).name}
    assert figures == figures_of_pycocotools()


def figures_of(coco: Any, evaluator: Any) -> list[float]:
    """The twelve figures of the files."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco(TRUTH)
        run = evaluator(truth, truth.loadRes(RESULTS), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats)


def figures_of_pycocotools() -> list[float]:
    """Those of pycocotools, mended where it fails: on no results, and without iscrowd or area."""
    truth, results = (json.loads(Path(name).read_text()) for name in (TRUTH, RESULTS))
    for annotation in truth["annotations"]:
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", 400.0)
    Path("mended.json").write_text(json.dumps(truth))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = pycocotools.coco.COCO("mended.json")
        if results:
            found = coco.loadRes(RESULTS)
        else:
            found = copy.deepcopy(coco)
            found.dataset["annotations"] = []
            found.createIndex()
        run = pycocotools.cocoeval.COCOeval(coco, found, "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return list(run.stats)


def test_data_without_a_mistake_is_evaluated_without_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth, results = scene()
    Path(TRUTH).write_text(json.dumps(truth))
    Path(RESULTS).write_text(json.dumps(results))
    assert deepmac.evaluate(truth, results).warnings == []
    assert figures_of(COCO, COCOeval) == figures_of_pycocotools()


def test_the_page_has_the_same_table():
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in PAGE.read_text().splitlines()
        if "| `error: " in line or "| `warning: " in line
    ]
    assert [(mistake, said) for mistake, said, _ in rows] == [
        (mistake, f"`{'warning' if failure.is_told else 'error'}: {failure.said}`")
        for mistake, failure in FAILURES.items()
    ]
