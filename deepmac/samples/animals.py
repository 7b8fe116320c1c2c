"""Animals of the `shapes` set: each function draws one, different every time."""

import numpy as np

from deepmac.samples.parts import (
    Part,
    ellipse,
    limb,
    mirror,
    move,
    part,
    polygon,
    spline,
)


def bird(rng: np.random.Generator) -> list[Part]:
    """Perched, seen from the side, or with its wing raised."""
    plump = rng.uniform(0.85, 1.2)
    head = rng.uniform(0.28, 0.38)
    tail_drop = rng.uniform(-0.2, 0.3)
    body = spline(
        (-0.75, 0.08),
        (-0.25, -0.32 * plump),
        (0.25, -0.5),
        (0.62, -0.2),
        (0.55, 0.25 * plump),
        (0.1, 0.55 * plump),
        (-0.4, 0.4 * plump),
    )
    tail = polygon(
        (-0.5, -0.05), (-1.3, tail_drop - 0.12), (-1.35, tail_drop + 0.2), (-0.5, 0.3)
    )
    beak = polygon((0.72, -0.78), (0.78 + head, -0.6), (0.72, -0.48))
    if rng.random() < 0.4:
        wing = spline(
            (0.25, -0.2), (0.25, -0.2), (0.1, -0.8), (-0.35, -1.25), (-0.35, -1.25),
            (-0.5, -0.8), (-0.45, -0.1), (-0.45, -0.1), (-0.1, 0.1),
        )  # fmt: skip
    else:
        wing = spline(
            (0.3, -0.15), (0.0, -0.28), (-0.5, -0.1), (-1.0, 0.25), (-1.0, 0.25),
            (-0.4, 0.3), (0.1, 0.25),
        )  # fmt: skip
    foot = 0.45 * plump
    legs = [
        limb([(x, foot), (x - 0.02, foot + 0.45), (x + 0.18, foot + 0.47)], 0.09)
        for x in (-0.05, 0.2)
    ]
    return [
        part(*legs, material="accent"),
        part(tail, material="second", roundness=0.3),
        part(body, ellipse(0.5, -0.62, head)),
        part(beak, material="accent"),
        part(wing, material="second", roundness=0.5),
        part(ellipse(0.58, -0.68, 0.075), material="ink"),
    ]


def butterfly(rng: np.random.Generator) -> list[Part]:
    """From above, wings spread."""
    reach = rng.uniform(0.95, 1.25)
    upper = spline(
        (0.06, -0.15), (0.35, -0.75), (0.9 * reach, -1.0), (1.1 * reach, -0.75),
        (0.95 * reach, -0.2), (0.5, 0.05), (0.06, 0.1),
    )  # fmt: skip
    lower = spline(
        (0.06, 0.05), (0.55, 0.05), (0.85 * reach, 0.3), (0.75 * reach, 0.75),
        (0.45, rng.uniform(0.75, 1.05)), (0.2, 0.55), (0.06, 0.3),
    )  # fmt: skip
    eye_x, eye_y = 0.72 * reach, -0.62
    inner = move(upper, to=(0.063, -0.078), size=0.62)
    marks = [ellipse(eye_x * 0.8, 0.45, 0.13), ellipse(eye_x, eye_y, 0.14)]
    feelers = [
        limb(
            spline((0.02, -0.45), (0.12, -0.75), (0.3, -0.95), closed=False), 0.06, 0.05
        ),
    ]
    feelers.append([mirror(o) for o in feelers[0]])
    return [
        part(*feelers, material="ink"),
        part(lower, mirror(lower), material="second", roundness=0.25),
        part(upper, mirror(upper), roundness=0.25),
        part(inner, mirror(inner), material="accent", roundness=0.2),
        part(*marks, *map(mirror, marks), material="pale", roundness=0.3),
        part(ellipse(0, 0.05, 0.1, 0.5), ellipse(0, -0.45, 0.12), material="ink"),
    ]


def cat(rng: np.random.Generator) -> list[Part]:
    """Sitting, facing us, its tail to one side."""
    fat = rng.uniform(0.85, 1.2)
    head = rng.uniform(0.4, 0.5)
    body = spline(
        (-0.22, -0.35), (-0.5 * fat, 0.2), (-0.6 * fat, 0.75), (-0.35, 1.02),
        (0.35, 1.02), (0.6 * fat, 0.75), (0.5 * fat, 0.2), (0.22, -0.35),
    )  # fmt: skip
    curl = rng.uniform(0.0, 0.5)
    tail = spline(
        (0.4, 0.85), (0.85, 0.8), (1.02, 0.4), (0.85 + 0.2 * curl, -0.1 - curl),
        closed=False,
    )  # fmt: skip
    face_y = -0.62
    ear = polygon(
        (-0.92 * head, face_y - 0.1),
        (-0.85 * head, face_y - head - rng.uniform(0.2, 0.4)),
        (-0.15 * head, face_y - 0.8 * head),
    )
    inner = move(ear - ear.mean(0), size=0.5) + ear.mean(0)
    paw = ellipse(-0.2, 0.95, 0.17, 0.12)
    leg = limb([(-0.18, 0.35), (-0.2, 0.92)], 0.26, 0.22)
    eye = ellipse(-0.4 * head, face_y - 0.02, 0.085, 0.11)
    pupil = ellipse(-0.4 * head, face_y - 0.02, 0.035, 0.1)
    nose = polygon((-0.07, face_y + 0.15), (0.07, face_y + 0.15), (0, face_y + 0.23))
    return [
        part(limb(tail, 0.26, 0.16), material="main"),
        part(body),
        part(spline((0, -0.2), (-0.25, 0.1), (0, 0.6), (0.25, 0.1)), material="second"),
        part(leg, [mirror(o) for o in leg]),
        part(paw, mirror(paw), material="second"),
        part(ear, mirror(ear), roundness=0.4),
        part(inner, mirror(inner), material="accent", roundness=0.2),
        part(ellipse(0, face_y, 1.06 * head, 0.9 * head)),
        part(
            ellipse(-0.12, face_y + 0.25 * head / 0.45, 0.15, 0.12),
            ellipse(0.12, face_y + 0.25 * head / 0.45, 0.15, 0.12),
            material="second",
        ),
        part(eye, mirror(eye), material="pale"),
        part(pupil, mirror(pupil), nose, material="ink"),
    ]


