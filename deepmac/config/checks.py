"""What the messages of a configuration must agree on."""

from deepmac.config.message import FieldError
from deepmac.config.schema import (
    STRIDE,
    CenterNetConfig,
    FixedShapeResizerConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    PadToMultipleResizerConfig,
    PipelineConfig,
)


def check_together(config: PipelineConfig) -> None:
    """Checks the values of different messages against each other.

    Raises:
        FieldError: naming the field, from the top of the configuration.
    """
    net = config.model.center_net
    _check_input_size(net)


def _check_input_size(net: CenterNetConfig) -> None:
    """An hourglass halves its input and joins it again, which must come out even."""
    divisor, who = net.feature_extractor.size_divisor, net.feature_extractor.type
    mask_head = net.deepmac_mask_estimation
    if mask_head.predict_full_resolution_masks:
        in_pixels = STRIDE * mask_head.size_divisor
        if in_pixels > divisor:
            divisor, who = in_pixels, mask_head.network_type
    for path, side in _known_sides(net.image_resizer):
        if side % divisor:
            raise FieldError(
                f"model.center_net.image_resizer.{path}",
                f"must be a multiple of {divisor} for {who}, got {side}",
            )


def _known_sides(resizer: ImageResizerConfig) -> list[tuple[str, int]]:
    """The sides of the input, in pixels, that do not depend on the image; with their fields."""
    match resizer.chosen:
        case KeepAspectRatioResizerConfig(
            pad_to_max_dimension=True, max_dimension=side
        ):
            return [("keep_aspect_ratio_resizer.max_dimension", side)]
        case FixedShapeResizerConfig(height=height, width=width):
            return [
                ("fixed_shape_resizer.height", height),
                ("fixed_shape_resizer.width", width),
            ]
        case PadToMultipleResizerConfig(multiple=side):
            return [("pad_to_multiple_resizer.multiple", side)]
    return []
