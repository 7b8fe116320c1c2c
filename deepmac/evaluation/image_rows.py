"""Rows of COCO data grouped by image, in no order -> what the images contribute to an evaluation.

The same figures bit by bit as from files: what a file's order decides there, is decided here by the
rows themselves.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from deepmac.data.ids import id_order
from deepmac.errors import DataError
from deepmac.evaluation.detections import Form
from deepmac.evaluation.engine import match_results
from deepmac.evaluation.ground_truth import GroundTruth, read_ground_truth, read_scope
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.plain import plain
from deepmac.evaluation.state import Partial, count_truths, merge
from deepmac.text import short

UNIT = "rows"
"""Name of what `contribute` evaluates, for `engine.figures`."""

_WHERE = "ground truth"


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRows:
    """All that there is of one image.

    Attributes:
        image_id: of the image.
        images: its entries; one, or none where it is unknown.
        annotations, results: of it, see `in_order`.
    """

    image_id: Any
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    results: list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFacts:
    """What everybody must know of an image: its entry, and how many annotations it has."""

    image: dict[str, Any]
    num_annotations: int


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """What everybody must know of all images.

    Attributes:
        scope: images and categories.
        first_ordinal: int64 [I], number of the first annotation of each image.
    """

    scope: Scope
    first_ordinal: np.ndarray


def in_order(
    image_id: Any,
    images: Iterable[Any],
    annotations: Iterable[Any],
    results: Iterable[Any],
) -> ImageRows:
    """The rows of an image in an order that does not depend on how they came together.

    Args:
        image_id: of the image.
        images: entries.
        annotations, results: objects, or lists of objects, each of which keeps its order.
            Annotations are sorted by id, results as text.
    """
    return ImageRows(
        image_id,
        [plain(image) for image in images],
        _joined(annotations, lambda rows: id_order(rows[0].get("id", ""))),
        _joined(results, _as_text),
    )


def _as_text(rows: list[Any]) -> bytes:
    # What JSON has not: counts of run lengths as bytes, masks as arrays.
    return orjson.dumps(
        rows,
        default=lambda v: v.tolist() if isinstance(v, np.ndarray) else repr(v),
        option=orjson.OPT_SORT_KEYS,
    )


def _joined(pieces: Iterable[Any], key: Any) -> list[dict[str, Any]]:
    lists = [plain(p if isinstance(p, list) else [p]) for p in pieces]
    lists = [rows for rows in lists if rows]
    if len(lists) > 1:
        lists.sort(key=key)
    return [row for rows in lists for row in rows]


def facts_of(rows: ImageRows) -> Iterable[ImageFacts]:
    """Those of the image; none where it is unknown.

    Raises:
        DataError: there are two entries of that id.
    """
    if len(rows.images) > 1:
        raise DataError(f"images share the id {short(rows.image_id)}")
    return [ImageFacts(image, len(rows.annotations)) for image in rows.images]


def frame_of(
    facts: Iterable[ImageFacts],
    categories: Sequence[Mapping[str, Any]],
    parameters: Parameters,
) -> Frame:
    """The frame of all images.

    Raises:
        DataError: see `read_scope`.
    """
    facts = list(facts)
    images = [f.image for f in facts]
    dataset = {"images": images, "annotations": [], "categories": list(categories)}
    scope = read_scope(dataset, parameters, _WHERE)
    sizes = np.zeros(len(scope.image_ids) + 1, np.int64)
    for f in facts:
        sizes[scope.image_index[f.image["id"]] + 1] = f.num_annotations
    return Frame(scope, np.cumsum(sizes)[:-1])


def contribute(
    rows: Sequence[ImageRows],
    frame: Frame,
    categories: Sequence[Mapping[str, Any]],
    parameters: Parameters,
    form: Form,
) -> tuple[Partial, list[tuple[int, Any]]]:
    """What some images contribute; no image may be in two calls.

    Args:
        rows: of the images.
        frame: of all images.
        categories: of the data set.
        parameters: of the evaluation.
        form: of the results, see `detections.form_of`.

    Returns:
        Ground truth and matched detections; and (number, id) of each annotation.

    Raises:
        DataError: a row cannot be used; names it.
    """
    known = [some for some in rows if some.images]
    annotations = [a for some in known for a in some.annotations]
    of_categories, counts = _of_categories(annotations, frame.scope)
    for some in rows:
        if not some.images:
            counts["annotations_of_unknown_image"] += len(some.annotations)
    dataset = {
        "images": [image for some in known for image in some.images],
        "annotations": of_categories,
        "categories": list(categories),
    }
    truth, met = read_ground_truth(dataset, parameters, _WHERE, frame.scope)
    truth = _numbered(truth, frame)
    positions = [frame.scope.image_index[some.image_id] for some in known]
    results = [result for some in rows for result in some.results]
    matched = match_results(
        (results, lambda i: f"a prediction for image {short(results[i]['image_id'])}"),
        form,
        truth,
        frame.scope,
        parameters,
        name=UNIT,
    )
    counted = count_truths(truth, np.array(positions, int), parameters, met + counts)
    ids = list(zip(truth.ordinal.tolist(), truth.annotation_ids, strict=True))
    return merge([counted, matched], frame.scope.image_ids), ids


def _of_categories(
    annotations: list[Any], scope: Scope
) -> tuple[list[Any], collections.Counter[str]]:
    """Annotations without those of categories that the data set does not have; and their number."""

    def is_unknown(annotation: Any) -> bool:
        category_id = annotation.get("category_id", ...)
        is_id = isinstance(category_id, int | float | str)
        return is_id and category_id not in scope.category_index

    kept = [a for a in annotations if not is_unknown(a)]
    lost = len(annotations) - len(kept)
    return kept, collections.Counter(annotations_of_unknown_category=lost)


def _numbered(truth: GroundTruth, frame: Frame) -> GroundTruth:
    """The same with numbers that no annotation of another image has."""
    within = np.arange(len(truth)) - np.searchsorted(truth.image, truth.image)
    ordinal = frame.first_ordinal[truth.image] + within
    return dataclasses.replace(truth, ordinal=ordinal.astype(np.int32))


def ids_by_number(
    numbered: Iterable[tuple[int, Any]], parameters: Parameters
) -> list[Any]:
    """The ids of annotations at their numbers; None at numbers that none has.

    Raises:
        DataError: two share an id, where that is an error.
    """
    found = dict(numbered)
    ids: list[Any] = [None] * (max(found, default=-1) + 1)
    for number, annotation_id in found.items():
        ids[number] = annotation_id
    times = collections.Counter(found.values())
    double = [i for i, n in times.items() if n > 1]
    if double and parameters.duplicate_ids == "error":
        raise DataError(
            f"{_WHERE}: {len(double)} ids belong to several annotations, such as "
            f"{short(double[0])}; give each its own"
        )
    return ids
