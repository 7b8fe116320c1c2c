"""One picture of the `stamps` set: sprites pasted on a photograph so that their edges are hard to see.

Plain pasting is too easy: colours alone then tell the object. Here colours are pulled towards
the surroundings, edges are soft, objects cover each other, and a lens and JPEG blur it all.
"""

import dataclasses
from collections.abc import Mapping

import cv2
import numpy as np

SIDE = 256  # of a picture, in pixels
NUM_SPRITES = (9, 14)
LONGER_SIDE = (56, 136)  # of a sprite before it is turned, in pixels
LEAST_VISIBLE = 0.45  # of the sprite's pixels, for an instance to count
LEAST_PIXELS = 400
_PULL = (0.5, 0.9)  # of the way to the colours of the surroundings
_EDGE_BLUR = (0.7, 1.2)  # of the opacity, in pixels
_BLUR = 0.7  # of the whole picture, in pixels
_TURN = 25  # degrees to either side
_CROP = (0.7, 1.0)  # of the photograph's shorter side
JPEG_QUALITY = 70


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture and the N instances that count.

    Attributes:
        image: uint8 RGB [256, 256, 3].
        ground: name of the photograph.
        names: of the sprites.
        masks: bool [N, 256, 256]; no two overlap.
    """

    image: np.ndarray
    ground: str
    names: tuple[str, ...]
    masks: np.ndarray


def compose(
    rng: np.random.Generator,
    sprites: Mapping[str, np.ndarray],
    photographs: Mapping[str, np.ndarray],
) -> Picture:
    """One picture.

    Args:
        rng: decides everything.
        sprites: uint8 RGBA [h, w, 4] by name.
        photographs: uint8 RGB [h, w, 3] by name.
    """
    ground = list(photographs)[rng.integers(len(photographs))]
    picture = _ground(rng, photographs[ground])
    labels = np.zeros((SIDE, SIDE), np.int32)  # 0: the ground
    names = list(sprites)
    pasted, sizes = [], []
    for number in range(1, int(rng.integers(*NUM_SPRITES, endpoint=True)) + 1):
        name = names[rng.integers(len(names))]
        colours, alpha = _pose(rng, sprites[name])
        there, patch = _windows(rng, alpha.shape)
        window = picture[there]
        _paste(rng, window, colours[patch], alpha[patch])
        labels[there][alpha[patch] >= 0.5] = number
        pasted.append(name)
        sizes.append(int((alpha >= 0.5).sum()))
    visible = np.bincount(labels.ravel(), minlength=len(pasted) + 1)[1:]
    counts = np.flatnonzero(does_count(visible, np.array(sizes)))
    soft = cv2.GaussianBlur(picture, (0, 0), _BLUR)
    return Picture(
        image=np.clip(soft + 0.5, 0, 255).astype(np.uint8),
        ground=ground,
        names=tuple(pasted[i] for i in counts),
        masks=labels[None] == counts[:, None, None] + 1,
    )


def does_count(visible: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Which objects are instances: bool [N], from the pixels seen and those of the whole sprite."""
    return (visible >= LEAST_VISIBLE * sizes) & (visible >= LEAST_PIXELS)


def encode_jpeg(image: np.ndarray) -> bytes:
    """The file of a picture uint8 RGB [H, W, 3]."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], flags)
    return encoded.tobytes()


def _ground(rng: np.random.Generator, photograph: np.ndarray) -> np.ndarray:
    """A turned, mirrored, differently lit square of a photograph: float32 RGB, 0 to 255."""
    height, width = photograph.shape[:2]
    side = int(min(height, width) * rng.uniform(*_CROP))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    square = photograph[top : top + side, left : left + side]
    square = np.rot90(square, int(rng.integers(4)))
    if rng.random() < 0.5:
        square = square[:, ::-1]
    square = cv2.resize(
        np.ascontiguousarray(square), (SIDE, SIDE), interpolation=cv2.INTER_AREA
    )
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.9, 1.1, 3)
    return np.clip(square * gain, 0, 255).astype(np.float32)


def _pose(rng: np.random.Generator, rgba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A sprite in its size and turn: float32 colours [h, w, 3], 0 to 255, and opacity [h, w]."""
    if rng.random() < 0.5:
        rgba = rgba[:, ::-1]
    longer_side = np.exp(rng.uniform(*np.log(LONGER_SIDE)))
    height, width = rgba.shape[:2]
    scale = longer_side / max(height, width)
    alpha = rgba[..., 3:].astype(np.float32) / 255
    layers = np.concatenate([rgba[..., :3] * alpha, alpha], axis=2)
    small = (max(round(width * scale), 2), max(round(height * scale), 2))
    layers = cv2.resize(layers, small, interpolation=cv2.INTER_AREA)
    side = int(np.ceil(np.hypot(*small))) + 2
    turn = cv2.getRotationMatrix2D(
        (small[0] / 2, small[1] / 2), rng.uniform(-_TURN, _TURN), 1.0
    )
    turn[:, 2] += (side - np.array(small)) / 2
    layers = cv2.warpAffine(layers, turn, (side, side), flags=cv2.INTER_LINEAR)
    alpha = layers[..., 3]
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    layers = layers[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = layers[..., 3]
    return layers[..., :3] / np.maximum(alpha, 1e-3)[..., None], alpha


def _windows(
    rng: np.random.Generator, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch of this shape lies in the picture, and what of the patch is in it."""
    there, patch = [], []
    for length in shape:
        first = int(rng.uniform(0, SIDE) - length / 2)
        low, high = max(first, 0), min(first + length, SIDE)
        there.append(slice(low, high))
        patch.append(slice(low - first, high - first))
    return (there[0], there[1]), (patch[0], patch[1])


def _paste(
    rng: np.random.Generator,
    window: np.ndarray,
    colours: np.ndarray,
    alpha: np.ndarray,
) -> None:
    """Blends a sprite into a part of the picture float32 [h, w, 3], in place."""
    if not window.size or alpha.sum() < 1:
        return
    weight = alpha[..., None] / alpha.sum()
    mean = (colours * weight).sum(axis=(0, 1))
    spread = np.sqrt(((colours - mean) ** 2 * weight).sum(axis=(0, 1))) + 1
    pull = rng.uniform(*_PULL)
    around, around_spread = window.mean(axis=(0, 1)), window.std(axis=(0, 1)) + 1
    contrast = np.clip(around_spread / spread, 0.5, 1.5)
    lit = (colours - mean) * (1 + pull * (contrast - 1)) + mean + pull * (around - mean)
    lit = np.clip(lit * rng.uniform(0.85, 1.15), 0, 255)
    soft = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(*_EDGE_BLUR))
    # Outside of the sprite the blurred opacity shows its colours, which are unknown there
    soft = np.where(alpha > 0, soft, 0)[..., None]
    window += soft * (lit - window)
