"""What the network's first layer does to images. Their sizes are the matter of `deepmac.resize`."""

from typing import Any

import numpy as np

from deepmac.config.schema import FeatureExtractorConfig


def normalise(images: Any, config: FeatureExtractorConfig) -> Any:
    """What the backbone sees: channels reversed if `bgr_ordering`, then shifted and scaled.

    Args:
        images: float [..., 3] RGB, 0 to 255; a NumPy array, or a tensor of any backend.
        config: `feature_extractor` of a configuration; its means and deviations are in the order
            of the channels after the reversal.
    """
    if config.bgr_ordering:
        images = images[..., ::-1]
    means = np.asarray(config.channel_means or (0.0,) * 3, np.float32)
    stds = np.asarray(config.channel_stds or (1.0,) * 3, np.float32)
    return (images - means) / stds
