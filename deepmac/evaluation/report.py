"""Numbers -> what people read: metrics as JSON, tables, and sentences about what was unusual."""

import collections
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from deepmac.errors import one_of
from deepmac.evaluation.summary import Evaluation

Groups = Mapping[str, Collection[Any]]
"""Name of a group -> category ids, such as `seen` and `unseen`."""

_MEANINGS = {
    "AP": "precision, mean over IoU thresholds and categories",
    "AP50": "precision at IoU 0.50",
    "AP75": "precision at IoU 0.75",
    "APs": "precision, small objects",
    "APm": "precision, medium objects",
    "APl": "precision, large objects",
    "ARs": "recall, small objects",
    "ARm": "recall, medium objects",
    "ARl": "recall, large objects",
    "mean_iou_at_gt_boxes": "mask IoU, given the true boxes",
}
_COUNTED = ("annotations", "annotations_crowd", "predictions")
_PER_CATEGORY = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def metrics(
    evaluations: Mapping[str, Evaluation],
    groups: Groups,
    annotation_ids: Sequence[Any],
) -> dict[str, Any]:
    """Everything that an evaluation found, as JSON values.

    Args:
        evaluations: of the same images and categories, by what was compared.
        groups: of categories, to average over each.
        annotation_ids: of the annotations evaluated, in their order.

    Returns:
        For each kind `stats` (12 numbers, -1 where there is nothing to say; with
        `mean_iou_at_gt_boxes` beside it), `groups` with the same of each, `per_category`; then
        `counts` and `warnings`. `mean_iou_at_gt_boxes` is None where no prediction was made for
        given boxes; see `Evaluation.mean_iou_at_given_boxes`.
    """
    counts, warnings = collections.Counter(), {}
    for evaluation in evaluations.values():
        missing = len(evaluation.annotations_without_prediction())
        counts |= evaluation.partial.counts
        counts |= collections.Counter(annotations_without_prediction=missing)
        for warning in warnings_from(evaluation, annotation_ids):
            warnings[warning] = None
    for name in ("results", "units"):  # of files, which are no matter of the figures
        counts.pop(name, None)
    scope = next(iter(evaluations.values())).scope
    basic = {
        "images": len(scope.image_ids),
        "categories": len(scope.category_ids),
        **{name: counts.pop(name, 0) for name in _COUNTED},
    }
    return {
        **{kind: _metrics_of(e, groups) for kind, e in evaluations.items()},
        "counts": basic | dict(sorted(counts.items())),
        "warnings": list(warnings),
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
            f"misses (--id_zero match corrects that); at IoU {parameters.iou_thresholds[0]:.2f} "
            f"these are: {counts['matches_lost_to_id_zero']}"
        )
    if not counts["annotations"]:
        sentences.append("the ground truth has no annotations: every figure is -1")
    if not counts["predictions"]:
        sentences.append("there are no predictions: every object counts as missed")
    if 100 not in parameters.max_dets:
        limit = parameters.max_dets[-1]
        sentences.append(
            f"AP is -1 as in pycocotools, which looks for 100 among max_dets; AP@{limit} has the "
            f"precision at {limit}"
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
        "(--ignore_field honour leaves them out)"
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
        "as in pycocotools (--result_area mask takes the mask)"
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


def tables(document: Mapping[str, Any], kind: str) -> Group:
    """The figures of one kind for the terminal: headline of all and of each group, categories."""
    figures = document[kind]
    return Group(
        Text(_title(document["counts"], kind), style="bold"),
        _headline(figures),
        *([_categories(figures["per_category"])] if figures["per_category"] else []),
    )


def _title(counts: Mapping[str, int], kind: str) -> str:
    return (
        f"{'masks' if kind == 'segm' else 'boxes'}: {counts['images']} images, "
        f"{counts['annotations']} annotations, {counts['predictions']} predictions"
    )


def _metrics_of(evaluation: Evaluation, groups: Groups) -> dict[str, Any]:
    given = "mean_iou_at_gt_boxes"
    return {
        "stats": evaluation.stats,
        given: evaluation.mean_iou_at_given_boxes(),
        "groups": {
            name: {
                **evaluation.stats_of(ids),
                given: evaluation.mean_iou_at_given_boxes(ids),
                "categories": len(ids),
            }
            for name, ids in groups.items()
        },
        "per_category": _per_category(evaluation, groups),
    }


def _per_category(evaluation: Evaluation, groups: Groups) -> list[dict[str, Any]]:
    if not evaluation.parameters.use_categories:
        return []
    scope = evaluation.scope
    return [
        {
            "id": category_id,
            "name": scope.category_names[category_id],
            "group": next((g for g, ids in groups.items() if category_id in ids), None),
            "annotations": int(evaluation.num_truths[position].max()),
            **evaluation.stats_of([category_id]),
            "mean_iou_at_gt_boxes": evaluation.mean_iou_at_given_boxes([category_id]),
        }
        for position, category_id in enumerate(scope.category_ids)
    ]


def _headline(figures: Mapping[str, Any]) -> Table:
    given = "mean_iou_at_gt_boxes"
    columns = {"all": {**figures["stats"], given: figures[given]}, **figures["groups"]}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("", style="dim")
    for key in columns["all"]:
        values = [column[key] for column in columns.values()]
        if values[0] is not None:
            label = "IoU at boxes" if key == given else key
            table.add_row(label, *map(_shown, values), _meaning(key))
    return table


def _meaning(key: str) -> str:
    if key in _MEANINGS:
        return _MEANINGS[key]
    kind, rest = ("precision" if key[1] == "P" else "recall"), key[2:]
    if rest.startswith("_"):
        return f"{kind}, objects of range '{rest[1:]}'"
    return (
        f"{kind} with at most {rest.removeprefix('@')} detections an image and category"
    )


def _categories(rows: Sequence[Mapping[str, Any]]) -> Table:
    given = "mean_iou_at_gt_boxes"
    keys = [
        key for key in (*_PER_CATEGORY, given) if any(r[key] is not None for r in rows)
    ]
    has_groups = any(row["group"] for row in rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("category", overflow="fold")
    if has_groups:
        table.add_column("group")
    table.add_column("objects", justify="right")
    for key in keys:
        table.add_column("IoU" if key == given else key, justify="right", no_wrap=True)
    for row in rows:
        group = [row["group"] or "-"] if has_groups else []
        values = [_shown(row[key]) for key in keys]
        table.add_row(Text(row["name"]), *group, str(row["annotations"]), *values)
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{value:.3f}"
