"""Annotations and images -> shards of records in which a split's categories keep their masks."""

import collections
import dataclasses
import io
import sys
from collections.abc import Mapping, Set
from typing import Any

import deepmac
from deepmac.commands import command_line, from_options, option, run
from deepmac.data.assemble import Assembler, Assembly
from deepmac.data.coco import OUT_OF_BOUNDS, InstanceReader
from deepmac.data.decode import MAX_PIXELS
from deepmac.data.files import absolute
from deepmac.data.image_source import ImageSource
from deepmac.data.manifest import RECORDS, file_sha256
from deepmac.data.records import encode_example
from deepmac.data.splits import HIDE_ALL, Split, split_name
from deepmac.errors import OptionError
from deepmac.stage_times import StageTimes
from deepmac.terminal import announce
from pipelines.build_plan import NoWriter, plan_build
from pipelines.dead_letters import DeadLetter, conclude
from pipelines.preflight import Problems, check_fraction, check_output, check_readable
from pipelines.shards import ShardWriter, shard_names
from pipelines.storage import hold_output
from pipelines.units import PlanWriter, Totals, Unit, UnitReport, finish, run_units


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Turns COCO annotations and images into sharded records.

    Every category keeps its boxes; the categories of the split keep their masks too. A job that
    was stopped goes on where it was when the same command is given again.
    """

    annotations: str = option("COCO annotation file (JSON).", metavar="FILE")
    images: str = option(
        "Directory of the image files, or a pattern of directories or files.",
        metavar="DIR|GLOB",
    )
    out: str = option("Directory to write to.", metavar="DIR")
    split: str = option(
        "Categories that keep their masks: voc, non_voc, all, names with commas, or @FILE.",
        default="all",
    )
    num_shards: int = option("Number of output files.", default=32)
    name: str = option("Beginning of the output files' names.", default="records")
    out_of_bounds: str = option(
        "Boxes that reach beyond the image: cut them, or drop the annotation as the reference does.",
        default="clip",
        choices=OUT_OF_BOUNDS,
    )
    masks: bool = option("Store masks at all.", default=True)
    verify_images: bool = option(
        "Decode every image; otherwise headers, sizes and end markers are checked.",
        default=False,
    )
    max_pixels: int = option("Images with more pixels fail.", default=MAX_PIXELS)
    max_failed_fraction: float = option(
        "Exit with status 3 when more of the images fail.", default=0.01
    )
    verbose: bool = option("Show what Beam logs.", default=False)


def execute(options: Options, beam_args: list[str]) -> int:
    """Builds the records; returns the exit status."""
    from pipelines import launch  # Beam takes its time to load, and --help needs none

    beam_options = launch.parse_beam_args(beam_args, Options)
    units = _check(options)
    identity = _identity(options)

    def plan(writer: PlanWriter) -> dict[str, Any]:
        with announce(f"reading {options.annotations}"):
            return plan_build(
                options.annotations, options.images, options.split, units, writer
            )

    with hold_output(options.out) as output:
        totals = run_units(
            output,
            job="build",
            plan=plan,
            work=lambda context: _work(options, context),
            options=identity,
            inputs={"images": absolute(options.images)},
            beam_options=beam_options,
            command=command_line("deepmac build", options, beam_args),
            verbose=options.verbose,
        )
        finish(output, make_manifest(identity, totals))
    return conclude(totals, options.max_failed_fraction, out=options.out)


command = from_options("build", Options, execute)


def main(argv: list[str] | None = None) -> int:
    """`python -m pipelines.build_dataset`: the job's options and Beam's, mixed."""
    mixed = from_options("build_dataset", Options, execute, mix_in_unknown=True)
    return run(mixed, argv, "python -m pipelines.build_dataset")


@dataclasses.dataclass(kw_only=True)
class BuildWork:
    """A unit of the job: the entries of one shard -> that shard.

    Attributes:
        images: see `ImageSource`.
        category_names: of the ids of the data set.
        split: which categories keep their masks.
        repeats: see `Assembler`.
        out_of_bounds, masks, verify_images, max_pixels: as in `Options`.
        source: opened by `setup`: a pattern is matched once per process, not once per unit.
    """

    images: str
    category_names: Mapping[int, str]
    split: Split
    repeats: Set[int]
    out_of_bounds: str
    masks: bool
    verify_images: bool
    max_pixels: int
    source: ImageSource | None = None

    def data_name(self, unit_name: str) -> str:
        return f"{unit_name}.tfrecord"

    def setup(self) -> None:
        self.source = ImageSource(self.images)

    def process(self, unit: Unit, out: io.RawIOBase) -> UnitReport:
        assert self.source, "setup comes first"
        assembler = Assembler(
            read_images=self.source.read_each,
            reader=InstanceReader(
                frozenset(self.category_names),
                self.split if self.masks else HIDE_ALL,
                self.out_of_bounds,
            ),
            repeats=self.repeats,
            max_pixels=self.max_pixels,
            verify_images=self.verify_images,
            times=(times := StageTimes()),
        )
        assembly, shard, image_ids = Assembly(), ShardWriter(out), []
        for example in assembler.examples(unit.items, assembly):
            with times.of("encode"):
                record = encode_example(
                    example, self.category_names, with_masks=self.masks
                )
            with times.of("write"):
                shard.write(record)
            image_ids.append(example.image_id)
        letters = [
            DeadLetter(job="build", unit=unit.name, **dataclasses.asdict(failure))
            for failure in assembly.failures
        ]
        details = {"image_ids": image_ids, "offsets": shard.offsets}
        return UnitReport(_positive(assembly.counts), letters, details, times)


def make_manifest(identity: Mapping[str, Any], totals: Totals) -> dict[str, Any]:
    """What the directory holds: a function of the input, the options and the package version."""
    context = totals.context
    return {
        **RECORDS.head(),
        "deepmac": deepmac.__version__,
        "options": dict(identity),
        "split": identity["split"],
        "supervised_category_ids": context["supervised_ids"],
        "categories": [{"id": i, "name": name} for i, name in context["categories"]],
        "counts": totals.counts,
        RECORDS.files: [
            RECORDS.entry(
                unit.data_name, unit.data_bytes, unit.data_sha256, unit.counts
            )
            for unit in totals.units
        ],
    }


def _check(options: Options) -> list[str]:
    """Finds all that can be found before any work; returns the names of the units."""
    problems, units = Problems(), ["none"]
    with problems.noting():
        units = shard_names(options.name, options.num_shards)
    with problems.noting():
        check_fraction("max_failed_fraction", options.max_failed_fraction)
    with problems.noting():
        if options.max_pixels < 1:
            raise OptionError(
                f"--max_pixels must be positive, got {options.max_pixels}"
            )
    with problems.noting():
        check_output(options.out)
    with problems.noting():
        split_name(options.split)
    with problems.noting():
        ImageSource(options.images)
    with problems.noting():
        check_readable(options.annotations)
    if problems:
        # The job will not run; what is wrong inside the file is worth telling all the same.
        with problems.noting():
            plan_build(
                options.annotations, options.images, options.split, units, NoWriter()
            )
    problems.raise_any()
    return units


def _identity(options: Options) -> dict[str, Any]:
    """The options that decide the bytes, with the annotation file as its digest."""
    return {
        "annotations_sha256": file_sha256(options.annotations),
        "split": split_name(options.split),
        "num_shards": options.num_shards,
        "name": options.name,
        "out_of_bounds": options.out_of_bounds,
        "masks": options.masks,
        "verify_images": options.verify_images,
        "max_pixels": options.max_pixels,
    }


def _work(options: Options, context: Mapping[str, Any]) -> BuildWork:
    supervised = frozenset(context["supervised_ids"])
    return BuildWork(
        images=absolute(options.images),
        category_names=dict(context["categories"]),
        split=Split(split_name(options.split), supervised),
        repeats=frozenset(context["repeats"]),
        out_of_bounds=options.out_of_bounds,
        masks=options.masks,
        verify_images=options.verify_images,
        max_pixels=options.max_pixels,
    )


def _positive(counts: collections.Counter[str]) -> dict[str, int]:
    """The counts that are not 0, and always those of the images."""
    always = ("images_in", "images_out", "images_failed")
    return {key: counts[key] for key in sorted({*+counts, *always})}


if __name__ == "__main__":
    # What travels to workers must come from the module of that name, not from `__main__`.
    from pipelines.build_dataset import main as start

    sys.exit(start())
