"""An evaluation's results as units that a worker can read on its own; images are whole in each."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deepmac.data.json_stream import NotAList, Part, stream_list, stream_members
from deepmac.data.predictions import read_unit
from deepmac.errors import DataError
from deepmac.evaluation.columns import Place, column, index_of, numbers
from deepmac.evaluation.engine import Results
from deepmac.evaluation.parameters import Scope
from deepmac.text import short
from pipelines.json_lines import dump_line, load_line
from pipelines.storage import LocalOutput

_SPILL_BYTES = 64 << 20  # of units, held before they are written


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


class Scattered(Exception):
    """The results of an image do not stand together in their file."""


@dataclasses.dataclass(frozen=True, slots=True)
class ResultsFile:
    """A COCO results file (`.gz` too), of which a piece at a time is held.

    Attributes:
        path: of the file.
    """

    path: str

    def first(self) -> tuple[Any, str] | None:
        """The first result and what names it in an error; None if there is none.

        Raises:
            DataError: the file cannot be read, is not valid JSON, or holds something else.
        """
        for part in self._parts():
            results, place = self._some(0, part.values)
            return results[0], place(0)
        return None

    def in_order(self, num_results: int = 20_000) -> Iterator[Results]:
        """The results of whole images, of so many images together as have about `num_results`.

        Raises:
            DataError: the file cannot be read or is not valid JSON.
            Scattered: an image comes back after it was given out.
        """
        done, start, held = set(), 0, []
        for part in self._parts():
            held += part.values
            if len(held) < num_results:
                continue
            whole = _without_last_image(held)
            _note_images(held[:whole], done)
            yield self._some(start, held[:whole])
            start, held = start + whole, held[whole:]
        _note_images(held, done)
        yield self._some(start, held)

    def spill(
        self, output: LocalOutput, prefix: str, known: Scope, unit_images: int
    ) -> list[str]:
        """Sorts the results into units by image, keeping their order; see `SpilledUnits`.

        Args:
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
        for part in self._parts():
            start = part.position or 0
            results, place = self._some(start, part.values)
            numbers(
                column(results, "score", place), "score", place
            )  # NaN would be null
            ids = column(results, "image_id", place)
            image = index_of(ids, known.image_index, place).clip(0)
            for row, unit in enumerate((image // unit_images).tolist()):
                units[unit] += dump_line([start + row, results[row]])
            if sum(map(len, units.values())) > _SPILL_BYTES:
                _append(output, prefix, units, names)
        _append(output, prefix, units, names)
        return [names[unit] for unit in sorted(names)]

    def _parts(self) -> Iterator[Part]:
        try:
            yield from stream_list(self.path)
        except NotAList as e:
            raise DataError(
                f"{self._kind(e)}, not a list of results with image_id, category_id, score and "
                f"segmentation or bbox"
            ) from None

    def _kind(self, error: NotAList) -> str:
        """What the file holds."""
        what = str(error).removesuffix(", not a JSON list")
        if what.endswith("an object"):
            keys = (key for key, *_ in stream_members(self.path))
            if "annotations" in keys:
                return f"{self.path}: holds a ground truth"
        return what

    def _some(self, start: int, results: list[Any]) -> Results:
        return results, place_of(results, lambda i: f"{self.path}: result {start + i}")


@dataclasses.dataclass(frozen=True, slots=True)
class SpilledUnits:
    """The units into which `ResultsFile.spill` has sorted a results file.

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


def _without_last_image(results: Sequence[Any]) -> int:
    """How many results come before those of the last image."""
    last = _image_of(results[-1])
    whole = len(results)
    while whole and _image_of(results[whole - 1]) == last:
        whole -= 1
    return whole


def _note_images(results: Sequence[Any], done: set[Any]) -> None:
    """Adds the images of some results to those that are done."""
    images = set(map(_image_of, results))
    if images & done:
        raise Scattered
    done |= images


def _image_of(result: Any) -> Any:
    """The id of a result's image; None where it has none that could be one."""
    image_id = result.get("image_id") if isinstance(result, dict) else None
    return image_id if isinstance(image_id, int | float | str) else None


def _append(
    output: LocalOutput, prefix: str, units: dict[int, bytearray], names: dict[int, str]
) -> None:
    """Moves what has come together for the units to their files."""
    for unit, lines in units.items():
        names[unit] = f"{prefix}{unit:05d}.jsonl"
        output.append(names[unit], lines)
    units.clear()


def place_of(results: Sequence[Any], name: Callable[[int], str]) -> Place:
    """Names result i by its place and, where it has one, its image."""

    def place(row: int) -> str:
        result = results[row]
        if isinstance(result, Mapping) and "image_id" in result:
            return f"{name(row)} (image {short(result['image_id'])})"
        return name(row)

    return place
