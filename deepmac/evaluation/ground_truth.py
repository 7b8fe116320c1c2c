"""The annotations of a data set as columns, read as the reference reads them."""

import collections
import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmac.errors import DataError, one_of
from deepmac.evaluation.columns import (
    Place,
    boxes,
    column,
    index_of,
    numbers,
    take_rows,
)
from deepmac.evaluation.outlines import Outlines
from deepmac.evaluation.parameters import Parameters, Scope, sorted_ids
from deepmac.evaluation.run_lengths import RunLengths
from deepmac.evaluation.segmentations import read_masks, read_outlines
from deepmac.masks import MOST_PIXELS
from deepmac.text import is_unicode, short

_FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")  # of LVIS


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """G annotations, in ascending order of image, then category, then place in the file.

    Attributes:
        scope: the images and categories; all of them, also where the columns hold some.
        image: int32 [G], position in `scope.image_ids`.
        category: int32 [G], position in `scope.category_ids`.
        ordinal: int32 [G], number of the annotation in the whole set.
        annotation_ids: G ids, numbers or text.
        area: float64 [G], pixels: the annotation's own `area`.
        is_crowd: bool [G].
        is_ignored: bool [G], neither hit nor miss: crowds, and what `ignore_field` adds.
        boxes: float64 [G, 4], (x, y, width, height) in pixels; G = 0 unless for `bbox`.
        masks: G of them; none unless for `segm`.
    """

    scope: Scope
    image: np.ndarray
    category: np.ndarray
    ordinal: np.ndarray
    annotation_ids: Sequence[Any]
    area: np.ndarray
    is_crowd: np.ndarray
    is_ignored: np.ndarray
    boxes: np.ndarray
    masks: RunLengths | Outlines

    def __len__(self) -> int:
        return len(self.image)

    def take(self, rows: np.ndarray) -> "GroundTruth":
        """Some of the rows, given in ascending order."""
        return take_rows(self, rows)

    def of_images(self, images: np.ndarray) -> "GroundTruth":
        """The annotations of some images, their masks drawn.

        Args:
            images: int [..], ascending positions in the scope.
        """
        first = np.searchsorted(self.image, images, "left")
        last = np.searchsorted(self.image, images, "right")
        ranges = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        some = self.take(np.concatenate([np.zeros(0, np.int64), *ranges]))
        return dataclasses.replace(some, masks=some.masks.drawn())


def read_scope(dataset: Any, parameters: Parameters, where: str) -> Scope:
    """The images and categories of a COCO data set.

    Args:
        dataset: what its JSON holds.
        parameters: of the evaluation.
        where: the beginning of error sentences, such as the file's name.

    Raises:
        DataError: it is not a COCO data set, ids are mixed or double, or an image's size is
            missing where masks are evaluated.
    """
    _check_shape(dataset, where)
    images, categories = dataset["images"], dataset["categories"]
    image_ids = column(images, "id", lambda i: f"{where}: image {i} of the list")
    category_ids = column(
        categories, "id", lambda i: f"{where}: category {i} of the list"
    )
    if parameters.duplicate_ids == "error":
        _check_unique(image_ids, f"{where}: images")
        _check_unique(category_ids, f"{where}: categories")
    last = dict(zip(_hashable(image_ids, where), images, strict=True))
    ids = sorted_ids(last, f"{where}: image")
    return Scope(
        image_ids=ids,
        image_sizes=_image_sizes([last[i] for i in ids], parameters, where),
        category_ids=sorted_ids(_hashable(category_ids, where), f"{where}: category"),
        category_names=_category_names(categories, where),
        image_names=_image_names([last[i] for i in ids]),
    )


