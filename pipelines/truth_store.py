"""The ground truth of an evaluation on disk, of which a worker reads the images it needs.

One line of JSON for each image with annotations, the offsets of these lines, and the images and
categories. Numbers come back as they were.
"""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.parameters import Scope
from deepmac.evaluation.run_lengths import RunLengths
from pipelines.storage import Output


@dataclasses.dataclass(frozen=True, slots=True)
class TruthStore:
    """Ground truth by image, as `engine.TruthSource` wants it.

    Attributes:
        scope: the images and categories evaluated.
        known: all that the data set has.
    """

    scope: Scope
    known: Scope
    _output: Output
    _name: str
    _offsets: np.ndarray  # int64 [I + 1], where the line of each image begins and ends

    def of_images(self, images: np.ndarray) -> GroundTruth:
        """The annotations of some images, int [..], given as ascending positions in the scope."""
        rows = []
        with self._output.open(_lines_name(self._name)) as file:
            for image in images.tolist():
                start, stop = self._offsets[image : image + 2].tolist()
                if stop > start:
                    file.seek(start)
                    rows += [
                        [image, *row] for row in orjson.loads(file.read(stop - start))
                    ]
        return _ground_truth(rows, self.scope)


def write_truths(
    output: Output, name: str, ground_truth: GroundTruth, known: Scope
) -> None:
    """Stores ground truth in an output directory, for `open_truths` on any worker."""
    scope = ground_truth.scope
    sizes = np.zeros(len(scope.image_ids) + 1, np.int64)
    with output.new_file(_lines_name(name)) as file:
        for image, line in _lines(ground_truth):
            sizes[image + 1] = file.write(line)
        file.publish()
    buffer = io.BytesIO()
    scopes = orjson.dumps([scope.to_json(), known.to_json()])
    np.savez(buffer, offsets=np.cumsum(sizes), scopes=np.frombuffer(scopes, np.uint8))
    output.write(_index_name(name), buffer.getvalue())


def open_truths(output: Output, name: str) -> TruthStore:
    """The ground truth that `write_truths` has stored."""
    data = output.read(_index_name(name))
    assert data is not None, name
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        scope, known = map(Scope.from_json, orjson.loads(arrays["scopes"].tobytes()))
        return TruthStore(scope, known, output, name, arrays["offsets"])


def _lines(ground_truth: GroundTruth) -> Iterator[tuple[int, bytes]]:
    """(position of the image, its annotations as a line of JSON)."""
    edges = np.searchsorted(
        ground_truth.image, np.arange(len(ground_truth.scope.image_ids) + 1)
    )
    columns = [
        ground_truth.category.tolist(),
        ground_truth.ordinal.tolist(),
        ground_truth.annotation_ids,
        ground_truth.area.tolist(),
        ground_truth.is_crowd.tolist(),
        ground_truth.is_ignored.tolist(),
        ground_truth.boxes.tolist() or [None] * len(ground_truth),
        _masks_json(ground_truth.masks.drawn()) or [None] * len(ground_truth),
    ]
    for image in np.unique(ground_truth.image).tolist():
        rows = slice(edges[image], edges[image + 1])
        annotations = list(zip(*(column[rows] for column in columns), strict=True))
        yield image, orjson.dumps(annotations) + b"\n"


def _ground_truth(rows: list[list[Any]], scope: Scope) -> GroundTruth:
    image, category, ordinal, ids, area, is_crowd, is_ignored, boxes, masks = (
        zip(*rows, strict=True) if rows else [()] * 9
    )
    has_boxes, has_masks = boxes[:1] != (None,), masks[:1] != (None,)
    return GroundTruth(
        scope=scope,
        image=np.array(image, np.int32),
        category=np.array(category, np.int32),
        ordinal=np.array(ordinal, np.int32),
        annotation_ids=list(ids),
        area=np.array(area, np.float64),
        is_crowd=np.array(is_crowd, bool),
        is_ignored=np.array(is_ignored, bool),
        boxes=np.array(boxes if has_boxes else [], np.float64).reshape(-1, 4),
        masks=_masks(masks) if has_masks else RunLengths.none(),
    )


def _masks_json(masks: RunLengths) -> list[Any]:
    """[[height, width], runs] of each mask."""
    runs = np.split(masks.runs, masks.starts[1:-1])
    return [
        [size, some.tolist()]
        for size, some in zip(masks.sizes.tolist(), runs, strict=False)
    ]


def _masks(stored: Sequence[Any]) -> RunLengths:
    runs = [np.array(runs, np.int32) for _, runs in stored]
    return RunLengths(
        runs=np.concatenate([np.zeros(0, np.int32), *runs]),
        starts=np.cumsum([0, *map(len, runs)]),
        sizes=np.array([size for size, _ in stored], np.int64).reshape(-1, 2),
    )


def _lines_name(name: str) -> str:
    return f"{name}.jsonl"


def _index_name(name: str) -> str:
    return f"{name}.index.npz"
