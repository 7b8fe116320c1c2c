"""The 24 categories of the `shapes` set, and which of them are `seen`."""

import dataclasses
from collections.abc import Callable

import numpy as np

from deepmac.samples import animals, household, plants, tools, vehicles
from deepmac.samples.parts import Part


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """One category: what it is called, how it is drawn and how it may lie in a picture.

    Attributes:
        id: category id, 1 to 24 without gaps.
        draw: one object, different for every state of the generator it is given.
        is_seen: whether the category keeps its masks in the set's own split.
        tilt: the largest turn away from upright, in radians.
        natural: the texture it has more often than others.
    """

    id: int
    name: str
    supercategory: str
    draw: Callable[[np.random.Generator], list[Part]]
    is_seen: bool
    tilt: float
    natural: str | None = None


_UPRIGHT, _LOOSE = 0.35, np.pi

KINDS: tuple[Kind, ...] = (
    Kind(1, "apple", "plants", plants.apple, True, _LOOSE),
    Kind(2, "bird", "animals", animals.bird, False, _UPRIGHT, "feathers"),
    Kind(3, "boat", "vehicles", vehicles.boat, False, _UPRIGHT),
    Kind(4, "bottle", "vessels", household.bottle, True, _UPRIGHT),
    Kind(5, "butterfly", "animals", animals.butterfly, False, _LOOSE),
    Kind(6, "car", "vehicles", vehicles.car, True, _UPRIGHT),
    Kind(7, "cat", "animals", animals.cat, True, _UPRIGHT, "fur"),
    Kind(8, "chair", "furniture", household.chair, True, _UPRIGHT),
    Kind(9, "dog", "animals", animals.dog, False, _UPRIGHT, "fur"),
    Kind(10, "fish", "animals", animals.fish, True, _LOOSE, "scales"),
    Kind(11, "flower", "plants", plants.flower, False, _UPRIGHT),
    Kind(12, "guitar", "tools", tools.guitar, True, _LOOSE),
    Kind(13, "hammer", "tools", tools.hammer, True, _LOOSE),
    Kind(14, "house", "buildings", household.house, False, _UPRIGHT, "bricks"),
    Kind(15, "key", "tools", tools.key, False, _LOOSE),
    Kind(16, "lamp", "furniture", household.lamp, False, _UPRIGHT),
    Kind(17, "leaf", "plants", plants.leaf, True, _LOOSE),
    Kind(18, "mug", "vessels", household.mug, True, _UPRIGHT),
    Kind(19, "mushroom", "plants", plants.mushroom, False, _UPRIGHT),
    Kind(20, "rocket", "vehicles", vehicles.rocket, False, _LOOSE),
    Kind(21, "star", "toys", tools.star, True, _LOOSE),
    Kind(22, "tree", "plants", plants.tree, True, _UPRIGHT),
    Kind(23, "umbrella", "tools", tools.umbrella, False, _UPRIGHT, "cloth"),
    Kind(24, "vase", "vessels", household.vase, False, _UPRIGHT),
)  # fmt: skip
