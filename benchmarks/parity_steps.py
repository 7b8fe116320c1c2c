"""Five steps of training, compared with those that the reference made from the same weights."""

from pathlib import Path

import numpy as np

from benchmarks.parity_training import recorded_batch
from benchmarks.parity_whole import open_whole_model
from benchmarks.recordings import Difference, Recording
from deepmac.checkpoint.names import reference_name
from deepmac.config.training_schema import (
    AdamConfig,
    CosineDecayConfig,
    LearningRateConfig,
    OptimizerConfig,
)
from deepmac.model.variables import named_variables
from deepmac.train.objective import normalisers
from deepmac.train.optimizer import keras_optimizer
from deepmac.train.schedule import learning_rate
from deepmac.train.step import GRADIENT_NORM, MicroBatch, TrainState, open_engine

NUM_STEPS = 5
_ADAM = AdamConfig(
    learning_rate=LearningRateConfig(
        cosine_decay_learning_rate=CosineDecayConfig(
            learning_rate_base=1e-3,
            total_steps=100,
            warmup_learning_rate=2.5e-4,
            warmup_steps=10,
        )
    ),
    epsilon=1e-7,
)
_RECORDED = (1e-4, 1e-3, 1e-2, 1e-2, 1e-2, 1e-2)
"""Relative, of what is recorded before each update: the recordings' own tolerance."""

_RTOL = {
    "Loss/box/offset": (1e-4, 1e-3, 1e-2, 2e-2, 1e-2, 5e-2),
    "global_grad_norm": (5e-4, 4e-3, 3e-2, 5e-2, 4e-2, 3e-2),
}
"""Where float64 is further from the recordings than these allow: the exact norm of the first
gradient is 3.0e-4 away, and 2.6e-3, 1.3e-2, 2.6e-2, 9e-3, 1.3e-2 the next ones; the offset loss
4.7e-2 at last. The recorded run took other sides of ReLUs for rounding, and Adam makes full-size
steps of the signs of tiny gradients."""

_WEIGHTS, _STATISTICS, _LOGITS = 3e-3, 0.15, 1.0
"""After five steps. In float64: 2.9e-3 of the norm of a weight, and 0.12 of one of a moving
statistic, which are the last batch's; 0.90 of a logit."""


def compare_train_steps(folder: Path, case: str) -> list[Difference]:
    """Losses, learning rates, gradient norms, and the norm of every variable after 1 and 5."""
    recording = Recording(folder, case)
    model, config = open_whole_model(recording.folder)
    optimizer = OptimizerConfig(adam_optimizer=_ADAM, use_moving_average=False)
    state = TrainState.fresh(model, keras_optimizer(optimizer), with_averages=False)
    engine = open_engine(state)
    images = recording.inputs["images"].astype(np.float32)
    shapes = np.full((len(images), 2), images.shape[1:3], np.int32)
    batch = recorded_batch(recording, model, images, shapes)
    part = MicroBatch(batch, normalisers(batch, config, num_groups=1))
    history: dict[str, list[float]] = {}
    for step in range(NUM_STEPS + 1):
        assert _ADAM.learning_rate is not None
        rate = learning_rate(_ADAM.learning_rate, step)
        metrics = {n: float(v) for n, v in engine.step([part], step, rate, 0.0).items()}
        metrics["global_grad_norm"] = metrics.pop(GRADIENT_NORM)
        for name, value in {**metrics, "learning_rate": rate}.items():
            history.setdefault(name, []).append(value)
        if step + 1 in (1, NUM_STEPS):
            engine.to_variables()
            _compare_norms(recording, model, f"after_step{step + 1}")
        if step + 1 == NUM_STEPS:
            outputs = model(batch.images, batch.roi_boxes, training=False)
            name = f"after_step{NUM_STEPS}/eval_object_center_last"
            logits = outputs[-1].heads.center_logits
            recording.compare(name, logits, "after five steps", _LOGITS)
    for name, values in history.items():
        allowed = _RTOL.get(name, _RECORDED)
        for step, (value, rtol) in enumerate(zip(values, allowed, strict=True)):
            recorded = recording.outputs[f"history/{name}"][step]
            error = abs(value - recorded) / abs(recorded)
            recording.add(f"history/{name}[{step}]", "steps, relative", error, rtol)
    return recording.finish("history/")


def _compare_norms(recording: Recording, model, array: str) -> None:
    norms = {
        reference_name(path) or path: float(np.linalg.norm(np.asarray(variable)))
        for path, variable in named_variables(model).items()
    }
    names = [n.removeprefix("model/") for n in recording.outputs[f"{array}/names"]]
    recording.add(f"{array}/names", "variables", set(norms) != set(names), 0)
    recorded = recording.outputs[f"{array}/norms"]
    ours = np.array([norms.get(name, np.nan) for name in names])
    errors = np.abs(ours - recorded) / np.maximum(recorded, 1e-12)
    is_moving = np.array(["/moving_" in name for name in names])
    weights, statistics = errors[~is_moving].max(), errors[is_moving].max()
    is_first = array == "after_step1"
    group = "norms of variables, relative"
    recording.add(f"{array}/norms", group, weights, 1e-3 if is_first else _WEIGHTS)
    name = f"{array}/norms, statistics"
    recording.add(name, group, statistics, 1e-3 if is_first else _STATISTICS)
