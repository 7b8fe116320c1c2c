"""Learning rates as functions of the step, in Python floats: decided on the host, given to a step.

Formulas are those of the reference's `learning_schedules`; a step counts from 0.
"""

import bisect
import math

from deepmac.config.training_schema import (
    ConstantRateConfig,
    CosineDecayConfig,
    ExponentialDecayConfig,
    LearningRateConfig,
    ManualStepsConfig,
)


def learning_rate(config: LearningRateConfig, step: int) -> float:
    """The learning rate of the update that follows `step` earlier ones."""
    match config.chosen:
        case ConstantRateConfig() as rate:
            return rate.learning_rate
        case CosineDecayConfig() as rate:
            return _cosine_decay(rate, step)
        case ExponentialDecayConfig() as rate:
            return _exponential_decay(rate, step)
        case ManualStepsConfig() as rate:
            return _manual_steps(rate, step)
    raise AssertionError(f"a schedule that the configuration lets pass: {config}")


def _cosine_decay(rate: CosineDecayConfig, step: int) -> float:
    """Up linearly, then level, then down as half a cosine; 0 after `total_steps`."""
    base, warmup = rate.learning_rate_base, rate.warmup_steps
    if step > rate.total_steps:
        return 0.0
    if step < warmup:
        slope = (base - rate.warmup_learning_rate) / warmup
        return rate.warmup_learning_rate + step * slope
    decay_begins = warmup + rate.hold_base_rate_steps
    if step <= decay_begins or rate.total_steps <= decay_begins:
        return base
    fraction = (step - decay_begins) / (rate.total_steps - decay_begins)
    return 0.5 * base * (1 + math.cos(math.pi * fraction))


def _exponential_decay(rate: ExponentialDecayConfig, step: int) -> float:
    """A fixed rate while it burns in, then falling from the initial one; never below the least."""
    if step < rate.burnin_steps:
        current = rate.burnin_learning_rate or rate.initial_learning_rate
    else:
        periods = (step - rate.burnin_steps) / rate.decay_steps
        if rate.staircase:
            periods = math.floor(periods)
        current = rate.initial_learning_rate * rate.decay_factor**periods
    return max(current, rate.min_learning_rate)


def _manual_steps(rate: ManualStepsConfig, step: int) -> float:
    """The rate of the last entry reached; before the first one the initial rate, or a ramp to it."""
    starts = [entry.step for entry in rate.schedule]
    position = bisect.bisect_right(starts, step)
    if position > 0:
        return rate.schedule[position - 1].learning_rate
    if rate.warmup and starts:
        first = rate.schedule[0].learning_rate
        slope = (first - rate.initial_learning_rate) / starts[0]
        return rate.initial_learning_rate + step * slope
    return rate.initial_learning_rate


def moving_average_decay(decay: float, num_updates: int) -> float:
    """How much of the old average stays when the weights after so many updates join it.

    Lower in the beginning, so that an average is not the initial weights for long: (1 + n) /
    (10 + n) after n updates, as far as that is below `decay`.
    """
    return min(decay, (1 + num_updates) / (10 + num_updates))
