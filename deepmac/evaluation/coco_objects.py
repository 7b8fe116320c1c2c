"""What pycocotools' `COCO` objects hold, as columns; and matches in the form that it gives them."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmac.errors import DataError, OptionError, one_of
from deepmac.evaluation.columns import Place, boxes, column, index_of, numbers
from deepmac.evaluation.detections import Detections, rectangle
from deepmac.evaluation.engine import whole_images
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.matching import (
    find_matches,
    ignored_by_range,
    match_pairs,
    outside_ranges,
    rank_in_cells,
)
from deepmac.evaluation.oracle import GivenBoxes
from deepmac.evaluation.overlaps import cells_of, near_pairs
from deepmac.evaluation.parameters import AreaRange, Parameters, Scope
from deepmac.evaluation.run_lengths import RunLengths
from deepmac.evaluation.segmentations import read_masks
from deepmac.evaluation.state import Partial, count_truths, keep_matches, merge
from deepmac.masks import coco_mask
from deepmac.text import short


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CocoInput:
    """What two `COCO` objects hold of some images and categories, each side in order of the cells.

    Attributes:
        parameters, scope: of the evaluation.
        truths: annotations of the ground truth.
        ground_truth: the same as columns.
        detections: annotations of the other object.
        found: the same as columns, without boxes and masks.
        image_sizes: (height, width) of the images that the other object knows.
        num_other_size: annotations of the ground truth whose masks are not as large as their images.
    """

    parameters: Parameters
    scope: Scope
    truths: Sequence[Any]
    ground_truth: GroundTruth
    detections: Sequence[Any]
    found: Detections
    image_sizes: Mapping[Any, tuple[int, int]]
    num_other_size: int

    def found_whole(self, rows: np.ndarray) -> tuple[Detections, int]:
        """Some of the detections, int [..] ascending, with what is to be compared.

        Also how many of them have masks that are not as large as their images.

        Raises:
            DataError: one of them cannot be; names it.
        """
        some = [self.detections[i] for i in rows.tolist()]
        corners, masks, num_other = _shapes(
            some, self.image_sizes, self.parameters, "cocoDt"
        )
        found = dataclasses.replace(self.found.take(rows), boxes=corners, masks=masks)
        return found, num_other


def parameters_from(params: Any) -> Parameters:
    """Our parameters for pycocotools' `Params`: its habits, and its area ranges as 0, 1, 2, ...

    Raises:
        OptionError: they ask for what cannot be evaluated.
    """
    if len(params.areaRng) != len(params.areaRngLbl):
        raise OptionError(
            f"params: {len(params.areaRng)} areaRng and {len(params.areaRngLbl)} areaRngLbl; "
            f"each range needs its label"
        )
    recalls = tuple(np.asarray(params.recThrs, np.float64).tolist())
    if any(a > b for a, b in itertools.pairwise(recalls)):
        raise OptionError("params.recThrs must ascend")
    return Parameters(
        iou_type=params.iouType,
        iou_thresholds=tuple(np.asarray(params.iouThrs, np.float64).tolist()),
        recall_thresholds=recalls,
        area_ranges=tuple(
            AreaRange(str(i), float(low), float(high))
            for i, (low, high) in enumerate(params.areaRng)
        ),
        max_dets=tuple({int(limit) for limit in params.maxDets}),
        use_categories=bool(params.useCats),
        duplicate_ids="reference",
        wrong_size="reference",
    )


def read_coco_objects(coco_gt: Any, coco_dt: Any, params: Any) -> CocoInput:
    """The annotations of two `COCO` objects that pycocotools' `Params` choose.

    Areas, boxes and ids of the detections are those that the object holds, whoever made it.

    Raises:
        DataError: an annotation cannot be evaluated; names it.
        OptionError: the parameters cannot be used.
    """
    parameters = parameters_from(params)
    category_ids = tuple(np.asarray(params.catIds).tolist())
    if len(set(category_ids)) < len(category_ids):
        raise OptionError(
            f"params.catIds hold an id twice: {one_of(category_ids)}; give each once"
        )
    image_ids = tuple(np.unique(params.imgIds).tolist())
    # Not sorted: without categories their order decides ties.
    scope = Scope(image_ids, np.zeros((len(image_ids), 2), np.int64), category_ids, {})
    truths, truth_columns = _chosen(coco_gt, scope, "cocoGt")
    is_crowd = np.array([bool(a.get("iscrowd")) for a in truths], bool)
    corners, masks, num_other = _shapes(
        truths, _image_sizes(coco_gt), parameters, "cocoGt"
    )
    ground_truth = GroundTruth(
        scope=scope,
        **truth_columns,
        ordinal=np.arange(len(truths), dtype=np.int32),
        annotation_ids=[a["id"] for a in truths],
        is_crowd=is_crowd,
        is_ignored=is_crowd,
        boxes=corners,
        masks=masks,
    )
    detections, columns = _chosen(coco_dt, scope, "cocoDt")
    _check_detection_ids(detections)
    place = _place(detections, "cocoDt")
    found = Detections(
        **columns,
        score=numbers(column(detections, "score", place), "score", place),
        boxes=np.zeros((0, 4)),
        masks=RunLengths.none(),
        annotation_ids=[],
    )
    return CocoInput(
        parameters=parameters,
        scope=scope,
        truths=truths,
        ground_truth=ground_truth,
        detections=detections,
        found=found,
        image_sizes=_image_sizes(coco_dt),
        num_other_size=num_other,
    )


def match_all(data: CocoInput) -> Partial:
    """The state of all images: what `accumulate.finalize` needs, with counts of what is unusual."""
    truth, parameters = data.ground_truth, data.parameters
    images = np.arange(len(data.scope.image_ids))
    partials = [count_truths(truth, images, parameters, {})]
    for rows in whole_images(data.found.image):
        some, num_other = data.found_whole(rows)
        counts = _unusual_shapes(data, rows, some)
        counts += collections.Counter(
            detections=len(some), detections_of_another_size=num_other
        )
        given = GivenBoxes(np.zeros(0, np.int32), np.zeros(0), counts)
        matches = find_matches(truth.of_images(np.unique(some.image)), some, parameters)
        partials.append(keep_matches(matches, given, data.scope, parameters))
    return merge(partials, data.scope.image_ids)


def _unusual_shapes(
    data: CocoInput, rows: np.ndarray, some: Detections
) -> collections.Counter[str]:
    """Detections whose mask `loadRes` has drawn, and others whose area is not that of their mask."""
    if data.parameters.iou_type == "bbox":
        return collections.Counter()
    is_drawn = np.array([_is_drawn(data.detections[i]) for i in rows.tolist()], bool)
    is_unlike = (some.masks.areas() != some.area) & ~is_drawn
    return collections.Counter(
        detections_without_mask=int(is_drawn.sum()),
        detections_of_another_area=int(is_unlike.sum()),
    )


def _is_drawn(detection: Any) -> bool:
    polygons = detection["segmentation"]
    if not isinstance(polygons, list) or len(polygons) != 1:
        return False
    return "bbox" in detection and list(polygons) == rectangle(detection["bbox"])


def image_results(data: CocoInput, params: Any) -> list[dict[str, Any] | None]:
    """pycocotools' `evalImgs`: what each image has in each category and area range.

    Returns:
        One entry for each category, range and image, in this order of nesting; None for a cell
        with neither ground truth nor detections.
    """
    parameters, truth = data.parameters, data.ground_truth
    found, _ = data.found_whole(np.arange(len(data.found)))
    truth_cells = cells_of(truth, data.scope, parameters)
    order, cells, _ = rank_in_cells(found, data.scope, parameters)
    pairs, iou = near_pairs(truth, found, order, cells, parameters)
    is_ignored = ignored_by_range(truth, parameters)  # [A, G]
    is_outside = outside_ranges(found.area, parameters)[:, order]  # [A, D]
    thresholds = np.array(parameters.effective_thresholds)
    assigned, places = match_pairs(pairs, iou, is_ignored, truth.is_crowd, thresholds)
    truth_ids, found_ids = (
        _as_numbers([a["id"] for a in side]) for side in (data.truths, data.detections)
    )
    found_ids, scores = found_ids[order], found.score[order]

    num_images, num_ranges = len(data.scope.image_ids), len(parameters.area_ranges)
    category_ids = params.catIds if parameters.use_categories else [-1]
    results: list[dict[str, Any] | None] = [None] * (
        len(category_ids) * num_ranges * num_images
    )
    used = np.union1d(cells, truth_cells)
    edges = [
        np.searchsorted(of, used, side).tolist()
        for of in (truth_cells, cells)
        for side in ("left", "right")
    ]
    some_matched = np.searchsorted(places, np.stack([edges[2], edges[3]])).T.tolist()
    for cell, first, last, start, stop, (n0, n1) in zip(
        used.tolist(), *edges, some_matched, strict=True
    ):
        image, k = divmod(cell, len(category_ids))
        here = slice(first, last)
        matched = np.full((stop - start, num_ranges, len(thresholds)), -1)
        matched[places[n0:n1] - start] = assigned[n0:n1]
        for a in range(num_ranges):
            results[(k * num_ranges + a) * num_images + image] = {
                "image_id": params.imgIds[image],
                "category_id": category_ids[k],
                "aRng": params.areaRng[a],
                "maxDet": params.maxDets[-1],
                **_cell(
                    matched[:, a].T - first,
                    is_ignored[a, here],
                    is_outside[a, start:stop],
                    truth_ids[here],
                    found_ids[start:stop],
                ),
                "dtScores": scores[start:stop].tolist(),
            }
    return results


def image_ious(
    data: CocoInput, coco_gt: Any, coco_dt: Any, params: Any
) -> dict[tuple[Any, Any], Any]:
    """pycocotools' `ious`: float64 [D, G] of each image and category, [] where a side is empty.

    Made by pycocotools itself, all pairs of them: evaluating does not need most.
    """
    parameters, truth, found = data.parameters, data.ground_truth, data.found
    truth_cells = cells_of(truth, data.scope, parameters)
    order, cells, _ = rank_in_cells(found, data.scope, parameters)
    category_ids = params.catIds if parameters.use_categories else [-1]
    ious: dict[tuple[Any, Any], Any] = {
        (i, c): [] for i in params.imgIds for c in category_ids
    }

    def shapes(annotations: Sequence[Any], coco: Any) -> list[Any]:
        if parameters.iou_type == "bbox":
            return [a["bbox"] for a in annotations]
        return [coco.annToRLE(a) for a in annotations]

    for cell in np.intersect1d(cells, truth_cells).tolist():
        start, stop = np.searchsorted(cells, [cell, cell + 1])
        first, last = np.searchsorted(truth_cells, [cell, cell + 1])
        own = data.truths[first:last]
        image, k = divmod(cell, len(category_ids))
        ious[params.imgIds[image], category_ids[k]] = coco_mask.iou(
            shapes([data.detections[i] for i in order[start:stop]], coco_dt),
            shapes(own, coco_gt),
            [int(bool(a.get("iscrowd"))) for a in own],
        )
    return ious


def _chosen(
    coco: Any, scope: Scope, name: str
) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Annotations of the scope by image, category, place in the file; and some of their columns."""
    annotations = []
    if scope.image_ids and scope.category_ids:
        # A set, as each annotation's category is looked up in it. One id for several annotations
        # stands for the last, wherever that lies.
        ids = coco.getAnnIds(imgIds=scope.image_ids, catIds=set(scope.category_ids))
        annotations = coco.loadAnns(ids)
    place = _place(annotations, name)
    image_ids = column(annotations, "image_id", place)
    image = index_of(image_ids, scope.image_index, place)
    category_ids = column(annotations, "category_id", place)
    category = index_of(category_ids, scope.category_index, place)
    rows = np.flatnonzero((image >= 0) & (category >= 0))
    rows = rows[np.lexsort((category[rows], image[rows]))]
    chosen = [annotations[i] for i in rows.tolist()]
    place = _place(chosen, name)
    return chosen, {
        "image": image[rows].astype(np.int32),
        "category": category[rows].astype(np.int32),
        "area": numbers(column(chosen, "area", place), "area", place),
    }


