"""The pictures of an evaluation's report: what was chosen is read again, and nothing else is held."""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pycocotools.mask as coco_mask

from deepmac.boxes import from_xywh
from deepmac.data.coco import read_image_entry
from deepmac.data.decode import decode_rgb
from deepmac.data.failures import Unusable
from deepmac.data.foreign import open_with_categories
from deepmac.data.image_source import ImageSource
from deepmac.data.json_stream import stream_members
from deepmac.data.paths import printable
from deepmac.errors import DataError
from deepmac.evaluation.detections import Detections, read_detections
from deepmac.evaluation.distributions import right_at
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.results_file import ResultsFile, place_of
from deepmac.evaluation.selection import Choice, Gallery, choose_galleries
from deepmac.evaluation.summary import Evaluation
from deepmac.evaluation_page.cards import Card, DrawnGallery, NotShown
from deepmac.masks import decode_rle
from deepmac.match_picture import draw_match

if TYPE_CHECKING:
    from pipelines.evaluation_inputs import Task

_NEAR = 0.1  # IoU from which on a mistake is said to be about an object

Stored = tuple[Any, str, bytes | Unusable]
"""An image: id, file name, and the encoded bytes or why there are none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pictures:
    """The galleries that could be drawn.

    Attributes:
        galleries: of each kind of evaluation.
        not_shown: what was chosen and could not be drawn.
    """

    galleries: Mapping[str, Sequence[DrawnGallery]]
    not_shown: Sequence[NotShown]


def draw_pictures(
    tasks: Sequence["Task"],
    evaluations: Mapping[str, Evaluation],
    images: "ImageFiles | RecordImages",
    number: int,
) -> Pictures:
    """The galleries of all kinds; each image is read once.

    Args:
        tasks: what was evaluated.
        evaluations: by kind.
        images: where the pictures are.
        number: of cards in a gallery.
    """
    drawings = []
    for task in tasks:
        kind = task.parameters.iou_type
        drawings.append(_Drawing(task, choose_galleries(evaluations[kind], number)))
    scope = tasks[0].ground_truth.scope
    positions = {image for d in drawings for image in d.images}
    unread = {scope.image_ids[image] for image in positions}
    for image_id, file_name, encoded in images.read(unread) if unread else ():
        image = scope.image_index[image_id]
        unread.remove(image_id)
        try:
            if isinstance(encoded, Unusable):
                raise encoded
            pixels = decode_rgb(encoded)
        except DataError as e:
            for drawing in drawings:
                drawing.leave_out(image, str(e))
            continue
        for drawing in drawings:
            drawing.draw(image, file_name, pixels)
    for image_id in unread:
        for drawing in drawings:
            drawing.leave_out(
                scope.image_index[image_id], "it is not in the input any more"
            )
    reasons = sum((d.left_out() for d in drawings), collections.Counter())
    not_shown = [
        NotShown(scope.image_ids[image], number, reason)
        for (image, reason), number in sorted(reasons.items())
    ]
    kinds = [task.parameters.iou_type for task in tasks]
    galleries = {k: d.galleries() for k, d in zip(kinds, drawings, strict=True)}
    return Pictures(galleries, not_shown)


class _Drawing:
    """The cards of one kind of evaluation, made image by image."""

    def __init__(self, task: "Task", galleries: Sequence[Gallery]):
        self._truth, self._galleries = task.ground_truth, galleries
        self._by_image: dict[int, list[Choice]] = collections.defaultdict(list)
        # One may be in several galleries. Not a set: its order differs from run to run.
        for choice in dict.fromkeys(c for g in galleries for c in g.choices):
            self._by_image[choice.image].append(choice)
        self._found = _Found(task, self._by_image)
        self._right_at = right_at(task.parameters)
        self._cards: dict[Choice, Card] = {}
        self._reasons: dict[Choice, str] = {}

    @property
    def images(self) -> Collection[int]:
        """Positions of the images that are needed."""
        return self._by_image.keys()

    def draw(self, image: int, file_name: str, pixels: np.ndarray) -> None:
        """Makes the cards of an image, as far as they can be drawn."""
        for choice in self._by_image.get(image, ()):
            try:
                self._cards[choice] = self._card(choice, file_name, pixels)
            except DataError as e:
                self._reasons[choice] = str(e)

    def leave_out(self, image: int, reason: str) -> None:
        """Notes why an image cannot be shown."""
        for choice in self._by_image.get(image, ()):
            self._reasons[choice] = reason

    def left_out(self) -> collections.Counter[tuple[int, str]]:
        """How many that were chosen have no card, by image and reason."""
        return collections.Counter((c.image, r) for c, r in self._reasons.items())

    def galleries(self) -> list[DrawnGallery]:
        """What could be drawn."""
        return [
            DrawnGallery(
                g.name,
                g.num_all,
                [self._cards[c] for c in g.choices if c in self._cards],
            )
            for g in self._galleries
        ]

    def _card(self, choice: Choice, file_name: str, pixels: np.ndarray) -> Card:
        truths, detections = self._truth, self._found.detections
        scope = truths.scope
        # All annotations are here, so an annotation's number is its row.
        truth, iou, remark = choice.ordinal, choice.iou, ""
        row = self._found.row_of(
            choice, None if truth is None else truths.annotation_ids[truth]
        )
        if row is None:
            remark = "missed"
        elif truth is None:
            truth, iou = _nearest(truths, choice.image, detections, row)
            remark = _mistake(truths, truth, iou, detections, row, self._right_at)
        is_there, predicted = None, None
        if truth is not None:
            is_there = _shape(truths, truth, pixels.shape, "true")
        if row is not None:
            predicted = _shape(detections, row, pixels.shape, "predicted")
        return Card(
            picture=draw_match(pixels, predicted, is_there),
            image_id=scope.image_ids[choice.image],
            file_name=printable(file_name),
            annotation_id=None if truth is None else truths.annotation_ids[truth],
            category=None if truth is None else _name(scope, truths.category[truth]),
            predicted=None if row is None else _name(scope, detections.category[row]),
            score=None if row is None else float(detections.score[row]),
            iou=iou,
            remark=remark,
        )


class _Found:
    """The detections of some images, read again."""

    def __init__(self, task: "Task", images: Iterable[int]):
        scope = task.ground_truth.scope
        wanted = {scope.image_ids[image] for image in images}
        results = (
            [r for r in _results(task) if r["image_id"] in wanted] if wanted else []
        )
        self.detections, _ = read_detections(
            results,
            scope,
            task.known,
            task.parameters,
            task.form,
            place_of(results, lambda i: "the predictions"),
        )
        self._use_categories = task.parameters.use_categories
        self._edges = np.searchsorted(
            self.detections.image, np.arange(len(scope.image_ids) + 1)
        )

    def row_of(self, choice: Choice, annotation_id: Any) -> int | None:
        """Row of a choice's detection; None if it has none."""
        rows = np.arange(*self._edges[choice.image : choice.image + 2])
        scores = self.detections.score[rows]
        if choice.rank is None:
            ids = [self.detections.annotation_ids[i] for i in rows.tolist()]
            own = np.array([_is_same(i, annotation_id) for i in ids], bool)
            rows, scores = rows[own], scores[own]
            return int(rows[np.argmax(scores)]) if rows.size else None
        if self._use_categories:
            own = self.detections.category[rows] == choice.category
            rows, scores = rows[own], scores[own]
        # As they were ranked: equal scores in their order.
        return int(rows[np.argsort(-scores, kind="stable")[choice.rank]])


