"""A directory of predictions: its manifest and the units in it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmac.data.json_file import read_json, read_json_lines
from deepmac.data.paths import require_local
from deepmac.errors import DataError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionDirectory:
    """What `deepmac label` has written.

    Attributes:
        path: of the directory.
        units: its files of results, one JSON object a line, in order.
        manifest: the whole of it.
    """

    path: str
    units: tuple[Path, ...]
    manifest: Mapping[str, Any]


def open_predictions(path: str) -> PredictionDirectory:
    """Opens a directory of predictions.

    Raises:
        DataError: it is incomplete, or holds something else.
    """
    folder = Path(require_local(path))
    if not (folder / MANIFEST).is_file():
        if (folder / "job.json").is_file():
            raise DataError(
                f"{path}: no {MANIFEST}, so the job that writes this directory has not finished; "
                f"the same command goes on from where it was"
            )
        raise DataError(
            f"{path}: no {MANIFEST}, so this is no directory of predictions"
        )
    manifest = read_json(str(folder / MANIFEST))
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind != "predictions":
        what = f"a directory of {kind}" if kind else "no manifest of ours"
        raise DataError(
            f"{folder / MANIFEST}: this is {what}; predictions (`deepmac label`) are needed"
        )
    if manifest.get("schema") != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema {manifest.get('schema')}, this version reads {SCHEMA_VERSION}"
        )
    for unit in manifest["units"]:
        file = folder / unit["name"]
        size = file.stat().st_size if file.is_file() else None
        if size != unit["bytes"]:
            what = (
                "is missing"
                if size is None
                else f"has {size} bytes, not {unit['bytes']}"
            )
            raise DataError(f"{file} {what}; run the same label command again")
    units = tuple(folder / unit["name"] for unit in manifest["units"])
    return PredictionDirectory(path=path, units=units, manifest=manifest)


def read_unit(path: Path | str, *, for_boxes: bool) -> list[Any]:
    """The COCO results of one unit.

    Args:
        path: of the unit.
        for_boxes: as box results: `bbox` is the given or detected box, `box_xywh` in the file.

    Raises:
        DataError: not readable, or a line is not JSON or has no box.
    """
    results = read_json_lines(str(path))
    if not for_boxes:
        return results
    for line, result in enumerate(results, start=1):
        if not isinstance(result, dict) or "box_xywh" not in result:
            raise DataError(
                f"{path}: line {line} has no 'box_xywh', so no box to evaluate"
            )
        result["bbox"] = result["box_xywh"]
    return results
