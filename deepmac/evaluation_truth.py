"""What an evaluation takes for the truth: a file of COCO annotations, or records."""

import dataclasses
from typing import Any

from deepmac.data.files import is_folder
from deepmac.data.json_file import read_json
from deepmac.data.truth_records import as_coco
from deepmac.errors import OptionError


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
        return OpenedTruth(read_json(path), path, None)
    # Here, because it takes a tenth of a second that a file of annotations can do without
    from deepmac.data.foreign import open_with_categories

    records = open_with_categories(path, label_map)
    dataset = as_coco(records, with_masks=with_masks)
    ids = {c.id for c in records.categories}
    supervised = records.supervised_ids
    hides = supervised is not None and not ids <= supervised
    split = " (whose split hides masks)" if hides else ""
    return OpenedTruth(dataset, path + split, supervised if hides else None)
