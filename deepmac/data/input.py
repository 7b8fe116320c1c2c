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
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import absl.flags
import cv2
import grain
import numpy as np

from deepmac.config.schema import PipelineConfig
from deepmac.data.elements import Element, ElementMaker
from deepmac.data.input_checks import (
    check_config,
    check_records,
    input_paths,
    label_ids,
    needs_every_instance,
    needs_points,
)
from deepmac.data.record_set import SourceSet, index_records, open_each
from deepmac.data.records import decode_columns
from deepmac.errors import DataError, OptionError
from deepmac.instances import ImageId
from deepmac.processors import num_processors
from deepmac.train.batch import Batch


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
        supervised_ids: of the categories whose masks train; None: all, as far as is known.
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
        supervised_ids: frozenset[int] | None,
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
        self.supervised_ids = supervised_ids
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
        except RuntimeError as e:
            if "Worker process was terminated" not in str(e):
                raise
            raise DataError(
                "a process that makes training images was ended from outside, perhaps for want of memory; "
                "use fewer workers or a smaller batch"
            ) from e
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
    mask_slots: int | None = None,
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
        num_threads: in this process; default: as many as there are processors to use. No more than a
            batch has images. Not with `num_workers`.
        mask_slots: M, when it is to be less than there are slots for instances: of an image so many
            instances at most take part in the masks, drawn anew each time, those whose masks train
            before others. None: all do, and the mask head works on every slot, empty or not.
        reference_quirks: True: jitter moves the boxes of the targets alone.
        on_bad_record: `stop` at it, or `skip` to the next record that is good, and say so.
        index_folder: see `index_records`; worth it for remote records of other writers.

    Raises:
        ConfigError, DataError: something is missing; names the field, and the set.
        OptionError: an argument makes no sense.
    """
    size = config.train_config.batch_size if batch_size is None else batch_size
    if num_threads is None:
        num_threads = num_processors()
    _check_arguments(seed, size, host, num_hosts, on_bad_record)
    for name, number, least in (
        ("num_workers", num_workers, 0),
        ("num_threads", num_threads, 1),
    ):
        if number < least:
            raise OptionError(f"{name} must be at least {least}, got {number}")
    if mask_slots is not None:
        _check_mask_slots(config, mask_slots)
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
    if 0 < reader.num_epochs * len(records) < size:
        raise DataError(
            f"{', '.join(paths)}: {reader.num_epochs} epochs (train_input_reader.num_epochs) of {len(records)} "
            f"images are less than a batch of {size}"
        )
    maker = ElementMaker(
        records=records,
        net=config.model.center_net,
        augmentations=config.train_config.data_augmentation_options,
        num_slots=reader.max_number_of_boxes,
        num_points=reader.num_keypoints if needs_points(config.model.center_net) else 0,
        mask_slots=mask_slots,
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
        num_threads=num_threads,
    )
    return TrainingInput(
        batches,
        num_images=len(records),
        batch_size=size,
        num_batches=reader.num_epochs * len(records) // size or None,
        category_names=_names(sources, ids),
        supervised_ids=_supervised_ids(config, sources),
        notes=notes,
    )


def _names(
    sources: Sequence[SourceSet], ids: Mapping[str, int] | None
) -> dict[int, str]:
    names = {number: name for name, number in (ids or {}).items()}
    return names | {c.id: c.name for source in sources for c in source.categories}


def _supervised_ids(
    config: PipelineConfig, sources: Sequence[SourceSet]
) -> frozenset[int] | None:
    """Categories that the configuration allows masks and the records hold masks of."""
    mask_head = config.model.center_net.deepmac_mask_estimation
    allowed = frozenset(mask_head.allowed_masked_classes_ids) or None
    if not all(source.manifest for source in sources):
        return allowed  # nobody knows what the records hold
    stored = frozenset[int]().union(
        *(source.supervised_ids for source in sources if source.num_masks)
    )
    return stored if allowed is None else stored & allowed


def _check_mask_slots(config: PipelineConfig, mask_slots: int) -> None:
    num_slots = config.train_input_reader.max_number_of_boxes
    if not 1 <= mask_slots <= num_slots:
        raise OptionError(
            f"--mask_slots must be in 1..{num_slots} (train_input_reader.max_number_of_boxes), got "
            f"{mask_slots}"
        )
    head = config.model.center_net.deepmac_mask_estimation
    if head.mask_num_subsamples > 0:
        raise OptionError(
            "--mask_slots and mask_num_subsamples both say which instances take part in the masks; "
            "give one of them"
        )
    if head.max_roi_jitter_ratio and needs_every_instance(config.model.center_net):
        raise OptionError(
            "--mask_slots: not together with max_roi_jitter_ratio and a loss that needs no masks; "
            "set the ratio or the loss's weight to 0"
        )


def _check_arguments(
    seed: int,
    batch_size: int,
    host: int,
    num_hosts: int,
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
    if on_bad_record not in ("stop", "skip"):
        raise OptionError(f"on_bad_record must be stop or skip, not '{on_bad_record}'")


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
            sorted((self.maker.category_ids or {}).items()),
        ]
        digest.update(repr(facts).encode())
        for numbers in (records.files, records.starts, records.ends):
            digest.update(numbers.astype("<i8").tobytes())
        return digest.hexdigest()

    @functools.cached_property
    def _images(self) -> grain.MapDataset:
        """The image of every place of the run; made once, since Grain describes each in text."""
        order = grain.MapDataset.range(len(self.maker.records))
        if self.shuffles:
            # Grain takes seed + epoch: neighbouring seeds would share their orders.
            (seed,) = np.random.SeedSequence(self.maker.seed).generate_state(1)
            order = order.shuffle(seed=int(seed))
        return order.repeat(self.num_epochs).map_with_index(self.maker)

    def places(self, start_batch: int) -> grain.MapDataset:
        """This host's images, from a batch on."""
        first = start_batch * self.batch_size + self.host
        last = len(self._images) // self.batch_size * self.batch_size
        return self._images[first : last : self.num_hosts]

    def elements(self, index: int) -> list[Element | DataError]:
        places: Any = self.places(index)
        return [places[i] for i in range(self.batch_size // self.num_hosts)]

    def dataset(self, start_batch: int) -> grain.IterDataset:
        """Batches, or what is wrong with them, made ahead of time.

        One batch waits, and of the next one the images wait or are being made.
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
            reading = grain.ReadOptions(
                num_threads=min(self.num_threads, size), prefetch_buffer_size=size
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
