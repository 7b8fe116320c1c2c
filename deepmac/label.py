"""Images and boxes -> COCO results: one mask for each box, whoever predicts it.

The work of the `label` job without the job: plain values in, plain values out. What cannot be
done is handed back as a `Failure`; nothing is dropped without one, and one bad image or box
costs nothing but itself.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deepmac.boxes import clip, from_xywh, normalise, to_xywh
from deepmac.data.decode import MAX_PIXELS, ImageTooLarge, decode_rgb, is_turned
from deepmac.errors import DataError
from deepmac.instances import RLE, BoxMasks, ImageId, ImageMasks
from deepmac.masks import encode_rle, rle_area
from deepmac.paste import THRESHOLD, paste_rle
from deepmac.predictors.checked import CheckedPredictor

_IN_FRAME_BYTES = 256 << 20  # of full-size masks asked for at one time


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BoxRequest:
    """A box that wants a mask, as the input gives it.

    Attributes:
        annotation_id: joins the mask to the box; None where the input has none.
        category_id: of the input; handed through.
        bbox_xywh: COCO's (x, y, width, height) in pixels of the image. Not checked yet.
        is_crowd: a box around many objects; it gets no mask.
    """

    annotation_id: int | str | None
    category_id: Any
    bbox_xywh: Any
    is_crowd: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """An image to label.

    Attributes:
        image_id: of the input.
        read: gives the bytes of the image file, or raises `Unusable`. Called once.
        height, width: pixels as the input says, None where it does not.
        boxes: None asks the predictor for its own detections.
    """

    image_id: ImageId
    read: Callable[[], bytes]
    height: int | None = None
    width: int | None = None
    boxes: tuple[BoxRequest, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to label.

    Attributes:
        micro_batch: images in one call of the predictor.
        mask_threshold: foreground is where the probability is above it.
        out_of_bounds: boxes that reach beyond the image are cut at its border (`clip`) or fail
            (`drop`).
        category_ids: those that exist; None: any.
        min_score, max_detections: which detections of an image to keep.
        max_pixels: larger images fail.
        reference_quirks: see `deepmac.paste.paste_mask`.
    """

    micro_batch: int = 4
    mask_threshold: float = THRESHOLD
    out_of_bounds: str = "clip"
    category_ids: Collection[int] | None = None
    min_score: float = 0.0
    max_detections: int = 100
    max_pixels: int = MAX_PIXELS
    reference_quirks: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An image (then `annotation_id` is None) or a box that got no mask, and why.

    `stage` and `reason` are short stable names to count by.
    """

    image_id: ImageId
    annotation_id: int | str | None
    stage: str
    reason: str
    exception: str
    message: str


@dataclasses.dataclass(slots=True)
class ImageLabels:
    """What became of one image.

    Attributes:
        image_id: of the request.
        rows: COCO results with run lengths as text; for given boxes with `annotation_id`, in the
            order of the request; for detections the best first. `box_xywh` is the given or the
            detected box. There is no `bbox`, so that evaluators take sizes from the mask.
        failures: of the image or of boxes in it.
        counts: `images_out` or `images_failed`; `boxes_in` = `boxes_out` + `boxes_failed` +
            `boxes_crowd`, where boxes of a failed image have failed; and what else is worth
            knowing.
    """

    image_id: ImageId
    rows: list[dict[str, Any]]
    failures: list[Failure]
    counts: collections.Counter[str]


class Unusable(DataError):
    """One image or box cannot be used. `reason` is a short stable name."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


def label_images(
    requests: Iterable[ImageRequest], predictor: CheckedPredictor, settings: Settings
) -> Iterator[ImageLabels]:
    """Labels images in the order given, holding `settings.micro_batch` of them in memory.

    Either all of them bring boxes or none does.

    An exception of the predictor costs only the image that causes it: a batch that fails is
    repeated image by image.
    """
    jobs = (_Job(request, settings) for request in requests)
    while batch := list(itertools.islice(jobs, settings.micro_batch)):
        _predict([job for job in batch if job.wants_masks], predictor, settings)
        for job in batch:
            yield job.labels(settings)