def _place(annotations: Sequence[Any], name: str) -> Place:
    return lambda row: f"{name}: annotation {short(annotations[row]['id'])}"


def _check_detection_ids(found: Sequence[Any]) -> None:
    """Refuses ids for which pycocotools takes matched ground truth as still free."""
    bad = [a["id"] for a in found if not isinstance(a["id"], str) and a["id"] <= 0]
    if bad:
        raise DataError(
            f"cocoDt: detections need ids above 0, as COCO.loadRes gives them, got "
            f"{one_of(map(repr, bad))}"
        )


def _image_sizes(coco: Any) -> dict[Any, tuple[int, int]]:
    return {
        image_id: (int(image["height"]), int(image["width"]))
        for image_id, image in coco.imgs.items()
        if {"height", "width"} <= image.keys()
    }


def _shapes(
    annotations: Sequence[Any],
    image_sizes: Mapping[Any, tuple[int, int]],
    parameters: Parameters,
    name: str,
) -> tuple[np.ndarray, RunLengths, int]:
    """Boxes, float64 [N, 4], or masks, whichever are compared; none of the other.

    Also how many masks are not as large as their images.
    """
    place = _place(annotations, name)
    if parameters.iou_type == "bbox":
        corners = boxes(column(annotations, "bbox", place), "bbox", place)
        return corners, RunLengths.none(), 0
    values = column(annotations, "segmentation", place)
    sizes = [image_sizes.get(a["image_id"]) for a in annotations]
    if None in sizes:
        row = sizes.index(None)
        raise DataError(
            f"{place(row)}: its image {short(annotations[row]['image_id'])} has no height and width"
        )
    of_images = np.array(sizes, np.int64).reshape(-1, 2)
    masks, num_other = read_masks(values, of_images, place, "reference")
    return np.zeros((0, 4)), masks, num_other


