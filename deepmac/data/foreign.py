"""Records of other writers, which may name categories and leave it to a label map to number them."""

import contextlib
import dataclasses
import itertools

from deepmac.categories import COCO_CATEGORIES, Category
from deepmac.config.label_map import load_label_map
from deepmac.data.directory import RecordDirectory, open_records
from deepmac.data.files import reading
from deepmac.data.records import stored_categories
from deepmac.data.tfrecord import read_frames
from deepmac.errors import DataError, OptionError, did_you_mean, one_of
from deepmac.text import one_line

# Looked at: the first records with objects of the first shards.
_SHARDS, _RECORDS = 8, 16


def open_with_categories(path: str, label_map: str | None = None) -> RecordDirectory:
    """Opens records and finds out what their categories are.

    A manifest tells. Without one, the label map does; without that too, records whose first
    categories are all COCO's are taken for COCO. Others must have ids of their own, and then
    `categories` stays empty.

    Args:
        path: see `open_records`.
        label_map: file of names and ids, for records without a manifest.

    Raises:
        OptionError: there is a manifest and a label map.
        ConfigError: the label map cannot be read.
        DataError: see `open_records`; or the records hold names whose ids nobody tells.
    """
    records = open_records(path)
    if records.manifest:
        if label_map is not None:
            raise OptionError(
                f"--label_map: the manifest of {path} names its categories already"
            )
        return records
    return with_categories(records, label_map)


def with_categories(records: RecordDirectory, label_map: str | None) -> RecordDirectory:
    """`open_with_categories` for records without a manifest that have been opened."""
    path = records.path
    stored = _sample(records)
    if label_map is not None:
        categories = load_label_map(label_map)
        _check(stored, categories, path, label_map)
    elif stored and _fit(stored, COCO_CATEGORIES):
        categories = COCO_CATEGORIES
    else:
        unknown = sorted({name for number, name in stored if number is None})
        if unknown:
            raise DataError(
                f"{path}: the records hold category names ({one_of(map(one_line, unknown))}) but no ids, and not "
                f"all of them are COCO's; give a label map with --label_map"
            )
        categories = ()
    in_order = tuple(sorted(categories, key=lambda c: c.id))
    return dataclasses.replace(records, categories=in_order)


def _sample(records: RecordDirectory) -> set[tuple[int | None, str]]:
    """(id or None, name or '') of the categories in some records."""
    found = set()
    for shard in records.shards[:_SHARDS]:
        # What is damaged is told by whoever reads all of it.
        with reading(shard.path) as file, contextlib.suppress(DataError):
            each = (stored_categories(data) for _, data in read_frames(file, ""))
            found.update(*itertools.islice(filter(None, each), _RECORDS))
    return found


def _fit(stored: set[tuple[int | None, str]], categories: tuple[Category, ...]) -> bool:
    ids = {c.name: c.id for c in categories}
    return all(name in ids and number in (None, ids[name]) for number, name in stored)


def _check(
    stored: set[tuple[int | None, str]],
    categories: tuple[Category, ...],
    path: str,
    label_map: str,
) -> None:
    names, ids = {c.name for c in categories}, {c.id for c in categories}
    for number, name in sorted(stored, key=str):
        if number is None and name not in names:
            raise DataError(
                f"{label_map}: has no category '{one_line(name)}', which the records {path} have"
                f"{did_you_mean(name, names)}"
            )
        if number is not None and number not in ids:
            raise DataError(
                f"{label_map}: has no category of the id {number}, which the records {path} have"
            )
