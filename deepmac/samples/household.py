"""Vessels, furniture and buildings of the `shapes` set: each function draws one, different every time."""

import numpy as np

from deepmac.samples.parts import (
    Part,
    ellipse,
    limb,
    mirror,
    move,
    part,
    polygon,
    rectangle,
    revolve,
    spline,
)


def bottle(rng: np.random.Generator) -> list[Part]:
    wide = rng.uniform(0.32, 0.45)
    neck = rng.uniform(0.12, 0.17)
    shoulder = rng.uniform(-0.35, 0.0)
    body = revolve(
        (neck, -1.0), (neck, shoulder - 0.42), (0.75 * wide, shoulder - 0.12), (wide, shoulder + 0.15),
        (wide, 0.6), (wide, 1.0), (0.85 * wide, 1.08), (0.0, 1.1),
    )  # fmt: skip
    cap = rectangle(-neck - 0.04, -1.2, neck + 0.04, -0.95, 0.05)
    parts = [part(body), part(cap, material="accent")]
    if rng.random() < 0.8:
        label = rectangle(-wide, shoulder + 0.3, wide, shoulder + 0.75)
        parts.append(part(label, material="second", roundness=0.8))
    return parts


def chair(rng: np.random.Generator) -> list[Part]:
    """Seen a little from above and from the side; one sees through its back and legs."""
    back = rng.uniform(-1.15, -0.9)
    depth = rng.uniform(0.25, 0.4)
    slide = rng.uniform(0.15, 0.3)
    width, floor = rng.uniform(0.42, 0.52), rng.uniform(0.95, 1.1)
    front = [(-width - slide / 2, 0.2), (width - slide / 2, 0.2)]
    rear = [(x + slide, 0.2 - depth) for x, _ in front]
    seat = polygon(front[0], front[1], rear[1], rear[0])
    rim = polygon(
        front[0],
        front[1],
        (front[1][0], 0.32),
        (front[0][0], 0.32),
    )
    side_rim = polygon(
        front[1], rear[1], (rear[1][0], 0.31 - depth), (front[1][0], 0.32)
    )
    legs = [
        limb([(x * 0.92, y + 0.05), (x, y - 0.2 + floor)], 0.15, 0.12)
        for x, y in (*rear, *front)
    ]
    posts = [limb([(x, y), (x + 0.06, back)], 0.15) for x, y in rear]
    (x0, y0), (x1, _) = rear
    rungs = int(rng.integers(2, 4))
    if rng.random() < 0.5:
        slats = [
            limb([(x0, y), (x1, y)], 0.17)
            for y in np.linspace(back + 0.08, y0 - 0.35, rungs)
        ]
    else:
        slats = [limb([(x0, back + 0.06), (x1 + 0.06, back + 0.06)], 0.2)] + [
            limb([(x, y0), (x + 0.05, back)], 0.11)
            for x in np.linspace(x0, x1, rungs + 2)[1:-1]
        ]
    return [
        part(*legs[:2], material="main"),
        part(*posts),
        part(*slats),
        part(rim, side_rim, roundness=0.2),
        part(*legs[2:]),
        part(seat, material="second", roundness=0.4),
    ]


def house(rng: np.random.Generator) -> list[Part]:
    """A front with a gable roof, a door, windows and a chimney."""
    eaves = rng.uniform(-0.25, 0.0)
    ridge = rng.uniform(-1.1, -0.85)
    wide = rng.uniform(0.7, 0.9)
    roof = polygon((-wide - 0.2, eaves), (0, ridge), (wide + 0.2, eaves), (wide + 0.2, eaves + 0.1),
                   (-wide - 0.2, eaves + 0.1))  # fmt: skip
    chimney = rectangle(0.35, ridge - 0.1, 0.6, eaves, 0.0)
    door_x = rng.choice([-0.45, 0.0, 0.4])
    door = rectangle(door_x - 0.16, 0.35, door_x + 0.16, 0.95)
    spots = [x for x in (-0.45, 0.0, 0.45) if abs(x - door_x) > 0.3]
    frames = [rectangle(x - 0.18, 0.18, x + 0.18, 0.55) for x in spots]
    panes = [
        rectangle(x + dx - 0.065, y, x + dx + 0.065, y + 0.13)
        for x in spots
        for dx in (-0.08, 0.08)
        for y in (0.22, 0.38)
    ]
    return [
        part(chimney, material="accent", roundness=0.3),
        part(rectangle(-wide, eaves, wide, 0.95), roundness=0.15),
        part(roof, material="second", roundness=0.35),
        part(door, material="wood", roundness=0.2),
        part(ellipse(door_x + 0.1, 0.65, 0.035), material="pale"),
        part(*frames, material="pale", roundness=0.2),
        part(*panes, material="glass", roundness=0.2),
        part(ellipse(0, (ridge + 2 * eaves) / 3, 0.14), material="glass"),
    ]


