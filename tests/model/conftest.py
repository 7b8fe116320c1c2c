"""A network small enough to build in a test, and reference files to load into it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from deepmac.config.schema import (
    CenterNetConfig,
    FeatureExtractorConfig,
    ImageResizerConfig,
    KeepAspectRatioResizerConfig,
    MaskHeadConfig,
    ObjectCenterConfig,
    ObjectDetectionConfig,
    PredictionHeadConfig,
)


@pytest.fixture(scope="session")
def small_config() -> Callable[..., CenterNetConfig]:
    """`model.center_net` for images of 64 x 64; arguments are fields of its mask head."""

    def config(num_classes: int = 4, **mask_fields) -> CenterNetConfig:
        hidden = PredictionHeadConfig(num_filters=(16,), kernel_sizes=(3,))
        fields = {
            "dim": 5,
            "pixel_embedding_dim": 3,
            "mask_size": 8,
            "network_type": "hourglass10",
            "num_init_channels": 4,
        }
        resizer = KeepAspectRatioResizerConfig(
            min_dimension=64, max_dimension=64, pad_to_max_dimension=True
        )
        return CenterNetConfig(
            num_classes=num_classes,
            feature_extractor=FeatureExtractorConfig(
                type="hourglass_10",
                bgr_ordering=True,
                channel_means=(104.0, 114.0, 120.0),
                channel_stds=(73.0, 70.0, 71.0),
            ),
            image_resizer=ImageResizerConfig(keep_aspect_ratio_resizer=resizer),
            object_detection_task=ObjectDetectionConfig(
                scale_head_params=hidden, offset_head_params=hidden
            ),
            object_center_params=ObjectCenterConfig(
                max_box_predictions=6, center_head_params=hidden
            ),
            deepmac_mask_estimation=MaskHeadConfig(**(fields | mask_fields)),
        )

    return config


@pytest.fixture(scope="session")
def write_flat() -> Callable[[Path, Mapping[str, np.ndarray]], str]:
    """Writes a checkpoint of these keys alone, without an object graph; returns its prefix."""
    import tensorflow as tf

    def write(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
        tf.raw_ops.SaveV2(
            prefix=str(path),
            tensor_names=list(arrays),
            shape_and_slices=[""] * len(arrays),
            tensors=list(arrays.values()),
        )
        return str(path)

    return write
