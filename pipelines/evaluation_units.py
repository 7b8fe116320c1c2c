"""An evaluation's results as units that a worker can read on its own; images are whole in each."""

import collections
import dataclasses
from typing import Protocol

from deepmac.evaluation.columns import column, index_of, numbers
from deepmac.evaluation.engine import Results
from deepmac.evaluation.parameters import Scope
from deepmac.evaluation.results_file import ResultsFile, place_of
from pipelines.json_lines import dump_line, load_line
from pipelines.storage import Output

_SPILL_BYTES = 64 << 20  # of units, held before they are written


class UnitReader(Protocol):
    """Gives the results of a unit. Pickled to workers: plain fields only."""

    def read(self, unit: str) -> Results: ...


def spill(
    file: ResultsFile, output: Output, prefix: str, known: Scope, unit_images: int
) -> list[str]:
    """Sorts the results of a file into units by image, keeping their order; see `SpilledUnits`.

    Args:
        file: of results.
        output: where to.
        prefix: beginning of the units' names there.
        known: every image of the ground truth. Results of other images come into the first
            unit, where reading them fails.
        unit_images: images in a unit, those without results included.

    Returns:
        Names of the units.
    """
    units: dict[int, bytearray] = collections.defaultdict(bytearray)
    names: dict[int, str] = {}
    for start, values in file.parts():
        results, place = file.some(start, values)
        numbers(column(results, "score", place), "score", place)  # NaN would be null
        ids = column(results, "image_id", place)
        image = index_of(ids, known.image_index, place).clip(0)
        for row, unit in enumerate((image // unit_images).tolist()):
            units[unit] += dump_line([start + row, results[row]])
        if sum(map(len, units.values())) > _SPILL_BYTES:
            _append(output, prefix, units, names)
    _append(output, prefix, units, names)
    output.publish_appended()
    return [names[unit] for unit in sorted(names)]


@dataclasses.dataclass(frozen=True, slots=True)
class SpilledUnits:
    """The units into which `spill` has sorted a results file.

    Attributes:
        path: of the file, for errors.
        output: where the units lie.
    """

    path: str
    output: Output

    def read(self, unit: str) -> Results:
        rows = [
            load_line(line) for line in (self.output.read(unit) or b"").splitlines()
        ]
        results = [result for _, result in rows]
        return results, place_of(results, lambda i: f"{self.path}: result {rows[i][0]}")


def _append(
    output: Output, prefix: str, units: dict[int, bytearray], names: dict[int, str]
) -> None:
    """Moves what has come together for the units to their files."""
    for unit, lines in units.items():
        names[unit] = f"{prefix}{unit:05d}.jsonl"
        output.append(names[unit], lines)
    units.clear()
