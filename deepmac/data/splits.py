"""Splits: every category keeps its boxes, a chosen set of categories keeps its masks too."""

import dataclasses
import io
from collections.abc import Iterable, Sequence

from deepmac.categories import VOC_NAMES, Category
from deepmac.data.files import read_text
from deepmac.errors import DataError, OptionError, did_you_mean, one_of


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """A split of a data set.

    Attributes:
        name: as the user said it; the contents of a file as the list of its names, so that a
            manifest names no path.
        supervised_ids: of the categories that keep their masks.
    """

    name: str | tuple[str, ...]
    supervised_ids: frozenset[int]

    def keeps_mask(self, category_id: int) -> bool:
        return category_id in self.supervised_ids


HIDE_ALL = Split("none", frozenset())
"""For jobs that have no use for masks: none is even read."""


def split_name(split: str) -> str | tuple[str, ...]:
    """What a split is called in manifests: `@FILE` as the names in the file.

    Raises:
        OptionError: the file cannot be read.
    """
    return tuple(_names_in_file(split)) if split.startswith("@") else split


def resolve_split(split: str, categories: Sequence[Category]) -> Split:
    """The split of a data set with these categories; see `parse_groups`."""
    return Split(split_name(split), parse_groups(split, categories))


def parse_groups(split: str, categories: Iterable[Category]) -> frozenset[int]:
    """Category ids of a split, among the categories of a data set.

    Args:
        split: `all`, `voc`, `non_voc`, names or ids with commas between them, or `@FILE` with
            one a line (empty lines and `#` comments are skipped).
        categories: those of the data set.

    Raises:
        OptionError: a name is not a category of the set (says the nearest), no category is left,
            or the file cannot be read.
    """
    categories = list(categories)
    if split == "all":
        return frozenset(c.id for c in categories)
    if split in ("voc", "non_voc"):
        ids = frozenset(
            c.id for c in categories if (c.name in VOC_NAMES) == (split == "voc")
        )
        if not ids:
            raise OptionError(
                f"split '{split}': the data set has no such category, it is not COCO; name the "
                f"categories, or put them into a file and say @FILE"
            )
        return ids
    by_name = {c.name: c.id for c in categories} | {str(c.id): c.id for c in categories}
    names = _names_in_file(split) if split.startswith("@") else split.split(",")
    wanted = [name for name in (n.strip() for n in names) if name]
    if unknown := [name for name in wanted if name not in by_name]:
        hint = (
            did_you_mean(unknown[0], by_name)
            or f"; it has {one_of(n.name for n in categories)}"
        )
        raise OptionError(
            f"split '{split}': the data set has no category {_quoted(unknown)}{hint}"
        )
    if not wanted:
        raise OptionError(f"split '{split}' names no category")
    return frozenset(by_name[name] for name in wanted)


def _quoted(names: list[str]) -> str:
    return one_of(f"'{name}'" for name in names)


def _names_in_file(split: str) -> list[str]:
    """The names in the file of a split `@FILE`."""
    try:
        lines = io.StringIO(read_text(split[1:]), newline=None)
    except DataError as e:
        raise OptionError(f"split @FILE: {e}") from None
    names = (line.split("#")[0].strip() for line in lines)
    return [name for name in names if name]
