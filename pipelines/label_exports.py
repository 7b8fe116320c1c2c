"""What `label` writes besides its units: files that other tools read."""

import dataclasses
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from deepmac.data.coco import annotation_id_of
from deepmac.data.json_stream import Part, stream_parts
from deepmac.masks import rle_area
from pipelines.json_lines import load_line
from pipelines.storage import Output
from pipelines.units import Totals, UnitSummary

RESULTS, ANNOTATIONS = "predictions.json", "annotations.json"
_RESULT_KEYS = ("image_id", "category_id", "segmentation", "score")


def write_results(output: Output, totals: Totals) -> None:
    """Writes `predictions.json`, a COCO results file: one list, the standard keys alone."""
    with output.new_file(RESULTS) as file:
        start = "[\n"
        for row in _rows(output, totals):
            result = {key: row[key] for key in _RESULT_KEYS}
            file.write((start + json.dumps(result)).encode())
            start = ",\n"
        file.write(b"[]\n" if start == "[\n" else b"\n]\n")
        file.publish()


@dataclasses.dataclass(slots=True)
class Filled:
    """What became of the annotations of a data set: how many of each kind."""

    filled: int = 0
    had_one: int = 0
    crowds: int = 0
    without_id: int = 0
    without_mask: int = 0

    def in_words(self) -> str:
        """Says it in one line, leaving out what there is none of."""
        parts = [
            (self.filled, "masks filled in"),
            (self.had_one, "were there already"),
            (self.crowds, "crowds left without"),
            (
                self.without_id,
                "boxes have no id, so that no mask can be joined to them",
            ),
            (self.without_mask, "boxes have none, see dead_letters.jsonl"),
        ]
        return ", ".join(f"{n} {text}" for n, text in parts if n or text == parts[0][1])


def write_annotations(output: Output, totals: Totals, annotations: str) -> Filled:
    """Writes `annotations.json`: the input data set with its missing masks filled in.

    An annotation whose `segmentation` is missing or empty gets that of its box, as compressed run
    lengths, and where it lacks them the fields that evaluators need: `area`, the number of the
    mask's pixels, and `iscrowd`, 0.
    Everything else stays as it is: masks that were there, crowds, boxes that failed, other fields.

    Holds the run lengths of all masks in memory, some 500 bytes each.
    """
    masks = {row["annotation_id"]: row["segmentation"] for row in _rows(output, totals)}
    masks.pop(None, None)  # boxes without an id cannot be found again
    count = Filled()

    def fill(annotation: Any) -> Any:
        annotation_id = annotation_id_of(annotation)
        mask = masks.pop(annotation_id, None)
        if not isinstance(annotation, dict):
            count.without_mask += 1
        elif annotation.get("segmentation"):
            count.had_one += 1
        elif annotation.get("iscrowd"):
            count.crowds += 1
        elif annotation_id is None:
            count.without_id += 1
        elif mask is None:
            count.without_mask += 1
        else:
            count.filled += 1
            return _with_mask(annotation, mask)
        return annotation

    with output.new_file(ANNOTATIONS) as file:
        for text in _rewritten(stream_parts(annotations), fill):
            file.write(text)
        file.publish()
    return count


def _with_mask(annotation: dict[str, Any], mask: dict[str, Any]) -> dict[str, Any]:
    result = annotation | {"segmentation": mask}
    if result.get("area") is None:
        size, counts = mask["size"], mask["counts"].encode("ascii")
        result["area"] = rle_area({"size": size, "counts": counts})
    if result.get("iscrowd") is None:
        result["iscrowd"] = 0
    return result


def _rows(output: Output, totals: Totals) -> Iterator[dict[str, Any]]:
    for unit in totals.units:
        yield from read_rows(output, unit)


def read_rows(output: Output, unit: UnitSummary) -> Iterator[dict[str, Any]]:
    """The COCO results of a unit, in the order written."""
    with output.open(unit.data_name) as packed, gzip.open(packed) as lines:
        for line in lines:
            yield load_line(line)


def _rewritten(parts: Iterable[Part], fill: Callable[[Any], Any]) -> Iterator[bytes]:
    """The JSON text of a streamed object (see `stream_parts`), with annotations replaced.

    What is not replaced stays as it stands in the file.
    """
    before, after_list = b"{", b""
    for key, position, values, texts in parts:
        if position is None:
            yield b"%b%b\n%b: " % (after_list, before, json.dumps(key).encode())
            yield b"[" if values[0] == [] else texts[0]
            before, after_list = b",", b"]" if values[0] == [] else b""
            continue
        for index, (value, text) in enumerate(
            zip(values, texts, strict=True), start=position
        ):
            yield b",\n" if index else b"\n"
            filled = fill(value) if key == "annotations" else value
            yield text if filled is value else json.dumps(filled).encode()
    yield b"%b%b}\n" % (after_list, b"{" if before == b"{" else b"")
