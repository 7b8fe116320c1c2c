"""`COCOeval` as in pycocotools, with our evaluation inside: scripts switch by one import.

    from deepmac.cocoeval import COCOeval  # was: from pycocotools.cocoeval import COCOeval

Arrays, numbers and printed figures are the same to the last bit (2.0.11). Masks and boxes; no
keypoints. Data that pycocotools takes without a word though it cannot mean anything (scores that
are not numbers, run lengths that do not fill their mask) is refused; of other data that it takes
without a word an `EvaluationWarning` tells.
"""

import contextlib
import copy
import dataclasses
import datetime
import io
import os
import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pycocotools.coco

from deepmac.data.json_file import read_json
from deepmac.errors import DeepmacError, OptionError, did_you_mean, one_of
from deepmac.evaluation.accumulate import finalize
from deepmac.evaluation.coco_checks import check_dataset, check_results, told
from deepmac.evaluation.coco_images import curves_of_images
from deepmac.evaluation.coco_objects import (
    CocoInput,
    image_ious,
    image_results,
    match_all,
    parameters_from,
    read_coco_objects,
)
from deepmac.evaluation.parameters import (
    COCO_AREAS,
    COCO_IOU_THRESHOLDS,
    COCO_RECALL_THRESHOLDS,
    IOU_TYPES,
    Scope,
    terms_of,
)
from deepmac.evaluation.state import Partial

_INSIDE = ("computeIoU", "computeOks", "evaluateImg", "_prepare", "_gts", "_dts")


class Params:
    """How to evaluate, under pycocotools' names. Change them before `COCOeval.evaluate`.

    Attributes:
        imgIds, catIds: ids; all of the ground truth's at first.
        iouThrs: float64 [T].
        recThrs: float64 [R], ascending.
        maxDets: M limits of detections an image and category.
        areaRng, areaRngLbl: A ranges [low, high] in pixels, both included, and their names.
        useCats: 0 lets a detection match any category.
        iouType: `segm` or `bbox`.
        useSegm: None, or 0 or 1 for `bbox` or `segm`; of old.
    """

    def __init__(self, iouType: str = "segm"):
        if iouType == "keypoints":
            raise OptionError(
                "iouType 'keypoints' is not evaluated here; use pycocotools for keypoints"
            )
        if iouType not in IOU_TYPES:
            raise OptionError(
                f"iouType is one of {one_of(IOU_TYPES)}, got '{iouType}'"
                f"{did_you_mean(str(iouType), IOU_TYPES)}"
            )
        self.imgIds: Any = []
        self.catIds: Any = []
        self.iouThrs: Any = np.array(COCO_IOU_THRESHOLDS)
        self.recThrs: Any = np.array(COCO_RECALL_THRESHOLDS)
        self.maxDets: Any = [1, 10, 100]
        self.areaRng: Any = [[a.low, a.high] for a in COCO_AREAS]
        self.areaRngLbl: Any = [a.label for a in COCO_AREAS]
        self.useCats: Any = 1
        self.iouType = iouType
        self.useSegm: Any = None


class EvaluationWarning(UserWarning):
    """Of data that pycocotools evaluates in an unexpected way; figures are those of pycocotools."""


class COCO(pycocotools.coco.COCO):
    """`pycocotools.coco.COCO`, which fails with a sentence, and takes results without any entry.

    What it holds is the same. Files may be `.gz`.

    Raises:
        DataError: the annotations, or the results, lack something or do not belong together.
    """

    def __init__(self, annotation_file: str | os.PathLike[str] | None = None):
        super().__init__()
        self._where = "cocoGt"
        if annotation_file is not None:
            self._where = os.fspath(annotation_file)
            print("loading annotations into memory...")
            started = time.monotonic()
            self.dataset = read_json(self._where)
            print(f"Done (t={time.monotonic() - started:0.2f}s)")
            self.createIndex()

    def createIndex(self) -> None:
        """Looks at the entries, then makes what the other methods look things up in."""
        check_dataset(self.dataset, self._where)
        super().createIndex()

    def loadRes(self, resFile: Any) -> pycocotools.coco.COCO:
        """The detections of a results file, a list, or an array, as another `COCO`."""
        if isinstance(resFile, str | os.PathLike):
            where = os.fspath(resFile)
            results = read_json(where)
        else:
            where, results = "results", resFile
        if isinstance(results, np.ndarray):
            results = self.loadNumpyAnnotations(results)
        check_results(results, self, where, self._where)
        if results:
            return super().loadRes(results)  # pyright: ignore[reportArgumentType]
        found = pycocotools.coco.COCO()
        found.dataset = {**self.dataset, "annotations": []}
        with contextlib.redirect_stdout(io.StringIO()):
            found.createIndex()
        return found


