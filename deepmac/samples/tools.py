"""Things one can hold, and a star: each function draws one, different every time."""

import itertools

import numpy as np

from deepmac.samples.parts import (
    Part,
    ellipse,
    limb,
    part,
    polygon,
    rectangle,
    spline,
)


def guitar(rng: np.random.Generator) -> list[Part]:
    waist = rng.uniform(0.24, 0.32)
    hip = rng.uniform(0.5, 0.62)
    bust = rng.uniform(0.38, 0.46)
    half = [
        (0.18, -0.18),
        (bust, 0.0),
        (waist + 0.04, 0.3),
        (hip, 0.65),
        (0.42, 1.02),
        (0.0, 1.12),
    ]
    body = spline((0, -0.16), *half, *[(-x, y) for x, y in half[-2::-1]])
    neck = polygon((-0.07, -1.0), (0.07, -1.0), (0.09, 0.2), (-0.09, 0.2))
    head = polygon((-0.1, -0.98), (-0.16, -1.35), (0.16, -1.35), (0.1, -0.98))
    pegs = [
        ellipse(side * 0.2, y, 0.06, 0.045)
        for side in (-1, 1)
        for y in (-1.28, -1.16, -1.05)
    ]
    frets = [limb([(-0.06, y), (0.06, y)], 0.03) for y in np.linspace(-0.9, -0.1, 6)]
    return [
        part(body, roundness=0.45, material="wood" if rng.random() < 0.4 else "main"),
        part(ellipse(0, 0.22, 0.2), material="accent", roundness=0.2),
        part(ellipse(0, 0.22, 0.15), material="ink", roundness=0.0),
        part(rectangle(-0.22, 0.68, 0.22, 0.78, 0.03), material="ink"),
        part(*pegs, material="pale"),
        part(neck, head, material="second", roundness=0.5),
        part(*frets, material="pale"),
        part(limb([(0, -0.95), (0, 0.7)], 0.03), material="pale"),
    ]


def hammer(rng: np.random.Generator) -> list[Part]:
    """A claw hammer, or one with a wedge."""
    handle = spline((-0.09, -0.7), (-0.08, 0.2), (-0.14, 0.8), (-0.1, 1.15), (0.1, 1.15), (0.14, 0.8),
                    (0.08, 0.2), (0.09, -0.7))  # fmt: skip
    face = rng.uniform(0.55, 0.7)
    head = [
        rectangle(-0.2, -1.02, 0.2, -0.62, 0.05),
        polygon((0.1, -0.98), (face - 0.1, -0.94), (face - 0.1, -0.7), (0.1, -0.66)),
        rectangle(face - 0.15, -1.02, face + 0.05, -0.62, 0.05),
    ]
    if rng.random() < 0.6:
        head.append(
            spline((-0.1, -1.0), (-0.1, -1.0), (-0.5, -0.98), (-0.8, -0.65), (-0.8, -0.65), (-0.45, -0.75),
                   (-0.1, -0.64), (-0.1, -0.64))
        )  # fmt: skip
    else:
        head.append(
            polygon((-0.1, -1.0), (-0.72, -0.86), (-0.72, -0.78), (-0.1, -0.64))
        )
    grip = spline((-0.11, 0.5), (-0.11, 0.5), (-0.15, 0.8), (-0.11, 1.16), (0.11, 1.16), (0.15, 0.8), (0.11, 0.5),
                  (0.11, 0.5))  # fmt: skip
    parts = [part(handle, material="wood")]
    if rng.random() < 0.6:
        parts.append(part(grip, material="second"))
    parts.append(part(*head))
    return parts


