"""Which categories have masks, and which sprites and photographs are for what: by seed.

Three seeds in a row belong together: their test parts hold every sprite once, their seen halves
are a half of the categories, the other half, and a mixture of both.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

PARTS = ("train", "val", "test")
NUM_FOLDS = 3
_SPRITES_TO_VAL, _PHOTOGRAPHS_TO_VAL = 6, 4  # one in so many of what is not for testing
_TRIES = 500

T = TypeVar("T", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True)
class StampsSplit:
    """What split k of the stamps consists of.

    Attributes:
        seen: the categories whose masks may train.
        sprites: names by part.
        photographs: file names by part.
    """

    seen: frozenset[str]
    sprites: Mapping[str, tuple[str, ...]]
    photographs: Mapping[str, tuple[str, ...]]


def stamps_split(
    seed: int, category_of: Mapping[str, str], photographs: Sequence[str]
) -> StampsSplit:
    """Split number `seed`.

    Args:
        seed: 0 or more.
        category_of: name of each sprite to its category.
        photographs: file names.
    """
    turn, fold = divmod(seed, NUM_FOLDS)
    rng = np.random.default_rng([turn, 7])
    names = []
    for category in sorted(set(category_of.values())):
        members = sorted(n for n, c in category_of.items() if c == category)
        names += [members[i] for i in rng.permutation(len(members))]
    grounds = [sorted(photographs)[i] for i in rng.permutation(len(photographs))]
    sizes = {c: list(category_of.values()).count(c) for c in set(category_of.values())}
    return StampsSplit(
        seen=seen_half(seed, sizes),
        sprites=_parts(names, fold, _SPRITES_TO_VAL),
        photographs=_parts(grounds, fold, _PHOTOGRAPHS_TO_VAL),
    )


def seen_half(
    seed: int, sizes: Mapping[T, int], first: frozenset[T] | None = None
) -> frozenset[T]:
    """The categories whose masks may train.

    Args:
        seed: 0 or more.
        sizes: objects of each category; the halves are balanced by them.
        first: the half for seed 0; drawn if None.
    """
    turn, fold = divmod(seed, NUM_FOLDS)
    rng = np.random.default_rng([turn, 8])
    everything = frozenset(sizes)
    half = _balanced_half(rng, everything, sizes)
    if first is not None and turn == 0:
        half = first
    if fold == 0:
        return half
    if fold == 1:
        return everything - half
    other = everything - half
    return _balanced_half(rng, half, sizes) | _balanced_half(rng, other, sizes)


def _balanced_half(
    rng: np.random.Generator, categories: frozenset[T], sizes: Mapping[T, int]
) -> frozenset[T]:
    """Half of the categories (one less, of an odd number) with about half of the objects."""
    ordered = sorted(categories)  # pyright: ignore[reportArgumentType]
    total = sum(sizes[c] for c in ordered)
    draws = [rng.permutation(len(ordered))[: len(ordered) // 2] for _ in range(_TRIES)]
    halves = [frozenset(ordered[i] for i in draw) for draw in draws]
    balance = [abs(2 * sum(sizes[c] for c in half) - total) for half in halves]
    # One among the balanced ones, not always the same: a category of half of all would decide it
    good = [
        h
        for h, b in zip(halves, balance, strict=True)
        if b <= max(min(balance), 0.1 * total)
    ]
    return good[int(rng.integers(len(good)))]


def _parts(names: Sequence[str], fold: int, one_in: int) -> dict[str, tuple[str, ...]]:
    """Every third name for testing, one in so many of the others for validation."""
    test = names[fold::NUM_FOLDS]
    others = [name for i, name in enumerate(names) if i % NUM_FOLDS != fold]
    val = others[fold::one_in]
    train = [name for name in others if name not in set(val)]
    return {"train": tuple(train), "val": tuple(val), "test": tuple(test)}
