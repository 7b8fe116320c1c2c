"""Plants of the `shapes` set: each function draws one, different every time."""

import numpy as np

from deepmac.samples.parts import Part, ellipse, limb, mirror, move, part, spline


def apple(rng: np.random.Generator) -> list[Part]:
    wide = rng.uniform(0.85, 1.05)
    waist = rng.uniform(0.5, 0.75)
    half = [
        (0.0, -0.6), (0.4, -0.82), (0.85 * wide, -0.55), (0.92 * wide, -0.05),
        (waist, 0.68), (0.26, 0.92), (0.0, 0.82),
    ]  # fmt: skip
    body = spline(*half, *[(-x, y) for x, y in half[-2:0:-1]])
    lean = rng.uniform(-0.2, 0.2)
    stem = spline((0, -0.55), (0.02, -0.85), (lean, -1.12), closed=False)
    leaf = spline(
        (0.04, -0.82), (0.04, -0.82), (0.25, -1.1), (0.7, -1.12), (0.7, -1.12), (0.45, -0.85)
    )  # fmt: skip
    parts = [part(body), part(limb(stem, 0.1, 0.13), material="wood")]
    if rng.random() < 0.8:
        parts.append(part(leaf, material="accent", roundness=0.4))
    return parts


def flower(rng: np.random.Generator) -> list[Part]:
    """One head on a stem with leaves."""
    petals = int(rng.integers(5, 10))
    long = rng.uniform(0.5, 0.62)
    width = rng.uniform(0.75, 1.15) * np.pi * 0.62 * long / petals
    turn = rng.uniform(0, 2 * np.pi)
    head_y = -0.55
    petal = spline((0.1, 0), (0.55 * long, -width), (long, -0.6 * width), (1.08 * long, 0),
                   (long, 0.6 * width), (0.55 * long, width))  # fmt: skip
    ring = [
        move(petal, turn=turn + 2 * np.pi * k / petals, to=(0, head_y))
        for k in range(petals)
    ]
    sway = rng.uniform(-0.2, 0.2)
    stem = limb(spline((0, head_y), (sway, 0.3), (0, 1.15), closed=False), 0.11)
    leaf = spline((sway * 0.8, 0.6), (0.3, 0.2), (0.72, 0.12), (0.72, 0.12), (0.5, 0.5))
    disc = rng.uniform(0.18, 0.26)
    return [
        part(stem, material="second"),
        part(leaf, move(mirror(leaf), to=(0, 0.15)), material="second", roundness=0.4),
        *[part(*ring[k::2], roundness=0.4) for k in range(2)],
        part(ellipse(0, head_y, disc), material="accent"),
    ]


def leaf(rng: np.random.Generator) -> list[Part]:
    """A single leaf with its veins: pointed and whole, or lobed."""
    wide = rng.uniform(0.42, 0.62)
    if rng.random() < 0.5:
        half = [(wide * 0.6, -0.6), (wide, -0.05), (wide * 0.75, 0.45)]
        tips = [(0.75 * wide, y) for y in (-0.45, -0.1, 0.25)]
    else:
        wide *= 1.4
        half = [
            (0.35 * wide, -0.75), (0.22 * wide, -0.5), (0.85 * wide, -0.45), (0.35 * wide, -0.12),
            (wide, 0.05), (0.35 * wide, 0.3), (0.7 * wide, 0.55),
        ]  # fmt: skip
        tips = [(0.7 * wide, -0.42), (0.82 * wide, 0.05), (0.5 * wide, 0.5)]
    blade = spline(
        (0, -1.1), (0, -1.1), *half, (0, 0.7), (0, 0.7), *[(-x, y) for x, y in half[::-1]]
    )  # fmt: skip
    veins = [limb([(0, y + 0.25), (x, y)], 0.06, 0.03) for x, y in tips]
    bend = rng.uniform(-0.2, 0.2)
    stem = spline((0, -0.9), (0, 0.6), (bend, 1.15), closed=False)
    return [
        part(limb(stem, 0.05, 0.12), material="second"),
        part(blade, roundness=0.3),
        part(limb(stem[:9], 0.04, 0.08), material="second"),
        part(*veins, *[[mirror(o) for o in v] for v in veins], material="second"),
    ]


