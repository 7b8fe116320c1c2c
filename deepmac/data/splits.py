"""Splits: every category keeps its boxes, a chosen set of categories keeps its masks too."""

import dataclasses
from collections.abc import Sequence

from deepmac.categories import Category, parse_groups
from deepmac.errors import OptionError


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
    if not split.startswith("@"):
        return split
    try:
        with open(split[1:], encoding="utf-8") as file:
            lines = (line.split("#")[0].strip() for line in file)
            return tuple(filter(None, lines))
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise OptionError(f"split '{split}': cannot read the file: {reason}") from e


def resolve_split(split: str, categories: Sequence[Category]) -> Split:
    """The split of a data set with these categories; see `deepmac.categories.parse_groups`."""
    return Split(split_name(split), parse_groups(split, categories))
