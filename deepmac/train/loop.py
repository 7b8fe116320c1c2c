"""The training loop: batches in, steps, checkpoints and evaluations out."""

import collections
import contextlib
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepmac.config.training_schema import LearningRateConfig, OptimizerConfig
from deepmac.errors import DeepmacError, one_of
from deepmac.train.checkpoints import predicting_weights, save_checkpoint
from deepmac.train.monitor import Monitor
from deepmac.train.progress import Progress
from deepmac.train.schedule import learning_rate, moving_average_decay
from deepmac.train.step import GRADIENT_NORM, TOTAL, Engine, MicroBatch, TrainState
from deepmac.train.validation import Scores

_BEHIND = 1  # steps whose losses are not looked at yet: the device need not wait for us


class Diverged(DeepmacError):
    """A loss or a gradient that is not finite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does, and how often.

    Attributes:
        num_steps: of the whole run.
        rate: the learning rate.
        average_decay: of the moving averages; None: there are none.
        checkpoint_every: steps between two checkpoints.
        keep: so many of the newest checkpoints.
        evaluate_every: steps between two evaluations; 0: never.
        skip_non_finite: go on after a step whose loss or gradient is not finite, which changes
            nothing but is counted; else stop.
    """

    num_steps: int
    rate: LearningRateConfig
    average_decay: float | None
    checkpoint_every: int = 1000
    keep: int = 7
    evaluate_every: int = 0
    skip_non_finite: bool = False

    @classmethod
    def decay_of(cls, optimizer: OptimizerConfig) -> float | None:
        """`average_decay` as a configuration has it."""
        return optimizer.moving_average_decay if optimizer.use_moving_average else None


@dataclasses.dataclass
class Loop:
    """Everything that a run needs, made ready; see `run`.

    Attributes:
        plan: what to do.
        engine, state: see `deepmac.train.step`.
        model_dir: of the run.
        facts: see `deepmac.train.checkpoints.Checkpoint`.
        step: updates done.
        batches: from batch number `step` on, each with the ids of its images.
        evaluate: scores the model with the weights that it has; None: cannot.
        progress: says how far it is.
        monitor: writes for TensorBoard; None: nothing is written.
        counts: events, such as `steps_skipped`.
        num_hosts: that train together.
        is_chief: this one of them saves and evaluates.
    """

    plan: Plan
    engine: Engine
    state: TrainState
    model_dir: Path
    facts: Mapping[str, Any]
    step: int
    batches: Iterator[tuple[Sequence[MicroBatch], Sequence[Any]]]
    evaluate: Callable[[], Scores] | None
    progress: Progress
    monitor: Monitor | None
    counts: collections.Counter[str]
    num_hosts: int = 1
    is_chief: bool = True

    def run(self) -> bool:
        """Trains to the last step; says whether it got there, or was told to stop before.

        Raises:
            Diverged: a loss or a gradient is not finite. The weights are those before it.
        """
        with self._stopping() as stopped:
            if self.step == 0:
                self._save()
            behind: collections.deque[_Done] = collections.deque()
            is_first = True
            while self.step < self.plan.num_steps and not stopped.is_set():
                with self.progress.waiting():
                    parts, image_ids = next(self.batches)
                if is_first:
                    self._get_ready(parts)
                phase = self.progress.phase("first step")
                with phase if is_first else contextlib.nullcontext():
                    done = self._step(parts, image_ids)
                    if is_first:
                        done.wait()
                behind.append(done)
                is_first = False
                while len(behind) > _BEHIND:
                    self._look_at(behind.popleft())
                is_last = self.step == self.plan.num_steps
                if self._is_due(self.plan.checkpoint_every) or is_last:
                    self._look_at_all(behind)
                    self._save()
                if self._is_due(self.plan.evaluate_every) or (
                    is_last and self.plan.evaluate_every
                ):
                    self._look_at_all(behind)
                    self._evaluate()
            self._look_at_all(behind)
            if self.step < self.plan.num_steps and not self._is_due(
                self.plan.checkpoint_every
            ):
                self._save()
        return self.step == self.plan.num_steps

    def _stopping(self) -> contextlib.AbstractContextManager[threading.Event]:
        """Among several hosts, which cannot stop after the same step, a signal ends this one."""
        alone = self.num_hosts == 1
        return _stop_signals() if alone else contextlib.nullcontext(threading.Event())

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _get_ready(self, parts: Sequence[MicroBatch]) -> None:
        with self.progress.phase("tracing the step"):
            self.engine.trace(parts[0])
        with self.progress.phase("compiling the step"):
            self.engine.compile()

    def _step(self, parts: Sequence[MicroBatch], image_ids: Sequence[Any]) -> "_Done":
        rate = learning_rate(self.plan.rate, self.step)
        decay = moving_average_decay(self.plan.average_decay or 0.0, self.step)
        metrics = self.engine.step(parts, self.step, rate, decay)
        self.step += 1
        return _Done(self.step, image_ids, rate, metrics)

    def _look_at_all(self, behind: "collections.deque[_Done]") -> None:
        while behind:
            self._look_at(behind.popleft())

    def _look_at(self, done: "_Done") -> None:
        """Waits for a step, and deals with what it says."""
        values = done.wait()
        bad = [n for n in (TOTAL, GRADIENT_NORM) if not math.isfinite(values[n])]
        if bad:
            self._not_finite(done, values)
        pace = self.progress.steps_done(done.step, values)
        if self.monitor is not None:
            self.monitor.scalars(done.step, values | {"learning_rate": done.rate})
            if pace is not None:
                self.monitor.pace(done.step, pace)

    def _not_finite(self, done: "_Done", values: Mapping[str, float]) -> None:
        names = [n for n, v in values.items() if not math.isfinite(v)]
        what = (
            f"step {done.step}: {one_of(names)} not finite, with the images "
            f"{one_of(done.image_ids, limit=200)}"
        )
        if not self.plan.skip_non_finite:
            # Updates that are not finite are never made, so these are the weights before it.
            raise Diverged(
                f"{what}; lower the learning rate, set gradient_clipping_by_norm, or give "
                f"--on_non_finite skip to leave such steps out"
            )
        self.counts["steps_skipped"] += 1
        self.progress.say(f"{what}: left out, {self.counts['steps_skipped']} in all")

    def _save(self) -> None:
        if not self.is_chief:
            return
        self.engine.to_variables()
        with self.progress.phase(f"checkpoint of step {self.step}"):
            save_checkpoint(
                self.state,
                self.model_dir,
                self.step,
                self.facts,
                self.counts,
                keep=self.plan.keep,
            )

    def _evaluate(self) -> None:
        if self.evaluate is None or not self.is_chief:
            return
        self.engine.to_variables()
        with (
            self.progress.phase(f"evaluation of step {self.step}"),
            predicting_weights(self.state),
        ):
            scores = self.evaluate()
        self.progress.say(
            f"step {self.step}: "
            + ", ".join(f"{name} {value:.4f}" for name, value in scores.values.items())
        )
        if self.monitor is not None:
            self.monitor.evaluation(self.step, scores.values, scores.pictures)


@dataclasses.dataclass(frozen=True, slots=True)
class _Done:
    """A step that the device may still be busy with."""

    step: int
    image_ids: Sequence[Any]
    rate: float
    metrics: Mapping[str, Any]

    def wait(self) -> dict[str, float]:
        """Losses and gradient norm, once they are there."""
        return {name: float(value) for name, value in self.metrics.items()}


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and the first Ctrl-C set; the second Ctrl-C stops at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def on_signal(number: int, frame: object) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, handlers[signal.SIGINT])

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, on_signal)
    try:
        yield stopped
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
