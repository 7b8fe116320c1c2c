"""One step of training, on either backend: gradients of micro-batches, and the update they make.

A step takes its batch in one or several micro-batches, sums their gradients, and updates the
weights once. As `Normalisers` hold what normalisation needs to know of the whole batch, the sum
is the gradient of the whole batch, however it was cut. Batch norms see a micro-batch at a time.

What differs between the backends is in `step_tensorflow` and `step_jax`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from deepmac.model.deepmac import DeepMAC
from deepmac.model.tensors import Tensor, ops
from deepmac.train.batch import Batch, Normalisers
from deepmac.train.objective import compute_losses

GRADIENT_NORM = "gradient_norm"


class MicroBatch(NamedTuple):
    """A part of a step's batch, and what its losses are multiplied with."""

    batch: Batch
    normalisers: Normalisers


class Pass(NamedTuple):
    """What one pass over a micro-batch says.

    Attributes:
        gradients: of the total loss, for each trainable variable.
        statistics: new values of the model's other variables: those of its batch norms.
        losses: by name, scalars.
    """

    gradients: list[Tensor]
    statistics: list[Tensor]
    losses: dict[str, Tensor]


@dataclasses.dataclass(eq=False)
class TrainState:
    """All that training changes, as Keras variables.

    Attributes:
        model: the network.
        optimizer: with its slots.
        averages: moving averages of all variables of the model, those of its batch norms too: their
            momentum is so low that the statistics are nearly the last batch's. Empty: not kept.
        clip_norm: gradients of a larger global norm are scaled down to it; 0: never.
    """

    model: DeepMAC
    optimizer: keras.optimizers.Optimizer
    averages: list[keras.Variable]
    clip_norm: float = 0.0

    @classmethod
    def fresh(
        cls,
        model: DeepMAC,
        optimizer: keras.optimizers.Optimizer,
        *,
        with_averages: bool,
        clip_norm: float = 0.0,
    ) -> "TrainState":
        """The state before the first step."""
        optimizer.build(model.trainable_variables)
        averages = []
        if with_averages:
            # Of a copy: TensorFlow would take the very variable for an initial value.
            averages = [
                keras.Variable(
                    ops.convert_to_numpy(v),
                    dtype="float32",
                    trainable=False,
                    name="average",
                )
                for v in model.variables
            ]
        return cls(model, optimizer, averages, clip_norm)


class Engine(Protocol):
    """Runs steps on the devices of one backend.

    Attributes:
        num_devices: that share each micro-batch, whose size must be a multiple of it.
        num_compiled: programs compiled so far: after the first step it must not grow.
        compiles_beforehand: `compile` does it; else the first step does.
    """

    num_devices: int
    compiles_beforehand: bool

    @property
    def num_compiled(self) -> int: ...

    def trace(self, example: MicroBatch) -> None:
        """Makes the graph for micro-batches of these shapes; `compile` and steps need it."""
        ...

    def compile(self) -> None:
        """Compiles what was traced, where that can be done beforehand; else nothing."""
        ...

    def step(
        self, parts: Sequence[MicroBatch], step: int, learning_rate: float, decay: float
    ) -> Mapping[str, Any]:
        """One update.

        Where the total loss or the gradient is not finite, nothing changes.

        Args:
            parts: the micro-batches.
            step: updates done before.
            learning_rate: of this update.
            decay: of the moving averages.

        Returns:
            The losses of the whole batch and the norm of its gradient before any clipping, as
            scalars of the backend; reading one may wait for the step to end.
        """
        ...

    def to_variables(self) -> None:
        """Brings the variables of the state up to date, to be read or saved before the next step."""
        ...


def loss_and_statistics(
    model: DeepMAC,
    trainable: Sequence[Tensor],
    statistics: Sequence[Tensor],
    part: MicroBatch,
    step: Tensor,
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """A pass of the network as a pure function of the values of its variables.

    Returns:
        The losses, and the new values of the variables that are not trained.
    """
    others = model.non_trainable_variables
    values = [
        *zip(model.trainable_variables, trainable, strict=True),
        *zip(others, statistics, strict=True),
    ]
    with keras.StatelessScope(state_mapping=values) as scope:
        losses = compute_losses(model, part.batch, part.normalisers, step)
    return losses, [scope.get_current_value(variable) for variable in others]


def averaged(average: Tensor, value: Tensor, decay: Tensor) -> Tensor:
    """A moving average after a new value, float32."""
    return average + (1 - decay) * (ops.cast(value, "float32") - average)


def split(parts: MicroBatch, num: int) -> list[MicroBatch]:
    """A batch in `num` equal micro-batches of consecutive images.

    Raises:
        ValueError: the batch cannot be cut so.
    """
    size = len(parts.batch.images)
    if size % num:
        raise ValueError(f"{size} images cannot be cut into {num} equal micro-batches")
    length = size // num
    return [
        MicroBatch(
            Batch(*(_rows(a, k * length, length) for a in parts.batch)),
            Normalisers(*(_rows(a, k * length, length) for a in parts.normalisers)),
        )
        for k in range(num)
    ]


def _rows(values: Any, start: int, length: int) -> Any:
    return None if values is None else np.asarray(values)[start : start + length]


def open_engine(state: TrainState, **options: Any) -> Engine:
    """The engine of the backend that Keras runs on; options: see its class."""
    if keras.config.backend() == "jax":
        from deepmac.train.step_jax import JaxEngine

        return JaxEngine(state, **options)
    from deepmac.train.step_tensorflow import TensorFlowEngine

    return TensorFlowEngine(state, **options)
