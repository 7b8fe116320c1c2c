"""Where an evaluation's results are: in a file, or in the units that `deepmac label` has made."""

import collections
import dataclasses
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from deepmac.data.files import is_folder, join
from deepmac.data.predictions import open_predictions, read_unit
from deepmac.evaluation.detections import Form, form_of
from deepmac.evaluation.engine import Results
from deepmac.evaluation.parameters import Parameters, Scope
from deepmac.evaluation.results_file import ResultsFile, place_of

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
        path = join(self.path, unit)
        results = read_unit(path, for_boxes=self.for_boxes)
        if self.ids_are_text:
            for result in results:
                if isinstance(result, dict) and "image_id" in result:
                    result["image_id"] = str(result["image_id"])
        return results, place_of(results, lambda i: f"{path}: line {i + 1}")


@dataclasses.dataclass(frozen=True)
class Directory:
    """The units of a directory of predictions, and what reads them."""

    reader: DirectoryUnits
    units: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A directory of predictions, or a results file.

    Attributes:
        path: of it.
        units: of a directory; None for a file.
        form: of a file.
        counts: events of the job that made the directory.
    """

    path: str
    units: Sequence[str] | None
    form: Form
    counts: Mapping[str, int]

    def source(
        self, parameters: Parameters, known: Scope
    ) -> tuple[ResultsFile | Directory, Form]:
        """Where the results are, and their form."""
        if self.units is None:
            return ResultsFile(self.path), self.form
        for_boxes = parameters.iou_type == "bbox"
        is_text = bool(known.image_ids) and isinstance(known.image_ids[0], str)
        reader = DirectoryUnits(self.path, for_boxes, is_text)
        return Directory(reader, self.units), "box" if for_boxes else "mask"


def predictions_at(path: str) -> Predictions:
    """The predictions of a path.

    Raises:
        DataError: they cannot be read, or are something else.
    """
    if not is_folder(path):
        first = ResultsFile(path).first()
        return Predictions(path, None, form_of(*first) if first else "mask", {})
    directory = open_predictions(path)
    lost = _lost_in_label(directory.manifest)
    units = [posixpath.basename(unit) for unit in directory.units]
    return Predictions(path, units, "mask", lost)


def _lost_in_label(manifest: Mapping[str, Any]) -> collections.Counter[str]:
    """What the job that made a directory could not use, as events of an evaluation."""
    counts = manifest.get("counts", {})
    return collections.Counter(
        {told: counts.get(name, 0) for told, name in _LOST_IN_LABEL.items()}
    )