def lamp(rng: np.random.Generator) -> list[Part]:
    """A table lamp with a shade, or one on a jointed arm."""
    if rng.random() < 0.65:
        top, bottom = rng.uniform(0.3, 0.5), rng.uniform(0.7, 0.9)
        shade = spline(
            (-top, -1.1), (-top, -1.1), (0, -1.16), (top, -1.1), (top, -1.1), (bottom, -0.2),
            (bottom, -0.2), (0, -0.1), (-bottom, -0.2), (-bottom, -0.2),
        )  # fmt: skip
        belly = rng.uniform(0.12, 0.36)
        stem = revolve(
            (0.09, -0.4), (0.1, 0.05), (belly, 0.45), (0.14, 0.82), (0.15, 0.95)
        )
        foot = revolve((0.15, 0.82), (0.45, 0.98), (0.45, 1.1), (0.0, 1.14))
        return [
            part(stem, material="second"),
            part(foot, material="second"),
            part(shade, roundness=0.8),
            part(limb([(-0.96 * bottom, -0.26), (0, -0.17), (0.96 * bottom, -0.26)], 0.1),
                 material="accent"),
        ]  # fmt: skip
    elbow = (rng.uniform(-0.65, -0.4), rng.uniform(-0.2, 0.1))
    neck = (rng.uniform(0.05, 0.25), -0.85)
    shade = spline(
        (neck[0] - 0.15, -0.98), (neck[0] + 0.12, -1.08), (neck[0] + 0.35, -0.95), (0.98, -0.5),
        (0.98, -0.5), (0.55, -0.25), (0.22, -0.12), (0.22, -0.12),
    )  # fmt: skip
    bulb = ellipse(0.62, -0.27, 0.38, 0.13, turn=-0.46)
    foot = move(
        revolve((0.14, 0.82), (0.5, 0.95), (0.52, 1.08), (0.0, 1.12)), to=(-0.1, 0)
    )
    return [
        part(bulb, material="pale"),
        part(limb([(-0.1, 0.95), elbow], 0.13), limb([elbow, neck], 0.13), material="second"),
        part(ellipse(*elbow, 0.13), material="accent"),
        part(foot),
        part(shade),
    ]  # fmt: skip


def mug(rng: np.random.Generator) -> list[Part]:
    """With an open top and a handle one sees through."""
    tall = rng.uniform(0.75, 1.0)
    foot = rng.uniform(0.5, 0.68)
    rim = 0.68
    body = spline(
        (-rim, -tall), (-rim, -tall), (0, -tall + 0.08), (rim, -tall), (rim, -tall),
        (0.5 * (rim + foot) + 0.03, 0.2), (foot, 0.8), (0.6 * foot, 0.95), (-0.6 * foot, 0.95), (-foot, 0.8),
        (-0.5 * (rim + foot) - 0.03, 0.2),
    )  # fmt: skip
    reach = rng.uniform(0.95, 1.2)
    loop = spline(
        (0.55, -0.55 * tall), (reach, -0.6 * tall), (reach + 0.08, 0.0), (reach - 0.15, 0.4), (0.5, 0.55),
        closed=False,
    )  # fmt: skip
    parts = [part(limb(loop, 0.19, 0.15)), part(body)]
    if rng.random() < 0.6:
        band_y = rng.uniform(-0.2, 0.2)
        half = rng.uniform(0.12, 0.25)
        w0, w1 = (
            rim + (foot - rim) * (y + tall) / (tall + 0.8) + 0.02
            for y in (band_y - half, band_y + half)
        )
        band = polygon(
            (-w0, band_y - half),
            (w0, band_y - half),
            (w1, band_y + half),
            (-w1, band_y + half),
        )
        parts.append(part(band, material="accent", roundness=0.8))
    parts.append(part(ellipse(0, -tall, rim, 0.2), material="second", roundness=0.3))
    parts.append(
        part(ellipse(0, -tall + 0.02, 0.84 * rim, 0.13), material="ink", roundness=0.0)
    )
    return parts


def vase(rng: np.random.Generator) -> list[Part]:
    """Thrown on a wheel: any belly, any neck; some have handles, some a band."""
    belly = rng.uniform(0.5, 0.85)
    belly_y = rng.uniform(-0.25, 0.35)
    neck = rng.uniform(0.16, 0.32)
    lip = neck + rng.uniform(0.08, 0.28)
    foot = rng.uniform(0.25, 0.42)
    neck_y = rng.uniform(-0.85, -0.68)
    body = revolve(
        (lip, -1.1), (0.9 * neck, neck_y), (0.8 * belly, belly_y - 0.35), (belly, belly_y),
        (0.8 * belly, belly_y + 0.35), (foot, 0.92), (1.15 * foot, 1.05), (0.0, 1.08),
    )  # fmt: skip
    parts = []
    if rng.random() < 0.45:
        loop = spline((0.8 * neck, neck_y), (neck + 0.4, neck_y - 0.05), (0.85 * belly + 0.12, belly_y - 0.45),
                      (0.7 * belly, belly_y - 0.2), closed=False)  # fmt: skip
        handle = limb(loop, 0.14)
        parts.append(part(handle, [mirror(o) for o in handle], material="second"))
    parts.append(part(body))
    if rng.random() < 0.6:
        w = 0.97 * belly
        band = spline((-w, belly_y - 0.12), (-w, belly_y - 0.12), (0, belly_y - 0.04), (w, belly_y - 0.12),
                      (w, belly_y - 0.12), (w, belly_y + 0.14), (w, belly_y + 0.14), (0, belly_y + 0.22),
                      (-w, belly_y + 0.14), (-w, belly_y + 0.14))  # fmt: skip
        parts.append(part(band, material="second", roundness=0.8))
    parts.append(part(ellipse(0, -1.08, lip, 0.1), material="second", roundness=0.3))
    parts.append(part(ellipse(0, -1.08, 0.72 * lip, 0.05), material="ink", roundness=0))
    return parts
