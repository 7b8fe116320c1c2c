"""The units of a directory that `deepmac label` made, as an evaluation's results."""

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmac.data.predictions import read_unit
from deepmac.evaluation.engine import Results
from deepmac.evaluation.results_file import place_of

_LOST_IN_LABEL = {
    "images_failed_in_label": "images_failed",
    "boxes_failed_in_label": "annotations_failed",
    "boxes_of_failed_images_in_label": "annotations_of_failed_images",
    "boxes_without_id_in_label": "annotations_without_id",
}
"""Count in the metrics -> count in the manifest of predictions."""


@dataclasses.dataclass(frozen=True, slots=True)
class DirectoryUnits:
    """The units of a directory of predictions. Pickled to workers.

    Attributes:
        path: of the directory; units are file names in it.
        for_boxes: evaluate the given or detected boxes, not masks.
        ids_are_text: the ground truth's image ids are text. Jobs keep ids that look like numbers
            as numbers.
    """

    path: str
    for_boxes: bool
    ids_are_text: bool

    def read(self, unit: str) -> Results:
        path = Path(self.path) / unit
        results = read_unit(path, for_boxes=self.for_boxes)
        if self.ids_are_text:
            for result in results:
                if isinstance(result, dict) and "image_id" in result:
                    result["image_id"] = str(result["image_id"])
        return results, place_of(results, lambda i: f"{path}: line {i + 1}")


def lost_in_label(manifest: Mapping[str, Any]) -> collections.Counter[str]:
    """What the job that made a directory could not use, as events of an evaluation."""
    counts = manifest.get("counts", {})
    return collections.Counter(
        {told: counts.get(name, 0) for told, name in _LOST_IN_LABEL.items()}
    )
