"""What training is fed: records -> batches, the same ones whoever asks, and in whatever order.

Batch k is a function of the records, the configuration, the seed and k: an iteration can begin at
any batch, with any number of threads, processes and hosts, and gives what one that began at 0 would
have given. Grain shuffles, reads ahead and shares out the work.

What one image takes while it is worked on: the record (for COCO about 130 kB, its masks as the PNG
files they came as), the decoded image, and of it two or three float32 copies in its own size; one mask at a
time is inflated, as far down as the box reaches, and of it at most 2 S x 2 S pixels are looked at. What
remains is an image of the network's size in float32 (3 MB at 512 x 512, 12.6 MB at 1024 x 1024) and M masks
of S x S. With full-resolution masks M masks of the network's size remain, one byte a pixel.
"""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import absl.flags
import cv2
import grain
import numpy as np

from deepmac.config.schema import CenterNetConfig, PipelineConfig
from deepmac.config.training_schema import AugmentationConfig
from deepmac.data.augment import Frame, Picture, augment
from deepmac.data.decode import MAX_PIXELS, decode_rgb
from deepmac.data.image_header import read_header
from deepmac.data.input_checks import (
    check_config,
    check_records,
    input_paths,
    label_ids,
    needs_masks,
    needs_points,
)
from deepmac.data.jitter import jitter_boxes
from deepmac.data.mask_targets import cut_mask, rows_needed, whole_mask
from deepmac.data.record_set import RecordSet, SourceSet, index_records, open_each
from deepmac.data.records import Columns, decode_columns
from deepmac.data.stores import Unreachable
from deepmac.errors import DataError, OptionError
from deepmac.instances import ImageId
from deepmac.resize import resize_image
from deepmac.train.batch import Batch

FARTHEST_EDGE = 1.1
"""Of a box, in fractions of the image, as the reference asserts. What is beyond was stored in pixels."""

_MOST_SKIPPED = 100  # records in a row


class InputBatch(NamedTuple):
    """A batch with what is to be known of it.

    Attributes:
        batch: for the step, NumPy arrays.
        image_ids: of its images, in order.
        counts: of the images of this batch: `images`, `instances` and `masks` (of weight above 0)
            in it; instances that were stored and are not in it, by reason: `dropped_nan_boxes`,
            `dropped_unknown_categories`, `dropped_inverted_boxes`, `dropped_outside_crop`,
            `dropped_beyond_limit` (max_number_of_boxes); `skipped_records`. Without those that are 0.
        skipped: what was wrong with the records that were skipped, one line each.
    """

    batch: Batch
    image_ids: list[ImageId]
    counts: Mapping[str, int]
    skipped: list[str]


