"""Training steps on made-up batches, for what measures them. Import it after Keras's backend is set."""

import contextlib
from typing import Any

import numpy as np

from deepmac.config.load import load_config
from deepmac.config.schema import PipelineConfig
from deepmac.model.deepmac import DeepMAC
from deepmac.train.batch import Batch
from deepmac.train.devices import computing_in
from deepmac.train.objective import normalisers
from deepmac.train.optimizer import keras_optimizer
from deepmac.train.step import MicroBatch, TrainState


def config_of_side(name: str, side: int | None = None) -> PipelineConfig:
    """A configuration, for inputs of another side if one is given."""
    config = load_config(name)
    if side is None or side == side_of(config):
        return config
    resizer = "model.center_net.image_resizer.keep_aspect_ratio_resizer"
    dimensions = ("min_dimension", "max_dimension")
    return load_config(name, [f"{resizer}.{d}={side}" for d in dimensions])


def side_of(config: PipelineConfig) -> int:
    """The side of the square inputs, in pixels."""
    resizer = config.model.center_net.image_resizer
    assert resizer is not None
    assert resizer.keep_aspect_ratio_resizer is not None
    return resizer.keep_aspect_ratio_resizer.max_dimension


def fresh_state(config: PipelineConfig, *, use_bfloat16: bool, **build: Any):
    """A network and its optimiser; `build`: options of `DeepMAC`."""
    with computing_in(use_bfloat16):
        model = DeepMAC(config.model.center_net, **build)
    optimizer = config.train_config.optimizer
    assert optimizer is not None
    return TrainState.fresh(
        model,
        keras_optimizer(optimizer),
        with_averages=optimizer.use_moving_average,
    )


def made_up(
    config: PipelineConfig, num_images: int, num_instances: int, mask_slots: int
) -> MicroBatch:
    """Noise with boxes anywhere, whose first `mask_slots` train masks; the same every time."""
    rng = np.random.default_rng(0)
    center_net, side = config.model.center_net, side_of(config)
    size = center_net.deepmac_mask_estimation.mask_size
    slots = (num_images, num_instances)
    corners = np.sort(rng.random((*slots, 2, 2)), axis=2)
    boxes = corners.reshape(*slots, 4).astype(np.float32)
    classes = rng.integers(0, center_net.num_classes, slots).astype(np.int32)
    ones = np.ones(slots, np.float32)
    masks = rng.random((num_images, mask_slots, size, size)).astype(np.float32)
    images = rng.integers(0, 256, (num_images, side, side, 3)).astype(np.float32)
    batch = Batch(
        images=images,
        true_shapes=np.full((num_images, 2), side, np.int32),
        boxes=boxes,
        classes=classes,
        weights=ones,
        roi_boxes=boxes[:, :mask_slots],
        target_boxes=boxes[:, :mask_slots],
        roi_classes=classes[:, :mask_slots],
        roi_weights=ones[:, :mask_slots],
        mask_weights=ones[:, :mask_slots],
        masks=masks,
        view=np.zeros((num_images, 5), np.float32),
    )
    return MicroBatch(batch, normalisers(batch, center_net, 1))


@contextlib.contextmanager
def eagerly():
    """TensorFlow runs every operation by itself inside."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
