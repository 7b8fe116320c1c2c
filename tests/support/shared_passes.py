"""What a pass on several JAX devices costs each of them: prints, as JSON, memory and messages.

    PYTHONPATH=. XLA_FLAGS=--xla_force_host_platform_device_count=4 python shared_passes.py 1 4

Two images a device, for each number of devices given. Only compiled, never run.
"""

import collections
import json
import re
import sys
from typing import Any

import jax
import numpy as np
from measured_steps import small_config

from benchmarks.steps import fresh_state, made_up
from deepmac.train.step import open_engine

CONFIG = small_config(64)
_MESSAGE = re.compile(
    r"= (\S.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\("
)
_ARRAY = re.compile(r"\b(pred|bf16|[fsu](?:8|16|32|64))\[([\d,]*)\]")


def sent(program: str) -> dict[str, int]:
    """Bytes that each device gets from the others, by kind of message."""
    found: collections.Counter[str] = collections.Counter()
    for shapes, kind in _MESSAGE.findall(program):
        for name, shape in _ARRAY.findall(shapes):
            size = 1 if name == "pred" else int(re.sub(r"\D", "", name)) // 8
            found[kind] += size * int(np.prod([int(n) for n in shape.split(",") if n]))
    return dict(found)


def measure(num_devices: int) -> dict[str, Any]:
    state = fresh_state(CONFIG, use_bfloat16=False)
    engine: Any = open_engine(state, devices=jax.devices()[:num_devices])
    program = engine.lower(made_up(CONFIG, 2 * num_devices, 6, 6)).compile()
    return {
        "weights": 4 * state.model.count_params(),
        "memory": program.memory_analysis().temp_size_in_bytes,
        "sent": sent(program.as_text()),
    }


if __name__ == "__main__":
    print(json.dumps([measure(int(number)) for number in sys.argv[1:]]))
