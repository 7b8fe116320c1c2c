"""What an object is drawn from: filled outlines in the object's own frame, and ways to make them.

The frame: x to the right, y down, the object roughly within [-1, 1] on both axes. Outlines are
float64 [P, 2], (x, y), closed (the last point joins the first).
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One piece of an object, of one material, with its own relief.

    Attributes:
        outlines: their union, without the holes, is covered.
        material: what it is made of: `main`, `second` and `accent` differ from object to object,
            `wood`, `ink`, `pale` and `glass` are what they say.
        holes: what shows through.
        roundness: 0 is a flat sheet, 1 as thick as it is wide.
    """

    outlines: tuple[np.ndarray, ...]
    material: str = "main"
    holes: tuple[np.ndarray, ...] = ()
    roundness: float = 1.0

    def mapped(self, place: Callable[[np.ndarray], np.ndarray]) -> "Part":
        """The same part with every outline [P, 2] replaced by `place(outline)`."""
        return dataclasses.replace(
            self,
            outlines=tuple(place(o) for o in self.outlines),
            holes=tuple(place(o) for o in self.holes),
        )


def extent(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """The corners of least and greatest (x, y), float64 [2] each."""
    points = np.concatenate([outline for p in parts for outline in p.outlines])
    return points.min(axis=0), points.max(axis=0)


def part(
    *outlines: np.ndarray | Sequence[np.ndarray],
    material: str = "main",
    holes: Iterable[np.ndarray] = (),
    roundness: float = 1.0,
) -> Part:
    """A part from outlines and from lists of outlines, as `limb` gives."""
    flat: list[np.ndarray] = []
    for outline in outlines:
        flat.extend(outline if isinstance(outline, list | tuple) else [outline])  # pyright: ignore[reportArgumentType]
    return Part(tuple(flat), material, tuple(holes), roundness)


def polygon(*points: Point) -> np.ndarray:
    """Straight edges."""
    return np.array(points, np.float64)


def spline(*points: Point, closed: bool = True, steps: int = 6) -> np.ndarray:
    """A smooth curve through the points (Catmull-Rom); a point given twice is a corner.

    Returns:
        `steps` points for every stretch between two different points; an open curve has its
        last point as well.
    """
    p = np.array(points, np.float64)
    if not closed:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    before, here, after, beyond = (
        (np.roll(p, shift, axis=0) for shift in (1, 0, -1, -2))
        if closed
        else (p[:-3], p[1:-2], p[2:-1], p[3:])
    )
    t = (np.arange(steps) / steps)[None, :, None]
    before, here, after, beyond = (q[:, None] for q in (before, here, after, beyond))
    curve = here + 0.5 * t * (
        after
        - before
        + t * (2 * before - 5 * here + 4 * after - beyond)
        + t**2 * (3 * (here - after) + beyond - before)
    )
    # Between the two copies of a corner there is nothing to draw but a loop.
    curve = curve[(here != after).any(axis=2)[:, 0]].reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-2:-1]])


def ellipse(
    x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0
) -> np.ndarray:
    """An ellipse around (x, y); a circle without `ry`. `turn` in radians, clockwise."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    points = np.stack(
        [rx * np.cos(angles), (rx if ry is None else ry) * np.sin(angles)], axis=1
    )
    return move(points, turn=turn, to=(x, y))


def rectangle(
    left: float, top: float, right: float, bottom: float, corner: float = 0.0
) -> np.ndarray:
    """An upright rectangle; `corner` is the radius of its corners."""
    if corner == 0:
        return polygon((left, top), (right, top), (right, bottom), (left, bottom))
    corner = min(corner, (right - left) / 2, (bottom - top) / 2)
    quarter = np.linspace(0, np.pi / 2, 5)
    arc = corner * np.stack([np.cos(quarter), np.sin(quarter)], axis=1)
    centres = [
        (right - corner, bottom - corner),
        (left + corner, bottom - corner),
        (left + corner, top + corner),
        (right - corner, top + corner),
    ]
    return np.concatenate(
        [move(arc, turn=k * np.pi / 2, to=centre) for k, centre in enumerate(centres)]
    )


def limb(
    points: np.ndarray | Sequence[Point], start: float, end: float | None = None
) -> list[np.ndarray]:
    """A stroke with round ends along a path; its width goes evenly from `start` to `end`.

    Returns:
        outlines whose union is the stroke.
    """
    path = np.asarray(points, np.float64)
    radii = np.linspace(start, start if end is None else end, len(path)) / 2
    step = np.diff(path, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    a, b = normal * radii[:-1, None], normal * radii[1:, None]
    quads = np.stack([path[:-1] + a, path[1:] + b, path[1:] - b, path[:-1] - a], axis=1)
    joints = [ellipse(x, y, r) for (x, y), r in zip(path, radii, strict=True)]
    return [*quads, *joints]


def revolve(*profile: Point, smooth: bool = True) -> np.ndarray:
    """The outline of a surface of revolution around x = 0, from (half width, y), top to bottom."""
    side = spline(*profile, closed=False) if smooth else polygon(*profile)
    side = np.stack([np.maximum(side[:, 0], 0), side[:, 1]], axis=1)
    return np.concatenate([side, (side * (-1, 1))[::-1]])


def mirror(outline: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    return outline * (-1, 1)


def move(
    points: np.ndarray, turn: float = 0.0, to: Point = (0.0, 0.0), size: float = 1.0
) -> np.ndarray:
    """Scaled, then turned clockwise by `turn` radians, then shifted."""
    c, s = np.cos(turn), np.sin(turn)
    return size * points @ np.array([[c, s], [-s, c]]) + to