def read_ground_truth(
    dataset: Any, parameters: Parameters, where: str, scope: Scope | None = None
) -> tuple[GroundTruth, collections.Counter[str]]:
    """The annotations of a COCO data set that an evaluation is about.

    Read as the reference does: `area` is the annotation's own, a stored `ignore` has no effect,
    annotations of images or categories outside the scope take no part. Unlike it, a missing
    `iscrowd` is 0 and a missing `area` is that of the mask (of the box where there is none).

    Args:
        dataset: what the JSON holds.
        parameters: of the evaluation.
        where: the beginning of error sentences, such as the file's name.
        scope: the images and categories to evaluate, from `read_scope`; None: all.

    Returns:
        The annotations, and counts of them and of what was unusual (see `report.warnings_from`).

    Raises:
        DataError: something cannot be evaluated as it is; names the annotation.
    """
    full = read_scope(dataset, parameters, where)
    scope = scope or full
    annotations = dataset["annotations"]
    ids = column(annotations, "id", lambda i: f"{where}: annotation {i} of the list")
    if parameters.duplicate_ids == "error":
        _check_unique(ids, f"{where}: annotations")

    def named(row: int) -> str:
        return f"{where}: annotation {short(ids[row])}"

    image_ids = column(annotations, "image_id", named)
    category_ids = column(annotations, "category_id", named)
    image = index_of(image_ids, scope.image_index, named)
    category = index_of(category_ids, scope.category_index, named)
    rows = _rows_in_order(image, category, _hashable(ids, where), parameters)
    ground_truth, counts = _columns(
        [annotations[i] for i in rows.tolist()],
        image[rows],
        category[rows],
        scope,
        parameters,
        lambda i: named(int(rows[i])),
    )
    for name, values, known in (
        ("annotations_of_unknown_image", image_ids, full.image_index),
        ("annotations_of_unknown_category", category_ids, full.category_index),
    ):
        counts[name] = int((index_of(values, known, named) < 0).sum())
        if annotations and counts[name] == len(annotations):
            kind = name.rpartition("_")[2]
            raise DataError(
                f"{where}: none of the annotations has the id of any {kind}: the first has {kind}_id "
                f"{short(values[0])}, the first {kind} the id {short(next(iter(known), None))}"
            )
    counts["images_federated"] = sum(
        any(key in image for key in _FEDERATED) for image in dataset["images"]
    )
    return ground_truth, counts


def _columns(
    chosen: Sequence[Any],
    image: np.ndarray,
    category: np.ndarray,
    scope: Scope,
    parameters: Parameters,
    place: Place,
) -> tuple[GroundTruth, collections.Counter[str]]:
    """The annotations that take part, already in order, with counts of what is unusual."""
    counts = collections.Counter[str]()
    is_crowd = _flags(chosen, "iscrowd", place)
    counts["annotations_without_iscrowd"] = sum(
        a.get("iscrowd") is None for a in chosen
    )
    is_ignored = is_crowd
    stored = _flags(chosen, "ignore", place)
    if parameters.ignore_field == "honour":
        is_ignored = is_crowd | stored
    else:
        counts["annotations_with_ignore"] = int((stored & ~is_crowd).sum())
    sizes = scope.image_sizes[image]
    masks, corners = RunLengths.none(), np.zeros((0, 4))
    if parameters.iou_type == "segm":
        segmentations = _segmentations(chosen, scope, place)
        masks, counts["annotations_of_another_size"] = read_outlines(
            segmentations, sizes, place, parameters.wrong_size
        )
    else:
        corners = boxes(column(chosen, "bbox", place), "bbox", place)
    ids = [a["id"] for a in chosen]
    counts["annotations"] = len(chosen)
    counts["annotations_crowd"] = int(is_crowd.sum())
    counts["annotations_with_id_zero"] = sum(i == 0 for i in ids)
    ground_truth = GroundTruth(
        scope=scope,
        image=image.astype(np.int32),
        category=category.astype(np.int32),
        ordinal=np.arange(len(chosen), dtype=np.int32),
        # Copies: the ids as read lie between all else that was, whose memory they would keep.
        annotation_ids=pickle.loads(pickle.dumps(ids)),
        area=_areas(chosen, sizes, place, counts),
        is_crowd=is_crowd,
        is_ignored=is_ignored,
        boxes=corners,
        masks=masks,
    )
    return ground_truth, counts


def _flags(chosen: Sequence[Any], key: str, place: Place) -> np.ndarray:
    """bool [N]; False where the key is missing."""
    values = [a.get(key) for a in chosen]
    for row, value in enumerate(values):
        if isinstance(value, str | list | dict):
            raise DataError(f"{place(row)}: {key} is {short(value)}, neither 0 nor 1")
    return np.array([bool(v) for v in values], bool)


def _rows_in_order(
    image: np.ndarray, category: np.ndarray, ids: Sequence[Any], parameters: Parameters
) -> np.ndarray:
    """Rows of the annotations that take part: by image, category, place in the file.

    The reference looks annotations up by id. Where several share one, the last of the file
    stands in for each of them, wherever it belongs.
    """
    takes_part = image >= 0
    if parameters.use_categories:
        takes_part &= category >= 0
    rows = np.flatnonzero(takes_part)
    if parameters.duplicate_ids == "reference":
        rows = rows[np.argsort(image[rows], kind="stable")]
        last = {i: row for row, i in enumerate(ids)}
        rows = np.array([last[ids[row]] for row in rows.tolist()], np.int64)
    rows = rows[(image[rows] >= 0) & (category[rows] >= 0)]
    return rows[np.lexsort((category[rows], image[rows]))]


