"""The work of the `label` job: one unit of images -> one file of COCO results."""

import collections
import dataclasses
import functools
import gzip
import io
import posixpath
import time
from collections.abc import Collection, Iterator, Mapping, Set
from typing import Any

from deepmac.data.assemble import Assembler, Assembly
from deepmac.data.coco import InstanceReader
from deepmac.data.failures import Failure
from deepmac.data.files import reading
from deepmac.data.image_source import ImageSource
from deepmac.data.records import decode_example
from deepmac.data.splits import HIDE_ALL
from deepmac.data.tfrecord import read_frames
from deepmac.errors import DataError
from deepmac.instances import Example
from deepmac.label import ImageLabels, Settings, label_images
from deepmac.predictors import open_predictor
from deepmac.predictors.checked import CheckedPredictor
from deepmac.stage_times import StageTimes
from pipelines.dead_letters import DeadLetter
from pipelines.json_lines import dump_line
from pipelines.units import Unit, UnitReport

_OF_BOXES = (
    "annotations_in", "annotations_failed", "annotations_of_failed_images",
    "annotations_without_id", "boxes_clipped",
)  # fmt: skip
_OF_IMAGES = (
    "images_in", "images_failed", "image_bytes", "images_greyscale", "images_cmyk",
    "images_16_bit", "images_turned", "sizes_mended", "names_not_utf8",
)  # fmt: skip


@functools.lru_cache(maxsize=1)
def open_shared(model: str, options: tuple[tuple[str, Any], ...]) -> CheckedPredictor:
    """The process's one copy of a predictor; see `open_predictor`."""
    return open_predictor(model, **dict(options))


@dataclasses.dataclass(kw_only=True)
class LabelWork:
    """A unit of the job: a range of images with their boxes, or a shard -> COCO results.

    The counts satisfy images_in = images_out + images_failed and, for given boxes, annotations_in
    = masks_out + crowds + annotations_failed + annotations_of_failed_images.

    Attributes:
        model, model_options: see `open_predictor`.
        settings: see `label_images`.
        images: see `ImageSource`; None where the units are shards.
        from_records: the units are shards of records, not ranges of images.
        category_names: of the ids of the data set; empty if it does not say.
        repeats: see `Assembler`.
        out_of_bounds: see `InstanceReader`.
        source, predictor: opened by `setup`.
    """

    model: str
    model_options: tuple[tuple[str, Any], ...]
    settings: Settings
    images: str | None
    from_records: bool
    category_names: Mapping[int, str]
    repeats: Set[int]
    out_of_bounds: str
    source: ImageSource | None = None
    predictor: CheckedPredictor | None = None

    def data_name(self, unit_name: str) -> str:
        return f"{unit_name}.jsonl.gz"

    def setup(self) -> None:
        if self.images is not None:
            self.source = ImageSource(self.images)
        self.predictor = open_shared(self.model, self.model_options)

    def process(self, unit: Unit, out: io.RawIOBase) -> UnitReport:
        assert self.predictor, "setup comes first"
        assembly, tally = Assembly(), _Tally(self.category_names)
        times = StageTimes()
        examples = self.examples(unit, assembly, times)
        # No time and no name in the header: equal results give equal files.
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0) as file:
            for done in label_images(examples, self.predictor, self.settings, times):
                with times.of("write"):
                    for row in done.rows:
                        file.write(dump_line(row))
                tally.note(done)
        failures = (*assembly.failures, *tally.failures)
        letters = [
            DeadLetter(job="label", unit=unit.name, **dataclasses.asdict(failure))
            for failure in failures
        ]
        counts = tally.counts(assembly, self.settings.detect)
        return UnitReport(counts, letters, times=times)

    def examples(
        self, unit: Unit, assembly: Assembly, times: StageTimes | None = None
    ) -> Iterator[Example]:
        """The images of a unit with their boxes; failures and counts go into `assembly`."""
        times = times or StageTimes()
        reader = InstanceReader(
            frozenset(self.category_names), HIDE_ALL, self.out_of_bounds
        )
        if self.from_records:
            (item,) = unit.items
            return read_shard(
                item["shard"],
                item["num_images"],
                None if self.settings.detect else reader,
                self.category_names,
                assembly,
                times,
            )
        assert self.images, "units of images have a place to read them from"
        source = self.source or ImageSource(self.images)
        assembler = Assembler(
            read_images=source.read_each,
            reader=reader,
            repeats=self.repeats,
            max_pixels=self.settings.max_pixels,
            times=times,
        )
        return assembler.examples(unit.items, assembly)


