"""What lies under and between the objects of a picture: surfaces, sheets and scattered fragments."""

import numpy as np

from deepmac.samples.palette import Palette
from deepmac.samples.parts import (
    Part,
    ellipse,
    limb,
    move,
    part,
    polygon,
    rectangle,
    spline,
)
from deepmac.samples.render import Layer, frame

_OVERHANG = 8
"""Pixels that the ground reaches beyond the picture, so that its own edge is never seen."""


def ground(
    rng: np.random.Generator, palette: Palette, height: int, width: int, unit: float
) -> list[Layer]:
    """The background, back to front.

    Args:
        rng: decides what and where.
        palette: colours and surfaces, shared with the objects.
        height, width: of the picture, in pixels.
        unit: pixels of this picture for one pixel of a 256-pixel picture.
    """

    def lay(piece: Part, lift: float) -> Layer:
        centre = piece.outlines[0].mean(axis=0)
        surface = frame(tuple(centre), rng.uniform(0, np.pi), unit)
        return Layer([piece], {"main": palette.material(rng)}, surface, lift * unit)

    def anywhere() -> tuple[float, float]:
        return rng.uniform(0, width), rng.uniform(0, height)

    left, top = -_OVERHANG, -_OVERHANG
    right, bottom = width + _OVERHANG, height + _OVERHANG
    layers = [lay(part(rectangle(left, top, right, bottom), roundness=0), 0.0)]
    if rng.random() < 0.5:
        a, b = height * rng.uniform(0.25, 0.7, size=2)
        table = polygon((left, a), (right, b), (right, bottom), (left, bottom))
        layers.append(lay(part(table, roundness=0), 3.0))
    area = height * width / (256 * unit) ** 2
    for _ in range(rng.poisson(2 * area)):
        w, h = rng.uniform(20, 55, size=2) * unit
        sheet = move(rectangle(-w, -h, w, h), rng.uniform(0, np.pi), anywhere())
        layers.append(lay(part(sheet, roundness=0), 1.5))
    for _ in range(int(rng.integers(22, 40) * area)):
        at, turn = anywhere(), rng.uniform(0, 2 * np.pi)
        size = unit * np.exp(rng.uniform(np.log(5), np.log(26)))
        piece = _fragment(rng).mapped(
            lambda o, turn=turn, at=at, size=size: move(o, turn, at, size)
        )
        layers.append(lay(piece, rng.uniform(1, 5)))
    return layers


def _fragment(rng: np.random.Generator) -> Part:
    """A piece of nothing in particular, about 2 across."""
    shapes = (_pebble, _shard, _strip, _ring, _slab)
    return shapes[rng.integers(len(shapes))](rng)


def _pebble(rng: np.random.Generator) -> Part:
    angles = np.sort(rng.uniform(0, 2 * np.pi, size=7))
    radii = rng.uniform(0.6, 1.1, size=7)
    points = zip(radii * np.cos(angles), radii * np.sin(angles), strict=True)
    return part(spline(*points))


def _shard(rng: np.random.Generator) -> Part:
    angles = np.sort(rng.uniform(0, 2 * np.pi, size=5))
    flat = rng.uniform(0.4, 1)
    points = zip(np.cos(angles), flat * np.sin(angles), strict=True)
    return part(polygon(*points), roundness=rng.uniform(0, 0.6))


def _strip(rng: np.random.Generator) -> Part:
    a, b = rng.uniform(-0.8, 0.8, size=2)
    path = spline((-1.8, a), (-0.6, 0), (0.6, b), (1.8, 0), closed=False)
    return part(limb(path, rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.5)))


def _ring(rng: np.random.Generator) -> Part:
    return part(ellipse(0, 0, 1), holes=[ellipse(0, 0, rng.uniform(0.45, 0.75))])


def _slab(rng: np.random.Generator) -> Part:
    w, h = rng.uniform(0.5, 1.2), rng.uniform(0.3, 0.9)
    return part(rectangle(-w, -h, w, h), roundness=rng.uniform(0, 0.5))
