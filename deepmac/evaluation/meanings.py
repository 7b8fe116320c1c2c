"""What the figures of an evaluation mean, in a few words each."""

from deepmac.evaluation.report import GIVEN_AP
from deepmac.evaluation.summary import GIVEN_IOU

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
    GIVEN_AP: "precision of the masks for the true boxes",
}


def meaning_of(figure: str) -> str:
    """A figure of `summary.coco_stats`, or one of those beside them, in words."""
    if figure in _MEANINGS:
        return _MEANINGS[figure]
    kind, rest = ("precision" if figure[1] == "P" else "recall"), figure[2:]
    if rest.startswith("_"):
        return f"{kind}, objects of range '{rest[1:]}'"
    return f"{kind}, at most {rest.removeprefix('@')} detections"
