"""Label maps: the text protos that name the categories of a data set.

item { id: 1 name: "/m/01g317" display_name: "person" }
"""

import enum
from pathlib import Path
from typing import Annotated

from deepmac.categories import Category
from deepmac.config.load import read_text_file
from deepmac.config.message import FieldError, Message, Unused, message
from deepmac.config.textproto import read

_NO_KEYPOINTS = Unused("there are no keypoints")
_NO_HIERARCHY = Unused("categories have no hierarchy here")
_NO_FREQUENCY = Unused("categories are not weighted by frequency")


class Frequency(enum.IntEnum):
    """How common a category is."""

    UNSPECIFIED = 0
    FREQUENT = 1
    COMMON = 2
    RARE = 3


@message
class KeypointName(Message):
    """One keypoint of a category."""

    id: int = 0
    label: str = ""


@message
class LabelMapItem(Message):
    """One category."""

    id: int  # from 1; 0 is the background
    name: str = ""
    display_name: str = ""  # for people; wins over name
    keypoints: Annotated[tuple[KeypointName, ...], _NO_KEYPOINTS] = ()
    ancestor_ids: Annotated[tuple[int, ...], _NO_HIERARCHY] = ()
    descendant_ids: Annotated[tuple[int, ...], _NO_HIERARCHY] = ()
    frequency: Annotated[Frequency, _NO_FREQUENCY] = Frequency.UNSPECIFIED
    instance_count: Annotated[int, _NO_FREQUENCY] = 0

    def check(self) -> None:
        self.require("id", self.id >= 1, "ids count from 1")
        if not self.shown_name:
            raise FieldError("name", "is missing, and so is display_name")

    @property
    def shown_name(self) -> str:
        """What the category is called."""
        return self.display_name or self.name


@message
class LabelMap(Message):
    """A whole label map."""

    item: tuple[LabelMapItem, ...] = ()

    def check(self) -> None:
        if not self.item:
            raise FieldError("item", "is missing: there is no category")
        for field, values in (
            ("id", [item.id for item in self.item]),
            ("name", [item.shown_name for item in self.item]),
        ):
            first = {value: i for i, value in reversed(list(enumerate(values)))}
            for i, value in enumerate(values):
                if first[value] != i:
                    raise FieldError(
                        f"item[{i}].{field}",
                        f"'{value}' is there twice, first in item[{first[value]}]",
                    )


def load_label_map(path: str | Path) -> tuple[Category, ...]:
    """The categories of a label map, in its order.

    Raises:
        ConfigError: the file is missing or no label map, an id is below 1 or there twice, a
            category has no name or one that another has too. One line: file, line and column,
            field, what is wrong.
    """
    return tuple(Category(item.id, item.shown_name) for item in _read(path).item)


def load_label_ids(path: str | Path) -> dict[str, int]:
    """The ids of a label map by `name` and by `display_name`; see `load_label_map`.

    Records may hold either. Where a text is the one of one category and the other of another, the
    greater id counts, as in the reference.
    """
    items = sorted(_read(path).item, key=lambda item: item.id)
    names = (
        (name, item.id) for item in items for name in (item.name, item.display_name)
    )
    return {name: number for name, number in names if name}


def _read(path: str | Path) -> LabelMap:
    return read(read_text_file(str(path)), LabelMap, str(path)).build()
