"""An evaluation's results as units that a worker can read on its own; images are whole in each."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deepmac.data.predictions import read_unit
from deepmac.errors import DataError
from deepmac.evaluation.columns import Place, column, index_of, numbers
from deepmac.evaluation.engine import Results
from deepmac.evaluation.parameters import Scope
from deepmac.text import short
from pipelines.json_lines import dump_line, load_line
from pipelines.storage import LocalOutput


class UnitReader(Protocol):
    """Gives the results of a unit. Pickled to workers: plain fields only."""

    def read(self, unit: str) -> Results: ...


@dataclasses.dataclass(frozen=True, slots=True)
class DirectoryUnits:
    """The units of a directory of predictions.

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


@dataclasses.dataclass(frozen=True, slots=True)
class ListedResults:
    """A results file as one unit: for one process.

    Attributes:
        path: of the file, for errors.
        results: what it holds.
    """

    path: str
    results: Sequence[Any]

    def read(self, unit: str) -> Results:
        return self.results, place_of(
            self.results, lambda i: f"{self.path}: result {i}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class SpilledUnits:
    """The units into which `spill` has sorted a results file.

    Attributes:
        path: of the file, for errors.
        output: where the units lie.
    """

    path: str
    output: LocalOutput

    def read(self, unit: str) -> Results:
        rows = [
            load_line(line) for line in (self.output.read(unit) or b"").splitlines()
        ]
        results = [result for _, result in rows]
        return results, place_of(results, lambda i: f"{self.path}: result {rows[i][0]}")


def spill(
    output: LocalOutput,
    prefix: str,
    listed: ListedResults,
    known: Scope,
    unit_images: int,
) -> list[str]:
    """Sorts the results of a file into units by image, keeping their order.

    Args:
        output: where to.
        prefix: beginning of the units' names there.
        listed: the results.
        known: every image of the ground truth. Results of other images come into the first unit,
            where reading them fails.
        unit_images: images in a unit, those without results included.

    Returns:
        Names of the units.
    """
    results, place = listed.read("")
    numbers(column(results, "score", place), "score", place)  # NaN would become null
    image = index_of(column(results, "image_id", place), known.image_index, place)
    units: dict[int, list[bytes]] = {}
    for position, unit in enumerate((image.clip(0) // unit_images).tolist()):
        line = dump_line([position, results[position]])
        units.setdefault(unit, []).append(line)
    names = []
    for unit, lines in sorted(units.items()):
        names.append(f"{prefix}{unit:05d}.jsonl")
        output.write(names[-1], b"".join(lines))
    return names


def place_of(results: Sequence[Any], name: Callable[[int], str]) -> Place:
    """Names result i by its place and, where it has one, its image."""

    def place(row: int) -> str:
        result = results[row]
        if isinstance(result, Mapping) and "image_id" in result:
            return f"{name(row)} (image {short(result['image_id'])})"
        return name(row)

    return place


def read_results(document: Any, path: str) -> list[Any]:
    """The results of a results file's JSON.

    Raises:
        DataError: it holds something else.
    """
    if isinstance(document, dict):
        has = "a ground truth" if "annotations" in document else "an object"
        raise DataError(
            f"{path}: holds {has}, not a list of results with image_id, category_id, score and "
            f"segmentation or bbox"
        )
    if not isinstance(document, list):
        raise DataError(f"{path}: holds {short(document)}, not a list of results")
    return document
