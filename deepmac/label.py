"""Images and boxes -> COCO results: one mask for each box, whoever predicts it.

The work of the `label` job without the job: plain values in, plain values out. What cannot be
done is handed back as a `Failure`; nothing is dropped without one, and one bad image costs
nothing but itself.

While a batch is predicted, the next one is read, decoded and resized in one thread, and the masks of
the one before are pasted and run-length coded in another.
"""

import collections
import contextlib
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from deepmac.boxes import normalise, to_xywh
from deepmac.data.decode import MAX_PIXELS, ImageTooLarge, decode_rgb
from deepmac.data.failures import Failure, Unusable
from deepmac.errors import DataError
from deepmac.instances import (
    RLE,
    BoxMasks,
    Example,
    ImageId,
    ImageMasks,
    Instance,
)
from deepmac.masks import encode_rle, rle_area
from deepmac.paste import THRESHOLD, paste_rle
from deepmac.predictors.checked import CheckedPredictor
from deepmac.stage_times import StageTimes

_IN_FRAME_BYTES = 256 << 20  # of full-size masks asked for at one time


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to label.

    Attributes:
        detect: ask the predictor for its own boxes; those of the examples do not matter.
        micro_batch: images in one call of the predictor.
        mask_threshold: foreground is where the probability is above it.
        min_score, max_detections: which detections of an image to keep.
        max_pixels: larger images fail.
        reference_quirks: see `deepmac.paste.paste_mask`.
    """

    detect: bool = False
    micro_batch: int = 4
    mask_threshold: float = THRESHOLD
    min_score: float = 0.0
    max_detections: int = 100
    max_pixels: int = MAX_PIXELS
    reference_quirks: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ImageLabels:
    """What became of one image.

    Attributes:
        image_id: of the example.
        num_boxes: of the example.
        num_crowds: of them, boxes around many objects, which get no mask.
        rows: COCO results with run lengths as text. For given boxes one for each box that is no
            crowd, in their order, with `annotation_id`; for detections the best first. `box_xywh`
            is the given or the detected box. There is no `bbox`, so that evaluators take sizes
            from the mask.
        num_empty: rows whose mask holds no pixel.
        failure: why the image failed, if it did; then there are no rows.
    """

    image_id: ImageId
    num_boxes: int
    num_crowds: int
    rows: list[dict[str, Any]]
    num_empty: int = 0
    failure: Failure | None = None


def label_images(
    examples: Iterable[Example],
    predictor: CheckedPredictor,
    settings: Settings,
    times: StageTimes | None = None,
) -> Iterator[ImageLabels]:
    """Labels images in the order given, holding three times `settings.micro_batch` in memory.

    An exception of the predictor costs only the image that causes it: a batch that fails is
    repeated image by image. Memory that does not even suffice for one image is none of its faults.

    Args:
        examples: with their encoded images; the boxes in pixels, inside the image, with positive
            sides (`deepmac.data.coco.InstanceReader` sees to that). Taken in another thread.
        predictor: see `deepmac.predictors.open_predictor`.
        settings: how.
        times: filled with those of the stages `decode` (and resize), `predict` and `paste` (and
            code), which overlap.

    Raises:
        MemoryError: see above; whatever the backend raises in its place becomes one.
    """
    times = times or StageTimes()
    jobs = (_Job(example, predictor, settings, times) for example in examples)
    pasted: collections.deque[list[Future[ImageLabels]]] = collections.deque()
    with _thread("decode") as decoding, _thread("paste") as pasting:
        ready = _ahead(jobs, settings.micro_batch, decoding)
        while batch := list(itertools.islice(ready, settings.micro_batch)):
            if asking := [job for job in batch if job.wants_masks]:
                with times.of("predict", len(asking)):
                    _predict(asking, predictor, settings)
            pasted.append([pasting.submit(job.labels, settings) for job in batch])
            if len(pasted) > 1:
                yield from (labels.result() for labels in pasted.popleft())
        for batch in pasted:
            yield from (labels.result() for labels in batch)


@contextlib.contextmanager
def _thread(name: str) -> Iterator[ThreadPoolExecutor]:
    """A thread for work in order; what has not begun when the block is left is never done."""
    executor = ThreadPoolExecutor(1, name)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _ahead(
    items: Iterator["_Job"], count: int, executor: ThreadPoolExecutor
) -> Iterator["_Job"]:
    """The same items, `count` of which are taken before their turn, in another thread."""
    coming = collections.deque(executor.submit(next, items, None) for _ in range(count))
    while (item := coming.popleft().result()) is not None:
        coming.append(executor.submit(next, items, None))
        yield item


@dataclasses.dataclass(frozen=True, slots=True)
class _Mask:
    """A predicted mask in the frame of its image; `box` [4] is the given or the detected one."""

    rle: RLE
    score: float
    category_id: int
    box: np.ndarray


class _Job:
    """One image on its way: pixels, boxes, masks.

    Attributes:
        image: what the predictor takes; None where the image has failed.
        result: what it made of the image, with masks in the frames of their boxes.
        masks: the masks in the frame of the image.
    """

    def __init__(
        self,
        example: Example,
        predictor: CheckedPredictor,
        settings: Settings,
        times: StageTimes,
    ):
        self.example = example
        self._times = times
        self.failure: Failure | None = None
        self.image: Any = None
        self.result: BoxMasks | None = None
        self.masks: list[_Mask] = []
        self.instances: tuple[Instance, ...] = ()
        self.boxes: np.ndarray | None = None  # float64 [N, 4], one for each instance
        if not settings.detect:
            self.instances = tuple(i for i in example.instances if not i.is_crowd)
            boxes = [instance.box for instance in self.instances]
            self.boxes = np.array(boxes, np.float64).reshape(-1, 4)
        with times.of("decode"):
            self._prepare(predictor, settings)

    def _prepare(self, predictor: CheckedPredictor, settings: Settings) -> None:
        try:
            pixels = _pixels(self.example, settings.max_pixels)
        except Unusable as e:
            self.fail("image", e.reason, e)
            return
        with self.failing():
            self.image = predictor.prepare(pixels)

    @property
    def wants_masks(self) -> bool:
        return self.image is not None and (self.boxes is None or len(self.boxes) > 0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pixels."""
        return self.example.height, self.example.width

    def fail(self, stage: str, reason: str, error: BaseException) -> None:
        """Gives the image up."""
        self.image, self.result, self.masks = None, None, []
        self.failure = Failure(
            image_id=self.example.image_id,
            annotation_id=None,
            stage=stage,
            reason=reason,
            exception=type(error.__cause__ or error).__name__,
            message=" ".join(str(error).split()),
        )

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """What the predictor raises inside fails the image.

        But want of memory fails none: it may have passed when the job is begun again.
        """
        try:
            yield
        except MemoryError:
            raise
        except (Exception, SystemExit) as e:
            if is_want_of_memory(e):
                raise MemoryError(" ".join(str(e).split())) from e
            self.fail("predict", "predictor_failed", e)

    def labels(self, settings: Settings) -> ImageLabels:
        """The outcome, once the predictor is done with the image or the image has failed."""
        with self._times.of("paste"):
            return self._labels(settings)

    def _labels(self, settings: Settings) -> ImageLabels:
        self.image = None  # pixels are not needed any more
        if self.result is not None:
            with self.failing():
                self.masks = _in_image(self.result, self.boxes, self.size, settings)
        masks = self.masks
        if self.boxes is None:
            good = (mask for mask in masks if mask.score >= settings.min_score)
            masks = sorted(good, key=lambda m: -m.score)[: settings.max_detections]
        # A detection has no instance.
        rows = map(self._row, masks, self.instances or [None] * len(masks))
        return ImageLabels(
            image_id=self.example.image_id,
            num_boxes=len(self.example.instances),
            num_crowds=sum(i.is_crowd for i in self.example.instances),
            rows=list(rows),
            num_empty=sum(rle_area(mask.rle) == 0 for mask in masks),
            failure=self.failure,
        )

    def _row(self, mask: _Mask, instance: Instance | None) -> dict[str, Any]:
        row: dict[str, Any] = {
            "image_id": self.example.image_id,
            "score": mask.score,
            "segmentation": {
                "size": list(mask.rle["size"]),
                "counts": mask.rle["counts"].decode("ascii"),
            },
            "box_xywh": to_xywh(mask.box).tolist(),
        }
        if instance is None:
            return row | {"category_id": mask.category_id}
        return row | {
            "category_id": instance.category_id,
            "annotation_id": instance.annotation_id,
        }