def usable_box(
    bbox_xywh: Any, height: int, width: int, out_of_bounds: str = "clip"
) -> np.ndarray:
    """A COCO box as corners inside the image.

    Args:
        bbox_xywh: what the input says; anything.
        height, width: of the image in pixels.
        out_of_bounds: `clip` or `drop`, see `Settings`.

    Returns:
        float64 [4], (ymin, xmin, ymax, xmax) in pixels, with positive sides.

    Raises:
        Unusable: not four finite numbers, no extent, outside the image.
    """
    if not (isinstance(bbox_xywh, Sequence) and len(bbox_xywh) == 4):
        raise Unusable("box_invalid", f"bbox {bbox_xywh} is not four finite numbers")
    box = from_xywh(np.array([_number(v) for v in bbox_xywh]))
    if not np.isfinite(box).all():
        raise Unusable("box_invalid", f"bbox {bbox_xywh} is not four finite numbers")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise Unusable("box_empty", f"bbox {bbox_xywh} has no extent")
    inside = clip(box, height, width)
    where = f"bbox {bbox_xywh} (x, y, width, height) in an image of {height} x {width}"
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise Unusable("box_outside", f"{where} lies outside")
    if out_of_bounds == "drop" and (inside != box).any():
        raise Unusable("box_out_of_bounds", f"{where} reaches beyond it")
    return inside


def _number(value: Any) -> float:
    """A JSON number as a float; nan for anything else."""
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


@dataclasses.dataclass(frozen=True, slots=True)
class _Mask:
    """A predicted mask in the frame of its image; `box` is the predictor's."""

    rle: RLE
    score: float
    category_id: int
    box: np.ndarray


