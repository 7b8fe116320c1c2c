"""Vehicles of the `shapes` set: each function draws one, different every time."""

import numpy as np

from deepmac.samples.parts import (
    Part,
    ellipse,
    limb,
    mirror,
    part,
    polygon,
    rectangle,
    revolve,
    spline,
)


def boat(rng: np.random.Generator) -> list[Part]:
    """A sailing boat or a small steamer, from the side."""
    deck = rng.uniform(0.25, 0.4)
    bow = rng.uniform(0.9, 1.15)
    hull = spline(
        (-1.0, deck), (-1.0, deck), (0, deck + 0.08), (bow, deck - 0.08), (bow, deck - 0.08),
        (0.6, 0.85), (0, 0.9), (-0.75, 0.85),
    )  # fmt: skip
    band = limb([(-0.93, deck + 0.16), (0, deck + 0.2), (0.93 * bow, deck + 0.1)], 0.1)
    if rng.random() < 0.6:
        mast_x = rng.uniform(-0.15, 0.15)
        main = spline(
            (mast_x + 0.08, -1.1), (mast_x + 0.08, -1.1), (mast_x + 0.5, -0.5), (0.9, deck - 0.15),
            (0.9, deck - 0.15), (mast_x + 0.08, deck - 0.1), (mast_x + 0.08, deck - 0.1),
        )  # fmt: skip
        jib = spline(
            (mast_x - 0.08, -0.9), (mast_x - 0.08, -0.9), (mast_x - 0.4, -0.4), (-0.8, deck - 0.15),
            (-0.8, deck - 0.15), (mast_x - 0.08, deck - 0.1), (mast_x - 0.08, deck - 0.1),
        )  # fmt: skip
        rig = [
            part(limb([(mast_x, deck + 0.1), (mast_x, -1.2)], 0.1), material="wood"),
            part(main, material="second", roundness=0.35),
            part(jib, material="accent", roundness=0.35),
        ]
    else:
        left = rng.uniform(-0.75, -0.55)
        cabin = rectangle(left, -0.25, left + 1.2, deck + 0.05, 0.06)
        bridge = rectangle(left + 0.15, -0.6, left + 0.75, -0.22, 0.06)
        funnel = polygon(
            (left + 0.75, -0.2),
            (left + 0.82, -1.0),
            (left + 1.1, -1.0),
            (left + 1.1, -0.2),
        )
        panes = [
            ellipse(left + 0.25 + 0.35 * k, (deck - 0.25) / 2, 0.11) for k in range(3)
        ]
        rig = [
            part(funnel, material="accent"),
            part(cabin, bridge, material="second", roundness=0.4),
            part(*panes, rectangle(left + 0.28, -0.5, left + 0.66, -0.33), material="glass"),
        ]  # fmt: skip
    return [*rig, part(hull), part(band, material="accent", roundness=0.3)]


def car(rng: np.random.Generator) -> list[Part]:
    """From the side, driving to the right."""
    roof = rng.uniform(-0.62, -0.48)
    hood = rng.uniform(-0.12, 0.0)
    rear = rng.uniform(-0.75, -0.5)
    front = rng.uniform(0.2, 0.45)
    body = spline(
        (-1.1, 0.0), (-1.02, hood - 0.05), (rear - 0.18, hood - 0.08), (rear + 0.05, roof),
        (front - 0.25, roof), (front + 0.2, hood - 0.05), (0.95, hood + 0.05), (1.12, 0.2),
        (1.08, 0.42), (1.0, 0.45), (-1.0, 0.45), (-1.1, 0.38),
    )  # fmt: skip
    pane_top, pane_bottom = roof + 0.09, hood - 0.06
    middle = (rear + front) / 2 - 0.02
    panes = [
        polygon(
            (rear + 0.1, pane_top),
            (middle - 0.05, pane_top),
            (middle - 0.05, pane_bottom),
            (rear - 0.05, pane_bottom),
        ),
        polygon(
            (middle + 0.05, pane_top),
            (front - 0.25, pane_top),
            (front + 0.06, pane_bottom),
            (middle + 0.05, pane_bottom),
        ),
    ]
    wheels = [(-0.62, 0.45), (0.62, 0.45)]
    radius = rng.uniform(0.24, 0.3)
    return [
        part(body, roundness=0.7),
        part(rectangle(-1.08, 0.22, 1.1, 0.32), material="second", roundness=0.3),
        part(*panes, material="glass", roundness=0.3),
        part(ellipse(1.0, 0.12, 0.09, 0.08), material="pale"),
        part(*[ellipse(x, y, radius) for x, y in wheels], material="ink"),
        part(*[ellipse(x, y, 0.5 * radius) for x, y in wheels], material="pale"),
    ]


def rocket(rng: np.random.Generator) -> list[Part]:
    """Upright, with fins, a window and perhaps a flame."""
    fat = rng.uniform(0.3, 0.45)
    body = revolve(
        (0.0, -1.2), (0.6 * fat, -0.85), (fat, -0.3), (fat, 0.3), (0.65 * fat, 0.72)
    )
    nose = revolve((0.0, -1.2), (0.45 * fat, -0.98), (0.7 * fat, -0.75))
    spread = rng.uniform(0.65, 0.9)
    fin = spline(
        (0.85 * fat, 0.1), (0.85 * fat, 0.1), (spread, 0.5), (spread, 1.0), (spread, 1.0),
        (0.6 * fat, 0.68), (0.6 * fat, 0.68),
    )  # fmt: skip
    parts = []
    if rng.random() < 0.5:
        length = rng.uniform(1.2, 1.5)
        flame = spline((-0.5 * fat, 0.8), (0, length), (0, length), (0.5 * fat, 0.8))
        parts.append(part(flame, material="pale", roundness=0.6))
    pane_y = rng.uniform(-0.45, -0.3)
    return [
        *parts,
        part(rectangle(-0.5 * fat, 0.6, 0.5 * fat, 0.85, 0.03), material="ink"),
        part(fin, mirror(fin), material="second", roundness=0.4),
        part(body),
        part(nose, material="second"),
        part(rectangle(-0.06, 0.25, 0.06, 0.95, 0.05), material="second"),
        part(ellipse(0, pane_y, 0.58 * fat), material="accent", roundness=0.4),
        part(ellipse(0, pane_y, 0.4 * fat), material="glass"),
    ]
