"""Ways to make inputs, each a loop over one target until the time is over."""

import random
import sys
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from fuzzing.target import Target
from fuzzing.watch import Recorder, TimeOver

_MOST_INPUTS = 4000  # kept to start from


def mutate(target: Target, recorder: Recorder, seed: int) -> None:
    """Changes valid inputs, and inputs that were refused with a sentence not seen before."""
    rng = random.Random(seed)
    seeds, found = target.seeds(), target.seeds()
    for data in seeds:
        recorder.try_input(data)
    while True:
        # Half of them from the seeds: those found soon outnumber them, and are further from valid.
        start = rng.choice(rng.choice((seeds, found)))
        data = target.mutate(rng, start, rng.choice(seeds))
        if recorder.try_input(data).novelty and recorder.was_new:
            found.append(data)
            if len(found) > _MOST_INPUTS:
                del found[rng.randrange(len(found))]


def make(target: Target, recorder: Recorder, seed: int) -> None:
    """Hypothesis: inputs made from scratch."""

    @settings(
        max_examples=1000,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(data=target.examples())
    def one(data: bytes) -> None:
        recorder.try_input(data)

    while True:
        hypothesis.seed(seed)(one)()
        seed += 1_000_003


def cover(target: Target, recorder: Recorder, seed: int) -> None:
    """Atheris: libFuzzer, led by the coverage of our Python code. Ends the process."""
    import atheris

    corpus = target.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    seeds = target.seeds()
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number:04}").write_bytes(data)

    def change(data: bytes, max_size: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.3:
            return atheris.Mutate(data, max_size)
        return target.mutate(rng, data, rng.choice(seeds))[:max_size]

    def one(data: bytes) -> None:
        try:
            recorder.try_input(data)
        except TimeOver:
            recorder.exit()

    flags = [
        f"-seed={seed % 2**31 or 1}",
        "-max_len=65536",
        "-timeout=60",
        "-rss_limit_mb=0",
    ]
    flags.append(f"-artifact_prefix={target.folder}/")
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


ENGINES: dict[str, Callable[[Any, Recorder, int], None]] = {
    "mutate": mutate,
    "hypothesis": make,
    "atheris": cover,
}
