"""The training loop: batches in, steps, checkpoints and evaluations out."""

import collections
import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from deepmac.config.training_schema import LearningRateConfig, OptimizerConfig
from deepmac.data.files import join
from deepmac.errors import DataError, DeepmacError, one_of
from deepmac.train.checkpoints import predicting_weights, save_checkpoint
from deepmac.train.model_dir import EVALUATIONS, ModelDir
from deepmac.train.monitor import Monitor
from deepmac.train.objective import TOTAL
from deepmac.train.progress import Progress
from deepmac.train.schedule import learning_rate, moving_average_decay
from deepmac.train.step import GRADIENT_NORM, Engine, MicroBatch, TrainState
from deepmac.train.validation import Scores

_MOST_SKIPPED = 100
"""So many steps that are not finite, one after the other, end a run that skips them."""

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
            nothing but is counted, unless 100 follow each other; else stop.
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
    model_dir: ModelDir
    facts: Mapping[str, Any]
    step: int
    batches: Iterator[tuple[Sequence[MicroBatch], Sequence[Any]]]
    evaluate: Callable[[], Scores] | None
    progress: Progress
    monitor: Monitor | None
    counts: collections.Counter[str]
    num_hosts: int = 1
    is_chief: bool = True

    def __post_init__(self):
        self._behind: collections.deque[_Done] = collections.deque()
        self._saved = self.step if self.step else None  # newest checkpoint
        self._skipped_in_a_row = 0

    def run(self) -> bool:
        """Trains to the last step; says whether it got there, or was told to stop before.

        Raises:
            Diverged: a loss or a gradient is not finite. Nothing is saved of the steps since the
                last checkpoint.
            DataError: a batch cannot be made. The steps before it are saved.
        """
        with self._stopping() as stopped:
            if self.step == 0:
                self._save()
            elif self._is_due_for_evaluation() and not self._was_evaluated():
                self._evaluate()  # the run was stopped in the middle of it
            if not self._is_over(stopped):
                self._first_step()
            while not self._is_over(stopped):
                self._next_step()
            self._settle()
            self._save()
        return self.step == self.plan.num_steps

    def _is_over(self, stopped: threading.Event) -> bool:
        return self.step >= self.plan.num_steps or stopped.is_set()

    def _first_step(self) -> None:
        """Each part of it is told: it may take minutes."""
        with self.progress.phase("reading the first batch"):
            parts, image_ids = next(self.batches)
        with self.progress.phase("tracing the step"):
            self.engine.trace(parts[0])
        first = "compiling, and the first step"
        if self.engine.compiles_beforehand:
            with self.progress.phase("compiling the step"):
                self.engine.compile()
            first = "first step"
        with self.progress.phase(first):
            done = self._step(parts, image_ids)
            done.wait()
        self._behind.append(done)
        self._settle()
        self.progress.restart()
        self._save_and_evaluate()

    def _next_step(self) -> None:
        with self.progress.patience(f"waiting for step {self.step + 1}"):
            begin = time.monotonic()
            try:
                parts, image_ids = next(self.batches)
            except DataError:
                self._settle()
                self._save()  # the steps before the bad batch are good
                raise
            # A device that is still busy has not waited.
            if all(done.is_ready() for done in self._behind):
                self.progress.waited(time.monotonic() - begin)
            self._behind.append(self._step(parts, image_ids))
            while len(self._behind) > _BEHIND:
                self._look_at(self._behind.popleft())
        self._save_and_evaluate()

    def _save_and_evaluate(self) -> None:
        is_last = self.step == self.plan.num_steps
        evaluates = self._is_due_for_evaluation()
        # Before an evaluation too, which may be long.
        if evaluates or is_last or self._is_due(self.plan.checkpoint_every):
            self._settle()
            self._save()
        if evaluates:
            self._evaluate()

    def _is_due_for_evaluation(self) -> bool:
        is_last = self.step == self.plan.num_steps
        every = self.plan.evaluate_every
        return self._is_due(every) or (is_last and every > 0)

    def _stopping(self) -> contextlib.AbstractContextManager[threading.Event]:
        """Among several hosts, which cannot stop after the same step, a signal ends this one."""
        alone = self.num_hosts == 1
        return _stop_signals() if alone else contextlib.nullcontext(threading.Event())

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _step(self, parts: Sequence[MicroBatch], image_ids: Sequence[Any]) -> "_Done":
        rate = learning_rate(self.plan.rate, self.step)
        decay = moving_average_decay(self.plan.average_decay or 0.0, self.step + 1)
        metrics = self.engine.step(parts, self.step, rate, decay)
        self.step += 1
        return _Done(self.step, image_ids, rate, metrics)

    def _settle(self) -> None:
        """Waits for all steps begun, and deals with what they say."""
        while self._behind:
            self._look_at(self._behind.popleft())

    def _look_at(self, done: "_Done") -> None:
        """Waits for a step, and deals with what it says."""
        values = done.wait()
        bad = [n for n in (TOTAL, GRADIENT_NORM) if not math.isfinite(values[n])]
        if bad:
            self._not_finite(done, values)
        else:
            self._skipped_in_a_row = 0
        pace = self.progress.steps_done(done.step, self.plan.num_steps, values)
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
            # Updates that are not finite are never made, and nothing is saved after one.
            raise Diverged(
                f"{what}; give --on_non_finite skip to leave such steps out, or {self._remedy()}"
            )
        self.counts["steps_skipped"] += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == _MOST_SKIPPED:
            raise Diverged(
                f"{what}; {_MOST_SKIPPED} such steps have followed each other: {self._remedy()}"
            )
        self.progress.say(f"{what}: left out, {self.counts['steps_skipped']} in all")

    def _remedy(self) -> str:
        """A run goes on with its own settings alone; other ones need another folder."""
        newest = join(self.model_dir.name, f"step-{self._saved or 0:08d}")
        return (
            f"begin another --model_dir from {newest} (train_config.fine_tune_checkpoint, with "
            f"fine_tune_checkpoint_type: full), with a lower learning rate or "
            f"gradient_clipping_by_norm"
        )

    @contextlib.contextmanager
    def _variables_up_to_date(self) -> Iterator[None]:
        self.engine.to_variables()
        yield
        # What had the averages for a while would keep copies of its own values on the device.
        self.engine.to_variables()

    def _save(self) -> None:
        if not self.is_chief or self.step == self._saved:
            return
        self._saved = self.step
        with (
            self._variables_up_to_date(),
            self.progress.phase(f"checkpoint of step {self.step}"),
        ):
            save_checkpoint(
                self.state,
                self.model_dir.path,
                self.step,
                self.facts,
                self.counts,
                keep=self.plan.keep,
            )
            self._publish()

    def _publish(self) -> None:
        if self.monitor is not None:
            self.monitor.flush()
        self.model_dir.publish(self.plan.keep)

    def _evaluate(self) -> None:
        if self.evaluate is None or not self.is_chief:
            return
        with (
            self._variables_up_to_date(),
            self.progress.phase(f"evaluation of step {self.step}"),
            predicting_weights(self.state),
        ):
            scores = self.evaluate()
        self.progress.say(
            f"step {self.step}: "
            + ", ".join(f"{name} {value:.4f}" for name, value in scores.values.items())
        )
        with (self.model_dir.path / EVALUATIONS).open("ab") as file:
            file.write(orjson.dumps({"step": self.step, **scores.values}) + b"\n")
        if self.monitor is not None:
            self.monitor.evaluation(self.step, scores.values, scores.pictures)
        self._publish()

    def _was_evaluated(self) -> bool:
        path = self.model_dir.path / EVALUATIONS
        lines = path.read_bytes().splitlines() if path.exists() else []
        return any(line.startswith(b'{"step":%d,' % self.step) for line in lines)


@dataclasses.dataclass(frozen=True, slots=True)
class _Done:
    """A step that the device may still be busy with."""

    step: int
    image_ids: Sequence[Any]
    rate: float
    metrics: Mapping[str, Any]

    def is_ready(self) -> bool:
        """Whether the device is done with it."""
        value = self.metrics[TOTAL]
        return not hasattr(value, "is_ready") or value.is_ready()

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
