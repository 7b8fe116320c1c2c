"""What is wrong or unusual in pycocotools' `COCO` objects, in sentences."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepmac.errors import DataError, one_of
from deepmac.evaluation.coco_objects import CocoInput
from deepmac.evaluation.columns import column
from deepmac.evaluation.detections import check_images, form_of
from deepmac.evaluation.results_file import place_of
from deepmac.text import short

_LISTS = {"images": "image", "categories": "category", "annotations": "annotation"}


def check_dataset(dataset: Any, where: str) -> None:
    """Refuses a data set in which pycocotools' `createIndex` would miss a key.

    Images, categories or annotations may be absent.

    Raises:
        DataError: an entry lacks an id; names it.
    """
    if not isinstance(dataset, Mapping):
        raise DataError(
            f"{where}: holds {short(dataset)}, not an object with 'images', 'annotations' and "
            f"'categories'"
        )
    for name, entry in _LISTS.items():
        entries = dataset.get(name, [])
        if not isinstance(entries, list):
            raise DataError(f"{where}: '{name}' is {short(entries)}, not a list")
        keys = ["id"]
        if name == "annotations":
            keys.append("image_id")
            keys += ["category_id"] if "categories" in dataset else []
        for key in keys:
            column(entries, key, lambda i, e=entry: f"{where}: {e} {i} of the list")


def check_results(results: Any, truth: Any, where: str, truth_where: str) -> None:
    """Refuses results that pycocotools' `loadRes` would fail on.

    Args:
        results: what a results file holds.
        truth: `COCO` with the ground truth.
        where, truth_where: the beginning of error sentences about each.

    Raises:
        DataError: a result lacks a key or is of an image that the ground truth does not have.
    """
    if not isinstance(results, list):
        raise DataError(f"{where}: holds {short(results)}, not a list of results")
    place = place_of(results, lambda i: f"{where}: result {i}")
    image_ids = column(results, "image_id", place)
    check_images(image_ids, {id_: n for n, id_ in enumerate(truth.imgs)}, place)
    if not results or not {"caption", "keypoints"}.isdisjoint(results[0]):
        return
    if "categories" not in truth.dataset:
        raise DataError(f"{truth_where}: has no 'categories'")
    column(results, "category_id", place)
    is_boxes = form_of(results[0], place(0)) == "box"
    column(results, "bbox" if is_boxes else "segmentation", place)


def told(
    truth: Any, found: Any, data: CocoInput, counts: collections.Counter[str]
) -> list[str]:
    """Sentences about what pycocotools does silently, with numbers.

    Args:
        truth, found: `COCO` objects with the ground truth and the detections.
        data: what is evaluated of them.
        counts: of `coco_objects.match_all`.
    """
    known = one_of(map(repr, truth.cats), limit=5)
    id_zero = sum(a["id"] == 0 for a in data.truths)
    numbers = {
        **{
            f"{name} of cocoGt that share their id with a later one, which stands for all; give "
            f"each its own": len(truth.dataset.get(name, ())) - len(entries)
            for name, entries in (
                ("annotations", truth.anns),
                ("images", truth.imgs),
                ("categories", truth.cats),
            )
        },
        f"detections left out, of categories that cocoGt does not have (its ids are {known})": (
            _num_unknown(found.catToImgs, truth.cats)
        ),
        "detections left out, of images that cocoGt does not have": (
            _num_unknown(found.imgToAnns, truth.imgs)
        ),
        "annotations of cocoGt left out, of categories that it does not list": (
            _num_unknown(truth.catToImgs, truth.cats)
        ),
        "annotations of cocoGt left out, of images that it does not list": (
            _num_unknown(truth.imgToAnns, truth.imgs)
        ),
        "annotations of cocoGt without 'iscrowd', taken as 0": (
            sum(a.get("iscrowd") is None for a in data.truths)
        ),
        "annotations of cocoGt whose masks are of another size than the image, never matched": (
            data.num_other_size
        ),
        "detections whose masks are of another size than the image, never matched": (
            counts["detections_of_another_size"]
        ),
        "detections whose mask is the rectangle of their box, as that of results without a mask": (
            counts["detections_without_mask"]
        ),
        "detections whose area is not that of their mask, as that of results with box and mask, "
        "which decides what is small, medium or large": (
            counts["detections_of_another_area"]
        ),
    }
    sentences = [f"{sentence}: {n}" for sentence, n in numbers.items() if n > 0]
    if id_zero:
        sentences.append(
            f"an annotation of cocoGt has the id 0: detections that match it count as misses; "
            f"give it another id; at IoU {data.parameters.iou_thresholds[0]:.2f} these are: "
            f"{counts['matches_lost_to_id_zero']}"
        )
    if not counts["detections"]:
        sentences.append("there are no detections: every object counts as missed")
    return sentences


def _num_unknown(by_id: Mapping[Any, Sequence[Any]], known: Iterable[Any]) -> int:
    """How many entries are kept under ids that are not known."""
    return sum(len(entries) for id_, entries in by_id.items() if id_ not in known)
