"""`deepmac data`: what is in a directory of records, and whether it is whole."""

import collections
import math
import shlex
from pathlib import Path

import click
import cv2
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from deepmac.boxes import to_xywh
from deepmac.commands import CommandGroup
from deepmac.config.printing import quote
from deepmac.data.decode import decode_rgb
from deepmac.data.directory import RecordDirectory
from deepmac.data.foreign import open_with_categories
from deepmac.data.ids import id_from_text
from deepmac.data.manifest import COMMITS, MANIFEST
from deepmac.data.paths import require_local
from deepmac.data.verify import verify
from deepmac.errors import DataError, OptionError, one_of
from deepmac.instances import Example, Instance
from deepmac.masks import decode_rle, rle_area
from deepmac.overlays import draw
from deepmac.terminal import announce

_label_map = click.option(
    "--label_map",
    metavar="FILE",
    help="Ids of the categories, for records that other programs wrote without ids.",
)

_READER = "train_input_reader"
_INPUT_PATH = f"{_READER}.tf_record_input_reader.input_path"
_LABEL_MAP_PATH = f"{_READER}.label_map_path"


@click.group("data", cls=CommandGroup)
def command() -> None:
    """Show, count and verify records."""


@command.command()
@click.argument("directory", metavar="DIR")
@click.option(
    "--id", "image_id", help="Id of the image; default: the first one stored."
)
@click.option(
    "--out", metavar="FILE", help="Also draw it, with its masks and boxes (PNG)."
)
@click.option(
    "--augmented",
    is_flag=True,
    help="Show what the network would see of it in training: needs --pipeline_config_path and --out.",
)
@click.option(
    "--pipeline_config_path",
    "config",
    metavar="NAME|PATH",
    help="With --augmented: the configuration, by name or by file.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD.PATH=VALUE",
    help="With --augmented: set a field of the configuration. Repeatable.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With --augmented: of what is random.",
)
@click.option(
    "--num_views",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="With --augmented: how many times it is drawn.",
)
@_label_map
def show(
    directory: str,
    image_id: str | None,
    out: str | None,
    augmented: bool,
    config: str | None,
    overrides: tuple[str, ...],
    seed: int,
    num_views: int,
    label_map: str | None,
) -> None:
    """Show one image of DIR and its instances.

    With --augmented, several views of it as training makes them: boxes, and the mask targets put back
    where they were cut out. An instance whose mask trains nothing is marked "no mask".
    """
    if augmented:
        if config is None or out is None:
            raise OptionError(
                "--augmented draws with a configuration: give --pipeline_config_path and --out"
            )
        _show_augmented(
            directory, image_id, out, config, overrides, seed, num_views, label_map
        )
        return
    if config is not None or overrides:
        raise OptionError("--pipeline_config_path and --set go with --augmented")
    records = open_with_categories(directory, label_map)
    example = _find(records, image_id)
    names = {c.id: c.name for c in records.categories}
    console = _console()
    console.print(
        f"image {example.image_id!r}: {example.file_name!r}, {example.width} x {example.height} "
        f"(width x height), {len(example.encoded or b'')} bytes",
        markup=False,
    )
    columns = ("#", "annotation", "category", "x, y, width, height", "area", "mask")
    table = Table(*(Column(name, no_wrap=True) for name in columns))
    for number, instance in enumerate(example.instances):
        box = ", ".join(f"{v:.2f}" for v in to_xywh(np.array(instance.box)))
        annotation = (
            "" if instance.annotation_id is None else str(instance.annotation_id)
        )
        crowd = " (crowd)" if instance.is_crowd else ""
        category = names.get(instance.category_id, str(instance.category_id)) + crowd
        table.add_row(
            str(number),
            annotation,
            category,
            box,
            f"{instance.area:g}",
            _mask(instance),
        )
    console.print(table)
    if out:
        _write_picture(example, names, out)


def _show_augmented(
    directory: str,
    image_id: str | None,
    out: str,
    config: str,
    overrides: tuple[str, ...],
    seed: int,
    num_views: int,
    label_map: str | None,
) -> None:
    from deepmac.config.load import load_config
    from deepmac.data.input import training_input
    from deepmac.training_views import draw_view, sheet

    assignments = [*overrides, f"{_INPUT_PATH}={quote(directory)}"]
    if label_map is not None:
        assignments.append(f"{_LABEL_MAP_PATH}={quote(label_map)}")
    loaded = load_config(config, assignments)
    source = training_input(loaded, seed=seed, batch_size=1)
    number = source.find(None if image_id is None else id_from_text(image_id))
    head = loaded.model.center_net.deepmac_mask_estimation
    trainable = frozenset(head.allowed_masked_classes_ids) or None
    views = [source.view(number, place) for place in range(num_views)]
    pictures = [draw_view(v, source.category_names, trainable) for v in views]
    _write_png(sheet(pictures, columns=math.ceil(num_views**0.5)), out)
    console = _console()
    height, width = views[0].batch.images.shape[1:3]
    console.print(
        f"image {views[0].image_ids[0]!r} in {num_views} views, {height} x {width} pixels each: {out}",
        markup=False,
    )
    table = Table("view", "instances", "masks", "dropped")
    for place, view in enumerate(views):
        counts = view.counts
        dropped = ", ".join(
            f"{n} {reason.removeprefix('dropped_').replace('_', ' ')}"
            for reason, n in counts.items()
            if reason.startswith("dropped_")
        )
        masks = counts.get("masks", 0)
        numbers = (place, counts.get("instances", 0), masks)
        table.add_row(*map(str, numbers), dropped)
    console.print(table)
    for note in source.notes:
        console.print(f"note: {note}", markup=False)