def _cell(
    truth: np.ndarray,
    is_ignored: np.ndarray,
    is_outside: np.ndarray,
    truth_ids: np.ndarray,
    found_ids: np.ndarray,
) -> dict[str, Any]:
    """The ids, matches and ignore flags of one cell and area range.

    Args:
        truth: int64 [T, D], the ground truth of each ranked detection, negative for none.
        is_ignored: bool [G].
        is_outside: bool [D].
        truth_ids, found_ids: float64 [G] and [D].
    """
    order = np.argsort(is_ignored, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    of_found, of_truth = np.zeros(truth.shape), np.zeros((len(truth), len(order)))
    ignored = np.zeros(truth.shape, bool)
    t, d = np.nonzero(truth >= 0)
    g = truth[t, d]
    of_found[t, d] = truth_ids[g]
    of_truth[t, place[g]] = found_ids[d]  # of a crowd's the last, the lowest in score
    ignored[t, d] = is_ignored[g]
    return {
        "dtIds": found_ids.astype(np.int64).tolist(),
        "gtIds": truth_ids[order].astype(np.int64).tolist(),
        "dtMatches": of_found,
        "gtMatches": of_truth,
        "gtIgnore": is_ignored[order].astype(np.int64),
        "dtIgnore": ignored | ((of_found == 0) & is_outside),
    }


def _as_numbers(ids: Sequence[Any]) -> np.ndarray:
    """Ids as the float64 [N] that pycocotools keeps of them in its matches."""
    try:
        return np.array(ids, np.float64).reshape(len(ids))
    except (TypeError, ValueError):
        raise DataError(
            "evalImgs holds annotation ids as numbers, and these are text; number the annotations"
        ) from None
