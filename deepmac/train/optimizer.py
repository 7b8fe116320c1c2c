"""The optimiser of a configuration, as Keras has it."""

from typing import Any

import keras

from deepmac.config.training_schema import (
    AdamConfig,
    LearningRateConfig,
    MomentumConfig,
    OptimizerConfig,
    RmsPropConfig,
)
from deepmac.errors import ConfigError
from deepmac.model.tensors import Tensor, ops


def keras_optimizer(config: OptimizerConfig | None) -> keras.optimizers.Optimizer:
    """An optimiser whose learning rate is still to be set, at every step.

    Raises:
        ConfigError: the configuration names none.
    """
    match _chosen(config):
        case AdamConfig() as adam:
            return keras.optimizers.Adam(0.0, epsilon=adam.epsilon)
        case MomentumConfig() as momentum:
            return keras.optimizers.SGD(0.0, momentum=momentum.momentum_optimizer_value)
        case RmsPropConfig() as rms_prop:
            return keras.optimizers.RMSprop(
                0.0,
                rho=rms_prop.decay,
                momentum=rms_prop.momentum_optimizer_value,
                epsilon=rms_prop.epsilon,
            )
    raise AssertionError(f"an optimiser that the configuration lets pass: {config}")


def learning_rate_of(config: OptimizerConfig | None) -> LearningRateConfig:
    """The schedule of an optimiser.

    Raises:
        ConfigError: there is none.
    """
    rate = _chosen(config).learning_rate
    if rate is None or rate.chosen is None:
        raise ConfigError(
            "train_config.optimizer: no learning rate; add for example "
            "learning_rate { constant_learning_rate { learning_rate: 1e-3 } }"
        )
    return rate


def _chosen(
    config: OptimizerConfig | None,
) -> AdamConfig | MomentumConfig | RmsPropConfig:
    if config is None or config.chosen is None:
        raise ConfigError(
            "train_config.optimizer: none is given; add for example adam_optimizer { ... }"
        )
    chosen: Any = config.chosen
    return chosen


def global_norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients taken as one vector, float32."""
    return ops.sqrt(sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients))


def clip_by_global_norm(
    gradients: list[Tensor], norm: Tensor, limit: float
) -> list[Tensor]:
    """The gradients, scaled down together where their norm is above the limit; 0: no limit."""
    if not limit:
        return gradients
    factor = limit / ops.maximum(norm, limit)
    return [gradient * factor for gradient in gradients]
