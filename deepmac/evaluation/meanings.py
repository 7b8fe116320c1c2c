"""What the figures of an evaluation are called in tables, and mean, in a few words each."""

import math
from collections.abc import Mapping, Sequence

from deepmac.evaluation.summary import GIVEN_AP, GIVEN_IOU

AreaRanges = Mapping[str, Sequence[float | None]]
"""Label -> lowest and highest number of pixels, both included; None for no end."""

_MEANINGS = {
    "AP": "average precision, over recall, IoU thresholds and categories",
    "AP50": "average precision at IoU 0.50",
    "AP75": "average precision at IoU 0.75",
    GIVEN_IOU: "mask IoU, given the true boxes",
    GIVEN_AP: "AP of masks, given the true boxes",
}
_LABELS = {GIVEN_IOU: "IoU at boxes", GIVEN_AP: "AP at boxes"}
_SIZED = f"{GIVEN_IOU}_"
_SIZES = {"s": "small", "m": "medium", "l": "large"}
_KINDS = {"AP": "average precision", "AR": "average recall"}
_NO_END = 1e10  # pixels: what COCO says for none


def label(figure: str) -> str:
    """A figure as tables call it."""
    if figure.startswith(_SIZED):
        return f"IoU, {figure.removeprefix(_SIZED)}"
    return _LABELS.get(figure, figure)


def meaning_of(figure: str, area_ranges: AreaRanges) -> str:
    """A figure in words.

    Args:
        figure: of `summary.coco_stats`, or one of those beside them; `mean_iou_at_gt_boxes_LABEL`
            is that of an area range.
        area_ranges: of the evaluation.
    """
    if figure in _MEANINGS:
        return _MEANINGS[figure]
    if figure.startswith(_SIZED):
        sized = _objects(figure.removeprefix(_SIZED), area_ranges)
        return f"mask IoU, {sized}"
    kind, rest = _KINDS[figure[:2]], figure[2:]
    if rest in _SIZES or rest.startswith("_"):
        return _objects(_SIZES.get(rest) or rest[1:], area_ranges)
    number = rest.removeprefix("@")
    detections = "detection" if number == "1" else "detections"
    return f"{kind}, at most {number} {detections} an image and category"


def _objects(label: str, area_ranges: AreaRanges) -> str:
    """The objects of a range in words; by its name where there is no such range."""
    if label not in area_ranges:
        return f"{label} objects"
    low, high = area_ranges[label]
    if high is None or high >= _NO_END:
        return f"objects of {_area(low)} pixels and more" if low else "all objects"
    if not low:
        return f"objects of up to {_area(high)} pixels"
    return f"objects of {_area(low)} to {_area(high)} pixels"


def _area(pixels: float) -> str:
    """A number of pixels, as a square where it is one."""
    side = math.sqrt(pixels) if pixels > 0 else 0.5
    return f"{side:,.0f}²" if side == int(side) else f"{pixels:,.15g}"
