"""How far a prediction is from its target: pixel losses, and the losses of heads and masks.

What is predicted may be of any float type; everything is computed in float32.
"""

from deepmac.config.schema import CenterNetConfig, MaskHeadConfig
from deepmac.config.training_schema import (
    ClassificationLossConfig,
    DiceLossConfig,
    L1LossConfig,
    L2LossConfig,
    LocalizationLossConfig,
    PenaltyReducedFocalLossConfig,
    SigmoidFocalLossConfig,
    SmoothL1LossConfig,
)
from deepmac.model.heads import HeadOutputs
from deepmac.model.tensors import Tensor, ops


def is_per_pixel(config: ClassificationLossConfig) -> bool:
    """Whether `classification_loss` gives a value for each pixel, or one for all."""
    return not isinstance(config.chosen, DiceLossConfig)


def classification_loss(
    config: ClassificationLossConfig,
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | float = 1.0,
    axis: int = -1,
) -> Tensor:
    """The loss that a configuration names.

    Args:
        config: which one.
        logits: float [...]; probabilities with `is_prediction_probability`.
        targets: float [...], from 0 to 1.
        weights: float, broadcasts against [...].
        axis: of the pixels, over which the dice loss takes its sums.

    Returns:
        float32 [...] of each pixel; of the dice loss one for all pixels, without `axis`.
    """
    logits, targets = ops.cast(logits, "float32"), ops.cast(targets, "float32")
    match config.chosen:
        case DiceLossConfig() as dice:
            probs = logits if dice.is_prediction_probability else ops.sigmoid(logits)
            return dice_loss(probs, targets, weights, axis, dice.squared_normalization)
        case PenaltyReducedFocalLossConfig() as focal:
            loss = penalty_reduced_focal_loss(logits, targets, focal.alpha, focal.beta)
        case SigmoidFocalLossConfig() as focal:
            loss = sigmoid_focal_loss(logits, targets, focal.gamma, focal.alpha)
        case _:
            loss = sigmoid_cross_entropy(logits, targets)
    return loss * weights


