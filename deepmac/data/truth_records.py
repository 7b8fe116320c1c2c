"""Records as the COCO data set that they were made of, for evaluation."""

from typing import Any

from deepmac.data.directory import RecordDirectory
from deepmac.instances import AnnotationId, Example, Instance


def as_coco(records: RecordDirectory, *, with_masks: bool) -> dict[str, Any]:
    """The images, annotations and categories of records, without the pictures.

    Boxes and areas are what float32 leaves of the originals, so boxes differ in the last digits
    and an object at the very edge of an area range may change sides; masks are exact. An object
    whose mask the split hides, or that never had one, has no `segmentation`.

    Args:
        records: the directory.
        with_masks: decode the masks at all.
    """
    images, annotations = [], []
    for example in records.examples(with_masks=with_masks):
        images.append(
            {
                "id": example.image_id,
                "file_name": example.file_name,
                "height": example.height,
                "width": example.width,
            }
        )
        annotations += [
            _annotation(example, number, instance)
            for number, instance in enumerate(example.instances)
        ]
    if any(isinstance(image["id"], str) for image in images):
        # Records store ids as text; where one is no number, all of them were text.
        for entry, key in [(i, "id") for i in images] + [
            (a, "image_id") for a in annotations
        ]:
            entry[key] = str(entry[key])
    names = {c.id: c.name for c in records.categories}
    if not names:
        names = {a["category_id"]: str(a["category_id"]) for a in annotations}
    categories = [{"id": i, "name": name} for i, name in sorted(names.items())]
    return {"images": images, "annotations": annotations, "categories": categories}


def annotation_id_of(example: Example, number: int) -> AnnotationId:
    """The id of an instance; for one without, an id made from that of the image and its place."""
    annotation_id = example.instances[number].annotation_id
    return f"{example.image_id}/{number}" if annotation_id is None else annotation_id


def _annotation(example: Example, number: int, instance: Instance) -> dict[str, Any]:
    ymin, xmin, ymax, xmax = instance.box
    annotation = {
        "id": annotation_id_of(example, number),
        "image_id": example.image_id,
        "category_id": instance.category_id,
        "bbox": [xmin, ymin, xmax - xmin, ymax - ymin],
        "area": instance.area,
        "iscrowd": int(instance.is_crowd),
    }
    if instance.mask_rle is not None:
        annotation["segmentation"] = instance.mask_rle
    return annotation
