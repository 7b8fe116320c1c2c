"""One step on one device and on several: prints, as JSON, how far their results are apart.

    XLA_FLAGS=--xla_force_host_platform_device_count=N python devices_agree.py N NUM_GROUPS

In a process of its own, because a backend takes its devices when it starts.
"""

import json
import sys

import keras
import numpy as np
import small_training

from deepmac.backend import repeatable_weights
from deepmac.config.load import load_config
from deepmac.config.training_schema import MomentumConfig, OptimizerConfig
from deepmac.model.deepmac import DeepMAC
from deepmac.train.batch import Batch
from deepmac.train.devices import Devices
from deepmac.train.objective import normalisers
from deepmac.train.optimizer import keras_optimizer
from deepmac.train.step import MicroBatch, TrainState, open_engine

NUM_DEVICES, NUM_GROUPS = map(int, sys.argv[1:])
BATCH = 8


def main() -> None:
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    else:
        import tensorflow as tf

        (cpu,) = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * NUM_DEVICES
        tf.config.set_logical_device_configuration(cpu, logical)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    config = load_config(small_training.CONFIG, small_training.OVERRIDES)
    net = config.model.center_net
    batch = some_batch(net)
    part = MicroBatch(batch, normalisers(batch, net, NUM_GROUPS))
    alone, together = (step(net, part, num) for num in (1, NUM_DEVICES))
    apart = {name: relative(together[name], value) for name, value in alone.items()}
    print(json.dumps(apart))


def step(net, part: MicroBatch, num_devices: int) -> dict[str, np.ndarray]:
    """Losses, and what the step does to each variable."""
    devices = Devices(num_devices)
    # With a rate of 1 the change of a weight is its gradient.
    optimizer = OptimizerConfig(
        momentum_optimizer=MomentumConfig(momentum_optimizer_value=0.0)
    )
    with devices.scope:
        with repeatable_weights():
            model = DeepMAC(net)
        state = TrainState.fresh(model, keras_optimizer(optimizer), with_averages=True)
        before = [array(v) for v in model.variables]
        engine = open_engine(state, **devices.engine_options)
        losses = engine.step([part], 0, 1.0, 0.5)
        engine.to_variables()
    assert engine.num_devices == num_devices
    found = {name: array(value) for name, value in losses.items()}
    for number, (variable, value) in enumerate(
        zip(model.variables, before, strict=True)
    ):
        found[f"{number} {variable.name}"] = array(variable) - value
    for number, (average, variable, value) in enumerate(
        zip(state.averages, model.variables, before, strict=True)
    ):
        found[f"average {number}"] = array(average)
        np.testing.assert_allclose(
            array(average), (value + array(variable)) / 2, rtol=1e-4, atol=1e-6
        )
    return found


def array(value) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value))


def relative(ours: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in units of the largest value."""
    return float(np.abs(ours - expected).max() / max(np.abs(expected).max(), 1e-30))


def some_batch(net) -> Batch:
    """Slots without an instance, so that devices have different numbers of them; float64 boxes."""
    batch = small_training.made_up(net, BATCH)
    boxes = batch.boxes.astype(np.float64)
    is_filled = np.random.default_rng(1).random(batch.weights.shape) > 0.3
    weights = is_filled.astype(np.float32)
    return batch._replace(
        boxes=boxes,
        roi_boxes=boxes,
        target_boxes=boxes,
        weights=weights,
        roi_weights=weights,
    )


if __name__ == "__main__":
    main()
