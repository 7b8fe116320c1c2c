"""What `label --review` writes: a page of the masks that a person should look at."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from deepmac.data.assemble import Assembly
from deepmac.data.coco import read_image_entry
from deepmac.data.decode import decode_rgb
from deepmac.data.directory import RecordDirectory
from deepmac.data.failures import Unusable
from deepmac.data.ids import id_order
from deepmac.data.image_source import ImageSource
from deepmac.data.json_stream import stream_members
from deepmac.data.paths import printable
from deepmac.errors import DataError
from deepmac.instances import ImageId
from deepmac.review import Chosen, choose, draw_picture, num_lowest
from deepmac.review_page import Card, NotShown, introduction, render_review
from pipelines.build_plan import joint_id
from pipelines.label_exports import read_rows
from pipelines.label_work import read_shard
from pipelines.storage import Output
from pipelines.units import Totals

REVIEW = "review.html"

Stored = tuple[ImageId, str, bytes | Unusable]
"""An image: id, file name, and the encoded bytes or why there are none."""

ReadImages = Callable[[Mapping[ImageId, Sequence[Chosen]]], Iterator[Stored]]
"""Finds the images of chosen masks, in any order; those it does not find it leaves out."""


def write_review(
    output: Output,
    totals: Totals,
    read_images: ReadImages,
    *,
    limit: int,
    max_pixels: int,
) -> str:
    """Writes `review.html`: the lowest-scored masks of a finished job, and some at random.

    Keeps in memory what is chosen, some 20 kB a mask, and one image.

    Args:
        output, totals: of the job.
        read_images: `images_of_files` or `images_of_records`.
        limit: the most of the lowest-scored masks.
        max_pixels: larger images are not shown.

    Returns:
        What was written, in a line.
    """
    num_masks = totals.counts["masks_out"]
    rows = (
        (unit.name, row) for unit in totals.units for row in read_rows(output, unit)
    )
    by_image: dict[ImageId, list[Chosen]] = {}
    for mask in choose(rows, num_lowest(num_masks, limit)):
        by_image.setdefault(mask.row["image_id"], []).append(mask)
    names = {number: printable(name) for number, name in totals.context["categories"]}
    cards, not_shown = _draw(by_image, read_images(by_image), names, max_pixels)
    num_low_of_all = num_lowest(num_masks, num_masks)
    page = render_review(
        cards, not_shown, num_masks=num_masks, num_low_of_all=num_low_of_all
    )
    # Ids and names may hold halves of surrogate pairs.
    output.write(REVIEW, page.encode("utf-8", "backslashreplace"))
    told = introduction(cards, num_masks, num_low_of_all)
    if lost := sum(image.num_masks for image in not_shown):
        told += f" {lost:,} chosen could not be shown; the page names their images."
    return f"{REVIEW}: {told}"


def images_of_files(annotations: str, images: str) -> ReadImages:
    """Finds images by the list of an annotation file, which is read up to the last one wanted."""

    def read(by_image: Mapping[ImageId, Sequence[Chosen]]) -> Iterator[Stored]:
        source, wanted = ImageSource(images), set(by_image)
        if not wanted:
            return
        for key, position, entry in stream_members(annotations):
            if key != "images" or position is None:
                continue
            image_id = joint_id(entry, "id")
            if image_id not in wanted:
                continue
            wanted.remove(image_id)
            name = str(image_id)
            encoded: bytes | Unusable
            try:
                names = read_image_entry(image_id, entry).names
                name = names[0]
                encoded = source.read(*names)
            except Unusable as e:
                encoded = e
            yield image_id, name, encoded
            if not wanted:
                return

    return read


def images_of_records(directory: RecordDirectory, totals: Totals) -> ReadImages:
    """Finds images in the shards that chosen masks come from."""
    shards = dict(
        zip((u.name for u in totals.units), directory.shards, strict=True)
    )  # a unit for each shard, both in the order of their names
    names = dict(totals.context["categories"])

    def read(by_image: Mapping[ImageId, Sequence[Chosen]]) -> Iterator[Stored]:
        wanted = collections.defaultdict(set)
        for image_id, masks in by_image.items():
            wanted[masks[0].unit].add(image_id)
        for unit, image_ids in wanted.items():
            shard = shards[unit]
            images = read_shard(shard.path, shard.num_images, None, names, Assembly())
            for example in images:
                if example.image_id not in image_ids:
                    continue
                image_ids.remove(example.image_id)
                missing = Unusable("image_missing", "the record holds no encoded image")
                encoded = example.encoded or missing
                yield example.image_id, example.file_name, encoded
                if not image_ids:
                    break

    return read


def _draw(
    by_image: Mapping[ImageId, Sequence[Chosen]],
    images: Iterable[Stored],
    category_names: Mapping[int, str],
    max_pixels: int,
) -> tuple[list[Card], list[NotShown]]:
    """The masks that can be shown, the lowest score first, and the images of those that cannot."""
    cards: dict[int, Card] = {}
    reasons = dict.fromkeys(by_image, "it is not in the input any more")
    for image_id, file_name, encoded in images:
        try:
            if isinstance(encoded, Unusable):
                raise encoded
            pixels = decode_rgb(encoded, max_pixels)
            cards |= {
                id(mask): _card(mask, pixels, file_name, category_names)
                for mask in by_image[image_id]
            }
            del reasons[image_id]
        except DataError as e:
            reasons[image_id] = str(e)
    masks = [mask for masks in by_image.values() for mask in masks]
    shown = [cards[id(m)] for m in masks if id(m) in cards]
    not_shown = [
        NotShown(image_id, len(by_image[image_id]), reasons[image_id])
        for image_id in sorted(reasons, key=id_order)
    ]
    return sorted(shown, key=lambda card: card.score), not_shown


def _card(
    mask: Chosen, pixels: Any, file_name: str, category_names: Mapping[int, str]
) -> Card:
    row, category_id = mask.row, mask.row["category_id"]
    return Card(
        picture=draw_picture(pixels, row),
        image_id=row["image_id"],
        annotation_id=row.get("annotation_id"),
        rank=mask.rank,
        file_name=printable(file_name),
        category=category_names.get(category_id, f"category {category_id}"),
        score=row["score"],
        is_low=mask.is_low,
        is_random=mask.is_random,
    )
