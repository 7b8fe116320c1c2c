"""Results (COCO's word for detections) as columns, read as the reference reads them."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deepmac.errors import DataError
from deepmac.evaluation.columns import (
    Place,
    boxes,
    column,
    index_of,
    numbers,
    optional,
    take_rows,
)
from deepmac.evaluation.parameters import Parameters, Scope, other_kind
from deepmac.evaluation.plain import plain
from deepmac.evaluation.run_lengths import RunLengths
from deepmac.evaluation.segmentations import read_masks
from deepmac.evaluation.typed_results import alike, are_typed, field_of
from deepmac.text import short

Form = Literal["box", "mask"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """D detections, in ascending order of image, then category, then place in the file.

    Attributes:
        image: int32 [D], position in the scope's `image_ids`.
        category: int32 [D], position in the scope's `category_ids`.
        score: float64 [D], exactly the JSON numbers.
        area: float64 [D], pixels: of the box or of the mask (see `read_detections`).
        boxes: float64 [D, 4], (x, y, width, height) in pixels; D = 0 unless for `bbox`.
        masks: D of them; none unless for `segm`.
        annotation_ids: D ids of the annotation whose box was given, None where there was none.
    """

    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    area: np.ndarray
    boxes: np.ndarray
    masks: RunLengths
    annotation_ids: Sequence[Any]

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> "Detections":
        """Some of the rows, given in ascending order."""
        return take_rows(self, rows)


def form_of(first_result: Any, place: str) -> Form:
    """The form of a whole results file, which its first result decides.

    `box`: there is a box, and sizes are those of boxes, even for results that have masks too and
    even where masks are evaluated. `mask`: sizes are those of masks, boxes are made from them.

    Raises:
        DataError: it has neither.
    """
    if not isinstance(first_result, dict):
        raise DataError(f"{place} is not an object but {short(first_result)}")
    if "bbox" in first_result and plain(first_result["bbox"]) != []:
        return "box"
    if "segmentation" in first_result:
        return "mask"
    raise DataError(
        f"{place} has neither 'bbox' nor 'segmentation' but {short(sorted(first_result))}"
    )


def read_detections(
    results: Sequence[Any],
    scope: Scope,
    known: Scope,
    parameters: Parameters,
    form: Form,
    place: Place,
) -> tuple[Detections, collections.Counter[str]]:
    """The detections of a results list that an evaluation is about.

    Args:
        results: COCO results: objects with image_id, category_id, score, and bbox or segmentation
            or both; `annotation_id` is kept where it is there.
        scope: the images and categories to evaluate.
        known: those that the ground truth has.
        parameters: of the evaluation.
        form: of the file that they come from, from `form_of`.
        place: names result i.

    Returns:
        The detections, and counts of them and of what was unusual.

    Raises:
        DataError: an image is unknown, a number is not finite, a mask does not fit, a key is
            missing. Names the result.
    """
    results = alike(results)
    image_ids = column(results, "image_id", place)
    category_ids = column(results, "category_id", place)
    scores = numbers(column(results, "score", place), "score", place)
    check_images(image_ids, known.image_index, place)
    is_known = index_of(category_ids, known.category_index, place) >= 0
    if not is_known.all():
        _check_kind(category_ids, is_known, known.category_index, place)
    image = index_of(image_ids, scope.image_index, place)
    category = index_of(category_ids, scope.category_index, place)
    rows = np.flatnonzero((image >= 0) & (category >= 0))
    rows = rows[np.lexsort((category[rows], image[rows]))]
    chosen = [results[i] for i in rows.tolist()]
    sizes = scope.image_sizes[image[rows]]
    counts = collections.Counter[str](
        results=len(results),
        predictions=len(chosen),
        predictions_of_unknown_category=int((~is_known).sum()),
    )
    read_shapes = _box_form if form == "box" else _mask_form
    area, corners, masks = read_shapes(
        chosen, sizes, parameters, lambda i: place(int(rows[i])), counts
    )
    for_masks = parameters.iou_type == "segm"
    detections = Detections(
        image=image[rows].astype(np.int32),
        category=category[rows].astype(np.int32),
        score=scores[rows],
        area=area,
        boxes=corners[:0] if for_masks else corners,
        masks=masks if for_masks else RunLengths.none(),
        annotation_ids=_annotation_ids(chosen, lambda i: place(int(rows[i]))),
    )
    return detections, counts


def _box_form(
    chosen: Sequence[Any],
    sizes: np.ndarray,
    parameters: Parameters,
    place: Place,
    counts: collections.Counter[str],
) -> tuple[np.ndarray, np.ndarray, RunLengths]:
    """Areas [D], boxes [D, 4] and masks (none unless they are needed)."""
    corners = boxes(column(chosen, "bbox", place), "bbox", place)
    area = corners[:, 2] * corners[:, 3]
    if parameters.iou_type == "bbox" and parameters.result_area == "reference":
        return area, corners, RunLengths.none()
    segmentations = optional(chosen, "segmentation")
    masked = np.array([s is not None for s in segmentations], bool)
    segmentations = [
        rectangle(box) if segmentation is None else segmentation
        for segmentation, box in zip(segmentations, corners.tolist(), strict=True)
    ]
    masks, counts["predictions_of_another_size"] = read_masks(
        segmentations, sizes, place, parameters.wrong_size
    )
    if parameters.result_area == "mask":
        area = np.where(masked, masks.areas(), area)
    else:
        counts["predictions_with_box_and_mask"] = int(masked.sum())
    if parameters.iou_type == "segm":
        counts["predictions_without_mask"] = int((~masked).sum())
    return area, corners, masks


def _mask_form(
    chosen: Sequence[Any],
    sizes: np.ndarray,
    parameters: Parameters,
    place: Place,
    counts: collections.Counter[str],
) -> tuple[np.ndarray, np.ndarray, RunLengths]:
    """Areas [D], boxes [D, 4] (of the masks where none is given; none for `segm`), masks."""
    masks, counts["predictions_of_another_size"] = read_masks(
        column(chosen, "segmentation", place), sizes, place, parameters.wrong_size
    )
    area = masks.areas().astype(np.float64)
    if parameters.iou_type == "segm":
        return area, np.zeros((0, 4)), masks
    corners = masks.tight_boxes()
    if are_typed(chosen):
        values = enumerate(field_of(chosen, "bbox"))
        given = {i: box for i, box in values if box is not None}
    else:
        given = {i: r["bbox"] for i, r in enumerate(chosen) if "bbox" in r}
    own = list(given)
    corners[own] = boxes(list(given.values()), "bbox", lambda i: place(own[i]))
    return area, corners, masks


def _annotation_ids(chosen: Sequence[Any], place: Place) -> list[Any]:
    ids = optional(chosen, "annotation_id")
    if not {type(value) for value in ids}.isdisjoint({bool, list, dict}):
        for row, value in enumerate(ids):
            if isinstance(value, bool | list | dict):
                raise DataError(
                    f"{place(row)}: annotation_id is {short(value)}, not an id"
                )
    return ids


def rectangle(box: Sequence[float]) -> list[list[float]]:
    """The polygon that the reference draws for a result without a mask."""
    x, y, width, height = box
    x2, y2 = x + width, y + height
    return [[x, y, x, y2, x2, y2, x2, y]]


def check_images(image_ids: Sequence[Any], known: dict[Any, int], place: Place) -> None:
    """Refuses results of images that the ground truth does not have.

    Args:
        image_ids: of the results.
        known: position of each image of the ground truth.
        place: names result i.

    Raises:
        DataError: there is one; names it, and what the ids there are like.
    """
    is_unknown = index_of(image_ids, known, place) < 0
    if not is_unknown.any():
        return
    row = int(np.argmax(is_unknown))
    value, first = image_ids[row], next(iter(known), None)
    hint = other_kind(value, first) or (
        "; give the ground truth that they were made for, or leave such results out"
    )
    more = f" ({is_unknown.sum()} in all)" if is_unknown.sum() > 1 else ""
    raise DataError(
        f"{place(row)}: the ground truth has no image {short(value)}{more}{hint}"
    )


def _check_kind(
    category_ids: Sequence[Any],
    is_known: np.ndarray,
    known: dict[Any, int],
    place: Place,
) -> None:
    """Refuses categories of text where numbers are known, and the other way round.

    The reference leaves them out without a word, as it does unknown ones, which may be meant.
    """
    first = next(iter(known), None)
    for row in np.flatnonzero(~is_known).tolist():
        if hint := other_kind(category_ids[row], first):
            raise DataError(
                f"{place(row)}: the ground truth has no category {short(category_ids[row])}{hint}"
            )
