"""One picture of the `shapes` set: objects on a cluttered ground, lit, photographed, with masks.

Sizes are in pixels of a picture whose shorter side is 256; other pictures are scaled.
"""

import dataclasses

import cv2
import numpy as np

from deepmac.samples import render
from deepmac.samples.catalogue import KINDS, Kind
from deepmac.samples.clutter import ground
from deepmac.samples.palette import Palette, fixed
from deepmac.samples.parts import extent, move
from deepmac.samples.render import Layer, Light
from deepmac.samples.textures import Material, Noise

_NUM_OBJECTS = (9, 14)  # in a square picture; others have more in proportion
_OBJECT_SIZE = (50, 112)  # the longer side of an object's extent
_CROWD_SIZE = (20, 34)
_MIN_VISIBLE = 0.55  # of every object's pixels inside the picture
_MIN_PIXELS = 400  # visible of every object
_MIN_INSIDE = 0.75  # of each side of an object's extent
_TRIES = 10  # places tried for one object


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A picture and what is in it.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        category_ids: of the N instances, those further back first.
        is_crowd: of the N instances.
        masks: bool [N, H, W], the pixels where each is visible; no two overlap.
    """

    image: np.ndarray
    category_ids: tuple[int, ...]
    is_crowd: tuple[bool, ...]
    masks: np.ndarray


def compose(
    rng: np.random.Generator, height: int, width: int, *, has_crowd: bool = False
) -> Scene:
    """One picture.

    Args:
        rng: decides everything.
        height, width: pixels.
        has_crowd: begin with a group of small objects that counts as one crowd.
    """
    unit = min(height, width) / 256
    noise = Noise(rng)
    palette = Palette(rng)
    light = _light(rng)
    clutter = ground(rng, palette, height, width, unit)
    stage = _Stage(height, width, unit)
    if has_crowd:
        kind = KINDS[rng.integers(len(KINDS))]
        for _ in range(_TRIES):
            if stage.add(_crowd(rng, kind, palette, stage), kind.id, is_crowd=True):
                break
    area = height * width / (256 * unit) ** 2
    for _ in range(int(rng.integers(*_NUM_OBJECTS, endpoint=True) * area)):
        kind = KINDS[rng.integers(len(KINDS))]
        for _ in range(_TRIES):
            if stage.add([_object(rng, kind, palette, stage)], kind.id):
                break
    picture = np.zeros((height, width, 3), np.float32)
    for layer in [*clutter, *stage.layers]:
        render.paint(picture, layer, light, noise)
    return Scene(
        image=_photograph(rng, picture, unit),
        category_ids=tuple(stage.category_ids),
        is_crowd=tuple(stage.is_crowd),
        masks=stage.masks(),
    )


class _Stage:
    """The objects placed so far, back to front, and which of them each pixel shows."""

    def __init__(self, height: int, width: int, unit: float):
        self.height, self.width, self.unit = height, width, unit
        self.layers: list[Layer] = []
        self.category_ids: list[int] = []
        self.is_crowd: list[bool] = []
        self._labels = np.zeros((height, width), np.int32)  # 0: the ground
        self._full: list[int] = []  # pixels of each, had nothing covered it

    def add(
        self, layers: list[Layer], category_id: int, is_crowd: bool = False
    ) -> bool:
        """Puts an object in front of the others, if enough is seen of it and of them."""
        covered = np.zeros(self._labels.shape, bool)
        for layer in layers:
            patch = render.silhouette(layer, self.height, self.width)
            if patch is None or not self._is_inside(layer):
                return False
            covered[patch.window] |= patch.coverage >= 128
        number = len(self._full) + 1
        labels = np.where(covered, number, self._labels)
        full = [*self._full, int(covered.sum())]
        visible = np.bincount(labels.ravel(), minlength=number + 1)[1:]
        needed = np.maximum(_MIN_VISIBLE * np.array(full), _MIN_PIXELS * self.unit**2)
        if (visible < needed).any():
            return False
        self._labels, self._full = labels, full
        self.layers += layers
        self.category_ids.append(category_id)
        self.is_crowd.append(is_crowd)
        return True

    def masks(self) -> np.ndarray:
        """bool [N, H, W]."""
        numbers = np.arange(1, len(self._full) + 1, dtype=np.int32)
        return self._labels[None] == numbers[:, None, None]

    def _is_inside(self, layer: Layer) -> bool:
        low, high = extent(layer.parts)
        inside = np.minimum(high, (self.width, self.height)) - np.maximum(low, 0)
        return bool((inside >= _MIN_INSIDE * (high - low)).all())


def _crowd(
    rng: np.random.Generator, kind: Kind, palette: Palette, stage: _Stage
) -> list[Layer]:
    """Several small objects of one category, close together."""
    reach = 34 * stage.unit
    centre = rng.uniform(0, (stage.width, stage.height))
    return [
        _object(
            rng,
            kind,
            palette,
            stage,
            _CROWD_SIZE,
            centre + rng.uniform(-reach, reach, 2),
        )
        for _ in range(rng.integers(5, 10))
    ]


def _object(
    rng: np.random.Generator,
    kind: Kind,
    palette: Palette,
    stage: _Stage,
    sizes: tuple[float, float] = _OBJECT_SIZE,
    at: np.ndarray | None = None,
) -> Layer:
    """One object of a category, bent, stretched and turned, anywhere in the picture."""
    turn = rng.uniform(-kind.tilt, kind.tilt)
    size = stage.unit * np.exp(rng.uniform(*np.log(sizes)))
    centre = rng.uniform(0, (stage.width, stage.height)) if at is None else at
    bend, phase = rng.normal(scale=0.08), rng.uniform(0, 2 * np.pi)
    stretch = rng.choice([-1, 1]) * rng.uniform(0.8, 1.25)
    skew = np.array([[stretch, 0.0], [rng.normal(scale=0.1), 1.0]])

    def pose(outline: np.ndarray) -> np.ndarray:
        x, y = outline.T
        bent = np.stack([x + bend * np.sin(2.2 * y + phase), y], axis=1)
        return move(bent @ skew, turn)

    posed = [part.mapped(pose) for part in kind.draw(rng)]
    low, high = extent(posed)
    scale = size / (high - low).max()
    shift = centre - scale * (low + high) / 2
    placed = [part.mapped(lambda outline: outline * scale + shift) for part in posed]
    materials = {
        name: _material(rng, name, kind, palette)
        for name in sorted({part.material for part in placed})
    }
    surface = render.frame(tuple(centre), turn, stage.unit)
    return Layer(placed, materials, surface, height=0.05 * size)


def _material(
    rng: np.random.Generator, name: str, kind: Kind, palette: Palette
) -> Material:
    if name in ("main", "second", "accent"):
        return palette.material(rng, kind.natural if name == "main" else None)
    return fixed(rng, name)


def _light(rng: np.random.Generator) -> Light:
    around, rise = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.0)
    # Lamps hang above: the picture's upper side is the lit one.
    towards = np.array([np.cos(around), -abs(np.sin(around)), rise])
    x, y, z = towards / np.linalg.norm(towards)
    return Light(
        direction=(float(x), float(y), float(z)),
        ambient=rng.uniform(0.45, 0.6),
        diffuse=rng.uniform(0.6, 0.85),
        shadow=rng.uniform(0.35, 0.65),
    )


def _photograph(
    rng: np.random.Generator, picture: np.ndarray, unit: float
) -> np.ndarray:
    """uint8 RGB of a lit scene: uneven light, a soft lens, a noisy sensor."""
    height, width = picture.shape[:2]
    corners = rng.uniform(0.8, 1.2, size=(3, 3)).astype(np.float32)
    light = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    sharp = picture * light[..., None]
    soft = cv2.GaussianBlur(sharp, (0, 0), rng.uniform(0.45, 0.8) * np.sqrt(unit))
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    noisy = soft + rng.uniform(0.008, 0.025) * grain
    return np.clip(noisy * 255 + 0.5, 0, 255).astype(np.uint8)
