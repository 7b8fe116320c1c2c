"""One training image: a record -> the arrays that the network sees of it, at one place of a run."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from deepmac.config.schema import CenterNetConfig
from deepmac.config.training_schema import AugmentationConfig
from deepmac.data.augment import Frame, Picture, augment
from deepmac.data.decode import MAX_PIXELS, decode_rgb
from deepmac.data.files import Unreachable
from deepmac.data.image_header import read_header
from deepmac.data.input_checks import needs_every_instance, needs_masks
from deepmac.data.jitter import jitter_boxes
from deepmac.data.mask_targets import cut_mask, rows_needed, whole_mask
from deepmac.data.record_set import RecordSet
from deepmac.data.records import Columns, decode_columns
from deepmac.errors import DataError
from deepmac.instances import ImageId
from deepmac.resize import resize_image
from deepmac.train.batch import Batch

FARTHEST_EDGE = 1.1
"""Of a box, in fractions of the image, as the reference asserts. What is beyond was stored in pixels."""

_MOST_SKIPPED = 100  # records in a row


class Element(NamedTuple):
    """One image of a batch: the arrays of `Batch` without their first axis, and what of `InputBatch`
    is its own.
    """

    arrays: Batch
    image_id: ImageId
    counts: dict[str, int]
    skipped: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ElementMaker:
    """Place in the run, record -> the image for that place.

    Pickled once for each worker process.

    Attributes:
        records: all of them.
        net, augmentations: of the configuration.
        num_slots: N, instances of an image.
        num_points: P, keypoints of an instance; 0: none.
        mask_slots: M, see `deepmac.data.input.training_input`; None: all slots.
        category_ids: name -> id, where a label map says.
        seed: of the run.
        jitters_targets_alone: leave `roi_boxes` where they are.
        skips_bad_records: take the next good record in place of a bad one.
    """

    records: RecordSet
    net: CenterNetConfig
    augmentations: tuple[AugmentationConfig, ...]
    num_slots: int
    num_points: int
    mask_slots: int | None
    category_ids: Mapping[str, int] | None
    seed: int
    jitters_targets_alone: bool
    skips_bad_records: bool

    def __call__(self, place: int, number: int) -> Element | DataError:
        """The image of a record for one place; what is wrong with it is returned, not raised, so
        that it is told when its turn comes.
        """
        skipped: list[str] = []
        for _ in range(_MOST_SKIPPED):
            try:
                element = self.make(place, number)
            except DataError as e:
                if isinstance(e, Unreachable) or not self.skips_bad_records:
                    return e
                skipped.append(str(e))
                number = (number + 1) % len(self.records)
                continue
            if skipped:
                counts = element.counts | {"skipped_records": len(skipped)}
                element = element._replace(counts=counts, skipped=skipped)
            return element
        return DataError(
            f"{_MOST_SKIPPED} bad records, one after the other; the first: {skipped[0]}"
        )

    def make(self, place: int, number: int) -> Element:
        """As `__call__`, of this very record.

        Raises:
            DataError: the record is bad; names file, record and image.
        """
        where = self.records.where(number)
        data = self.records.read(number)
        try:
            columns = decode_columns(
                data, category_ids=self.category_ids, num_points=self.num_points
            )
        except DataError as e:
            raise DataError(f"{where}: {e}") from None
        try:
            return self.element(place, columns)
        except DataError as e:
            raise DataError(f"{where}: image {columns.image_id!r}: {e}") from None

    def element(self, place: int, columns: Columns) -> Element:
        """The image of a record that has been read, as the network sees it at one place."""
        # Streams of their own: another augmentation does not change the jitter.
        streams = np.random.default_rng([self.seed, place]).spawn(4)
        augmenting, jittering, sampling, viewing = streams
        counts: collections.Counter[str] = collections.Counter(images=1)
        image = decode_image(columns)
        usable = _usable(columns, self.net.num_classes, counts)
        whole = Picture.of(image, columns.boxes[usable], columns.points[usable])
        picture = augment(whole, self.augmentations, augmenting)
        counts["dropped_outside_crop"] = len(usable) - len(picture.kept)
        picture = self._limited(picture, counts)
        kept = usable[picture.kept]
        image, size = resize_image(picture.image, self.net.image_resizer)
        shrink = np.array(
            [size.height / size.padded_height, size.width / size.padded_width],
            np.float32,
        )
        boxes = _padded(picture.boxes * np.tile(shrink, 2), self.num_slots)
        points = _padded(picture.points * shrink, self.num_slots, np.nan)
        stored = np.full(self.num_slots, -1)  # which object of the record fills a slot
        stored[: len(kept)] = kept
        is_filled = stored >= 0
        weights = np.where(is_filled, _at(columns.weights, stored), np.float32(0))
        classes = np.where(is_filled, _at(columns.category_ids, stored) - 1, -1)
        taken = self._in_masks(columns, stored, classes, weights, sampling)
        roi_boxes, target_boxes = self._jittered(boxes[taken], jittering)
        frame = picture.frame.resized(size)
        masks, mask_weights = self._masks(columns, stored[taken], frame, target_boxes)
        counts["instances"] = len(kept)
        counts["masks"] = int((mask_weights > 0).sum())
        depths = None
        if self.num_points:
            depths = _padded(columns.point_depths[kept], self.num_slots, np.nan)[taken]
        arrays = Batch(
            images=image,
            true_shapes=np.array([size.height, size.width], np.int32),
            boxes=boxes,
            classes=classes.astype(np.int32),
            weights=weights,
            roi_boxes=roi_boxes,
            target_boxes=target_boxes,
            roi_classes=classes[taken].astype(np.int32),
            roi_weights=weights[taken],
            mask_weights=mask_weights,
            masks=masks,
            view=viewing.random(5, np.float32),
            keypoints=points[taken] if self.num_points else None,
            point_depths=depths,
        )
        return Element(arrays, columns.image_id, dict(+counts), [])

    def _limited(self, picture: Picture, counts: collections.Counter[str]) -> Picture:
        counts["dropped_beyond_limit"] = max(0, len(picture.kept) - self.num_slots)
        return picture._replace(
            boxes=picture.boxes[: self.num_slots],
            kept=picture.kept[: self.num_slots],
            points=picture.points[: self.num_slots],
        )

    def _in_masks(
        self,
        columns: Columns,
        stored: np.ndarray,
        classes: np.ndarray,
        weights: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The slots [M] that take part in the masks.

        Args:
            columns: the record.
            stored, classes, weights: [N], of the slots.
            rng: draws, where not all do.
        """
        if self.mask_slots is None:
            return self._subsample(weights, rng)
        trains = weights > 0
        if not needs_every_instance(self.net):
            if columns.masks is not None:
                trains &= _at(columns.mask_weights, stored) > 0
            if allowed := self.net.deepmac_mask_estimation.allowed_masked_classes_ids:
                trains &= np.isin(classes + 1, allowed)
        # The others fill what is left, from the last slot on: empty ones, if there are any.
        first = rng.permutation(np.flatnonzero(trains))
        order = np.concatenate([first, np.flatnonzero(~trains)[::-1]])
        return np.sort(order[: self.mask_slots])

    def _subsample(self, weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The slots [M] whose masks take part; see `mask_num_subsamples`."""
        wanted = self.net.deepmac_mask_estimation.mask_num_subsamples
        if wanted <= 0 or wanted >= self.num_slots:
            return np.arange(self.num_slots)
        num = int((weights > 0.5).sum())
        if num <= wanted:
            return np.arange(wanted)
        return rng.integers(num, size=wanted)  # with replacement, as in the reference

    def _jittered(
        self, boxes: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        head = self.net.deepmac_mask_estimation
        ratio, mode = head.max_roi_jitter_ratio, head.jitter_mode
        if not ratio:
            return boxes, boxes
        moved = jitter_boxes(boxes, mode, ratio, rng.random((len(boxes), 4)))
        # An empty slot stays at 0
        moved[~boxes.any(axis=1)] = 0
        return (boxes if self.jitters_targets_alone else moved), moved

    def _masks(
        self, columns: Columns, stored: np.ndarray, frame: Frame, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`masks` and `mask_weights`. A mask of weight 0 is not even decoded.

        Args:
            columns: the record.
            stored: int [M], objects of the record; -1: none.
            frame: of the padded picture.
            boxes: float32 [M, 4], where to cut.
        """
        head = self.net.deepmac_mask_estimation
        weights = np.zeros(len(stored), np.float32)
        if head.predict_full_resolution_masks:
            shape = (len(stored), len(frame.rows), len(frame.cols))
            masks = np.zeros(shape, np.uint8)
        else:
            masks = np.zeros((len(stored), *[head.mask_size] * 2), np.float32)
        if not needs_masks(self.net) or columns.masks is None:
            return masks, weights
        weights = np.where(stored >= 0, _at(columns.mask_weights, stored), weights)
        for slot in np.flatnonzero(weights > 0):
            if head.predict_full_resolution_masks:
                mask = columns.mask(stored[slot], columns.height)
                masks[slot] = whole_mask(mask, frame)
            else:
                box = boxes[slot]
                mask = columns.mask(stored[slot], rows_needed(frame, box))
                masks[slot] = cut_mask(mask, frame, box, head.mask_size)
        return masks, weights


def decode_image(columns: Columns) -> np.ndarray:
    """The pixels of a record's image, uint8 [H, W, 3] RGB, as stored.

    Raises:
        DataError: no readable image, or of another size than the record says.
    """
    image = _decoded_by_opencv(columns.encoded)
    if image is None:
        image = decode_rgb(columns.encoded)
    if image.shape[:2] != (columns.height, columns.width):
        height, width = image.shape[:2]
        raise DataError(
            f"the image has {height} x {width} pixels, the record says {columns.height} x {columns.width}"
        )
    return image


def _decoded_by_opencv(encoded: bytes) -> np.ndarray | None:
    """What `decode_rgb` gives, in less time, of a whole JPEG file in colours; None of any other."""
    try:
        header = read_header(encoded)
    except DataError:
        return None
    if header.format != "jpeg" or header.channels != 3 or not header.is_complete:
        return None
    if header.height * header.width > MAX_PIXELS:
        return None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _usable(
    columns: Columns, num_classes: int, counts: collections.Counter[str]
) -> np.ndarray:
    """Indices of the objects that can be trained on; counts the others, by reason."""
    boxes, ids = columns.boxes, columns.category_ids
    is_finite = np.isfinite(boxes).all(axis=1)
    is_known = ids >= 0
    is_upright = ~(boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    counts["dropped_nan_boxes"] = int((~is_finite).sum())
    counts["dropped_unknown_categories"] = int((is_finite & ~is_known).sum())
    good = is_finite & is_known
    counts["dropped_inverted_boxes"] = int((good & ~is_upright).sum())
    good &= is_upright
    if (ids[good] > num_classes).any() or (ids[good] < 1).any():
        wrong = ids[good][(ids[good] > num_classes) | (ids[good] < 1)][0]
        raise DataError(
            f"category {wrong}, but ids go from 1 to {num_classes} (model.center_net.num_classes)"
        )
    if (farthest := boxes[good].max(initial=0)) > FARTHEST_EDGE:
        raise DataError(
            f"a box reaches to {farthest:g}; boxes are stored in fractions of the image"
        )
    return np.flatnonzero(good)


def _padded(values: np.ndarray, size: int, fill: float = 0) -> np.ndarray:
    """Values [n, ...] as float32 [size, ...]."""
    result = np.full((size, *values.shape[1:]), fill, np.float32)
    result[: len(values)] = values
    return result


def _at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`values[index]`, where an index may be -1 and there may be no values at all."""
    return np.append(values, values.dtype.type(0))[index]
