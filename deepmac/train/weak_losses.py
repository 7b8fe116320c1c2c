"""Losses of masks that need no masks: of boxes, colours, a second view, and points.

Each gives one value for each instance. Maps are [B, M, h, w], of the whole image or in the frames
of RoIs; boxes (ymin, xmin, ymax, xmax) in fractions of the padded image. Logits may be of any
float type; everything is computed in float32.
"""

from typing import NamedTuple

from deepmac.config.schema import ConsistencyComparison, MaskHeadConfig
from deepmac.config.training_schema import (
    ClassificationLossConfig,
    LossNormalize,
    SelfSupervisionLoss,
)
from deepmac.model.roi import cut_rois
from deepmac.model.tensors import Tensor, ops
from deepmac.train.losses import (
    classification_loss,
    dice_loss,
    flat_maps,
    is_per_pixel,
    mean_of_pixels,
)

NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
"""Rows down and columns right of a pixel, in units of the dilation."""

THETA = 2.0
"""Distance, in units of Lab or of the feature map, over which similarity falls to 1 / e."""


def warm_up(step: Tensor, start: int, num_steps: int) -> Tensor | float:
    """The weight of a loss at a step: 0 up to `start`, then rising to 1 in `num_steps`."""
    if num_steps == 0:
        return 1.0
    return ops.clip((ops.cast(step, "float32") - start) / num_steps, 0.0, 1.0)


# Boxes


def box_consistency_loss(
    config: MaskHeadConfig,
    logits: Tensor,
    box_maps: Tensor,
    *,
    reference_quirks: bool | None = None,
) -> Tensor:
    """How far the shadows of masks on the two axes are from those of their boxes.

    A shadow is the largest value of each column, or of each row. With
    `box_consistency_tightness` only what lies in the box throws one where the box does.

    Args:
        config: the pixel loss, tightness, and how pixels are summed.
        logits: float [B, M, h, w].
        box_maps: float [B, M, h, w], 1 inside the boxes.
        reference_quirks: with NORMALIZE_GROUNDTRUTH_COUNT a box may contain no pixel. True
            divides by 0 there, as the reference does; else by 1.

    Returns:
        float32 [B, M], the sum over both axes.
    """
    assert config.classification_loss is not None  # objective.check_trainable
    logits = ops.cast(logits, "float32")
    total = 0.0
    for axis in (2, 3):
        wanted = ops.max(box_maps, axis=axis)
        shadow = ops.max(logits, axis=axis)
        if config.box_consistency_tightness:
            inside = ops.max(logits * box_maps, axis=axis)
            shadow = wanted * inside + (1 - wanted) * shadow
        total += _sum_of_shadow(
            config.classification_loss,
            shadow,
            wanted,
            config.box_consistency_loss_normalize,
            at_least=0.0 if reference_quirks else 1.0,
        )
    return total


def _sum_of_shadow(
    config: ClassificationLossConfig,
    shadow: Tensor,
    wanted: Tensor,
    normalize: LossNormalize,
    at_least: float,
) -> Tensor:
    """The loss of shadows [B, M, P] against wanted ones: float32 [B, M]."""
    loss = classification_loss(config, shadow, wanted)
    if normalize is LossNormalize.NORMALIZE_GROUNDTRUTH_COUNT:
        total = ops.sum(loss, axis=-1) if is_per_pixel(config) else loss
        return total / ops.maximum(ops.sum(wanted, axis=-1), at_least)
    if normalize is LossNormalize.NORMALIZE_BALANCED:
        inside = ops.sum(wanted, axis=-1, keepdims=True)
        outside = ops.sum(1 - wanted, axis=-1, keepdims=True)
        return ops.sum(loss / (wanted * inside + (1 - wanted) * outside), axis=-1)
    return mean_of_pixels(config, loss)


# Colours