def _results(task: "Task") -> Iterator[Any]:
    """All results, in their order, a piece of them at a time."""
    if isinstance(task.source, ResultsFile):
        for _, values in task.source.parts():
            yield from values
    else:
        for unit in task.source.units:
            yield from task.source.reader.read(unit)[0]


def _shape(
    columns: GroundTruth | Detections, row: int, size: Sequence[int], which: str
) -> np.ndarray:
    """A mask, bool [H, W], or a box, float [4], (ymin, xmin, ymax, xmax).

    Raises:
        DataError: the mask is of another size than the picture.
    """
    if not len(columns.masks):
        return from_xywh(columns.boxes[row])
    mask = decode_rle(columns.masks.rle(row))
    if mask.shape != tuple(size[:2]):
        raise DataError(
            f"the {which} mask is of {mask.shape[0]} x {mask.shape[1]} pixels (height, width), "
            f"the picture of {size[0]} x {size[1]}"
        )
    return mask


def _nearest(
    truths: GroundTruth, image: int, detections: Detections, row: int
) -> tuple[int, float] | tuple[None, None]:
    """Row of the object of the image that a detection overlaps most, and their IoU."""
    rows = np.arange(*np.searchsorted(truths.image, [image, image + 1]))
    if not rows.size:
        return None, None
    shapes = [_coco_shape(truths, i) for i in rows.tolist()]
    own = [_coco_shape(detections, row)]
    iou = coco_mask.iou(own, shapes, [0] * len(shapes))[0]
    if iou.max() < _NEAR:
        return None, None
    return int(rows[np.argmax(iou)]), float(iou.max())