def key(rng: np.random.Generator) -> list[Part]:
    """An old key: a bow with a hole, a shaft and a bit with teeth."""
    bow = rng.uniform(0.38, 0.5)
    ring = 0.55 * bow
    if rng.random() < 0.5:
        outline, hole = [ellipse(0, -0.72, bow)], [ellipse(0, -0.72, ring)]
    else:
        centres = [(-0.26, -0.62), (0.26, -0.62), (0.0, -0.98)]
        outline = [ellipse(x, y, 0.3) for x, y in centres] + [ellipse(0, -0.72, 0.2)]
        hole = [ellipse(x, y, 0.13) for x, y in centres]
    thick = rng.uniform(0.15, 0.2)
    shaft = limb([(0, -0.35), (0, 1.1)], thick)
    reach = rng.uniform(0.4, 0.55)
    if rng.random() < 0.5:
        bit = [
            rectangle(0, 0.62, reach, 0.78),
            rectangle(0, 0.9, 0.8 * reach, 1.06),
            rectangle(0, 0.62, 0.5 * reach, 1.06),
        ]
    else:
        bit = [
            polygon((0, 0.5), (reach, 0.5), (reach, 0.68), (0.62 * reach, 0.68), (0.62 * reach, 0.84),
                    (reach, 0.84), (reach, 1.02), (0, 1.02))
        ]  # fmt: skip
    collar = rectangle(-thick * 0.85, -0.3, thick * 0.85, -0.14, 0.05)
    return [
        part(shaft, material="main"),
        part(*bit, roundness=0.5),
        part(*outline, holes=hole, roundness=0.8),
        part(collar, material="second"),
    ]


def star(rng: np.random.Generator) -> list[Part]:
    """Five or six points, flat, faceted or padded."""
    points = int(rng.choice([5, 5, 5, 6]))
    depth = rng.uniform(0.4, 0.55)
    angles = -np.pi / 2 + np.pi * np.arange(2 * points) / points
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, depth)
    tips = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    style = rng.integers(3)
    if style == 0:
        faces = [
            np.stack([tips[k], tips[(k + 1) % len(tips)], (0, 0)])
            for k in range(len(tips))
        ]
        return [part(tips, roundness=0.3),
                part(*faces[::2], material="second", roundness=0.2)]  # fmt: skip
    if style == 1:
        inner = 0.55 * tips
        return [
            part(tips, roundness=0.6),
            part(inner, material="accent", roundness=0.5),
        ]
    return [part(spline(*map(tuple, tips)), roundness=1.0)]


def umbrella(rng: np.random.Generator) -> list[Part]:
    """Open, from the side: panels, ribs, a stick with a crook."""
    dome = rng.uniform(0.75, 1.0)
    panels = int(rng.integers(4, 7))
    edge = np.linspace(-1.1, 1.1, panels + 1)
    rim = 0.0
    hooks = []
    for a, b in itertools.pairwise(edge):
        hooks += [(a, rim), ((a + b) / 2, rim - 0.1), (b, rim)]
    arc = np.linspace(0, np.pi, 21)
    top = np.stack([1.1 * np.cos(arc), rim - dome * np.sin(arc)], axis=1)
    canopy = np.concatenate([top, np.array(hooks)])
    apex = (0.0, rim - dome)
    stripes = []
    for k in range(1 if panels % 2 else 0, panels, 2):
        a, b = edge[k], edge[k + 1]
        bulge = [
            (x * 0.82, rim - 0.6 * dome * np.sqrt(max(1 - (x / 1.25) ** 2, 0)))
            for x in (a, b)
        ]
        stripes.append(
            spline(apex, apex, bulge[1], (b, rim), (b, rim), ((a + b) / 2, rim - 0.1), (a, rim), (a, rim), bulge[0])
        )  # fmt: skip
    crook = rng.choice([-1, 1])
    stick = spline((0, -0.2), (0, 0.85), (crook * 0.05, 1.05), (crook * 0.2, 1.1), (crook * 0.34, 1.0),
                   (crook * 0.36, 0.86), closed=False)  # fmt: skip
    return [
        part(limb(stick, 0.11, 0.13), material="wood"),
        part(limb([apex, (0, rim - dome - 0.15)], 0.1), material="ink"),
        part(canopy, roundness=0.8),
        part(*stripes, material="second", roundness=0.6),
    ]