class _Tally:
    """What became of the images of a unit.

    Detections of categories that the data set does not have are kept, and counted: evaluators
    leave them out, but not every user is one.
    """

    def __init__(self, category_ids: Collection[int]):
        self.failures: list[Failure] = []
        self._category_ids = category_ids  # empty where the input names none
        self._counts: collections.Counter[str] = collections.Counter()

    def note(self, done: ImageLabels) -> None:
        self._counts["masks_empty"] += done.num_empty
        self._counts["masks_out"] += len(done.rows)
        if self._category_ids:
            self._counts["masks_of_unknown_category"] += sum(
                row["category_id"] not in self._category_ids for row in done.rows
            )
        if done.failure is None:
            self._counts["crowds"] += done.num_crowds
        else:
            self.failures.append(done.failure)
            self._counts["images_failed"] += 1
            self._counts["annotations_of_failed_images"] += done.num_boxes

    def counts(self, assembly: Assembly, detect: bool) -> dict[str, int]:
        """Together with what became of them before; boxes count only where they matter."""
        total = self._counts.copy()
        for name in _OF_IMAGES if detect else (*_OF_IMAGES, *_OF_BOXES):
            total[name] += assembly.counts[name]
        if detect:
            del total["crowds"], total["annotations_of_failed_images"]
        total["images_out"] = total["images_in"] - total["images_failed"]
        always = ("images_in", "images_out", "images_failed", "masks_out")
        return {name: total[name] for name in {*+total, *always}}


def read_shard(
    path: str,
    num_images: int | None,
    reader: InstanceReader | None,
    category_names: Mapping[int, str],
    into: Assembly,
    times: StageTimes | None = None,
) -> Iterator[Example]:
    """The images of a shard with their boxes. A record that cannot be read costs only itself.

    Where the file itself cannot be read, nothing is known of its records: that is Unreachable.

    Args:
        path: of the shard.
        num_images: in it, as the manifest says; None if unknown.
        reader: checks the boxes. If it knows no categories, any will do. None: leave out the boxes.
        category_names: of the ids, for records that hold names alone.
        into: failures and counts, filled as the examples are taken.
        times: filled with those of the stages `read` and `check` (the record and its boxes).
    """
    times = times or StageTimes()
    category_ids = {name: number for number, name in category_names.items()} or None
    name = posixpath.basename(path)
    with reading(path) as file:
        frames = enumerate(read_frames(file, name))
        index = -1
        while True:
            started = time.perf_counter_ns()
            try:
                index, (offset, data) = next(frames)
            except StopIteration:
                # Cut off between two records, a file is as whole as any.
                if lost := max((num_images or 0) - index - 1, 0):
                    message = f"{name}: ends after {index + 1} of {num_images} images"
                    _fail(lost, "shard_damaged", message, into)
                return
            except DataError as e:
                # Where one record ends and the next begins is not known any more.
                lost = max((num_images or 0) - index - 1, 1)
                _fail(
                    lost, "shard_damaged", f"{e}; {lost} or more images are lost", into
                )
                return
            read = time.perf_counter_ns()
            times.note("read", read - started)
            try:
                example = decode_example(
                    data, category_ids=category_ids, with_masks=False
                )
            except DataError as e:
                where = f"{name}: record {index} at byte {offset}"
                _fail(1, "record_malformed", f"{where}: {e}", into)
                continue
            into.counts["images_in"] += 1
            example = _with_checked_boxes(example, reader, into)
            times.note("check", time.perf_counter_ns() - read)
            yield example


def _fail(num_images: int, reason: str, message: str, into: Assembly) -> None:
    into.counts["images_in"] += num_images
    into.counts["images_failed"] += num_images
    into.failures.append(Failure(None, None, "record", reason, "DataError", message))


def _with_checked_boxes(
    example: Example, reader: InstanceReader | None, into: Assembly
) -> Example:
    if reader is None:
        return dataclasses.replace(example, instances=())
    if not reader.category_ids:
        known = frozenset(i.category_id for i in example.instances)
        reader = dataclasses.replace(reader, category_ids=known)
    height, width = example.height, example.width
    read = reader.check(example.image_id, height, width, example.instances)
    into.counts["annotations_in"] += len(example.instances)
    into.counts.update(read.counts)
    into.failures.extend(read.failures)
    return dataclasses.replace(example, instances=tuple(read.instances))