class _Job:
    """One image on its way: request, pixels, usable boxes, masks."""

    def __init__(self, request: ImageRequest, settings: Settings):
        self.request = request
        self.failures: list[Failure] = []
        self.counts = collections.Counter()
        self.image: np.ndarray | None = None
        self.accepted: list[BoxRequest] = []
        self.boxes: np.ndarray | None = None  # float64 [N, 4], one for each accepted
        self.masks: list[_Mask] = []
        try:
            self.image = _pixels(request, settings.max_pixels)
        except Unusable as e:
            self.fail("read", e)
            return
        if request.boxes is not None:
            self._accept_boxes(request.boxes, settings)

    @property
    def wants_masks(self) -> bool:
        return self.image is not None and (self.boxes is None or len(self.boxes) > 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pixels."""
        assert self.image is not None
        return self.image.shape[0], self.image.shape[1]

    def fail(self, stage: str, error: Exception) -> None:
        """Gives the image up."""
        self.image = None
        self._add_failure(None, stage, error)

    def labels(self, settings: Settings) -> ImageLabels:
        """The result, once the masks are there or the image has failed."""
        asked, counts = self.request.boxes, self.counts
        failed = self.image is None
        counts["images_in"] = 1
        counts["images_failed" if failed else "images_out"] = 1
        masks = [] if failed else self.masks
        if asked is None:
            masks = self._best(masks, settings)
            rows = [self._row(mask, None) for mask in masks]
            counts["detections_out"] = len(rows)
        else:
            pairs = [] if failed else zip(masks, self.accepted, strict=True)
            rows = [self._row(mask, box) for mask, box in pairs]
            crowd = sum(box.is_crowd for box in asked)
            counts["boxes_in"], counts["boxes_out"] = len(asked), len(rows)
            counts["boxes_crowd"] = crowd
            counts["boxes_failed"] = len(asked) - len(rows) - crowd
        counts["masks_empty"] = sum(rle_area(mask.rle) == 0 for mask in masks)
        return ImageLabels(self.request.image_id, rows, self.failures, counts)

    def _accept_boxes(self, boxes: Sequence[BoxRequest], settings: Settings) -> None:
        height, width = self.size
        corners = []
        for box in boxes:
            if box.is_crowd:
                continue
            try:
                _check_category(box.category_id, settings.category_ids)
                corners.append(
                    usable_box(box.bbox_xywh, height, width, settings.out_of_bounds)
                )
            except Unusable as e:
                self._add_failure(box.annotation_id, "box", e)
                continue
            self.accepted.append(box)
            if (corners[-1] != from_xywh(np.array(box.bbox_xywh))).any():
                self.counts["boxes_clipped"] += 1
        self.boxes = np.array(corners, np.float64).reshape(-1, 4)

    def _best(self, masks: list[_Mask], settings: Settings) -> list[_Mask]:
        """The detections to keep, best first."""
        known = settings.category_ids
        good = [m for m in masks if m.score >= settings.min_score]
        named = [m for m in good if known is None or m.category_id in known]
        self.counts["detections_unknown_category"] = len(good) - len(named)
        return sorted(named, key=lambda m: -m.score)[: settings.max_detections]

    def _row(self, mask: _Mask, box: BoxRequest | None) -> dict[str, Any]:
        """A COCO result; `box` is the one given, None for a detection."""
        row = {
            "image_id": self.request.image_id,
            "category_id": mask.category_id if box is None else box.category_id,
            "score": mask.score,
            "segmentation": {
                "size": list(mask.rle["size"]),
                "counts": mask.rle["counts"].decode("ascii"),
            },
        }
        if box is None:
            return row | {"box_xywh": to_xywh(mask.box).tolist()}
        return row | {
            "box_xywh": list(box.bbox_xywh),
            "annotation_id": box.annotation_id,
        }

    def _add_failure(
        self, annotation_id: int | str | None, stage: str, error: Exception
    ) -> None:
        self.failures.append(
            Failure(
                image_id=self.request.image_id,
                annotation_id=annotation_id,
                stage=stage,
                reason=getattr(error, "reason", None) or "predictor_failed",
                exception=type(error).__name__,
                message=" ".join(str(error).split()),
            )
        )


def _pixels(request: ImageRequest, max_pixels: int) -> np.ndarray:
    """uint8 [H, W, 3], of the size that the request says."""
    encoded = request.read()
    try:
        image = decode_rgb(encoded, max_pixels)
    except ImageTooLarge as e:
        raise Unusable("image_too_large", str(e)) from e
    except DataError as e:
        raise Unusable("image_unreadable", str(e)) from e
    height, width = image.shape[:2]
    if (request.height or height, request.width or width) != (height, width):
        turned = (
            "; its EXIF orientation turns it for viewers, boxes must refer to it as stored"
            if is_turned(encoded)
            else ""
        )
        raise Unusable(
            "image_size_differs",
            f"image of {height} x {width} pixels, annotated as {request.height} x "
            f"{request.width}{turned}",
        )
    return image


def _check_category(category_id: Any, known: Collection[int] | None) -> None:
    if known is not None and category_id not in known:
        raise Unusable("unknown_category", f"no category has the id {category_id}")


def _predict(
    jobs: Sequence[_Job], predictor: CheckedPredictor, settings: Settings
) -> None:
    """Fills in the masks of jobs, or fails those that the predictor fails on."""
    if not jobs:
        return
    if len(jobs) > 1 and not predictor.in_image_frame:
        try:
            _predict_together(jobs, predictor, settings)
            return
        except Exception:  # whatever a predictor raises; found out below, one by one
            pass
    for job in jobs:
        try:
            _predict_alone(job, predictor, settings)
        except Exception as e:
            job.fail("mask", e)


def _predict_together(
    jobs: Sequence[_Job], predictor: CheckedPredictor, settings: Settings
) -> None:
    images = [job.image for job in jobs if job.image is not None]
    boxes = [job.boxes for job in jobs if job.boxes is not None]
    # Either all images bring boxes or none does.
    results = predictor(images, boxes if len(boxes) == len(images) else None)
    for job, result in zip(jobs, results, strict=True):
        job.masks = _in_image(result, job.boxes, job.size, settings)


def _predict_alone(job: _Job, predictor: CheckedPredictor, settings: Settings) -> None:
    image, boxes = job.image, job.boxes
    if image is None or boxes is None or not predictor.in_image_frame:
        _predict_together([job], predictor, settings)
        return
    job.masks = []
    at_once = max(_IN_FRAME_BYTES // math.prod(job.size), 1)
    for start in range(0, len(boxes), at_once):
        some = boxes[start : start + at_once]
        (result,) = predictor([image], [some])
        job.masks += _in_image(result, some, job.size, settings)


def _in_image(
    result: BoxMasks | ImageMasks,
    boxes: np.ndarray | None,
    size: tuple[int, int],
    settings: Settings,
) -> list[_Mask]:
    """Run lengths of a predictor's masks; masks of given boxes are pasted at these, exactly."""
    height, width = size
    if boxes is None:
        boxes = result.boxes.astype(np.float64)
    if isinstance(result, ImageMasks):
        rles = [encode_rle(mask) for mask in result.masks]
    else:
        rles = [
            paste_rle(
                probs,
                box,
                height,
                width,
                settings.mask_threshold,
                reference_quirks=settings.reference_quirks,
            )
            for probs, box in zip(
                result.mask_probs, normalise(boxes, height, width), strict=True
            )
        ]
    return [
        _Mask(rle, float(score), int(category_id), box)
        for rle, score, category_id, box in zip(
            rles, result.scores, result.category_ids, boxes, strict=True
        )
    ]