def _mistake(
    truths: GroundTruth,
    truth: int | None,
    iou: float | None,
    detections: Detections,
    row: int,
    right_at: float,
) -> str:
    """What is wrong with a detection, where its category does not tell."""
    if truth is None or iou is None:
        return "nothing there"
    if truths.category[truth] != detections.category[row]:
        return ""
    return "found twice" if iou >= right_at else "too far off"


def _coco_shape(columns: GroundTruth | Detections, row: int) -> Any:
    """As pycocotools takes it."""
    if len(columns.masks):
        return columns.masks.rle(row)
    return columns.boxes[row].tolist()


def _name(scope: Any, category: int) -> str:
    return scope.category_names[scope.category_ids[category]]


def _is_same(one: Any, other: Any) -> bool:
    """Whether ids are the same: records keep '17' as 17."""
    return one is not None and (one == other or str(one) == str(other))


@dataclasses.dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files that an annotation file names.

    Attributes:
        annotations: path of it.
        images: directory or pattern of the files.
    """

    annotations: str
    images: str

    def read(self, wanted: Collection[Any]) -> Iterator[Stored]:
        """Those of some ids, in the order of the list of images."""
        source, wanted = ImageSource(self.images), set(wanted)
        for key, position, entry in stream_members(self.annotations):
            if key != "images" or position is None or entry["id"] not in wanted:
                continue
            wanted.remove(entry["id"])
            yield entry["id"], *_read(source, entry)
            if not wanted:
                return


@dataclasses.dataclass(frozen=True, slots=True)
class RecordImages:
    """The images that records hold.

    Attributes:
        records: path of them.
        label_map: as it was given for them.
    """

    records: str
    label_map: str | None

    def read(self, wanted: Collection[Any]) -> Iterator[Stored]:
        """Those of some ids, in the order of the records."""
        wanted = set(wanted)
        records = open_with_categories(self.records, self.label_map)
        for example in records.examples(with_masks=False):
            image_id: Any = example.image_id
            if image_id not in wanted:
                image_id = str(image_id)  # where one is no number, all are text
            if image_id not in wanted:
                continue
            wanted.remove(image_id)
            missing = Unusable("image_missing", "the record holds no encoded image")
            yield image_id, example.file_name, example.encoded or missing
            if not wanted:
                return


def _read(
    source: ImageSource, entry: Mapping[str, Any]
) -> tuple[str, bytes | Unusable]:
    name = str(entry["id"])
    try:
        names = read_image_entry(entry["id"], entry).names
        name = names[0]
        return name, source.read(*names)
    except Unusable as e:
        return name, e
