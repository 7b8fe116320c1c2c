"""Training steps on JAX: pure functions of the values of the variables, compiled by XLA.

Data parallel: a micro-batch is one array, cut over the devices along its first axis; the values of
the variables are on every device. XLA adds the sums over devices, also those inside of batch
norms, which so see the whole micro-batch.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax  # pyright: ignore[reportMissingImports]  (an extra)
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import numpy as np
from jax.sharding import (  # pyright: ignore[reportMissingImports]
    Mesh,
    NamedSharding,
    PartitionSpec,
)

from deepmac.model.layers import rematerialise as set_rematerialise
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

_Values = tuple[list[Any], list[Any], list[Any], list[Any]]
"""Of the trainable variables, the other ones, those of the optimiser, the averages."""


class JaxEngine:
    """See `deepmac.train.step.Engine`.

    Args:
        state: what is trained.
        devices: to share the work; None: all there are, of all hosts.
        rematerialise: compute activations a second time in the backward pass in place of keeping
            them: a third more work, a fraction of the memory. Sets the network so.
    """

    compiles_beforehand = True

    def __init__(
        self,
        state: TrainState,
        *,
        devices: Sequence[Any] | None = None,
        rematerialise: bool = False,
    ):
        devices = list(devices or jax.devices())
        self.num_devices = len(devices)
        self._state = state
        if rematerialise:
            set_rematerialise(state.model)
        mesh = Mesh(np.array(devices), ("batch",))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._by_image = NamedSharding(mesh, PartitionSpec("batch"))
        jit: Any = functools.partial(jax.jit, out_shardings=self._everywhere)
        self._gradients = jit(self._pass)
        self._add = jit(_add, donate_argnums=0)
        self._update = jit(self._updated, donate_argnums=0)
        self._lowered: Any = None
        self._values: _Values | None = None

    @property
    def num_compiled(self) -> int:
        return sum(f._cache_size() for f in (self._gradients, self._add, self._update))

    def lower(self, example: MicroBatch) -> Any:
        """The pass over a micro-batch of these shapes, lowered, without any array: `.compile()`
        gives what says how much memory it needs.

        Args:
            example: arrays, or what has their shapes and dtypes.
        """
        trainable, statistics, _, _ = self.shapes()
        step = jax.ShapeDtypeStruct((), jnp.int32)
        example = self._cut(example)
        return self._gradients.lower(trainable, statistics, example, step)

    def lower_update(self, example: MicroBatch) -> Any:
        """As `lower`, the update of all variables after such a pass."""
        trainable, statistics, _, _ = values = self.shapes()
        step, number = (jax.ShapeDtypeStruct((), t) for t in (jnp.int32, jnp.float32))
        example = self._cut(example)
        done = jax.eval_shape(self._gradients, trainable, statistics, example, step)
        return self._update.lower(values, done, number, number)

    def trace(self, example: MicroBatch) -> None:
        self._lowered = self.lower(self._placed(example))

    def compile(self) -> None:
        self._lowered.compile()

    def step(
        self, parts: Sequence[MicroBatch], step: int, learning_rate: float, decay: float
    ) -> Mapping[str, Any]:
        if self._values is None:
            self._values = self._placed_values()
            self.to_variables()  # or what they held stays on a device too
        trainable, statistics, slots, averages = self._values
        whole: Any = None
        old_statistics, number = statistics, jnp.int32(step)
        for part in parts:
            done = self._gradients(trainable, statistics, self._placed(part), number)
            statistics = done.statistics
            whole = done if whole is None else self._add(whole, done)
        self._values, metrics = self._update(
            (trainable, old_statistics, slots, averages),
            whole,
            jnp.float32(learning_rate),
            jnp.float32(decay),
        )
        return metrics

    def to_variables(self) -> None:
        if self._values is None:
            return
        for variables, values in zip(self._variables(), self._values, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def _placed_values(self) -> _Values:
        """Copies of what the variables hold: the arrays of a step are given up to the next one."""
        return self._of_variables(
            lambda v: jax.device_put(np.asarray(v.value), self._everywhere)
        )

    def shapes(self) -> _Values:
        """What has the shapes and dtypes of all values, and the devices they are on."""
        return self._of_variables(
            lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=self._everywhere)
        )

    def _cut(self, example: MicroBatch) -> MicroBatch:
        """What has the shapes and dtypes of a micro-batch whose images are on all devices."""
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self._by_image),
            example,
        )

    def _of_variables(self, function: Callable[[Any], Any]) -> _Values:
        trainable, others, slots, averages = (
            [function(v) for v in variables] for variables in self._variables()
        )
        return trainable, others, slots, averages

    def _variables(self) -> tuple[Sequence[Any], ...]:
        state = self._state
        return (
            state.model.trainable_variables,
            state.model.non_trainable_variables,
            state.optimizer.variables,
            state.averages,
        )

    def _placed(self, part: MicroBatch) -> MicroBatch:
        """The arrays on the devices, cut by images. Each host brings its own images."""
        return jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(self._by_image, a), part
        )

    def _pass(self, trainable, statistics, part: MicroBatch, step) -> Pass:
        def total(trainable):
            losses, new = loss_and_statistics(
                self._state.model, trainable, statistics, part, step
            )
            return losses[TOTAL], (losses, new)

        gradients, (losses, new) = jax.grad(total, has_aux=True)(trainable)
        return Pass(gradients, new, losses)

    def _updated(self, values: _Values, done: Pass, learning_rate, decay):
        trainable, statistics, slots, averages = values
        optimizer = self._state.optimizer
        norm = global_norm(done.gradients)
        gradients = clip_by_global_norm(done.gradients, norm, self._state.clip_norm)
        rate = [v is optimizer._learning_rate for v in optimizer.variables].index(True)
        slots = [*slots[:rate], learning_rate, *slots[rate + 1 :]]
        new_trainable, new_slots = optimizer.stateless_apply(
            slots, gradients, trainable
        )
        by_id = dict(
            zip(
                map(id, _model_variables(self._state)),
                [*new_trainable, *done.statistics],
                strict=True,
            )
        )
        new_averages = [
            averaged(average, by_id[id(variable)], decay)
            for average, variable in zip(
                averages, self._state.model.variables if averages else [], strict=True
            )
        ]
        is_finite = jnp.isfinite(norm) & jnp.isfinite(done.losses[TOTAL])
        new = (new_trainable, done.statistics, new_slots, new_averages)
        old = (trainable, statistics, slots, averages)
        chosen = jax.tree.map(lambda a, b: jnp.where(is_finite, a, b), new, old)
        return chosen, {**done.losses, GRADIENT_NORM: norm}


def _model_variables(state: TrainState) -> list[Any]:
    return [*state.model.trainable_variables, *state.model.non_trainable_variables]


def _add(whole: Pass, done: Pass) -> Pass:
    """The sum of two passes; the statistics are those of the later one."""
    gradients, losses = jax.tree.map(
        jnp.add, (whole.gradients, whole.losses), (done.gradients, done.losses)
    )
    return Pass(gradients, done.statistics, losses)