def _pixels(example: Example, max_pixels: int) -> np.ndarray:
    """uint8 [H, W, 3], of the size that the example says."""
    if example.encoded is None:
        raise Unusable("image_missing", "the example holds no encoded image")
    try:
        image = decode_rgb(example.encoded, max_pixels)
    except ImageTooLarge as e:
        raise Unusable("image_too_large", str(e)) from e
    except DataError as e:
        raise Unusable("image_damaged", str(e)) from e
    height, width = image.shape[:2]
    if (height, width) != (example.height, example.width):
        raise Unusable(
            "size_differs",
            f"image of {height} x {width} pixels (height x width), annotated as "
            f"{example.height} x {example.width}",
        )
    return image


def _predict(
    jobs: Sequence[_Job], predictor: CheckedPredictor, settings: Settings
) -> None:
    """Fills in the results of jobs, or fails those that the predictor fails on."""
    if len(jobs) > 1 and not predictor.in_image_frame:
        try:
            _predict_together(jobs, predictor, settings)
            return
        except (Exception, SystemExit):  # of any predictor; found out below, one by one
            pass
    for job in jobs:
        with job.failing():
            _predict_alone(job, predictor, settings)


def is_want_of_memory(error: BaseException | None) -> bool:
    """Whether a backend has run out of memory, told without importing one."""
    if error is None:
        return False
    # TensorFlow's, PyTorch's; JAX has one class for all that its runtime tells.
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}:
        return True
    if str(error).startswith("RESOURCE_EXHAUSTED"):
        return True
    return is_want_of_memory(error.__cause__)


