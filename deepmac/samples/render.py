"""From parts and materials to lit pixels."""

import dataclasses
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from deepmac.samples.parts import Part, extent
from deepmac.samples.textures import Material, Noise

_SUBPIXEL_BITS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Light:
    """One distant lamp and the light of the surroundings.

    Attributes:
        direction: unit vector towards the lamp, (x, y, z), z towards the viewer.
        ambient: brightness of what the lamp does not reach.
        diffuse: what the lamp adds.
        shadow: darkness of cast shadows, 0..1.
    """

    direction: tuple[float, float, float]
    ambient: float
    diffuse: float
    shadow: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One object, or one piece of clutter, as it lies in the picture.

    Attributes:
        parts: outlines in pixels of the picture; pixel centres have whole coordinates.
        materials: for every material that a part names.
        surface: float64 [2, 3], as `frame` gives: where on the surface a pixel lies.
        height: pixels above the ground, how far its shadow falls.
    """

    parts: Sequence[Part]
    materials: Mapping[str, Material]
    surface: np.ndarray
    height: float


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A rectangle of the picture: `coverage` uint8 [h, w] with its corner at (`top`, `left`)."""

    top: int
    left: int
    coverage: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        h, w = self.coverage.shape[:2]
        return slice(self.top, self.top + h), slice(self.left, self.left + w)


def frame(at: tuple[float, ...], turn: float, unit: float) -> np.ndarray:
    """Pixels of the picture -> coordinates on a surface that is turned around a point.

    Args:
        at: the point, (x, y) in pixels; the surface's coordinates are 0 there.
        turn: radians, clockwise.
        unit: pixels of the picture for one unit of the surface.

    Returns:
        float64 [2, 3], takes (x, y, 1).
    """
    c, s = np.cos(turn) / unit, np.sin(turn) / unit
    x, y = at
    return np.array([[c, s, -c * x - s * y], [-s, c, s * x - c * y]])


def cover(part: Part, height: int, width: int) -> Patch | None:
    """The pixels a part covers, 0..255 with soft edges; None when all of it is outside."""
    low, high = extent([part])
    left, top = np.maximum(np.floor(low).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(high).astype(int) + 2, (width, height))
    if right <= left or bottom <= top:
        return None
    canvas = np.zeros((bottom - top, right - left), np.uint8)
    for outlines, value in ((part.outlines, 255), (part.holes, 0)):
        for outline in outlines:
            fixed = np.rint((outline - (left, top)) * (1 << _SUBPIXEL_BITS))
            cv2.fillPoly(
                canvas, [fixed.astype(np.int32)], value, cv2.LINE_AA, _SUBPIXEL_BITS
            )
    return Patch(int(top), int(left), canvas)


def silhouette(layer: Layer, height: int, width: int) -> Patch | None:
    """The pixels a whole layer covers, 0..255; None when all of it is outside the picture."""
    return _join([cover(p, height, width) for p in layer.parts])


def paint(picture: np.ndarray, layer: Layer, light: Light, noise: Noise) -> None:
    """Draws a layer with its shadow into `picture`, RGB float32 [H, W, 3] in [0, 1], in place."""
    height, width = picture.shape[:2]
    covers = [cover(p, height, width) for p in layer.parts]
    whole = _join(covers)
    if whole is None:
        return
    _cast_shadow(picture, whole, layer.height, light)
    colours: dict[str, np.ndarray] = {}
    for part, patch in zip(layer.parts, covers, strict=True):
        if patch is None:
            continue
        if part.material not in colours:
            x, y = _coordinates(layer.surface, whole)
            colours[part.material] = layer.materials[part.material].colour(x, y, noise)
        row, column = patch.top - whole.top, patch.left - whole.left
        h, w = patch.coverage.shape
        colour = colours[part.material][row : row + h, column : column + w]
        gloss = layer.materials[part.material].gloss
        _blend(
            picture, patch, _lit(colour, patch.coverage, part.roundness, gloss, light)
        )


def _join(patches: Sequence[Patch | None]) -> Patch | None:
    present = [p for p in patches if p is not None]
    if not present:
        return None
    top, left = min(p.top for p in present), min(p.left for p in present)
    bottom = max(p.top + p.coverage.shape[0] for p in present)
    right = max(p.left + p.coverage.shape[1] for p in present)
    union = np.zeros((bottom - top, right - left), np.uint8)
    for p in present:
        h, w = p.coverage.shape
        window = union[p.top - top : p.top - top + h, p.left - left : p.left - left + w]
        np.maximum(window, p.coverage, out=window)
    return Patch(top, left, union)


def _coordinates(surface: np.ndarray, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
    """The surface's coordinates of every pixel of a patch, float32 [h, w] each."""
    rows, columns = patch.window
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
    m = surface.astype(np.float32)
    return m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]


def _lit(
    colour: np.ndarray,
    coverage: np.ndarray,
    roundness: float,
    gloss: float,
    light: Light,
) -> np.ndarray:
    """Colours [h, w, 3] as the light shows them on an inflated relief of the covered pixels."""
    solid = (coverage >= 128).view(np.uint8)
    # A part cut off by the picture's frame goes on beyond it: no edge there.
    inside = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    inside = np.minimum(inside, np.float32(max(coverage.shape)))
    radius = max(float(inside.max()), 1.0)
    t = np.minimum(inside / radius, 1)
    relief = radius * (0.15 + 0.85 * roundness) * np.sqrt(t * (2 - t))
    relief = cv2.GaussianBlur(relief, (0, 0), 0.6 + 0.18 * radius * roundness)
    slope_x = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    slope_y = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    lx, ly, lz = light.direction
    facing = (lz - lx * slope_x - ly * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    seam = 0.72 + 0.28 * np.minimum(inside / (1 + 0.06 * radius), 1)
    shade = (light.ambient + light.diffuse * np.maximum(facing, 0)) * seam
    lit = colour * shade[..., None]
    if gloss > 0:
        lit += (gloss * np.maximum(facing, 0) ** 24)[..., None]
    return lit


def _blend(picture: np.ndarray, patch: Patch, colour: np.ndarray) -> None:
    window = picture[patch.window]
    window += (colour - window) * (patch.coverage[..., None] * np.float32(1 / 255))


def _cast_shadow(
    picture: np.ndarray, patch: Patch, height: float, light: Light
) -> None:
    lx, ly, lz = light.direction
    margin = int(2 * height) + 3
    shape = cv2.copyMakeBorder(
        patch.coverage, margin, margin, margin, margin, cv2.BORDER_CONSTANT
    )
    soft = cv2.GaussianBlur(shape, (0, 0), 0.6 + 0.5 * height).astype(np.float32)
    top = patch.top - margin - round(height * ly / lz)
    left = patch.left - margin - round(height * lx / lz)
    rows = slice(max(top, 0), min(top + shape.shape[0], picture.shape[0]))
    columns = slice(max(left, 0), min(left + shape.shape[1], picture.shape[1]))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return
    soft = soft[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    picture[rows, columns] *= 1 - (light.shadow / 255) * soft[..., None]