def colour_consistency_loss(
    config: MaskHeadConfig, logits: Tensor, features: Tensor, box_maps: Tensor
) -> Tensor:
    """How unlikely it is that neighbours of like colour lie on the same side of a mask.

    Of each pixel of a box, the eight neighbours at a distance of `color_consistency_dilation`
    whose similarity is above `color_consistency_threshold` count. What is outside the image has
    value 0, in the mask as in the features.

    Args:
        config: threshold, dilation and comparison.
        logits: float [B, M, h, w], of the whole image.
        features: float [B, h, w, C], what is compared.
        box_maps: float [B, M, h, w], 1 inside the boxes.

    Returns:
        float32 [B, M], the mean over the pixels of the box of the sum over the neighbours.
    """
    dilation = config.color_consistency_dilation
    features = ops.cast(features, "float32")
    if (
        config.feature_consistency_comparison
        is ConsistencyComparison.COMPARISON_NORMALIZED_DOTPROD
    ):
        features, similar = _unit_vectors(features), dot_products
    else:
        similar = gaussian_similarity
    probs = ops.sigmoid(ops.cast(logits, "float32"))
    total = 0.0
    for y, x in NEIGHBOURS:
        offset = (y * dilation, x * dilation)
        similarity = similar(features, shifted(features, offset, axes=(1, 2)))
        is_alike = ops.cast(similarity > config.color_consistency_threshold, "float32")
        same = same_side(probs, shifted(probs, offset, axes=(2, 3)))
        total -= is_alike[:, None] * ops.log(ops.clip(same, 1e-3, 1.0))
    num_pixels = ops.sum(box_maps, axis=(2, 3))
    return ops.sum(total * box_maps, axis=(2, 3)) / ops.maximum(num_pixels, 1.0)


def gaussian_similarity(a: Tensor, b: Tensor) -> Tensor:
    """exp(-|a - b| / THETA) of vectors [..., C]: [...]."""
    return ops.exp(-ops.sqrt(ops.sum((a - b) ** 2, axis=-1)) / THETA)


def dot_products(a: Tensor, b: Tensor) -> Tensor:
    """Of vectors [..., C]: [...]."""
    return ops.sum(a * b, axis=-1)


def same_side(a: Tensor, b: Tensor) -> Tensor:
    """The probability that both are foreground or both background, [...]."""
    return a * b + (1 - a) * (1 - b)


def shifted(
    maps: Tensor, offset: tuple[int, int], axes: tuple[int, int] = (1, 2)
) -> Tensor:
    """Each pixel's neighbour so many rows down and columns right; 0 outside the map."""
    margins, window = [(0, 0)] * len(maps.shape), [slice(None)] * len(maps.shape)
    for axis, distance in zip(axes, offset, strict=True):
        margin, size = abs(distance), maps.shape[axis]
        margins[axis] = (margin, margin)
        window[axis] = slice(margin + distance, margin + distance + size)
    return ops.pad(maps, margins)[tuple(window)]


def _unit_vectors(features: Tensor) -> Tensor:
    """Vectors [..., C] of length 1; those shorter than 0.01 stay shorter."""
    squares = ops.sum(features**2, axis=-1, keepdims=True)
    return features / ops.sqrt(ops.maximum(squares, 1e-4))


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """CIE Lab, for D65 and an observer of 2 degrees, of sRGB colours.

    Args:
        rgb: float [..., 3], from 0 to 1.

    Returns:
        float32 [..., 3]: L from 0 to 100, a and b within about +-110.
    """
    rgb = ops.cast(rgb, "float32")
    linear = ops.where(
        rgb > 0.04045,
        ops.power((ops.maximum(rgb, 0.04045) + 0.055) / 1.055, 2.4),
        rgb / 12.92,
    )
    relative = [
        sum(linear[..., i] * (row[i] / white) for i in range(3))
        for row, white in zip(_XYZ_OF_RGB, _WHITE, strict=True)
    ]
    x, y, z = (
        ops.where(t > 0.008856, ops.power(ops.maximum(t, 0.008856), 1 / 3), t * 7.787)
        + ops.where(t > 0.008856, 0.0, 16 / 116)
        for t in map(ops.convert_to_tensor, relative)
    )
    return ops.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


