"""Learning rates by hand, by law, and as the reference has them."""

import numpy as np
import pytest

from deepmac.config.training_schema import (
    ConstantRateConfig,
    CosineDecayConfig,
    ExponentialDecayConfig,
    LearningRateConfig,
    ManualStepsConfig,
    RateStepConfig,
)
from deepmac.train.schedule import learning_rate, moving_average_decay

PUBLISHED = LearningRateConfig(
    cosine_decay_learning_rate=CosineDecayConfig(
        learning_rate_base=1e-3,
        total_steps=50000,
        warmup_learning_rate=2.5e-4,
        warmup_steps=5000,
    )
)


def test_the_published_schedule_is_the_reference_s():
    # Recorded from the reference (TensorFlow 2.15, float32): cores, schedule/lr_*
    recorded = {
        0: 0.0002500000118743628,
        1: 0.00025015001301653683,
        100: 0.00026500000967644155,
        2500: 0.0006249999860301614,
        4999: 0.0009998499881476164,
        5000: 0.0010000000474974513,
        5001: 0.0010000000474974513,
        20000: 0.000750000006519258,
        27500: 0.0004999999655410647,
        49999: 0.0,
        50000: 0.0,
        60000: 0.0,
    }
    ours = [learning_rate(PUBLISHED, step) for step in recorded]
    np.testing.assert_allclose(ours, list(recorded.values()), rtol=1e-5, atol=1e-9)


def test_cosine_decay_rises_rests_and_falls():
    rate = LearningRateConfig(
        cosine_decay_learning_rate=CosineDecayConfig(
            learning_rate_base=8.0,
            total_steps=20,
            warmup_learning_rate=2.0,
            warmup_steps=3,
            hold_base_rate_steps=5,
        )
    )
    rates = [learning_rate(rate, step) for step in range(22)]
    assert rates[:4] == [2.0, 4.0, 6.0, 8.0]
    assert rates[3:9] == [8.0] * 6
    assert rates[14] == pytest.approx(4.0)
    assert rates[20:] == [0.0, 0.0]
    assert rates[8:] == sorted(rates[8:], reverse=True)


def test_a_schedule_that_is_all_warmup_ends_at_its_base():
    rate = LearningRateConfig(
        cosine_decay_learning_rate=CosineDecayConfig(
            learning_rate_base=1.0,
            total_steps=4,
            warmup_learning_rate=0.0,
            warmup_steps=4,
        )
    )
    assert [learning_rate(rate, s) for s in range(6)] == [0, 0.25, 0.5, 0.75, 1, 0]


def test_exponential_decay_steps_down_after_burning_in():
    rate = LearningRateConfig(
        exponential_decay_learning_rate=ExponentialDecayConfig(
            initial_learning_rate=8.0,
            decay_steps=2,
            decay_factor=0.5,
            burnin_learning_rate=1.0,
            burnin_steps=2,
            min_learning_rate=2.0,
        )
    )
    rates = [learning_rate(rate, step) for step in range(9)]
    assert rates == [2.0, 2.0, 8.0, 8.0, 4.0, 4.0, 2.0, 2.0, 2.0]


def test_a_smooth_exponential_decay_has_no_stairs():
    decay = ExponentialDecayConfig(
        initial_learning_rate=1.0, decay_steps=2, decay_factor=0.25, staircase=False
    )
    rate = LearningRateConfig(exponential_decay_learning_rate=decay)
    assert [learning_rate(rate, s) for s in range(3)] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [(False, [1, 1, 1, 1, 5, 5, 3]), (True, [1, 2, 3, 4, 5, 5, 3])],
)
def test_manual_steps_hold_until_the_next_one(warmup, expected):
    schedule = (
        RateStepConfig(step=4, learning_rate=5.0),
        RateStepConfig(step=6, learning_rate=3.0),
    )
    manual = ManualStepsConfig(
        initial_learning_rate=1.0, schedule=schedule, warmup=warmup
    )
    rate = LearningRateConfig(manual_step_learning_rate=manual)
    assert [learning_rate(rate, s) for s in range(7)] == expected


def test_a_constant_rate_is_constant():
    rate = LearningRateConfig(
        constant_learning_rate=ConstantRateConfig(learning_rate=0.1)
    )
    assert {learning_rate(rate, s) for s in (0, 10, 10**6)} == {0.1}


def test_an_average_forgets_its_beginning_and_then_keeps_its_decay():
    decays = [moving_average_decay(0.99, step) for step in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99