@command.command()
@click.argument("directory", metavar="DIR")
@_label_map
def stats(directory: str, label_map: str | None) -> None:
    """Count images, instances and masks of DIR, by category."""
    records = open_with_categories(directory, label_map)
    names = {c.id: c.name for c in records.categories}
    counts: dict[str, collections.Counter[int]] = collections.defaultdict(
        collections.Counter
    )
    areas: dict[int, list[float]] = collections.defaultdict(list)
    sides: list[tuple[int, int]] = []
    with announce(f"reading {directory}"):
        for example in records.examples(with_masks=False):
            sides.append((example.height, example.width))
            counts["images"].update({i.category_id for i in example.instances})
            for instance in example.instances:
                category_id = instance.category_id
                counts["instances"][category_id] += 1
                counts["crowds"][category_id] += instance.is_crowd
                counts["masks"][category_id] += instance.mask_weight > 0
                areas[category_id].append(instance.area)
    columns = ("images", "instances", "crowds", "masks")
    table = Table("id", "category", *columns, "median area")
    for category_id in sorted({*names, *counts["instances"]}):
        numbers = [str(counts[column][category_id]) for column in columns]
        median = f"{np.median(areas[category_id]):.0f}" if areas[category_id] else ""
        table.add_row(str(category_id), names.get(category_id, ""), *numbers, median)
    console = _console()
    console.print(table)
    num_instances = counts["instances"].total()
    num_masks = counts["masks"].total()
    console.print(
        f"{len(sides)} images in {len(records.shards)} shards, {num_instances} instances, "
        f"{num_masks} with a mask, {num_instances - num_masks} without"
        + (f"; split {records.split}" if records.split is not None else ""),
        markup=False,
    )
    if sides:
        (low_h, low_w), (high_h, high_w) = np.min(sides, axis=0), np.max(sides, axis=0)
        console.print(f"heights {low_h} to {high_h}, widths {low_w} to {high_w} pixels")


@command.command("verify")
@click.argument("directory", metavar="DIR")
@click.option(
    "--reset",
    is_flag=True,
    help="Forget the damaged units, so that the job's command makes them again.",
)
def verify_(directory: str, reset: bool) -> None:
    """Prove DIR complete: every unit, byte, count, image and dead letter of its job.

    DIR holds records (deepmac build) or predictions (deepmac label), finished or not. What is missing,
    damaged or not of the job is named, with the command that makes it good. Records of other programs
    are decoded.
    """
    with announce(f"reading {directory}"):
        found = verify(directory)
    console = _console()
    for finding in found.findings:
        console.print(finding.problem, markup=False)
    if not found.findings:
        console.print(
            f"{directory}: whole; {found.num_files} files, {found.num_images} images, "
            f"{found.num_bytes} bytes"
            + (f"; {found.num_failed} more failed" if found.num_failed else ""),
            markup=False,
        )
        return
    damaged = found.damaged_units()
    remedy = "run the job's command again to finish it"
    if all(finding.is_stray for finding in found.findings):
        remedy = "delete what is not of this job"
    elif found.command is not None:
        console.print(
            f"the job's command, given in {found.command[1]}: {found.command[0]}",
            markup=False,
        )
    if damaged and reset:
        _forget(Path(directory), damaged)
        remedy = f"forgotten: {one_of(damaged)}; run the job's command again"
    elif damaged:
        remedy = (
            f"`deepmac data verify --reset {shlex.quote(directory)}`, then the job's command, make "
            f"them again"
        )
    raise DataError(
        f"{directory}: not whole, see above ({len(found.findings)}); {remedy}"
    )


def _find(records: RecordDirectory, image_id: str | None) -> Example:
    wanted = None if image_id is None else id_from_text(image_id)
    for example in records.examples():
        if wanted is None or example.image_id == wanted:
            return example
    if wanted is None:
        raise DataError(f"{records.path}: holds no image")
    raise OptionError(f"{records.path}: no image has the id {wanted!r}")


def _mask(instance: Instance) -> str:
    if instance.mask_rle is None:
        return "none"
    return f"{rle_area(instance.mask_rle)} pixels"


def _write_picture(example: Example, names: dict[int, str], out: str) -> None:
    instances = example.instances
    picture = draw(
        decode_rgb(example.encoded or b""),
        masks=[decode_rle(i.mask_rle) if i.mask_rle else None for i in instances],
        boxes=np.array([i.box for i in instances]).reshape(-1, 4),
        labels=[
            f"{n} {names.get(i.category_id, i.category_id)}"
            for n, i in enumerate(instances)
        ],
    )
    _write_png(picture, out)


def _write_png(picture: np.ndarray, out: str) -> None:
    _, png = cv2.imencode(".png", picture[..., ::-1])
    try:
        Path(require_local(out)).write_bytes(png.tobytes())
    except OSError as e:
        raise OptionError(f"--out {out}: cannot be written: {e.strerror}") from e


def _forget(root: Path, units: list[str]) -> None:
    (root / MANIFEST).unlink(missing_ok=True)
    for unit in units:
        (root / COMMITS / f"{unit}.json").unlink(missing_ok=True)


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no edge to fit into
    return console