def _segmentations(chosen: Sequence[Any], scope: Scope, place: Place) -> list[Any]:
    lacking = [i for i, a in enumerate(chosen) if a.get("segmentation") is None]
    if not lacking:
        return [a["segmentation"] for a in chosen]
    names = sorted({scope.category_names[chosen[i]["category_id"]] for i in lacking})
    more = f" ({len(lacking)} in all)" if len(lacking) > 1 else ""
    raise DataError(
        f"{place(lacking[0])} has no mask{more}, so 'segm' cannot be evaluated on: "
        f"{one_of(names)}; name the others as categories, or use iou_type 'bbox'"
    )


def _areas(
    chosen: Sequence[Any],
    sizes: np.ndarray,
    place: Place,
    counts: collections.Counter[str],
) -> np.ndarray:
    lacking = [i for i, a in enumerate(chosen) if a.get("area") is None]
    counts["annotations_without_area"] = len(lacking)
    if not lacking:
        return numbers([a["area"] for a in chosen], "area", place)
    given = [0 if a.get("area") is None else a["area"] for a in chosen]
    areas = numbers(given, "area", place)
    masked = [
        i
        for i in lacking
        # For boxes an image may do without a size: nothing can be rasterised there.
        if chosen[i].get("segmentation") is not None and sizes[i].all()
    ]
    segmentations = [chosen[i]["segmentation"] for i in masked]
    sizes = sizes[np.array(masked, np.int64)]
    masks, _ = read_masks(segmentations, sizes, lambda i: place(masked[i]), "reference")
    areas[masked] = masks.areas()
    without = sorted({*lacking} - {*masked})
    sides = boxes(
        [chosen[i].get("bbox") for i in without], "bbox", lambda i: place(without[i])
    )
    areas[without] = sides[:, 2] * sides[:, 3]
    return areas


def _check_shape(dataset: Any, where: str) -> None:
    if isinstance(dataset, list):
        raise DataError(
            f"{where}: holds a list, as a results file does, where a ground truth with 'images', "
            f"'annotations' and 'categories' belongs"
        )
    if not isinstance(dataset, dict):
        raise DataError(f"{where}: holds {short(dataset)}, not a COCO data set")
    for key in ("images", "annotations", "categories"):
        if key not in dataset:
            raise DataError(
                f"{where}: is not a COCO ground truth, it has no '{key}' but "
                f"{one_of(map(repr, dataset)) or 'nothing'}"
            )
        if not isinstance(dataset[key], list):
            raise DataError(f"{where}: '{key}' is {short(dataset[key])}, not a list")


def _check_unique(ids: Sequence[Any], what: str) -> None:
    times = collections.Counter(_hashable(ids, what))
    double = [i for i, n in times.items() if n > 1]
    if double:
        raise DataError(
            f"{what} share ids: {one_of(map(repr, double))}; give each its own, or say "
            f"duplicate_ids 'reference' to use the last of each, as pycocotools does"
        )


def _hashable(ids: Sequence[Any], where: str) -> Sequence[Any]:
    for value in ids:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise DataError(f"{where}: {short(value)} is not an id")
        if isinstance(value, str) and not is_unicode(value):
            raise DataError(f"{where}: id {short(value)} is not Unicode text")
    return ids


def _image_names(images: Sequence[Any]) -> tuple[str | None, ...]:
    """File names, for people alone: what is none that can be shown is left out."""
    names = [image.get("file_name") for image in images]
    known = tuple(n if isinstance(n, str) and is_unicode(n) else None for n in names)
    return known if any(known) else ()


def _category_names(
    categories: Sequence[Mapping[str, Any]], where: str
) -> dict[Any, str]:
    names = {c["id"]: str(c.get("name", c["id"])) for c in categories}
    for category_id, name in names.items():
        if not is_unicode(name):
            raise DataError(
                f"{where}: the name of category {short(category_id)} is {short(name)}, not "
                f"Unicode text"
            )
    return names


def _image_sizes(
    images: Sequence[Mapping[str, Any]], parameters: Parameters, where: str
) -> np.ndarray:
    sizes = np.zeros((len(images), 2), np.int64)
    for row, image in enumerate(images):
        size = [image.get("height"), image.get("width")]
        if all(type(s) is int and 0 < s <= MOST_PIXELS for s in size):
            sizes[row] = np.array(size)
        elif parameters.iou_type == "segm":
            raise DataError(
                f"{where}: image {short(image['id'])} has height {short(size[0])} and width "
                f"{short(size[1])}; masks need whole numbers above 0, up to {MOST_PIXELS} pixels"
            )
    return sizes