def mushroom(rng: np.random.Generator) -> list[Part]:
    wide = rng.uniform(0.8, 1.1)
    top = rng.uniform(-1.05, -0.6)
    brim = rng.uniform(-0.05, 0.15)
    cap = spline(
        (-wide, brim), (-wide, brim), (-0.85 * wide, brim - 0.4), (0, top), (0.85 * wide, brim - 0.4),
        (wide, brim), (wide, brim), (0, brim + 0.18),
    )  # fmt: skip
    foot = rng.uniform(0.3, 0.45)
    stalk = spline(
        (-0.2, 0),
        (-0.22, 0.5),
        (-foot, 0.95),
        (0, 1.05),
        (foot, 0.95),
        (0.22, 0.5),
        (0.2, 0),
    )
    middle = (top + brim) / 2
    spots = [
        ellipse(-0.45 * wide, brim - 0.25, 0.13, 0.1),
        ellipse(0.08, middle - 0.1, 0.17, 0.13),
        ellipse(0.55 * wide, brim - 0.28, 0.1, 0.09),
        ellipse(0.1, brim - 0.08, 0.12, 0.08),
    ]
    skirt = spline(
        (-0.25, 0.3), (0, 0.22), (0.25, 0.3), (0.32, 0.45), (0, 0.5), (-0.32, 0.45)
    )
    parts = [part(stalk, material="pale")]
    if rng.random() < 0.5:
        parts.append(part(skirt, material="pale", roundness=0.4))
    parts.append(part(ellipse(0, brim + 0.03, 0.9 * wide, 0.15), material="second"))
    parts.append(part(cap))
    if rng.random() < 0.75:
        parts.append(part(*spots, material="accent", roundness=0.5))
    return parts


def tree(rng: np.random.Generator) -> list[Part]:
    """A broad-leaved tree or a conifer."""
    if rng.random() < 0.5:
        tiers = int(rng.integers(3, 5))
        wide = rng.uniform(0.6, 0.85)
        trunk = part(limb([(0, 0.4), (0, 1.1)], 0.22, 0.28), material="wood")
        crown = []
        for k in range(tiers)[::-1]:
            top, bottom = -1.15 + 1.7 * k / (tiers + 0.8), -0.55 + 1.4 * k / tiers
            half = wide * (0.5 + 0.5 * k / (tiers - 1))
            tier = spline((0, top), (0, top), (half, bottom), (half, bottom), (0, bottom + 0.12),
                          (-half, bottom), (-half, bottom))  # fmt: skip
            crown.append(part(tier, roundness=0.8))
        return [trunk, *crown]
    lumps = int(rng.integers(6, 9))
    radius = rng.uniform(0.42, 0.52)
    turn = rng.uniform(0, 2 * np.pi)
    angles = turn + 2 * np.pi * np.arange(lumps) / lumps
    ring = [
        ellipse(0.5 * np.cos(a), -0.4 + 0.38 * np.sin(a), radius * rng.uniform(0.7, 1.0))
        for a in angles
    ]  # fmt: skip
    trunk = [
        limb([(0, -0.2), (0, 1.1)], 0.2, 0.34),
        limb([(0, 0.45), (rng.uniform(0.25, 0.4), 0.0)], 0.14, 0.1),
        limb([(0, 0.55), (-rng.uniform(0.25, 0.4), 0.05)], 0.14, 0.1),
    ]
    return [
        part(*trunk, material="wood"),
        part(*ring[::2]),
        part(*ring[1::2]),
        part(ellipse(0, -0.42, 0.5)),
    ]