def dog(rng: np.random.Generator) -> list[Part]:
    """Standing, from the side."""
    long = rng.uniform(0.9, 1.15)
    leg = rng.uniform(0.5, 0.75)
    body = spline(
        (-0.8 * long, -0.15), (-0.4, -0.32), (0.3, -0.35), (0.68 * long, -0.3),
        (0.72 * long, 0.1), (0.35, 0.32), (-0.3, 0.2), (-0.75 * long, 0.25),
    )  # fmt: skip
    near, far = [], []
    for x, lean in ((-0.66 * long, 0.1), (0.52 * long, -0.02)):
        stride = rng.uniform(-0.1, 0.1)
        foot = (x + stride, 0.1 + leg)
        path = [(x, 0.05), (x + lean, 0.1 + leg / 2), foot, (foot[0] + 0.12, foot[1])]
        near.append(limb(path, 0.32, 0.15))
        shift = (0.2 - 2 * stride, -0.05)
        far.append([move(o, to=shift) for o in limb(path, 0.28, 0.14)])
    head_x, head_y = 0.88 * long, -0.62
    muzzle = rng.uniform(0.3, 0.5)
    tail_up = rng.uniform(-0.3, 0.75)
    tail = spline(
        (-0.72 * long, -0.1), (-1.0 * long, -0.15 - 0.5 * tail_up),
        (-1.12 * long, -0.25 - tail_up), closed=False,
    )  # fmt: skip
    if rng.random() < 0.6:
        ear = spline(
            (-0.2, -0.22), (-0.02, -0.2), (0.02, 0.2), (-0.18, 0.38), (-0.32, 0.1)
        )
    else:
        ear = polygon((-0.25, -0.15), (-0.2, -0.6), (0.08, -0.22))
    return [
        part(*far),
        part(limb(tail, 0.2, 0.1)),
        part(body),
        part(*near),
        part(limb([(0.5 * long, -0.15), (head_x, head_y)], 0.5, 0.4)),
        part(
            limb([(head_x, head_y), (head_x + muzzle + 0.1, head_y + 0.12)], 0.38, 0.24)
        ),
        part(ellipse(head_x, head_y, 0.3)),
        part(move(ear, to=(head_x, head_y)), material="second", roundness=0.5),
        part(
            ellipse(head_x + muzzle + 0.2, head_y + 0.06, 0.085),
            ellipse(head_x + 0.12, head_y - 0.08, 0.06),
            material="ink",
        ),
        part(
            limb([(0.52 * long, -0.42), (0.86 * long, -0.22)], 0.11), material="accent"
        ),
    ]


def fish(rng: np.random.Generator) -> list[Part]:
    """From the side, swimming to the right."""
    tall = rng.uniform(0.38, 0.65)
    fork = rng.uniform(0.0, 0.2)
    body = spline(
        (1.0, 0.02), (0.65, -0.75 * tall), (0.1, -tall), (-0.5, -0.55 * tall),
        (-0.85, -0.1), (-0.85, 0.1), (-0.5, 0.6 * tall), (0.1, tall), (0.65, 0.75 * tall),
    )  # fmt: skip
    tail = spline(
        (-0.72, 0), (-0.72, 0), (-1.0, -0.3), (-1.4, -0.5), (-1.4, -0.5), (-1.3 + fork, 0),
        (-1.4, 0.5), (-1.4, 0.5), (-1.0, 0.3),
    )  # fmt: skip
    back = rng.uniform(0.2, 0.45)
    dorsal = spline(
        (0.4, -0.75 * tall), (0.25, -tall - back), (0.25, -tall - back), (-0.3, -tall - 0.6 * back),
        (-0.55, -0.45 * tall),
    )  # fmt: skip
    anal = polygon((0.0, 0.9 * tall), (-0.3, tall + 0.6 * back), (-0.5, 0.5 * tall))
    pectoral = spline((0.3, 0.15), (0.3, 0.15), (-0.05, 0.05), (-0.2, 0.3), (0.1, 0.35))
    gill = limb(
        spline((0.5, -0.5 * tall), (0.4, 0), (0.5, 0.5 * tall), closed=False), 0.05
    )
    return [
        part(tail, dorsal, anal, material="second", roundness=0.25),
        part(body, roundness=0.8),
        part(gill, material="ink"),
        part(pectoral, material="second", roundness=0.3),
        part(ellipse(0.7, -0.22 * tall, 0.11), material="pale"),
        part(ellipse(0.72, -0.22 * tall, 0.06), material="ink"),
    ]