def sigmoid_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-z log p - (1 - z) log (1 - p) with p = sigmoid(logits) and z = targets, [...]."""
    # the form that neither overflows nor cancels
    return (
        ops.maximum(logits, 0.0)
        - logits * targets
        + ops.log1p(ops.exp(-ops.abs(logits)))
    )


def sigmoid_focal_loss(
    logits: Tensor, targets: Tensor, gamma: float, alpha: float | None
) -> Tensor:
    """Cross entropy times (1 - p)^gamma, p the probability of what is true, [...].

    Args:
        logits, targets: float [...].
        gamma: 0 is plain cross entropy.
        alpha: weight of the positives, 1 - alpha that of the negatives; None: 1 both.
    """
    probs = ops.sigmoid(logits)
    wrong = targets * (1 - probs) + (1 - targets) * probs  # 1 - p without cancelling
    wrong = ops.maximum(wrong, 1e-12)  # a power below 1 has no gradient at 0
    loss = sigmoid_cross_entropy(logits, targets) * ops.power(wrong, gamma)
    if alpha is None:
        return loss
    return loss * (targets * alpha + (1 - targets) * (1 - alpha))


def penalty_reduced_focal_loss(
    logits: Tensor, targets: Tensor, alpha: float, beta: float
) -> Tensor:
    """CenterNet's loss of heatmaps, [...]: only where a target is 1 is there a centre.

    Elsewhere a high probability costs the less the nearer the target is to 1. Probabilities are
    kept 1e-4 away from 0 and 1; beyond there is no gradient.
    """
    probs = ops.clip(ops.sigmoid(logits), 1e-4, 1 - 1e-4)
    centre = -ops.power(1 - probs, alpha) * ops.log(probs)
    around = -ops.power(1 - targets, beta) * ops.power(probs, alpha)
    return ops.where(targets == 1, centre, around * ops.log(1 - probs))


def dice_loss(
    probs: Tensor,
    targets: Tensor,
    weights: Tensor | float,
    axis: int,
    squared_normalization: bool,
) -> Tensor:
    """1 - 2 sum(p z) / (sum(p) + sum(z)), where the denominator is at least 1.

    p and z are the weighted probabilities and targets, so that a weight counts twice above the
    line. With `squared_normalization` they are squared before that, in both places.

    Args:
        probs, targets: float [...], from 0 to 1.
        weights: float, broadcasts against [...].
        axis: of the pixels, over which sums are taken.

    Returns:
        float [...] without `axis`.
    """
    if squared_normalization:
        probs, targets = probs**2, targets**2
    probs, targets = probs * weights, targets * weights
    common = ops.sum(probs * targets, axis=axis)
    both = ops.sum(probs, axis=axis) + ops.sum(targets, axis=axis)
    return 1 - 2 * common / ops.maximum(both, 1.0)


def localization_loss(
    config: LocalizationLossConfig, predictions: Tensor, targets: Tensor
) -> Tensor:
    """The loss of coordinates that a configuration names, float32 [...] of each."""
    distance = ops.abs(ops.cast(predictions, "float32") - targets)
    match config.chosen:
        case L1LossConfig():
            return distance
        case L2LossConfig():
            return distance**2 / 2
        case SmoothL1LossConfig(delta=delta):
            near = ops.minimum(distance, delta)
            return near * (distance - near / 2)
    raise AssertionError(config)


def center_loss(
    config: CenterNetConfig, heads: HeadOutputs, heatmap: Tensor, is_image: Tensor
) -> Tensor:
    """How far the heatmap is from its target: float32 [B], the sum over cells and classes.

    Args:
        config: of the network.
        heads: what it says.
        heatmap: float [B, h, w, K], the target.
        is_image: float [B, h, w, 1], 1 where cells count.
    """
    loss = config.object_center_params.classification_loss
    assert loss is not None  # objective.check_trainable
    cells = (-1, heatmap.shape[1] * heatmap.shape[2])
    of_cells = classification_loss(
        loss,
        ops.reshape(heads.center_logits, (*cells, config.num_classes)),
        ops.reshape(heatmap, (*cells, config.num_classes)),
        ops.reshape(is_image, (*cells, 1)),
        axis=1,
    )
    return _sum_of_images(of_cells)


def box_loss(
    config: LocalizationLossConfig, said: Tensor, wanted: Tensor, weights: Tensor
) -> Tensor:
    """How far sizes, or offsets, are from their targets: float32 [B], the sum over the boxes.

    Args:
        config: which loss.
        said: float [B, N, 2], what the head says in the cells of the centres.
        wanted: float [B, N, 2].
        weights: float [B, N], of the boxes.
    """
    return _sum_of_images(localization_loss(config, said, wanted) * weights[..., None])


def mask_loss(
    config: MaskHeadConfig,
    logits: Tensor,
    masks: Tensor,
    counts: Tensor | None = None,
) -> Tensor:
    """How far masks are from their targets: float32 [B, M], the mean over the pixels.

    Of the dice loss its only value.

    Args:
        config: which loss.
        logits: float [B, M, h, w]; resized to the masks, bilinearly with half-pixel centres.
        masks: [B, M, H, W], from 0 to 1.
        counts: float [B, M, H, W], 0 where the logit counts as 0, whatever it is: there the loss
            is a constant; else 1. None: 1.
    """
    assert config.classification_loss is not None  # objective.check_trainable
    logits = resize_maps(ops.cast(logits, "float32"), *masks.shape[2:])
    if counts is not None:
        logits = logits * counts
    loss = classification_loss(
        config.classification_loss, flat_maps(logits), flat_maps(masks)
    )
    return mean_of_pixels(config.classification_loss, loss)


def mean_of_pixels(config: ClassificationLossConfig, loss: Tensor) -> Tensor:
    """What `classification_loss` gives for [..., P] pixels as one value: [...]."""
    return ops.mean(loss, axis=-1) if is_per_pixel(config) else loss


def flat_maps(maps: Tensor) -> Tensor:
    """Maps [B, M, h, w] as rows of pixels: [B, M, h * w]."""
    _, num_maps, height, width = maps.shape
    return ops.reshape(maps, (-1, num_maps, height * width))


def resize_maps(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps [B, M, h, w] at another size, as `resize_images` does."""
    _, num_maps, *size = maps.shape
    planes = resize_images(ops.reshape(maps, (-1, *size, 1)), height, width)
    return ops.reshape(planes, (-1, num_maps, height, width))


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """Images [B, H, W, C] at another size: bilinear, half-pixel centres, no smoothing."""
    if tuple(images.shape[1:3]) == (height, width):
        return images
    return ops.image.resize(
        images, (height, width), "bilinear", data_format="channels_last"
    )


def _sum_of_images(values: Tensor) -> Tensor:
    """[B, ...] -> [B]."""
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
