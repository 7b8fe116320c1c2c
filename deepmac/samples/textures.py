"""Surfaces of the `shapes` set: a tone for every point, and colours for the tones.

A texture is a function of the surface's own coordinates, so that it turns and stretches with the
object it is on. Coordinates are in pixels of a 256-pixel picture, whatever the picture's size.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

_TILE = 128


class Noise:
    """Smooth random values over the plane, repeating every 128 units.

    Args:
        rng: decides the values.
    """

    def __init__(self, rng: np.random.Generator):
        tile = np.zeros((_TILE, _TILE), np.float32)
        for cells, weight in ((8, 0.5), (16, 0.3), (32, 0.2), (64, 0.12)):
            grid = rng.random((cells, cells), dtype=np.float32) - 0.5
            wide = np.pad(grid, 2, mode="wrap")
            scale = _TILE // cells
            smooth = cv2.resize(
                wide, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC
            )
            tile += weight * smooth[2 * scale : -2 * scale, 2 * scale : -2 * scale]
        # The mean is 0.5 and nearly everything lies within 0..1.
        tile = np.clip(0.5 + 0.22 * (tile - tile.mean()) / tile.std(), 0, 1)
        self._tile = np.pad(tile, ((0, 1), (0, 1)), mode="wrap")
        self._cells = rng.random(1024, dtype=np.float32)

    def at(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Values in [0, 1] at float32 coordinates; features are 2 to 16 units wide."""
        return cv2.remap(
            self._tile,
            np.mod(u, np.float32(_TILE)),
            np.mod(v, np.float32(_TILE)),
            cv2.INTER_LINEAR,
        )

    def of_cell(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """One value in [0, 1) for each cell of a grid, unrelated to its neighbours'."""
        return self._cells[(i.astype(np.int32) * 37 + j.astype(np.int32) * 101) & 1023]


Texture = Callable[[np.ndarray, np.ndarray, Noise], np.ndarray]


def plain(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    return 0.5 + 0.5 * (noise.at(u * 0.7, v * 0.7) - 0.5)


def stripes(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    return _edge(_wave(u / 11 + 0.5 * noise.at(u * 0.3, v * 0.3)), 0.35)


def plaid(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    across, along = _edge(_wave(u / 13), 0.4), _edge(_wave(v / 13), 0.4)
    threads = 0.12 * (_wave((u + v) / 3.1) - 0.5)
    return 0.45 * across + 0.45 * along + threads + 0.05


def cloth(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    weave = _wave(u / 3.7) * _wave(v / 3.7)
    return 0.2 + 0.5 * weave + 0.5 * (noise.at(u * 0.4, v * 0.4) - 0.3)


def knit(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    fold = np.abs(_fraction(u / 9) - 0.5) * 9
    return 0.15 + 0.6 * _wave((v + fold) / 6) + 0.3 * (noise.at(u, v) - 0.5)


def spots(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    i, j = np.floor(u / 13), np.floor(v / 13)
    jitter = noise.of_cell(i, j)
    du, dv = u / 13 - i - 0.35 - 0.3 * jitter, v / 13 - j - 0.65 + 0.3 * jitter
    return _edge(0.5 + 2.2 * (np.hypot(du, dv) - 0.22 - 0.12 * jitter), 0.4)


def scales(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    return _overlapping_rows(u / 9, v / 6, noise)


def feathers(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    barbs = 0.25 * (_wave((u + 0.4 * v) / 3.3) - 0.5)
    return _overlapping_rows(u / 8, v / 13, noise) + barbs


def wood(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    rings = _fraction(u / 9 + 1.6 * noise.at(u * 0.25, v * 0.06))
    grain = noise.at(u * 3.1, v * 0.25)
    return 0.15 + 0.55 * rings * rings + 0.4 * (grain - 0.3)


def bark(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    ridges = np.abs(noise.at(u * 1.1, v * 0.28) - 0.5)
    return np.minimum(4 * ridges, 1) * (0.6 + 0.4 * noise.at(u * 2, v * 2))


def fur(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    patches = noise.at(u * 0.3, v * 0.3)
    hairs = noise.at(u * 2.4 + 6 * patches, v * 0.35)
    return 0.65 * hairs + 1.1 * patches - 0.35


def marble(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    veins = np.abs(_wave(u / 46 + v / 61 + 1.5 * noise.at(u * 0.35, v * 0.35)) * 2 - 1)
    return 1 - (1 - veins) ** 4 * 0.9 - 0.3 * noise.at(u, v)


def speckle(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    return _edge(noise.at(u * 1.7, v * 1.7), 0.25)


def bricks(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    row = np.floor(v / 8)
    x = u / 15 + 0.5 * (row % 2)
    column = np.floor(x)
    gap = np.minimum(
        np.abs(_fraction(x) - 0.5) * 15, np.abs(v / 8 - row - 0.5) * 8 + 3.5
    )
    mortar = np.clip((gap - 6.2) / 1.0, 0, 1)
    return (0.35 + 0.4 * noise.of_cell(column, row)) * (1 - mortar) + mortar


def checks(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    a, b = 2 * _wave(u / 17) - 1, 2 * _wave(v / 17) - 1
    return _edge(0.5 + 0.5 * a * b, 0.25) * 0.8 + 0.2 * noise.at(u, v)


TEXTURES: dict[str, Texture] = {
    f.__name__: f
    for f in (
        plain, stripes, plaid, cloth, knit, spots, scales, feathers, wood, bark, fur, marble,
        speckle, bricks, checks,
    )
}  # fmt: skip
"""Families by name. Each takes float32 [H, W] u and v, and gives tones, 0 to 1 once clipped."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Material:
    """A surface: a texture, its colours and how it lies on the object.

    Attributes:
        texture: a key of `TEXTURES`.
        colours: float32 [3, 3], RGB in [0, 1] of the tones 0, 0.5 and 1.
        scale: size of the pattern, 1 as in the texture's function.
        turn: radians the pattern is turned by on the object.
        gloss: 0 is matt, 1 is polished.
        origin: where on the pattern the object's centre lies.
    """

    texture: str
    colours: np.ndarray
    scale: float = 1.0
    turn: float = 0.0
    gloss: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)

    def colour(self, x: np.ndarray, y: np.ndarray, noise: Noise) -> np.ndarray:
        """RGB float32 [H, W, 3] at the object's coordinates `x` and `y`, float32 [H, W]."""
        c, s = np.cos(self.turn) / self.scale, np.sin(self.turn) / self.scale
        u = np.float32(c) * x + np.float32(s) * y + np.float32(self.origin[0])
        v = np.float32(c) * y - np.float32(s) * x + np.float32(self.origin[1])
        tone = np.clip(TEXTURES[self.texture](u, v, noise), 0, 1)
        return self._table()[(tone * 255).astype(np.uint8)]

    def _table(self) -> np.ndarray:
        t = np.linspace(0, 2, 256, dtype=np.float32)[:, None]
        low, middle, high = self.colours
        return np.where(
            t < 1, low + (middle - low) * t, middle + (high - middle) * (t - 1)
        ).astype(np.float32)


def _fraction(x: np.ndarray) -> np.ndarray:
    return x - np.floor(x)


def _wave(turns: np.ndarray) -> np.ndarray:
    """A cosine from 0 to 1, of period 1: a parabola in each half, exact on every machine."""
    t = _fraction(turns) * 2 - 1
    hump = 4 * np.abs(t) * (1 - np.abs(t))
    return 0.5 + 0.5 * np.where(t < 0, -hump, hump)


def _edge(tone: np.ndarray, softness: float) -> np.ndarray:
    """Contrast: what lies further than `softness` / 2 from 0.5 becomes 0 or 1."""
    t = np.clip((tone - 0.5) / softness + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _overlapping_rows(u: np.ndarray, v: np.ndarray, noise: Noise) -> np.ndarray:
    """Tiles of unit size, each row shifted by half and hanging over the next like roof tiles."""
    row = np.floor(v)
    x = u + 0.5 * (row % 2)
    across, down = _fraction(x) - 0.5, v - row
    hang = 1 - 4 * across * across  # round lower edge of the tile above
    inside = down < 0.55 * hang
    # Where the row above still covers, its own tile shows, shifted by half.
    depth = np.where(inside, down + 0.45, (down - 0.55 * hang) / 1.2)
    tile = noise.of_cell(np.floor(x) + np.where(inside, 7, 0), row)
    return 0.1 + 0.65 * np.clip(depth, 0, 1) + 0.25 * tile
