"""Random changes to training pictures: mirroring, colours, square crops.

Each step is a function of its draws, and `augment` draws them. Colours change on the whole picture;
what mirroring and cropping do to places is kept as a `Frame`, so that a mask can stay encoded until
the few of its pixels that are asked for are looked up.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from deepmac.config.training_schema import (
    AdjustBrightnessConfig,
    AdjustContrastConfig,
    AdjustHueConfig,
    AdjustSaturationConfig,
    AugmentationConfig,
    FactorConfig,
    HorizontalFlipConfig,
    SquareCropByScaleConfig,
)
from deepmac.resize import Geometry, nearest_index

NOTHING = -1
"""In a `Frame`: a row or column that shows no pixel of the stored image, but black."""


class Frame(NamedTuple):
    """What each row and each column of a picture shows of the image as it is stored.

    Attributes:
        rows: int [h], rows of the stored image, or NOTHING.
        cols: int [w], columns of it, or NOTHING.
    """

    rows: np.ndarray
    cols: np.ndarray

    @classmethod
    def of(cls, height: int, width: int) -> "Frame":
        """That of a stored image."""
        return cls(np.arange(height), np.arange(width))

    def mirrored(self) -> "Frame":
        return Frame(self.rows, self.cols[::-1])

    def cropped(self, crop: "SquareCrop") -> "Frame":
        return Frame(
            crop.rows.cut(self.rows, crop.side, NOTHING),
            crop.cols.cut(self.cols, crop.side, NOTHING),
        )

    def resized(self, size: Geometry) -> "Frame":
        """After a resize by the nearest pixel, and padding at the bottom and right."""
        rows = self.rows[nearest_index(len(self.rows), size.height)]
        cols = self.cols[nearest_index(len(self.cols), size.width)]
        below, right = size.padded_height - size.height, size.padded_width - size.width
        return Frame(
            np.pad(rows, (0, below), constant_values=NOTHING),
            np.pad(cols, (0, right), constant_values=NOTHING),
        )


class Picture(NamedTuple):
    """An image on its way to the network, with what it shows.

    Attributes:
        image: uint8 or float32 [h, w, 3], RGB, 0 to 255.
        frame: where its pixels are in the stored image.
        boxes: float32 [n, 4], (ymin, xmin, ymax, xmax) in fractions of `image`.
        kept: int [n], which of the instances of the stored image these are.
        points: float32 [n, P, 2], (y, x) in fractions of `image`, NaN where there is none; P may
            be 0.
    """

    image: np.ndarray
    frame: Frame
    boxes: np.ndarray
    kept: np.ndarray
    points: np.ndarray

    @classmethod
    def of(
        cls, image: np.ndarray, boxes: np.ndarray, points: np.ndarray | None = None
    ) -> "Picture":
        """That of an image as it is stored."""
        boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
        if points is None:
            points = np.zeros((len(boxes), 0, 2), np.float32)
        frame = Frame.of(*image.shape[:2])
        return cls(image, frame, boxes, np.arange(len(boxes)), points)


def augment(
    picture: Picture, steps: Sequence[AugmentationConfig], rng: np.random.Generator
) -> Picture:
    """Applies the steps of a configuration in their order, with draws from `rng`."""
    for step in steps:
        match step.chosen:
            case HorizontalFlipConfig(probability=probability):
                if rng.random() < probability:
                    picture = mirror(picture)
            case AdjustHueConfig(max_delta=most):
                image = adjust_hue(picture.image, rng.uniform(-most, most))
                picture = picture._replace(image=image)
            case AdjustContrastConfig() as factors:
                image = adjust_contrast(picture.image, _factor(factors, rng))
                picture = picture._replace(image=image)
            case AdjustSaturationConfig() as factors:
                image = adjust_saturation(picture.image, _factor(factors, rng))
                picture = picture._replace(image=image)
            case AdjustBrightnessConfig(max_delta=most):
                image = adjust_brightness(picture.image, rng.uniform(-most, most))
                picture = picture._replace(image=image)
            case SquareCropByScaleConfig() as config:
                height, width = picture.image.shape[:2]
                picture = crop(picture, draw_crop(height, width, config, rng))
    return picture


def _factor(config: FactorConfig, rng: np.random.Generator) -> float:
    return rng.uniform(config.min_delta, config.max_delta)


# Places


def mirror(picture: Picture) -> Picture:
    """Left becomes right, of the image, its boxes and its points."""
    ymin, xmin, ymax, xmax = picture.boxes.T
    points = picture.points.copy()
    points[..., 1] = 1 - points[..., 1]
    return picture._replace(
        image=cv2.flip(picture.image, 1),
        frame=picture.frame.mirrored(),
        boxes=np.stack([ymin, 1 - xmax, ymax, 1 - xmin], axis=1),
        points=points,
    )


class Span(NamedTuple):
    """What a crop takes over of one axis: [start, stop) of the source, put at `offset`."""

    start: int
    stop: int
    offset: int

    def cut(self, values: np.ndarray, size: int, fill: int) -> np.ndarray:
        """The values [size] of the crop's axis, from those of the source's axis."""
        result = np.full(size, fill, values.dtype)
        result[self.target] = values[self.source]
        return result

    @property
    def source(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def target(self) -> slice:
        return slice(self.offset, self.offset + self.stop - self.start)


class SquareCrop(NamedTuple):
    """A square cut out of an image, black where it overhangs.

    Attributes:
        side: of the square, in pixels.
        top, left: of the square in the image, in pixels; may be negative.
        rows, cols: the part of the image that it shows.
    """

    side: int
    top: int
    left: int
    rows: Span
    cols: Span


def square_crop(height: int, width: int, scale: float, y: int, x: int) -> SquareCrop:
    """The square about a centre.

    As in the reference, the last row and the last column of the image are never in it, and of a
    square with an odd side the last row and column are black.

    Args:
        height, width: of the image, in pixels.
        scale: side of the square by the longer side of the image.
        y, x: centre, in pixels.
    """
    side = max(1, int(np.float32(scale) * np.float32(max(height, width))))
    half = side // 2
    top, left = y - half, x - half
    return SquareCrop(
        side, top, left, _span(top, 2 * half, height), _span(left, 2 * half, width)
    )


def _span(first: int, length: int, size: int) -> Span:
    start = max(first, 0)
    stop = max(start, min(first + length, size - 1))
    return Span(start, stop, start - first)


def draw_crop(
    height: int, width: int, config: SquareCropByScaleConfig, rng: np.random.Generator
) -> SquareCrop:
    """A square of a random size about a random centre, which keeps off the border."""
    scales = np.linspace(config.scale_min, config.scale_max, config.num_scales)
    scale = scales[rng.integers(config.num_scales)]
    y, x = (
        int(rng.integers(border, max(border, size - border), endpoint=True))
        for size, border in (
            (height, crop_border(height, config.max_border)),
            (width, crop_border(width, config.max_border)),
        )
    )
    return square_crop(height, width, scale, y, x)


def crop_border(size: int, max_border: int) -> int:
    """How far, in pixels, the centre of a crop keeps off the border of an axis of `size` pixels.

    `max_border` divided by the power of two with which it leaves room between two borders.
    """
    power = math.ceil(math.log2(2 * max_border / size))
    return int(max_border // min(max(2.0**power, 1), max_border))


def crop(picture: Picture, square: SquareCrop) -> Picture:
    """What lies in the square. Instances outside of it go; boxes end at its border."""
    height, width = picture.image.shape[:2]
    image = np.zeros((square.side, square.side, 3), picture.image.dtype)
    rows, cols = square.rows, square.cols
    image[rows.target, cols.target] = picture.image[rows.source, cols.source]
    origin = np.array([square.top, square.left], np.float32)
    sides = np.array([height, width], np.float32)
    boxes = _seen_from(picture.boxes.reshape(-1, 2, 2), origin, sides, square.side)
    is_inside = (boxes[:, 0] < 1).all(axis=1) & (boxes[:, 1] > 0).all(axis=1)
    points = _seen_from(picture.points[is_inside], origin, sides, square.side)
    points[((points < 0) | (points > 1)).any(axis=-1)] = np.nan
    return Picture(
        image,
        picture.frame.cropped(square),
        boxes[is_inside].clip(0, 1).reshape(-1, 4),
        picture.kept[is_inside],
        points,
    )


def _seen_from(
    places: np.ndarray, origin: np.ndarray, sides: np.ndarray, side: int
) -> np.ndarray:
    """(y, x) float32 [..., 2] in fractions of an image, in fractions of a square cut out of it."""
    return (places * sides - origin) / np.float32(side)


# Colours: RGB [h, w, 3], 0 to 255, uint8 or float32; they return float32 in that range


def adjust_hue(image: np.ndarray, delta: float) -> np.ndarray:
    """Turns the hue by a fraction of the circle; saturation and value stay."""
    hsv = _to_hsv(image)
    # OpenCV takes hues up to 720 degrees, but none below 0.
    hsv[..., 0] += np.float32(360 * (delta % 1))
    return _clipped(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies the saturation, up to full; hue and value stay."""
    hsv = _to_hsv(image)
    saturation = hsv[..., 1] * np.float32(factor)
    hsv[..., 1] = np.minimum(saturation, 1, out=saturation)
    return _clipped(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies the distance from the mean of the channel over the whole picture."""
    height, width, _ = image.shape
    means = np.array(cv2.mean(image)[:3])
    # A whole row at once: NumPy is slow over an axis of three.
    rows = image.reshape(height, -1) * np.float32(factor)
    rows += np.tile((means * (1 - factor)).astype(np.float32), width)
    return _clipped(rows).reshape(height, width, 3)


def adjust_brightness(image: np.ndarray, delta: float) -> np.ndarray:
    """Adds a fraction of the whole range."""
    return _clipped(image + np.float32(255 * delta))


def _to_hsv(image: np.ndarray) -> np.ndarray:
    """float32 [h, w, 3]: hue in degrees, saturation 0 to 1, value 0 to 255."""
    return cv2.cvtColor(image.astype(np.float32, copy=False), cv2.COLOR_RGB2HSV)


def _clipped(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255, out=image)
