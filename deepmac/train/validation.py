"""How good the masks of a network in training are, by the exact evaluation engine.

Masks are predicted for the ground-truth boxes, as `deepmac label` does, and evaluated as `deepmac
evaluate` does: the mean IoU at these boxes, and AP, of the categories whose masks train and of
the others. Where detection trains too, AP of the detections' masks and boxes as well.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepmac.data.decode import decode_rgb
from deepmac.data.directory import RecordDirectory
from deepmac.data.truth_records import annotation_id_of, as_coco
from deepmac.errors import DataError, one_of
from deepmac.evaluation.engine import evaluate
from deepmac.evaluation.ground_truth import read_ground_truth
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.summary import Evaluation
from deepmac.instances import Example, ImageId
from deepmac.label import ImageLabels, Settings, label_images
from deepmac.masks import decode_rle
from deepmac.model.deepmac import DeepMAC
from deepmac.overlays import draw
from deepmac.predictors.checked import CheckedPredictor
from deepmac.predictors.deepmac import DeepmacPredictor


@dataclasses.dataclass(frozen=True)
class Scores:
    """What an evaluation of the network says.

    Attributes:
        values: by name, such as `unseen/mean_iou_at_gt_boxes`; NaN where there is nothing.
        pictures: uint8 [H, W, 3] RGB each, by image id: with the predicted masks.
    """

    values: Mapping[str, float]
    pictures: Mapping[str, np.ndarray]


class Validation:
    """Evaluates a network on a set of records, again and again.

    Args:
        sets: of records.
        supervised_ids: of the categories whose masks train; None: all.
        detects: also evaluate what the network detects by itself.
        every_nth: evaluate one image in so many.
        num_pictures: to draw.

    Attributes:
        num_images: that are evaluated.

    Raises:
        DataError: the records have no masks to compare with.
    """

    def __init__(
        self,
        sets: Sequence[RecordDirectory],
        supervised_ids: Collection[int] | None,
        *,
        detects: bool = False,
        every_nth: int = 1,
        num_pictures: int = 4,
    ):
        self._sets = sets
        where = one_of(records.path for records in sets)
        self._every_nth = every_nth
        self._num_pictures = num_pictures
        dataset: dict[str, list[Any]] = {"images": [], "annotations": []}
        for records in self._sets:
            part = as_coco(records, with_masks=True)
            for key in dataset:
                dataset[key] += part[key]
            dataset["categories"] = part["categories"]
        kept = {image["id"] for image in dataset["images"][::every_nth]}
        for key, name in (("images", "id"), ("annotations", "image_id")):
            dataset[key] = [entry for entry in dataset[key] if entry[name] in kept]
        _check_masks(dataset, where)
        self.num_images = len(kept)
        self._predictor: tuple[DeepMAC, CheckedPredictor] | None = None
        self._masks = _Comparison(dataset, "segm", where)
        self._boxes = _Comparison(dataset, "bbox", where) if detects else None
        known = self._masks.truth.scope.category_ids
        seen = [i for i in known if supervised_ids is None or i in supervised_ids]
        unseen = [i for i in known if i not in seen]
        groups = {"all": known, "seen": seen, "unseen": unseen}
        self._groups = {name: ids for name, ids in groups.items() if ids}

    def __call__(self, model: DeepMAC) -> Scores:
        """What the network scores with the weights that it has.

        Raises:
            DataError: an image cannot be used.
        """
        if self._predictor is None or self._predictor[0] is not model:
            # Kept: each new one would be compiled anew.
            predictor = CheckedPredictor("training", DeepmacPredictor(model))
            self._predictor = model, predictor
        predictor = self._predictor[1]
        shown: dict[ImageId, Example] = {}
        pictures: dict[str, np.ndarray] = {}
        rows: list[dict[str, Any]] = []
        for labels in _labels(self._examples(shown), predictor, Settings()):
            rows += labels.rows
            if example := shown.pop(labels.image_id, None):
                pictures[str(labels.image_id)] = _picture(example, labels.rows)
        evaluation = self._masks.evaluate(rows)
        values: dict[str, float] = {}
        for group, ids in self._groups.items():
            iou = evaluation.mean_iou_at_given_boxes(ids)
            values[f"{group}/mean_iou_at_gt_boxes"] = math.nan if iou is None else iou
            values[f"{group}/AP_at_gt_boxes"] = evaluation.stats_of(ids)["AP"]
        if self._boxes is not None:
            found = _labels(self._examples({}), predictor, Settings(detect=True))
            rows = [row for labels in found for row in labels.rows]
            masks = self._masks.evaluate(rows)
            boxes = self._boxes.evaluate(
                [row | {"bbox": row["box_xywh"]} for row in rows]
            )
            for group, ids in self._groups.items():
                values[f"{group}/mask_AP"] = masks.stats_of(ids)["AP"]
                values[f"{group}/box_AP"] = boxes.stats_of(ids)["AP"]
        return Scores(values, pictures)

    def _examples(self, shown: dict[ImageId, Example]) -> Iterator[Example]:
        """The images to evaluate; those to draw are noted in `shown`."""
        every = (e for s in self._sets for e in s.examples(with_masks=False))
        for number, example in enumerate(every):
            if number % self._every_nth:
                continue
            instances = tuple(
                dataclasses.replace(
                    instance, annotation_id=annotation_id_of(example, n)
                )
                for n, instance in enumerate(example.instances)
            )
            example = dataclasses.replace(example, instances=instances)
            if number // self._every_nth < self._num_pictures:
                shown[example.image_id] = example
            yield example


class _Comparison:
    """A ground truth, for masks (`segm`) or boxes (`bbox`).

    Attributes:
        truth: the annotations.
    """

    def __init__(self, dataset: Mapping[str, Any], iou_type: str, where: str):
        self._parameters = Parameters(iou_type=iou_type)
        self.truth, self._counts = read_ground_truth(dataset, self._parameters, where)

    def evaluate(self, rows: Sequence[Mapping[str, Any]]) -> Evaluation:
        """What COCO results of any of its images are worth."""
        return evaluate(
            self.truth,
            self.truth.scope,
            [(rows, lambda row: f"prediction {row}")],
            "box" if self._parameters.iou_type == "bbox" else "mask",
            self._parameters,
            self._counts.copy(),
        )


def _labels(
    examples: Iterable[Example], predictor: CheckedPredictor, settings: Settings
) -> Iterator[ImageLabels]:
    """`label_images`, but an image that fails ends the evaluation."""
    for labels in label_images(examples, predictor, settings):
        if failure := labels.failure:
            raise DataError(f"image {labels.image_id}: {failure.message}")
        yield labels


def _check_masks(dataset: Mapping[str, Any], where: str) -> None:
    names = {c["id"]: c["name"] for c in dataset["categories"]}
    hidden = sorted(
        {
            a["category_id"]
            for a in dataset["annotations"]
            if "segmentation" not in a and not a["iscrowd"]
        }
    )
    if hidden:
        listed = one_of(names.get(i, i) for i in hidden)
        raise DataError(
            f"eval_input_reader: {where}: the masks of {listed} are hidden or missing, so "
            f"they cannot be compared with; build the set with --split all"
        )
    if not dataset["images"]:
        raise DataError(f"eval_input_reader: {where}: holds no image")


def _picture(example: Example, rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """uint8 [H, W, 3], the image with its boxes and the masks predicted for them."""
    masks = [
        decode_rle(
            {
                "size": row["segmentation"]["size"],
                "counts": row["segmentation"]["counts"].encode(),
            }
        )
        for row in rows
    ]
    boxes = [i.box for i in example.instances if not i.is_crowd]
    image = decode_rgb(example.encoded or b"")
    return draw(image, masks=masks, boxes=np.array(boxes).reshape(-1, 4))
