"""The colours and surfaces that a picture's objects and clutter share."""

import dataclasses

import numpy as np

from deepmac.samples.textures import TEXTURES, Material

_FIXED_COLOURS = {
    "ink": (0.1, 0.1, 0.12),
    "pale": (0.9, 0.87, 0.8),
    "glass": (0.42, 0.56, 0.65),
    "wood": (0.56, 0.38, 0.22),
}
_GLOSS = {"glass": 0.5, "ink": 0.15}


class Palette:
    """A few related colours, and surfaces made from them.

    Objects take half of their surfaces from the same small pool as the clutter, so that neither
    colour nor texture tells the two apart.

    Args:
        rng: decides the colours and the pool.
    """

    def __init__(self, rng: np.random.Generator):
        # Earth, leaves, water and sky more often than the rest of the circle.
        hue = rng.normal((0.08, 0.08, 0.3, 0.57)[rng.integers(4)], 0.07)
        spread = (0.05, 0.15, 0.4)[rng.integers(3)]
        self._colours = [
            _rgb(
                (hue + spread * rng.normal()) % 1,
                rng.uniform(0.08, 0.7),
                rng.uniform(0.35, 0.92),
            )
            for _ in range(rng.integers(4, 7))
        ]
        self._pool = [self._new(rng, None) for _ in range(9)]

    def material(
        self, rng: np.random.Generator, natural: str | None = None
    ) -> Material:
        """A surface of this picture; more often than not with the texture `natural`, if given."""
        if natural is None and rng.random() < 0.5:
            known = self._pool[rng.integers(len(self._pool))]
            return dataclasses.replace(
                known, origin=_origin(rng), turn=rng.uniform(0, np.pi)
            )
        return self._new(rng, natural)

    def _new(self, rng: np.random.Generator, natural: str | None) -> Material:
        texture = list(TEXTURES)[rng.integers(len(TEXTURES))]
        if natural is not None and rng.random() < 0.6:
            texture = natural
        base, other = self._colour(rng), self._colour(rng)
        low = base * rng.uniform(0.45, 0.8)
        high = np.clip(0.35 * base + 0.65 * other + rng.uniform(-0.05, 0.2), 0, 1)
        return Material(
            texture=texture,
            colours=np.stack([low, base, high]).astype(np.float32),
            scale=rng.uniform(0.75, 1.5),
            turn=rng.uniform(0, np.pi),
            gloss=rng.uniform(0.1, 0.45) if rng.random() < 0.35 else 0.0,
            origin=_origin(rng),
        )

    def _colour(self, rng: np.random.Generator) -> np.ndarray:
        """One of the picture's, a little off; one in five has nothing to do with them."""
        if rng.random() < 0.2:
            return _rgb(rng.random(), rng.uniform(0.15, 0.85), rng.uniform(0.35, 0.97))
        near = self._colours[rng.integers(len(self._colours))]
        return np.clip(near + rng.normal(scale=0.07, size=3), 0.05, 0.97)


def fixed(rng: np.random.Generator, name: str) -> Material:
    """Ink, pale, glass or wood: what it is called, in a shade of its own."""
    base = np.array(_FIXED_COLOURS[name]) * rng.uniform(0.8, 1.15)
    tones = base * np.array([[0.75], [1.0], [1.2]])
    return Material(
        texture="wood" if name == "wood" else "plain",
        colours=np.clip(tones, 0, 1).astype(np.float32),
        gloss=_GLOSS.get(name, 0.0),
        origin=_origin(rng),
    )


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """float64 [3] in [0, 1] from hue (in turns), saturation and value in [0, 1]."""
    ramp = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return value * (1 - saturation * (1 - np.clip(ramp, 0, 1)))


def _origin(rng: np.random.Generator) -> tuple[float, float]:
    return rng.uniform(0, 128), rng.uniform(0, 128)
