"""What an evaluation takes for the truth: a file of COCO annotations, or records."""

import dataclasses
from typing import Any

import numpy as np

from deepmac.data.coco import LISTS, stream_dataset
from deepmac.data.files import file_size, is_folder
from deepmac.data.json_file import read_json
from deepmac.data.truth_records import as_coco
from deepmac.errors import OptionError

_LARGE = 100 << 20  # bytes of a file that is not read whole
_NEEDED = frozenset(
    {
        *("id", "image_id", "category_id", "iscrowd", "ignore", "area", "bbox"),
        *("segmentation", "height", "width", "file_name", "name", "supercategory"),
        *("neg_category_ids", "not_exhaustive_category_ids", "coco_url"),
    }
)


@dataclasses.dataclass(frozen=True)
class OpenedTruth:
    """A ground truth as its JSON would hold it.

    Attributes:
        dataset: images, annotations, categories.
        where: the beginning of error sentences.
        supervised_ids: categories that keep their masks in the records; None otherwise.
    """

    dataset: Any
    where: str
    supervised_ids: frozenset[int] | None


def open_truth(path: str, label_map: str | None, *, with_masks: bool) -> OpenedTruth:
    """Reads a ground truth.

    Args:
        path: of a COCO JSON file (`.gz` too) or of a directory of records.
        label_map: ids of the categories, for records that other programs wrote without ids.
        with_masks: read the masks of records.

    Raises:
        OptionError: there is a label map, and no records.
        DataError: it cannot be read.
    """
    if not is_folder(path):
        if label_map is not None:
            raise OptionError(
                f"label_map is for a directory of records, and {path} is none"
            )
        large = (file_size(path) or 0) > _LARGE
        return OpenedTruth(_read_large(path) if large else read_json(path), path, None)
    # Here, because it takes a tenth of a second that a file of annotations can do without
    from deepmac.data.foreign import open_with_categories

    records = open_with_categories(path, label_map)
    dataset = as_coco(records, with_masks=with_masks)
    ids = {c.id for c in records.categories}
    supervised = records.supervised_ids
    hides = supervised is not None and not ids <= supervised
    split = " (whose split hides masks)" if hides else ""
    return OpenedTruth(dataset, path + split, supervised if hides else None)


def _read_large(path: str) -> dict[str, list[Any]]:
    """What of a COCO data set an evaluation needs, in a third of the memory of all of it.

    The file is read a piece at a time, and the numbers of polygons are kept in arrays.
    """
    dataset: dict[str, list[Any]] = {kind: [] for kind in LISTS}
    for entries in stream_dataset(path):
        dataset[entries.kind] += map(_reduced, entries.values)
    return dataset


def _reduced(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry  # an error, to be told by whoever reads the entries
    entry = {key: entry[key] for key in entry.keys() & _NEEDED}
    polygons = entry.get("segmentation")
    if isinstance(polygons, list) and all(map(_is_polygon, polygons)):
        entry["segmentation"] = [np.array(p, np.float64) for p in polygons]
    return entry


def _is_polygon(value: Any) -> bool:
    if not isinstance(value, list) or not {int, float}.issuperset(map(type, value)):
        return False
    return all(abs(number) < 2.0**53 for number in value)