_XYZ_OF_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


# A second view


class View(NamedTuple):
    """Another view of images: mirrored or not, then a window of the same shape.

    Attributes:
        shifts: float32 [B, 2], x and y, of what is seen, in units of the window.
        scales: float32 [B, 2], x and y, size of the window in fractions of the image.
        is_flipped: float32 [B], 1 or 0.
    """

    shifts: Tensor
    scales: Tensor
    is_flipped: Tensor

    def window(self) -> Tensor:
        """float32 [B, 4], (ymin, xmin, ymax, xmax) in fractions of the (mirrored) image."""
        centres, halves = 0.5 - self.shifts * self.scales, self.scales / 2
        return _window(centres - halves, centres + halves)

    def window_of_image(self) -> Tensor:
        """float32 [B, 4], where the image lies in fractions of the window."""
        start = 0.5 - self.shifts * self.scales - self.scales / 2
        return _window(-start / self.scales, (1 - start) / self.scales)


def drawn_view(config: MaskHeadConfig, draws: Tensor) -> View:
    """The view that numbers from 0 to 1 stand for.

    Args:
        config: the ranges of `augmented_self_supervision`.
        draws: float [B, 5], for the shifts in x and y, the scales in x and y, and the flip.
    """
    draws = ops.cast(draws, "float32")
    max_shift = config.augmented_self_supervision_max_translation
    low = config.augmented_self_supervision_scale_min
    high = config.augmented_self_supervision_scale_max
    is_flipped = draws[:, 4] < config.augmented_self_supervision_flip_probability
    return View(
        shifts=(2 * draws[:, :2] - 1) * max_shift,
        scales=low + draws[:, 2:4] * (high - low),
        is_flipped=ops.cast(is_flipped, "float32"),
    )


def seen_images(images: Tensor, view: View) -> Tensor:
    """Images [B, H, W, C] in a view, of the same size; 0 where it shows what is outside."""
    return _cut(_mirrored(images, view.is_flipped), view.window())


def seen_boxes(boxes: Tensor, view: View) -> Tensor:
    """Boxes [B, N, 4] of the images as boxes of a view."""
    ymin, xmin, ymax, xmax = ops.unstack(boxes, 4, axis=-1)
    mirrored = ops.stack([ymin, 1 - xmax, ymax, 1 - xmin], axis=-1)
    is_flipped = view.is_flipped[:, None, None]
    boxes = is_flipped * mirrored + (1 - is_flipped) * boxes
    top, left, bottom, right = ops.unstack(view.window()[:, None], 4, axis=-1)
    start = ops.stack([top, left, top, left], axis=-1)
    size = ops.stack([bottom - top, right - left] * 2, axis=-1)
    return (boxes - start) / size


def restored(
    maps: Tensor, view: View, *, reference_quirks: bool | None = None
) -> Tensor:
    """Maps [B, M, h, w] of what a view shows as maps of the images; 0 where it shows nothing.

    Args:
        maps: float [B, M, h, w].
        view: the view.
        reference_quirks: True takes another view, with the shifts negated and the scales
            inverted, as the reference does: that misses by shift * (1 - scale) of the image, if
            mirrored by shift * (1 + scale). Else the view is undone.
    """
    planes = ops.transpose(maps, (0, 2, 3, 1))
    if reference_quirks:
        back = View(-view.shifts, 1 / view.scales, view.is_flipped)
        planes = seen_images(planes, back)
    else:
        planes = _mirrored(_cut(planes, view.window_of_image()), view.is_flipped)
    return ops.transpose(planes, (0, 3, 1, 2))


def restored_rois(maps: Tensor, view: View) -> Tensor:
    """Maps [B, M, S, S] in the frames of boxes, which go along with the view, mirrored back."""
    planes = _mirrored(ops.transpose(maps, (0, 2, 3, 1)), view.is_flipped)
    return ops.transpose(planes, (0, 3, 1, 2))


