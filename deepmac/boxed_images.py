"""Images with boxes that come from anywhere -> COCO results: `label_images` for single images."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deepmac.data.assemble import check_image
from deepmac.data.coco import ImageEntry, InstanceReader, failure_of
from deepmac.data.failures import Failure, Unusable
from deepmac.data.splits import HIDE_ALL
from deepmac.errors import DataError
from deepmac.instances import AnnotationId, Example, ImageId, Instance
from deepmac.label import DecodedExample, Settings, label_images
from deepmac.predictors import inputs
from deepmac.predictors.checked import CheckedPredictor
from deepmac.text import short

NO_CATEGORY = -1
"""Category id of a box that comes without one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxedImage:
    """An image and the boxes that are to get masks.

    Attributes:
        image_id: what its results are to carry.
        image: bytes of a JPEG or PNG file; or uint8 [H, W, 3] RGB.
        boxes: [N, 4], (ymin, xmin, ymax, xmax) in pixels of the image. Not needed where the
            predictor is to detect.
        category_ids: N of them; by default `NO_CATEGORY` each.
        annotation_ids: N of them, for the results to be joined by; by default none.
    """

    image_id: ImageId
    image: bytes | np.ndarray
    boxes: np.ndarray | Sequence[Sequence[float]] = ()
    category_ids: Sequence[int] | None = None
    annotation_ids: Sequence[AnnotationId | None] | None = None

    @property
    def num_bytes(self) -> int:
        """Of the image."""
        return len(self.image) if isinstance(self.image, bytes) else self.image.nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledImage:
    """What became of one image.

    Attributes:
        image_id: of the `BoxedImage`.
        results: COCO results, see `ImageLabels.rows`; none where the image has failed.
        num_empty: results whose mask holds no pixel.
        has_failed: the image as a whole; the last of the failures says why.
        failures: of single boxes, and of the image.
    """

    image_id: ImageId
    results: list[dict[str, Any]]
    num_empty: int = 0
    has_failed: bool = False
    failures: tuple[Failure, ...] = ()


def label_boxed_images(
    images: Iterable[BoxedImage],
    predictor: CheckedPredictor,
    settings: Settings,
    *,
    out_of_bounds: str = "clip",
) -> Iterator[LabelledImage]:
    """Labels images as the `label` job does; each comes back, in order, also one that has failed.

    Args:
        images: held in memory, all of them.
        predictor, settings: see `label_images`.
        out_of_bounds: what to do with boxes that overhang the image, see `InstanceReader`.

    Raises:
        MemoryError: see `label_images`.
    """
    read = [_read(image, settings, out_of_bounds) for image in images]
    good = (some for some in read if isinstance(some, _Read))
    labels = label_images((some.example for some in good), predictor, settings)
    for some in read:
        if isinstance(some, LabelledImage):
            yield some
            continue
        done = next(labels)
        whole = () if done.failure is None else (done.failure,)
        yield LabelledImage(
            image_id=done.image_id,
            results=done.rows,
            num_empty=done.num_empty,
            has_failed=done.failure is not None,
            failures=(*some.failures, *whole),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Read:
    """An image that can be used, with those of its boxes that can."""

    example: Example
    failures: list[Failure]


def _read(
    image: BoxedImage, settings: Settings, out_of_bounds: str
) -> _Read | LabelledImage:
    stage = "image"
    try:
        height, width = _size(image, settings.max_pixels)
        stage = "box"
        instances = () if settings.detect else _instances(image)
    except Unusable as e:
        failure = failure_of(image.image_id, None, stage, e)
        return LabelledImage(image.image_id, [], has_failed=True, failures=(failure,))
    category_ids = frozenset(instance.category_id for instance in instances)
    reader = InstanceReader(category_ids, HIDE_ALL, out_of_bounds)
    checked = reader.check(image.image_id, height, width, instances)
    facts: dict[str, Any] = {
        "image_id": image.image_id,
        "file_name": "",
        "height": height,
        "width": width,
        "instances": tuple(checked.instances),
    }
    if isinstance(image.image, np.ndarray):
        return _Read(DecodedExample(pixels=image.image, **facts), checked.failures)
    return _Read(Example(encoded=image.image, **facts), checked.failures)


def _size(image: BoxedImage, max_pixels: int) -> tuple[int, int]:
    """Height and width, as far as they can be told without decoding.

    Raises:
        Unusable: the image cannot be used.
    """
    if isinstance(image.image, bytes):
        entry = ImageEntry(image.image_id, (), None, None)
        header = check_image(image.image, entry, max_pixels)
        return header.height, header.width
    try:
        inputs.check_image(image.image)
    except DataError as e:
        raise Unusable("image_malformed", str(e)) from None
    height, width = image.image.shape[:2]
    if height * width > max_pixels:
        raise Unusable(
            "image_too_large", f"{height} x {width} pixels, more than {max_pixels}"
        )
    return height, width


def _instances(image: BoxedImage) -> list[Instance]:
    """The boxes with what belongs to each.

    Raises:
        Unusable: they are no numbers [N, 4], or something else is not N.
    """
    try:
        boxes = np.asarray(image.boxes, np.float64)
        boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    except (TypeError, ValueError):
        raise Unusable(
            "boxes_malformed", f"boxes must be numbers [N, 4], got {short(image.boxes)}"
        ) from None
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise Unusable(
            "boxes_malformed", f"boxes must be [N, 4], got an array of {boxes.shape}"
        )
    count = len(boxes)
    category_ids, annotation_ids = image.category_ids, image.annotation_ids
    category_ids = [NO_CATEGORY] * count if category_ids is None else category_ids
    annotation_ids = [None] * count if annotation_ids is None else annotation_ids
    for name, values in (
        ("category_ids", category_ids),
        ("annotation_ids", annotation_ids),
    ):
        if len(values) != count:
            raise Unusable(
                "boxes_malformed", f"{count} boxes, but {len(values)} {name}"
            )
    if wrong := [c for c in category_ids if not isinstance(c, int | np.integer)]:
        raise Unusable(
            "boxes_malformed", f"category id {short(wrong[0])} is no whole number"
        )
    return [
        Instance(
            box=(ymin, xmin, ymax, xmax),
            category_id=int(category_id),
            annotation_id=annotation_id,
        )
        for (ymin, xmin, ymax, xmax), category_id, annotation_id in zip(
            boxes.tolist(), category_ids, annotation_ids, strict=True
        )
    ]