class InsideError(DeepmacError, AttributeError):
    """A part of pycocotools' `COCOeval` that is done in another way here."""


class COCOeval:
    """Takes the place of `pycocotools.cocoeval.COCOeval`.

    Args:
        cocoGt: `pycocotools.coco.COCO` with the ground truth.
        cocoDt: the same with the detections, from `cocoGt.loadRes` or made by hand.
        iouType: `segm` or `bbox`.

    Attributes:
        params: see `Params`.
        eval: after `accumulate`: params, counts, date, and float64 arrays precision
            [T, R, K, A, M], recall [T, K, A, M] and scores [T, R, K, A, M].
        stats: after `summarize`: float64 [12].
        evalImgs, ious: what each image contributes; made when they are first looked at. Assigned
            `evalImgs`, gathered from workers that had some images each, are what `accumulate`
            takes, with `params` and `_paramsEval` of all images.

    Raises:
        DeepmacError: the input cannot be evaluated; in one sentence.

    Warns:
        EvaluationWarning: from `evaluate`, for each thing that pycocotools does silently.
    """

    def __init__(self, cocoGt: Any = None, cocoDt: Any = None, iouType: str = "segm"):
        self.cocoGt, self.cocoDt = cocoGt, cocoDt
        self.params = Params(iouType)
        self.eval: dict[str, Any] = {}
        self.stats: Any = []
        self._state: tuple[Scope, Partial] | None = None
        self._forget()
        if cocoGt is not None:
            self.params.imgIds = sorted(cocoGt.getImgIds())
            self.params.catIds = sorted(cocoGt.getCatIds())

    def evaluate(self) -> None:
        """Matches the detections of every image."""
        started = time.monotonic()
        print("Running per image evaluation...")
        p = self.params
        if p.useSegm is not None:
            p.iouType = "segm" if p.useSegm == 1 else "bbox"
            print(f"useSegm (deprecated) is not None. Running {p.iouType} evaluation")
        print(f"Evaluate annotation type *{p.iouType}*")
        p.imgIds = list(np.unique(p.imgIds))
        if p.useCats:
            p.catIds = list(np.unique(p.catIds))
        p.maxDets = sorted(p.maxDets)
        self._forget()
        self.eval = {}
        data = self._read(p)
        partial = match_all(data)
        self._state = data.scope, partial
        for sentence in told(self.cocoGt, self.cocoDt, data, partial.counts):
            warnings.warn(sentence, EvaluationWarning, stacklevel=2)
        self._paramsEval = copy.deepcopy(p)
        print(f"DONE (t={time.monotonic() - started:0.2f}s).")

    def accumulate(self, p: Params | None = None) -> None:
        """Makes the curves of all images: `eval`.

        Args:
            p: takes the place of `params`: recThrs may be others, maxDets some of those that were
                evaluated.

        Raises:
            OptionError: it asks for what `evaluate` has not done. pycocotools would give numbers
                all the same, of other categories or ranges than those asked for.
        """
        print("Accumulating evaluation results...")
        started = time.monotonic()
        if self._state is None and not self._eval_images:
            raise DeepmacError("call evaluate() before accumulate()")
        p = self.params if p is None else p
        self._check_evaluated(p)
        p.catIds = p.catIds if p.useCats else [-1]
        parameters = parameters_from(p)
        if self._state is None:
            curves = curves_of_images(
                self._eval_images or (), len(p.catIds), len(p.imgIds), parameters
            )
        else:
            scope, partial = self._state
            # Neither the recalls nor fewer limits change what was matched.
            partial = dataclasses.replace(partial, terms=terms_of(parameters, scope))
            curves = finalize(partial, parameters, scope)
        # As they were given: with one twice, or in an order of their own.
        limits = np.searchsorted(parameters.max_dets, p.maxDets)
        self.eval = {
            "params": p,
            "counts": [
                len(p.iouThrs),
                len(p.recThrs),
                len(p.catIds) if p.useCats else 1,
                len(p.areaRng),
                len(p.maxDets),
            ],
            "date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "precision": curves.precision[..., limits],
            "recall": curves.recall[..., limits],
            "scores": curves.scores[..., limits],
        }
        print(f"DONE (t={time.monotonic() - started:0.2f}s).")

    def summarize(self) -> None:
        """Prints the twelve figures and keeps them as `stats`."""
        if not self.eval:
            raise DeepmacError("call accumulate() before summarize()")
        limits = self.params.maxDets
        if len(limits) < 3:
            raise OptionError(
                f"the twelve figures need three limits in params.maxDets, got {list(limits)}"
            )
        low, middle, high = limits[:3]
        sizes = ("small", "medium", "large")
        self.stats = np.array(
            [
                self._figure("precision", 100),
                self._figure("precision", high, iou=0.5),
                self._figure("precision", high, iou=0.75),
                *(self._figure("precision", high, area=size) for size in sizes),
                *(self._figure("recall", limit) for limit in (low, middle, high)),
                *(self._figure("recall", high, area=size) for size in sizes),
            ],
            np.float64,
        )

    @property
    def evalImgs(self) -> list[dict[str, Any] | None]:
        """What each image has in each category and area range, as pycocotools has it."""
        if self._eval_images is None:
            if self._state is None:
                return []
            params = self._paramsEval
            self._eval_images = image_results(self._read(params), params)
        return self._eval_images

    @evalImgs.setter
    def evalImgs(self, images: Iterable[dict[str, Any] | None]) -> None:
        self._state = self._ious = None
        self._eval_images = list(images)

    @property
    def ious(self) -> dict[tuple[Any, Any], Any]:
        """(image id, category id) -> float64 [D, G]; D by falling score."""
        if self._ious is None:
            if self._state is None:
                return {}
            params = self._paramsEval
            data = self._read(params)
            self._ious = image_ious(data, self.cocoGt, self.cocoDt, params)
        return self._ious

    def __getattr__(self, name: str) -> Any:
        if name in _INSIDE:
            raise InsideError(
                f"deepmac's COCOeval has no {name}: all images are matched together; evalImgs "
                f"and ious hold what each of them contributes"
            )
        raise AttributeError(f"'COCOeval' object has no attribute '{name}'")

    def _forget(self) -> None:
        self._state = None
        self._eval_images: list[dict[str, Any] | None] | None = None
        self._ious: dict[tuple[Any, Any], Any] | None = None
        self._paramsEval: Any = {}

    def _read(self, params: Params) -> CocoInput:
        if self.cocoGt is None or self.cocoDt is None:
            raise DeepmacError("COCOeval needs cocoGt and cocoDt to evaluate")
        return read_coco_objects(self.cocoGt, self.cocoDt, params)

    def _check_evaluated(self, p: Params) -> None:
        done = self._paramsEval or self.params  # where evalImgs were assigned
        unlike = []
        if bool(p.useCats) != bool(done.useCats):
            unlike.append("useCats")
        if sorted(p.imgIds) != sorted(done.imgIds):
            unlike.append("imgIds")
        if p.useCats and done.useCats and sorted(p.catIds) != sorted(done.catIds):
            unlike.append("catIds")
        if not np.array_equal(p.iouThrs, done.iouThrs):
            unlike.append("iouThrs")
        if list(map(tuple, p.areaRng)) != list(map(tuple, done.areaRng)):
            unlike.append("areaRng")
        if not set(p.maxDets) <= set(done.maxDets):
            unlike.append("maxDets")
        if unlike:
            raise OptionError(
                f"accumulate: {one_of(unlike)} not as evaluate() had them; change "
                f"params and call evaluate() again"
            )

    def _figure(
        self, kind: str, limit: int, area: str = "all", iou: float | None = None
    ) -> float:
        """One of the twelve: a mean, -1 of nothing; prints its line."""
        p, values = self.params, self.eval[kind]
        thresholds = f"{p.iouThrs[0]:0.2f}:{p.iouThrs[-1]:0.2f}"
        if iou is not None:
            values = values[np.asarray(p.iouThrs) == iou]
            thresholds = f"{iou:0.2f}"
        areas = [i for i, label in enumerate(p.areaRngLbl) if label == area]
        limits = [i for i, value in enumerate(p.maxDets) if value == limit]
        values = values[..., areas, limits]
        values = values[values > -1]
        mean = np.mean(values) if values.size else -1
        title = (
            "Average Precision  (AP)"
            if kind == "precision"
            else "Average Recall     (AR)"
        )
        print(
            f" {title} @[ IoU={thresholds:<9} | area={area:>6s} | maxDets={limit:>3d} ] "
            f"= {mean:0.3f}"
        )
        return mean