def _predict_together(
    jobs: Sequence[_Job], predictor: CheckedPredictor, settings: Settings
) -> None:
    boxes = [job.boxes for job in jobs if job.boxes is not None]
    results = predictor([job.image for job in jobs], None if settings.detect else boxes)
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, BoxMasks):
            job.result = result
        else:  # of the image's size each: not for keeping
            job.masks = _in_image(result, job.boxes, job.size, settings)


def _predict_alone(job: _Job, predictor: CheckedPredictor, settings: Settings) -> None:
    """As `_predict_together`; masks of the image's size are asked for some at a time."""
    boxes = job.boxes
    if boxes is None or not predictor.in_image_frame:
        _predict_together([job], predictor, settings)
        return
    job.masks = []
    at_once = max(_IN_FRAME_BYTES // math.prod(job.size), 1)
    for start in range(0, len(boxes), at_once):
        some = boxes[start : start + at_once]
        (result,) = predictor([job.image], [some])
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
                box_norm,
                height,
                width,
                settings.mask_threshold,
                reference_quirks=settings.reference_quirks,
            )
            for probs, box_norm in zip(
                result.mask_probs, normalise(boxes, height, width), strict=True
            )
        ]
    return [
        _Mask(rle, float(score), int(category_id), box)
        for rle, score, category_id, box in zip(
            rles, result.scores, result.category_ids, boxes, strict=True
        )
    ]
