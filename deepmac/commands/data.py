"""`deepmac data`: what is in a directory of records, and whether it is whole."""

import collections
from pathlib import Path

import click
import cv2
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from deepmac.boxes import to_xywh
from deepmac.commands import CommandGroup
from deepmac.data.decode import decode_rgb
from deepmac.data.directory import RecordDirectory
from deepmac.data.foreign import open_with_categories
from deepmac.data.ids import id_from_text
from deepmac.data.manifest import COMMITS, MANIFEST
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
@_label_map
def show(
    directory: str, image_id: str | None, out: str | None, label_map: str | None
) -> None:
    """Show one image of DIR and its instances."""
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
    """Read every byte of DIR: checksums, counts, and whether each record decodes.

    DIR holds records (deepmac build) or predictions (deepmac label).
    """
    with announce(f"reading {directory}"):
        found = verify(directory)
    console = _console()
    for finding in found.findings:
        console.print(finding.problem, markup=False)
    if not found.findings:
        console.print(
            f"{directory}: whole; {found.num_files} files, {found.num_images} images, "
            f"{found.num_bytes} bytes",
            markup=False,
        )
        return
    damaged = found.damaged_units()
    remedy = "run the job's command again to finish it"
    if damaged and reset:
        _forget(Path(directory), damaged)
        remedy = f"forgotten: {one_of(damaged)}; run the job's command again"
    elif damaged:
        remedy = (
            "`deepmac data verify --reset`, then the job's command, make them again"
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
    _, png = cv2.imencode(".png", picture[..., ::-1])
    try:
        Path(out).write_bytes(png.tobytes())
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
