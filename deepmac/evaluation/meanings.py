"""What the figures of an evaluation are called in tables, and mean, in a few words each."""

from deepmac.evaluation.summary import GIVEN_AP, GIVEN_IOU

_MEANINGS = {
    "AP": "precision, mean over IoU thresholds",
    "AP50": "precision at IoU 0.50",
    "AP75": "precision at IoU 0.75",
    "APs": "precision, small objects",
    "APm": "precision, medium objects",
    "APl": "precision, large objects",
    "ARs": "recall, small objects",
    "ARm": "recall, medium objects",
    "ARl": "recall, large objects",
    GIVEN_IOU: "mask IoU, given the true boxes",
    GIVEN_AP: "AP of masks, given the true boxes",
}
_LABELS = {GIVEN_IOU: "IoU at boxes", GIVEN_AP: "AP at boxes"}
_SIZED = f"{GIVEN_IOU}_"
_COCO_SIZES = ("small", "medium", "large")


def label(figure: str) -> str:
    """A figure as tables call it."""
    if figure.startswith(_SIZED):
        return f"IoU, {figure.removeprefix(_SIZED)}"
    return _LABELS.get(figure, figure)


def meaning_of(figure: str) -> str:
    """A figure of `summary.coco_stats`, or one of those beside them, in words."""
    if figure in _MEANINGS:
        return _MEANINGS[figure]
    if figure.startswith(_SIZED):
        return f"mask IoU, {_objects(figure.removeprefix(_SIZED))}"
    kind, rest = ("precision" if figure[1] == "P" else "recall"), figure[2:]
    if rest.startswith("_"):
        return f"{kind}, {_objects(rest[1:])}"
    return f"{kind}, at most {rest.removeprefix('@')} detections"


def _objects(size: str) -> str:
    return f"{size} objects" if size in _COCO_SIZES else f"objects of range '{size}'"
