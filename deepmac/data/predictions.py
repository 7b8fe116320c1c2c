"""A directory of predictions: its manifest and the units in it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from deepmac.data.files import join, list_folder
from deepmac.data.json_file import read_json_lines
from deepmac.data.manifest import PREDICTIONS
from deepmac.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionDirectory:
    """What `deepmac label` has written.

    Attributes:
        path: of the directory.
        units: paths of its files of results, one JSON object a line, in order.
        manifest: the whole of it.
    """

    path: str
    units: tuple[str, ...]
    manifest: Mapping[str, Any]


def open_predictions(path: str) -> PredictionDirectory:
    """Opens a directory of predictions.

    Raises:
        DataError: it is incomplete, or holds something else.
    """
    manifest = PREDICTIONS.read(path)
    sizes = list_folder(path)
    for unit in manifest[PREDICTIONS.files]:
        file, size = join(path, unit["name"]), sizes.get(unit["name"])
        if size != unit["bytes"]:
            what = (
                "is missing"
                if size is None
                else f"has {size} bytes, not {unit['bytes']}"
            )
            raise DataError(f"{file} {what}; run the same label command again")
    units = tuple(join(path, u["name"]) for u in manifest[PREDICTIONS.files])
    return PredictionDirectory(path=path, units=units, manifest=manifest)


def read_unit(path: str, *, for_boxes: bool) -> list[Any]:
    """The COCO results of one unit.

    Args:
        path: of the unit.
        for_boxes: as box results: `bbox` is the given or detected box, `box_xywh` in the file.

    Raises:
        DataError: not readable, or a line is not JSON or has no box.
    """
    results = read_json_lines(path)
    if not for_boxes:
        return results
    for line, result in enumerate(results, start=1):
        if not isinstance(result, dict) or "box_xywh" not in result:
            raise DataError(
                f"{path}: line {line} has no 'box_xywh', so no box to evaluate"
            )
        result["bbox"] = result["box_xywh"]
    return results