def self_supervision_loss(
    config: MaskHeadConfig, logits: Tensor, other_logits: Tensor, box_maps: Tensor
) -> Tensor:
    """How far masks are from those of another view, which are taken for the truth.

    Args:
        config: what compares them.
        logits: float [B, M, h, w].
        other_logits: float [B, M, h, w], of the other view, restored. Gets no gradient.
        box_maps: float [B, M, h, w], 1 inside the boxes: where pixels count.

    Returns:
        float32 [B, M]: mean over the pixels of the box, or of the dice loss its only value.
    """
    logits = flat_maps(ops.cast(logits, "float32"))
    other_logits = ops.stop_gradient(flat_maps(ops.cast(other_logits, "float32")))
    weights = flat_maps(box_maps)
    probs, wanted = ops.sigmoid(logits), ops.sigmoid(other_logits)
    kind = config.augmented_self_supervision_loss
    if kind is SelfSupervisionLoss.LOSS_DICE:
        is_foreground = ops.cast(other_logits > 0, "float32")
        return dice_loss(probs, is_foreground, weights, -1, squared_normalization=False)
    if kind is SelfSupervisionLoss.LOSS_MSE:
        loss = (wanted - probs) ** 2
    else:
        loss = _divergence(wanted, probs) + _divergence(1 - wanted, 1 - probs)
    num_pixels = ops.maximum(ops.sum(weights, axis=-1), 1.0)
    return ops.sum(loss * weights, axis=-1) / num_pixels


def _divergence(wanted: Tensor, probs: Tensor) -> Tensor:
    """One summand of the Kullback-Leibler divergence, [...]."""
    wanted, probs = (ops.clip(p, 1e-7, 1.0) for p in (wanted, probs))
    return wanted * ops.log(wanted / probs)


def _cut(images: Tensor, window: Tensor) -> Tensor:
    """A window [B, 4] of images [B, H, W, C], at their size."""
    _, height, width, _ = images.shape
    return cut_rois(images, window[:, None], height, width)[:, 0]


def _mirrored(images: Tensor, is_flipped: Tensor) -> Tensor:
    """Images [B, H, W, C], those mirrored that are to be [B]."""
    is_flipped = ops.cast(is_flipped, images.dtype)[:, None, None, None]
    return is_flipped * ops.flip(images, axis=2) + (1 - is_flipped) * images


def _window(start: Tensor, end: Tensor) -> Tensor:
    """Two corners [B, 2], x and y, as (ymin, xmin, ymax, xmax) [B, 4]."""
    return ops.concatenate([ops.flip(start, axis=-1), ops.flip(end, axis=-1)], axis=-1)


# Points


def point_loss(
    config: MaskHeadConfig, logits: Tensor, points: Tensor, depths: Tensor
) -> Tensor:
    """How far masks are from what is known of single points.

    Args:
        config: the pixel loss.
        logits: float [B, M, h, w], of the whole image.
        points: float [B, M, P, 2], (y, x) in fractions of the image; those outside count at its
            border; NaN: no point.
        depths: float [B, M, P], above 0 where the point is foreground.

    Returns:
        float32 [B, M], the mean over all P, those that are no points counting as 0; of the dice
        loss its only value.
    """
    loss = config.classification_loss
    assert loss is not None  # objective.check_trainable
    is_point = ops.logical_not(ops.any(ops.isnan(points), axis=-1))
    _, _, height, width = logits.shape
    size = ops.convert_to_tensor([height, width], dtype="float32")
    known = ops.where(is_point[..., None], ops.cast(points, "float32"), 0.0)
    cells = ops.cast(known * size, "int32")  # towards zero
    rows = ops.clip(cells[..., 0], 0, height - 1)
    cols = ops.clip(cells[..., 1], 0, width - 1)
    said = ops.take_along_axis(
        flat_maps(ops.cast(logits, "float32")), rows * width + cols, axis=-1
    )
    wanted = ops.cast(depths > 0, "float32")
    weights = ops.cast(is_point, "float32")
    return mean_of_pixels(loss, classification_loss(loss, said, wanted, weights))
