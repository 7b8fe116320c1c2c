"""The cut-outs and the photographs of two Debian packages, and the categories of the cut-outs."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from deepmac.errors import DataError

PACKAGES = ("tuxpaint-stamps-default", "mate-backgrounds")
_STAMPS = "usr/share/tuxpaint/stamps"
_PHOTOGRAPHS = "usr/share/backgrounds/mate/nature"

_LEFT_OUT = ("seasonal/", "symbols/", "space/", "town/roadsigns/")
_MIRRORED = ("_mirror", "_flip")
_LEAST_SIDE = 120  # of the longer side, in pixels
_MOST_COLOURS_OF_A_DRAWING = 400
_THUMBNAIL = 160
_KEPT_SIDE = 224
"""Sprites are kept at this size, which none is pasted in."""

CATEGORIES: dict[str, tuple[str, ...]] = {
    "birds": ("animals/birds",),
    "sea animal": ("animals/fish", "animals/shellfish", "animals/mammals/aquatic"),
    "insect": ("animals/insects",),
    "reptile": ("animals/amphibians", "animals/lizards"),
    "bovine": ("animals/mammals/bovines",),
    "riding animal": (
        "animals/mammals/camel",
        "animals/mammals/equines",
        "animals/mammals/deer",
    ),
    "cats and dogs": ("animals/mammals/cats", "animals/mammals/dogs"),
    "apes and bears": ("animals/mammals/apes", "animals/mammals/bears"),
    "other mammal": ("animals/mammals",),
    "small mammal": ("animals/mammals/rodents", "animals/marsupials"),
    "figure": ("people", "people/toys", "animals/mammals/bears/toys"),
    "fruit and vegetable": ("food/fruit", "food/vegetables"),
    "fungus": ("plants/mushrooms",),
    "blossom": ("plants/flowers", "plants/flowers/plastic"),
    "shrub": ("plants", "plants/trees"),
    "instrument": (
        "hobbies/music/brass",
        "hobbies/music/percussion",
        "hobbies/music/string",
    ),
    "thing of the house": (
        "household",
        "clothes",
        "clothes/hats",
        "medical",
        "hobbies",
    ),
    "workshop": ("household/tools",),
    "street and sport": ("sports", "town", "town/monuments"),
    "road vehicle": (
        "vehicles",
        "vehicles/auto",
        "vehicles/construction",
        "vehicles/cycle",
        "vehicles/emergency",
        "vehicles/masstransit",
        "vehicles/race",
        "military/vehicles",
    ),
    "craft": ("vehicles/flight", "vehicles/flight/planes", "vehicles/ship"),
}
"""Name to the folders of the stamps; the order decides the ids."""

FIRST_CATEGORY_ID = 25
"""After those of `shapes`, so that the two sets can be trained on together."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sprite:
    """A photographed object without its surroundings.

    Attributes:
        name: path of the file below the folder of the stamps, without its ending.
        category: one of `CATEGORIES`.
    """

    name: str
    category: str


def category_ids() -> dict[str, int]:
    """Name of each category of the stamps to its id."""
    return {name: FIRST_CATEGORY_ID + i for i, name in enumerate(CATEGORIES)}


def find_sprites(root: Path) -> list[Sprite]:
    """The photographs among the stamps, by name.

    Taken are pictures with transparent parts, no mirrored copies, of at least 120 pixels, whose
    thumbnail of 160 pixels has more than 400 colours of 5 bits a channel; nothing from folders of
    cartoons, or from those that hold seasonal things, symbols, planets or road signs.

    Args:
        root: where the two packages were unpacked.

    Raises:
        DataError: they were not, or a folder belongs to no category.
    """
    folder = root / _STAMPS
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; unpack the Debian package {PACKAGES[0]} there"
        )
    category_of = {f: name for name, folders in CATEGORIES.items() for f in folders}
    found = []
    for path in sorted(folder.rglob("*.png")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not is_candidate(name) or not is_photograph(_read(path)):
            continue
        place = name.rpartition("/")[0]
        if place not in category_of:
            raise DataError(f"{path}: the folder '{place}' belongs to no category")
        found.append(Sprite(name, category_of[place]))
    return found


def is_candidate(name: str) -> bool:
    """Whether the name alone does not rule a stamp out."""
    folders = name.split("/")[:-1]
    is_left_out = name.startswith(_LEFT_OUT) or "cartoon" in folders
    return not is_left_out and not name.endswith(_MIRRORED)


def is_photograph(rgba: np.ndarray | None) -> bool:
    """Whether a picture uint8 [H, W, 4] is a large cut-out with the colours of a photograph."""
    if rgba is None or max(rgba.shape[:2]) < _LEAST_SIDE or rgba[..., 3].min() >= 128:
        return False
    thumbnail = shrink(rgba, _THUMBNAIL)
    colours = thumbnail[..., :3][thumbnail[..., 3] >= 128].astype(np.int64) >> 3
    num_colours = len(np.unique(colours @ [1, 32, 1024]))
    return num_colours > _MOST_COLOURS_OF_A_DRAWING


def load_sprite(root: Path, sprite: Sprite) -> np.ndarray:
    """The object within its tight box, at most 224 pixels a side: uint8 RGBA [h, w, 4]."""
    path = root / _STAMPS / f"{sprite.name}.png"
    rgba = _read(path)
    if rgba is None:
        raise DataError(f"{path}: not a picture with transparent parts")
    opaque = rgba[..., 3] >= 128
    rows, columns = np.flatnonzero(opaque.any(1)), np.flatnonzero(opaque.any(0))
    tight = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return shrink(tight, _KEPT_SIDE)


def find_photographs(root: Path) -> list[str]:
    """File names of the photographs to paste on, in order.

    Raises:
        DataError: the package was not unpacked.
    """
    folder = root / _PHOTOGRAPHS
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; unpack the Debian package {PACKAGES[1]} there"
        )
    return sorted(path.name for path in folder.glob("*.jpg"))


def load_photograph(root: Path, name: str, shorter_side: int = 768) -> np.ndarray:
    """uint8 RGB [h, w, 3]."""
    path = root / _PHOTOGRAPHS / name
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise DataError(f"{path}: not a picture")
    height, width = picture.shape[:2]
    scale = shorter_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def shrink(rgba: np.ndarray, longer_side: int) -> np.ndarray:
    """A picture uint8 [H, W, 4] with sides of at most `longer_side`; colours weigh by opacity."""
    height, width = rgba.shape[:2]
    scale = longer_side / max(height, width)
    if scale >= 1:
        return rgba
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    alpha = rgba[..., 3:].astype(np.float32)
    coloured = cv2.resize(rgba[..., :3] * alpha, size, interpolation=cv2.INTER_AREA)
    alpha = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)[..., None]
    colours = coloured / np.maximum(alpha, 1e-3)
    return (
        np.concatenate([colours, alpha], axis=2).round().clip(0, 255).astype(np.uint8)
    )


def _read(path: Path) -> np.ndarray | None:
    """uint8 RGBA [H, W, 4]; None where the file is none, or has no transparent parts."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    if picture.dtype != np.uint8:
        picture = (picture >> 8).astype(np.uint8)
    return picture[..., [2, 1, 0, 3]]