class TrainingInput:
    """Batches for training; see `training_input`.

    Attributes:
        num_images: records that take part.
        batch_size: images of a batch, over all hosts.
        len_epoch: batches in which every image has been seen once, rounded up.
        num_batches: that there are; None for no end.
        fingerprint: of what decides which image comes when: the records, their order, the seed and the
            batch size. A run can only go on with the same one.
        category_names: by id, as far as the manifest or the label map tells.
        notes: what the configuration and the records make together that may not be meant.
    """

    def __init__(
        self,
        batches: "_Batches",
        *,
        num_images: int,
        batch_size: int,
        num_batches: int | None,
        category_names: Mapping[int, str],
        notes: Sequence[str],
    ):
        self._batches = batches
        self._open: set[Any] = set()
        self.num_images = num_images
        self.fingerprint = batches.fingerprint()
        self.batch_size = batch_size
        self.len_epoch = -(-num_images // batch_size)
        self.num_batches = num_batches
        self.category_names = dict(category_names)
        self.notes = tuple(notes)

    def iterate(self, start_batch: int = 0) -> Iterator[InputBatch]:
        """Batches from `start_batch` on, this host's part of each.

        Raises:
            DataError: a record is bad; at the batch that it belongs to.
        """
        batches = iter(self._batches.dataset(start_batch))
        self._open.add(batches)
        try:
            for batch in batches:
                yield _good(batch)
        finally:
            self._open.discard(batches)
            batches.close()

    def batch_at(self, index: int) -> InputBatch:
        """One batch, made here and now."""
        return _good(_collect(self._batches.elements(index)))

    def find(self, image_id: ImageId | None) -> int:
        """The number of the record of an image; of the first one for None. Reads until it is found.

        Raises:
            DataError: there is none, or a record is damaged.
        """
        records = self._batches.maker.records
        for number in range(len(records)):
            if image_id in (None, decode_columns(records.read(number)).image_id):
                return number
        raise DataError(f"{', '.join(records.paths)}: no image has the id {image_id!r}")

    def view(self, number: int, place: int) -> InputBatch:
        """One record as it looks at some place of the run, as a batch.

        Raises:
            DataError: the record is bad.
        """
        return _good(_collect([self._batches.maker.make(place, number)]))

    def close(self) -> None:
        """Ends the workers of all iterations."""
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> "TrainingInput":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def training_input(
    config: PipelineConfig,
    *,
    seed: int,
    batch_size: int | None = None,
    host: int = 0,
    num_hosts: int = 1,
    num_workers: int = 0,
    num_threads: int | None = None,
    reference_quirks: bool | None = None,
    on_bad_record: str = "stop",
    index_folder: str | None = None,
) -> TrainingInput:
    """Opens the records that a configuration names, and checks that they have what it needs.

    Args:
        config: `train_input_reader` says what is read, `train_config.data_augmentation_options` what is
            changed, the image resizer and the mask head what is made of it.
        seed: of everything random: the order of the images, augmentation, jitter, subsampling.
        batch_size: over all hosts; default: that of the configuration.
        host, num_hosts: each host gets its part of every batch.
        num_workers: processes that make images; 0: threads of this one.
        num_threads: in this process; default: as many as there are processors to use. Not with
            `num_workers`.
        reference_quirks: True: jitter moves the boxes of the targets alone.
        on_bad_record: `stop` at it, or `skip` to the next record that is good, and say so.
        index_folder: see `index_records`; worth it for remote records of other writers.

    Raises:
        ConfigError, DataError: something is missing; names the field, and the set.
        OptionError: an argument makes no sense.
    """
    size = config.train_config.batch_size if batch_size is None else batch_size
    _check_arguments(seed, size, host, num_hosts, num_workers, on_bad_record)
    paths = input_paths(config)
    check_config(config)
    reader = config.train_input_reader
    ids = label_ids(reader)
    sources = open_each(paths)
    records = index_records(sources, index_folder)
    if not len(records):
        raise DataError(f"{', '.join(paths)}: hold no records")
    notes = check_records(config, sources, records, ids)
    records = records.every(reader.sample_1_of_n_examples)
    maker = ElementMaker(
        records=records,
        net=config.model.center_net,
        augmentations=config.train_config.data_augmentation_options,
        num_slots=reader.max_number_of_boxes,
        num_points=reader.num_keypoints if needs_points(config.model.center_net) else 0,
        category_ids=ids,
        seed=seed,
        jitters_targets_alone=bool(reference_quirks),
        skips_bad_records=on_bad_record == "skip",
    )
    batches = _Batches(
        maker=maker,
        shuffles=reader.shuffle,
        num_epochs=reader.num_epochs or None,
        batch_size=size,
        host=host,
        num_hosts=num_hosts,
        num_workers=num_workers,
        num_threads=num_threads or len(os.sched_getaffinity(0)),
    )
    return TrainingInput(
        batches,
        num_images=len(records),
        batch_size=size,
        num_batches=reader.num_epochs * len(records) // size or None
        if reader.num_epochs
        else None,
        category_names=_names(sources, ids),
        notes=notes,
    )


def _names(
    sources: Sequence[SourceSet], ids: Mapping[str, int] | None
) -> dict[int, str]:
    names = {number: name for name, number in (ids or {}).items()}
    return names | {c.id: c.name for source in sources for c in source.categories}


def _check_arguments(
    seed: int,
    batch_size: int,
    host: int,
    num_hosts: int,
    num_workers: int,
    on_bad_record: str,
) -> None:
    if seed < 0:
        raise OptionError(f"seed must not be negative, got {seed}")
    if batch_size < 1 or num_hosts < 1 or batch_size % num_hosts:
        raise OptionError(
            f"batch_size ({batch_size}) must be a positive multiple of the number of hosts ({num_hosts})"
        )
    if not 0 <= host < num_hosts:
        raise OptionError(f"host must be in 0..{num_hosts - 1}, got {host}")
    if num_workers < 0:
        raise OptionError(f"num_workers must not be negative, got {num_workers}")
    if on_bad_record not in ("stop", "skip"):
        raise OptionError(f"on_bad_record must be stop or skip, not '{on_bad_record}'")


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
        taken = self._subsample(weights, sampling)
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
    is_finite = ~np.isnan(boxes).any(axis=1)
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


def _good(batch: InputBatch | DataError) -> InputBatch:
    if isinstance(batch, DataError):
        raise batch
    return batch


def _collect(elements: Sequence[Element | DataError]) -> InputBatch | DataError:
    """A batch, or what is wrong with the first of its images that is bad."""
    good: list[Element] = []
    counts: collections.Counter[str] = collections.Counter()
    for element in elements:
        if isinstance(element, DataError):
            return element
        good.append(element)
        counts.update(element.counts)
    columns = zip(*(element.arrays for element in good), strict=True)
    return InputBatch(
        batch=Batch(*(None if c[0] is None else np.stack(c) for c in columns)),
        image_ids=[element.image_id for element in good],
        counts=dict(counts),
        skipped=[line for element in good for line in element.skipped],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Batches:
    """The order of the images, and who makes them.

    Place g of the run, from 0, shows image `order[g]`; every epoch has an order of its own. Batch k
    is of the places k B to (k + 1) B - 1, so batches run on from one epoch into the next.
    """

    maker: ElementMaker
    shuffles: bool
    num_epochs: int | None
    batch_size: int
    host: int
    num_hosts: int
    num_workers: int
    num_threads: int

    def fingerprint(self) -> str:
        records = self.maker.records
        digest = hashlib.sha256()
        names = [path.rpartition("/")[2] for path in records.paths]
        facts = [
            names,
            self.maker.seed,
            self.shuffles,
            self.num_epochs,
            self.batch_size,
        ]
        digest.update(repr(facts).encode())
        for numbers in (records.files, records.starts, records.ends):
            digest.update(numbers.astype("<i8").tobytes())
        return digest.hexdigest()

    def places(self, start_batch: int) -> grain.MapDataset:
        """This host's images, from a batch on."""
        order = grain.MapDataset.range(len(self.maker.records))
        if self.shuffles:
            # Grain takes seed + epoch: neighbouring seeds would share their orders.
            (seed,) = np.random.SeedSequence(self.maker.seed).generate_state(1)
            order = order.shuffle(seed=int(seed))
        images = order.repeat(self.num_epochs).map_with_index(self.maker)
        first = start_batch * self.batch_size + self.host
        last = len(images) // self.batch_size * self.batch_size
        return images[first : last : self.num_hosts]

    def elements(self, index: int) -> list[Element | DataError]:
        places: Any = self.places(index)
        return [places[i] for i in range(self.batch_size // self.num_hosts)]

    def dataset(self, start_batch: int) -> grain.IterDataset:
        """Batches, or what is wrong with them, made ahead of time.

        A batch and its images are made while two whole batches wait, one of them in single images.
        """
        size = self.batch_size // self.num_hosts
        if self.num_workers:
            _settle_flags()
            reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
            working = grain.MultiprocessingOptions(
                num_workers=self.num_workers,
                per_worker_buffer_size=-(-size // self.num_workers) + 1,
            )
            images = self.places(start_batch).to_iter_dataset(reading)
            images = images.mp_prefetch(working, worker_init_fn=_alone)
        else:
            threads = self.num_threads
            reading = grain.ReadOptions(
                num_threads=threads, prefetch_buffer_size=max(2 * threads, size)
            )
            images = self.places(start_batch).to_iter_dataset(reading)
        batches = images.batch(size, drop_remainder=True, batch_fn=_collect)
        return grain.experimental.ThreadPrefetchIterDataset(
            batches, prefetch_buffer_size=1
        )


def _settle_flags() -> None:
    """Grain's processes ask for command-line flags of its own, which nobody has read here."""
    if not absl.flags.FLAGS.is_parsed():
        absl.flags.FLAGS.mark_as_parsed()


def _alone(index: int, num_workers: int) -> None:
    """A worker has one processor to itself."""
    cv2.setNumThreads(1)
