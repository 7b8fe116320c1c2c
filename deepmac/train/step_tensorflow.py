"""Training steps on TensorFlow: two functions, compiled by XLA where there is one GPU.

On processors XLA's convolutions are several times slower than TensorFlow's own. Data parallel: a
MirroredStrategy, in whose scope the model and the optimiser must have been made.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepmac.train.objective import TOTAL
from deepmac.train.optimizer import clip_by_global_norm, global_norm
from deepmac.train.step import (
    GRADIENT_NORM,
    MicroBatch,
    Pass,
    TrainState,
    averaged,
    loss_and_statistics,
)


class TensorFlowEngine:
    """See `deepmac.train.step.Engine`.

    Args:
        state: what is trained, made in the scope of the strategy.
        strategy: spreads micro-batches over devices; None: one device.
    """

    compiles_beforehand = False

    def __init__(self, state: TrainState, *, strategy: Any = None):
        self._state = state
        self._strategy = strategy or tf.distribute.get_strategy()
        self.num_devices = self._strategy.num_replicas_in_sync
        # XLA cannot compile what several devices exchange.
        jit = bool(tf.config.list_logical_devices("GPU")) and self.num_devices == 1
        self._gradients = tf.function(self._on_all, autograph=False, jit_compile=jit)
        self._add = tf.function(_add, autograph=False)
        self._norm = tf.function(global_norm, autograph=False)
        self._update = tf.function(self._updated, autograph=False)

    @property
    def num_compiled(self) -> int:
        functions = (self._gradients, self._add, self._norm, self._update)
        return sum(f.experimental_get_tracing_count() for f in functions)

    def trace(self, example: MicroBatch) -> None:
        statistics = self._statistics()
        part = self._placed(example)
        self._gradients.get_concrete_function(statistics, part, _STEP)

    def compile(self) -> None:
        """Nothing: the first step does it."""

    def step(
        self, parts: Sequence[MicroBatch], step: int, learning_rate: float, decay: float
    ) -> Mapping[str, Any]:
        statistics = self._statistics()
        whole: Any = None
        for part in parts:
            number = tf.constant(step, tf.int32)
            done = self._gradients(statistics, self._placed(part), number)
            statistics = done.statistics
            whole = done if whole is None else self._add(whole, done)
        norm = self._norm(whole.gradients)
        if np.isfinite(norm) and np.isfinite(whole.losses[TOTAL]):
            with self._strategy.scope():
                self._update(
                    clip_by_global_norm(whole.gradients, norm, self._state.clip_norm),
                    statistics,
                    tf.constant(learning_rate, tf.float32),
                    tf.constant(decay, tf.float32),
                )
        return {**whole.losses, GRADIENT_NORM: norm}

    def to_variables(self) -> None:
        """Nothing: they are always up to date."""

    def _statistics(self) -> list[Any]:
        return [
            tf.convert_to_tensor(v.value)
            for v in self._state.model.non_trainable_variables
        ]

    def _placed(self, part: MicroBatch) -> MicroBatch:
        """The arrays as tensors; several devices get equal parts of the images."""
        if self.num_devices == 1:
            return _map_arrays(tf.convert_to_tensor, part)
        if len(part.batch.images) % self.num_devices:
            raise ValueError(
                f"{len(part.batch.images)} images on {self.num_devices} devices"
            )

        def spread(values: Any) -> Any:
            pieces = np.split(np.asarray(values), self.num_devices)
            return self._strategy.experimental_distribute_values_from_function(
                lambda context: tf.convert_to_tensor(
                    pieces[context.replica_id_in_sync_group]
                )
            )

        return _map_arrays(spread, part)

    def _on_all(self, statistics: list[Any], part: MicroBatch, step: Any) -> Pass:
        if self.num_devices == 1:
            return self._pass(statistics, part, step)
        done = self._strategy.run(self._pass, args=(statistics, part, step))
        # Sums over the devices: all of them hold the same.
        return tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], done
        )

    def _pass(self, statistics: list[Any], part: MicroBatch, step: Any) -> Pass:
        model = self._state.model
        trainable = [tf.convert_to_tensor(v.value) for v in model.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trainable)
            losses, new = loss_and_statistics(model, trainable, statistics, part, step)
        gradients = tape.gradient(
            losses[TOTAL],
            trainable,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        if self.num_devices > 1:
            gradients = _sums_over_devices(gradients)
            names, values = zip(*losses.items(), strict=True)
            losses = dict(zip(names, _sums_over_devices(values), strict=True))
        return Pass(gradients, new, losses)

    def _updated(
        self, gradients: list[Any], statistics: list[Any], rate: Any, decay: Any
    ) -> None:
        state = self._state
        state.optimizer.learning_rate = rate
        if self.num_devices == 1:
            self._apply(gradients)
        else:
            self._strategy.run(self._apply_once, args=(gradients,))
        for variable, value in zip(
            state.model.non_trainable_variables, statistics, strict=True
        ):
            variable.assign(value)
        for average, variable in zip(
            state.averages, state.model.variables if state.averages else [], strict=True
        ):
            average.assign(averaged(average.value, variable.value, decay))

    def _apply(self, gradients: list[Any]) -> None:
        variables = self._state.model.trainable_variables
        self._state.optimizer.apply(gradients, variables)

    def _apply_once(self, gradients: list[Any]) -> None:
        """On every device; Keras sums over devices, so only the first gives what is a sum already."""
        context: Any = tf.distribute.get_replica_context()
        is_first = tf.equal(context.replica_id_in_sync_group, 0)
        self._apply([tf.where(is_first, g, tf.zeros_like(g)) for g in gradients])


def _sums_over_devices(values: Sequence[Any]) -> list[Any]:
    """The sum of each value over the devices, as all of them get it."""
    context: Any = tf.distribute.get_replica_context()
    sums: list[Any] = [None] * len(values)
    for dtype in {
        value.dtype for value in values
    }:  # what is sent together has one type
        places = [i for i, value in enumerate(values) if value.dtype == dtype]
        reduced = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [values[i] for i in places]
        )
        for place, value in zip(places, reduced, strict=True):
            sums[place] = value
    return sums


def _map_arrays(function: Callable[[Any], Any], part: MicroBatch) -> MicroBatch:
    """Applies a function to every array; what a batch does not have stays None."""
    return tf.nest.map_structure(
        lambda values: None if values is None else function(values), part
    )


_STEP = tf.TensorSpec((), tf.int32)


def _add(whole: Pass, done: Pass) -> Pass:
    """The sum of two passes; the statistics are those of the later one."""
    gradients, losses = tf.nest.map_structure(
        tf.add, (whole.gradients, whole.losses), (done.gradients, done.losses)
    )
    return Pass(gradients, done.statistics, losses)
