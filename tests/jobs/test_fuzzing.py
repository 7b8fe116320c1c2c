"""A few seconds of `make fuzz`: the same inputs every time, in this process."""

import random

import pytest
from fuzzing.target import outcome_of
from fuzzing.targets import TARGETS, target_class
from hypothesis import HealthCheck, Phase, given, settings

NUMBERS = {"checkpoints": 60, "coco": 200, "records": 200}  # slower than the others


@pytest.fixture(scope="module", params=TARGETS)
def target(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    kind = target_class(request.param)
    kind.prepare(folder)
    return kind(folder)


def check(target, data):
    outcome = outcome_of(target.check, data)
    assert outcome.finding is None, f"{data!r}\n{outcome.finding}"
    return outcome.kind


def test_seeds_are_valid(target):
    kinds = [check(target, data) for data in target.seeds()]
    assert sum(kind.startswith("accepted") for kind in kinds) >= len(kinds) / 2


def test_changed_seeds_are_read_or_refused(target):
    rng, seeds = random.Random(0), target.seeds()
    for _ in range(NUMBERS.get(target.name, 400)):
        check(target, target.mutate(rng, rng.choice(seeds), rng.choice(seeds)))


def test_made_up_inputs_are_read_or_refused(target):
    @settings(
        max_examples=NUMBERS.get(target.name, 400) // 2,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(data=target.examples())
    def one(data):
        check(target, data)

    one()


def test_the_same_seed_gives_the_same_inputs(target):
    seeds = target.seeds()
    first, second = (target.mutate(random.Random(5), seeds[0], seeds[-1]) for _ in "ab")
    assert first == second
