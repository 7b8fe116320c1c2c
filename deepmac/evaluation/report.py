"""Numbers -> the document that everybody reads, and sentences about what was unusual."""

import collections
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from deepmac.errors import one_of
from deepmac.evaluation.bootstrap import (
    FEWEST_IMAGES,
    INTERVAL,
    Resampled,
    draw_images,
    intervals,
    resample,
)
from deepmac.evaluation.summary import GIVEN_AP, GIVEN_IOU, Evaluation

Groups = Mapping[str, Collection[Any]]
"""Name of a group -> category ids, such as `seen` and `unseen`."""

GIVEN_IOU_BY_SIZE = "mean_iou_at_gt_boxes_by_size"
ORACLE = (GIVEN_IOU, GIVEN_IOU_BY_SIZE, GIVEN_AP)
"""What says how good the masks are when the boxes are given."""

_COUNTED = ("annotations", "annotations_crowd", "predictions")


def metrics(
    evaluations: Mapping[str, Evaluation],
    groups: Groups,
    annotation_ids: Sequence[Any],
    *,
    num_draws: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Everything that an evaluation found, as JSON values.

    Args:
        evaluations: of the same images and categories, by what was compared.
        groups: of categories, to average over each; those without any are left out, with a warning.
        annotation_ids: of the annotations evaluated, in their order.
        num_draws: of images, for the intervals; 0 for none.
        seed: of the draws.

    Returns:
        For each kind what `figures_of` gives; then `area_ranges` (label -> lowest and highest area
        in pixels, None for no end), `bootstrap`, `counts` and `warnings`.
    """
    counts, warnings = collections.Counter(), {}
    for evaluation in evaluations.values():
        missing = len(evaluation.annotations_without_prediction())
        counts |= evaluation.partial.counts
        counts |= collections.Counter(annotations_without_prediction=missing)
        for warning in warnings_from(evaluation, annotation_ids):
            warnings[warning] = None
    if empty := [name for name, ids in groups.items() if not ids]:
        warnings[
            f"groups left out, of which no category is evaluated: {one_of(empty)}"
        ] = None
    groups = {name: ids for name, ids in groups.items() if ids}
    first = next(iter(evaluations.values()))
    scope = first.scope
    num_images = len(scope.image_ids)
    basic = {
        "images": num_images,
        "categories": len(scope.category_ids),
        **{name: counts.pop(name, 0) for name in _COUNTED},
    }
    weights = draw_images(
        num_images, num_draws if num_images >= FEWEST_IMAGES else 0, seed
    )
    return {
        **{
            kind: figures_of(e, groups, resample(e, weights))
            for kind, e in evaluations.items()
        },
        "area_ranges": {
            r.label: [r.low, None if math.isinf(r.high) else r.high]
            for r in first.parameters.area_ranges
        },
        "bootstrap": {"draws": num_draws, "seed": seed, "interval": INTERVAL},
        "counts": basic | dict(sorted(counts.items())),
        "warnings": list(warnings),
    }


def figures_of(
    evaluation: Evaluation, groups: Groups, resampled: Resampled
) -> dict[str, Any]:
    """The figures of one kind, as JSON values.

    Args:
        evaluation: of it.
        groups: of categories, to average over each.
        resampled: the same for draws of the images, of which intervals are made; none without draws.

    Returns:
        `stats`: the COCO numbers, -1 where there is nothing to say; beside it `ORACLE`, which are
        None where no prediction was made for given boxes, and `intervals`, of every number that
        can have one; then `groups`, each with all of that, and `per_category`.
    """
    return {
        "stats": evaluation.stats,
        **_oracle(evaluation, None),
        "intervals": _intervals(evaluation, None, resampled),
        "groups": {
            name: {
                **evaluation.stats_of(ids),
                **_oracle(evaluation, ids),
                "intervals": _intervals(evaluation, ids, resampled),
                "categories": len(ids),
            }
            for name, ids in groups.items()
        },
        "per_category": _per_category(evaluation, groups),
    }


def warnings_from(evaluation: Evaluation, annotation_ids: Sequence[Any]) -> list[str]:
    """Sentences about what the reference does silently, or not at all; with numbers and remedy."""
    counts, parameters = evaluation.partial.counts, evaluation.parameters
    sentences = [
        f"{sentence}: {counts[name]}"
        for name, sentence in _SENTENCES.items()
        if counts[name]
    ]
    if counts["annotations_with_id_zero"] and parameters.id_zero == "reference":
        sentences.append(
            f"an annotation has the id 0: as in pycocotools, detections that match it count as "
            f"misses (id_zero 'match' corrects that); at IoU {parameters.iou_thresholds[0]:.2f} "
            f"these are: {counts['matches_lost_to_id_zero']}"
        )
    if not counts["annotations"]:
        sentences.append("the ground truth has no annotations: every figure is -1")
    if not counts["predictions"]:
        what = "there are no predictions"
        if counts["predictions_of_unknown_category"]:
            ids = one_of(map(repr, evaluation.scope.category_ids), limit=5)
            what = (
                f"no prediction has the category_id of a category evaluated, as {ids}"
            )
        sentences.append(f"{what}: every object counts as missed")
    labels = [r.label for r in parameters.area_ranges]
    if "all" in labels and 100 not in parameters.max_dets:
        limit = parameters.max_dets[-1]
        sentences.append(
            f"AP is -1 as in pycocotools, which looks for 100 among max_dets; AP@{limit} has the "
            f"precision at {limit}"
        )
    if "all" not in labels:
        sentences.append(
            f"no area range is called 'all': as in pycocotools, the figures of all sizes are -1; "
            f"those of a range bear its name ({one_of(labels)})"
        )
    missing = evaluation.annotations_without_prediction().tolist()
    if missing:
        ids = one_of(repr(annotation_ids[i]) for i in missing)
        sentences.append(
            f"annotations that no prediction carries the id of, which count as IoU 0 in "
            f"mean_iou_at_gt_boxes: {len(missing)}, namely {ids}"
        )
    return sentences


_SENTENCES = {
    "annotations_without_iscrowd": "annotations without 'iscrowd', taken as 0",
    "annotations_without_area": (
        "annotations without 'area', taken from the mask, or from the box where there is none"
    ),
    "annotations_of_unknown_image": (
        "annotations left out, of images that the ground truth does not list"
    ),
    "annotations_of_unknown_category": (
        "annotations left out, of categories that the ground truth does not list"
    ),
    "annotations_with_ignore": (
        "annotations with a stored 'ignore', which has no effect, as in pycocotools "
        "(ignore_field 'honour' leaves them out)"
    ),
    "annotations_of_another_size": (
        "annotations whose masks are of another size than the image, never matched"
    ),
    "images_federated": (
        "images that were searched for some of the categories alone, as in LVIS "
        "(neg_category_ids, not_exhaustive_category_ids), which has no effect here: AP is COCO's, "
        "not that of LVIS, and counts detections of the other categories as false"
    ),
    "predictions_of_another_size": (
        "predictions whose masks are of another size than the image, never matched"
    ),
    "predictions_of_unknown_category": (
        "predictions left out, of categories that the ground truth does not list"
    ),
    "predictions_with_box_and_mask": (
        "predictions with box and mask, of which the box decides what is small, medium or large, "
        "as in pycocotools (result_area 'mask' takes the mask)"
    ),
    "predictions_without_mask": (
        "predictions without 'segmentation', whose boxes are taken for masks, as in pycocotools "
        "(iou_type 'bbox' compares boxes)"
    ),
    "predictions_with_unknown_annotation_id": (
        "predictions with an annotation_id that their image does not have"
    ),
    "images_failed_in_label": (
        "images that failed when they were labelled, whose objects count as missed (see "
        "dead_letters.jsonl of the predictions)"
    ),
    "boxes_of_failed_images_in_label": "boxes of such images",
    "boxes_without_id_in_label": (
        "boxes whose annotations have no id, so that their masks take no part in "
        "mean_iou_at_gt_boxes"
    ),
    "boxes_failed_in_label": (
        "boxes that failed when they were labelled, whose objects count as missed (see "
        "dead_letters.jsonl of the predictions)"
    ),
    "predictions_sharing_an_annotation_id": (
        "predictions with an annotation_id that another has too; that of the best score counts in "
        "mean_iou_at_gt_boxes"
    ),
}


def _oracle(
    evaluation: Evaluation, category_ids: Collection[Any] | None
) -> dict[str, Any]:
    return {
        GIVEN_IOU: evaluation.mean_iou_at_given_boxes(category_ids),
        GIVEN_IOU_BY_SIZE: evaluation.mean_iou_by_size(category_ids),
        GIVEN_AP: evaluation.ap_at_given_boxes(category_ids),
    }


def _intervals(
    evaluation: Evaluation, category_ids: Collection[Any] | None, resampled: Resampled
) -> dict[str, tuple[float, float]]:
    figures = evaluation.figures(category_ids)
    return intervals(figures, resampled.deviations(category_ids))


def _per_category(evaluation: Evaluation, groups: Groups) -> list[dict[str, Any]]:
    if not evaluation.parameters.use_categories:
        return []
    scope = evaluation.scope
    return [
        {
            "id": category_id,
            "name": scope.category_names[category_id],
            "groups": [g for g, ids in groups.items() if category_id in ids],
            "annotations": int(evaluation.num_truths[position].max()),
            **evaluation.stats_of([category_id]),
            GIVEN_IOU: evaluation.mean_iou_at_given_boxes([category_id]),
            GIVEN_IOU_BY_SIZE: evaluation.mean_iou_by_size([category_id]),
        }
        for position, category_id in enumerate(scope.category_ids)
    ]
