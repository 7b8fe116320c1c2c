"""pycocotools, and our evaluation, called in the same way on the same plain values."""

import contextlib
import copy
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deepmac.evaluation.detections import Detections, Form, form_of, read_detections
from deepmac.evaluation.engine import evaluate
from deepmac.evaluation.ground_truth import read_ground_truth, read_scope
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.saved import write
from deepmac.evaluation.summary import Evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A ground truth, results, and how to evaluate them."""

    truth: dict[str, Any]
    results: list[dict[str, Any]]
    parameters: Parameters = dataclasses.field(default_factory=Parameters)
    image_ids: Sequence[Any] | None = None
    category_ids: Sequence[Any] | None = None

    def of_type(self, iou_type: str) -> "Case":
        parameters = dataclasses.replace(self.parameters, iou_type=iou_type)
        return dataclasses.replace(self, parameters=parameters)


def run_reference(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, scores and stats of pycocotools."""
    run = _run(case)
    return run.eval["precision"], run.eval["recall"], run.eval["scores"], run.stats


def reference_matches(case: Case) -> dict[Any, float]:
    """Id of each annotation that pycocotools has matched at the lowest threshold -> their IoU.

    In the first area range; what is ignored, and what has the id 0, is left out.
    """
    run, found = _run(case), {}
    lowest = int(np.argmin(case.parameters.iou_thresholds))
    first = case.parameters.area_ranges[0]
    for cell in filter(None, run.evalImgs):
        if cell["aRng"] != [first.low, first.high]:
            continue
        key = cell["image_id"], cell["category_id"]
        category = key[1] if case.parameters.use_categories else -1
        iou = run.ious[key[0], category]
        truths = (
            run._gts[key]
            if case.parameters.use_categories
            else [t for c in run._paramsEval.catIds for t in run._gts[key[0], c]]
        )
        columns = {t["id"]: column for column, t in enumerate(truths)}
        matched, ignored = cell["dtMatches"][lowest], cell["dtIgnore"][lowest]
        for row, annotation_id in enumerate(matched.tolist()):
            if annotation_id and not ignored[row]:
                found[annotation_id] = iou[row, columns[annotation_id]]
    return found


def _run(case: Case) -> COCOeval:
    parameters = case.parameters
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(case.truth)
        truth.createIndex()
        results = truth.loadRes(copy.deepcopy(case.results))
        run = COCOeval(truth, results, parameters.iou_type)
        run.params.iouThrs = np.array(parameters.iou_thresholds)
        run.params.recThrs = np.array(parameters.recall_thresholds)
        run.params.maxDets = list(parameters.max_dets)
        run.params.areaRng = [[a.low, a.high] for a in parameters.area_ranges]
        run.params.areaRngLbl = [a.label for a in parameters.area_ranges]
        run.params.useCats = int(parameters.use_categories)
        if case.image_ids is not None:
            run.params.imgIds = list(case.image_ids)
        if case.category_ids is not None:
            run.params.catIds = sorted(case.category_ids)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def run_ours(case: Case) -> Evaluation:
    """Our evaluation, in this process."""
    truth, known, counts = read_truth(case)
    unit = (case.results, lambda i: f"result {i}")
    return evaluate(truth, known, [unit], form(case), case.parameters, counts)


def saved_bytes(
    evaluation: Evaluation, groups: Mapping[str, Any] | None = None
) -> bytes:
    """An evaluation as it is saved."""
    buffer = io.BytesIO()
    write(buffer, evaluation, groups or {})
    return buffer.getvalue()


def read_truth(case: Case):
    """The ground truth, all that the data set knows, and events."""
    known = read_scope(case.truth, case.parameters, "truth")
    scope = known.restricted(case.image_ids, case.category_ids)
    truth, counts = read_ground_truth(case.truth, case.parameters, "truth", scope)
    return truth, known, counts


def read_results(case: Case, known: Scope, scope: Scope) -> Detections:
    place = "result {}".format
    detections, _ = read_detections(
        case.results, scope, known, case.parameters, form(case), place
    )
    return detections


def form(case: Case) -> Form:
    return form_of(case.results[0], "result 0") if case.results else "mask"


def assert_equal(evaluation: Evaluation, reference: tuple[np.ndarray, ...]) -> None:
    """Every array equal with `==`, and the twelve numbers too."""
    precision, recall, scores, stats = reference
    np.testing.assert_array_equal(evaluation.curves.precision, precision, strict=True)
    np.testing.assert_array_equal(evaluation.curves.recall, recall, strict=True)
    np.testing.assert_array_equal(evaluation.curves.scores, scores, strict=True)
    assert list(evaluation.stats.values())[:12] == stats.tolist()
