"""A mask as polygons that rasterise to exactly that mask."""

import numpy as np

from deepmac.errors import DataError
from deepmac.masks import encode_rle, rle_from_segmentation

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up, as (x, y)


def exact_polygons(mask: np.ndarray) -> list[list[int]] | None:
    """COCO polygons along the edges of the pixels.

    Args:
        mask: bool [H, W].

    Returns:
        lists x0, y0, x1, y1, ... in pixels, where (0, 0) is the picture's corner; None when no
        polygons have this mask, because it is empty, has a hole, or loses something in COCO's
        rasterisation.
    """
    loops = _loops(mask)
    if not loops or any(_signed_area(loop) < 0 for loop in loops):
        return None
    polygons = [loop.ravel().tolist() for loop in loops]
    try:
        drawn = rle_from_segmentation(polygons, *mask.shape)
    except DataError:
        return None
    return polygons if drawn == encode_rle(mask) else None


def _loops(mask: np.ndarray) -> list[np.ndarray]:
    """Closed paths int64 [P, 2], (x, y), with the foreground on their right."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    # Where an edge of a pixel begins, for the edge at its top, right, bottom and left.
    neighbours = (
        padded[:-2, 1:-1],
        padded[1:-1, 2:],
        padded[2:, 1:-1],
        padded[1:-1, :-2],
    )
    corners = ((0, 0), (1, 0), (1, 1), (0, 1))
    edges: dict[tuple[int, int], list[int]] = {}
    for direction, (neighbour, (dx, dy)) in enumerate(
        zip(neighbours, corners, strict=True)
    ):
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            edges.setdefault((x + dx, y + dy), []).append(direction)
    loops = []
    while edges:
        loops.append(_follow(edges))
    return loops


def _follow(edges: dict[tuple[int, int], list[int]]) -> np.ndarray:
    """Takes one closed path out of `edges`; its points are where it turns."""
    point, came = next(iter(edges)), None
    start, turns = point, []
    while point in edges:
        out = edges[point]
        # Where two pixels touch at a corner only, a right turn stays with the same pixel.
        right = None if came is None else (came + 1) % 4
        direction = out.pop(out.index(right) if right in out else 0)
        if not out:
            del edges[point]
        if direction != came:
            turns.append(point)
        dx, dy = _STEPS[direction]
        point, came = (point[0] + dx, point[1] + dy), direction
        if point == start:
            break
    return np.array(turns, np.int64)


def _signed_area(loop: np.ndarray) -> int:
    """Twice the area in pixels; positive when clockwise as seen."""
    x, y = loop.T
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
