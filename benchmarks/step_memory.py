"""How much memory a training step needs on each device, without such a device.

    python -m benchmarks.step_memory [--quick]
    python -m benchmarks.step_memory --sizes         the table of docs/train.md

The steps of the published configurations on JAX, from the shapes of their variables and batches
alone: lowered, searched for what would leave the device, and compiled for the processor at hand
(never run), whose compiler says what it would allocate. 512 is for 32 devices, 4 images each; 1024
for 128 devices, 1 image each, as the reference trained; 16 GB each. `--quick` does not compile.

What is kept for the gradient is counted in the program that JAX makes, before XLA fuses it: every
array that the backward pass reads, but for the variables and the batch. What XLA allocates holds
all that is kept and all that is underway. XLA for processors computes in float32 what is in
bfloat16, so that only what is kept says something there. It also undoes rematerialisation, which
other devices do not; the passes that do so are turned off.

Each line is a fresh process. Prints Markdown.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.memory import peak_bytes
from deepmac.config.load import load_config

PUBLISHED = {  # images on each device
    "center_net_deepmac_512x512_voc_only": 4,
    "center_net_deepmac_1024x1024_voc_only": 1,
    "center_net_deepmac_1024x1024_non_voc_only": 1,
    "center_net_deepmac_1024x1024_coco": 1,
}
OTHERS = {"center_net_deepmac_tiny": 8, "center_net_deepmac_small": 32}
# The three for 1024 are one network, and one size of batch.
ONCE = ("center_net_deepmac_512x512_voc_only", "center_net_deepmac_1024x1024_coco")
LIMIT_GB = 16.0
# Passes of XLA for processors that compute a second time what has been computed before.
_UNDOING = "cse,cse_barrier_expander,optimization_barrier_expander"


def leaving_the_device(program: str) -> set[str]:
    """What in the text of a lowered program has the host take part, or is unknown to do so.

    Custom calls that only say how arrays are spread over devices do not count.
    """
    calls = set(re.findall(r"custom_call\s*@([\w.$]+)", program))
    transfers = re.findall(r"stablehlo\.(infeed|outfeed|send|recv)\b", program)
    placing = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
    return (calls - placing) | set(transfers)


def kept_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Bytes of the arrays that the gradient of a function reads, but for its arguments.

    Args:
        function: whose gradient for its first argument is wanted.
        arguments: pytrees of arrays, or of what has their shape and dtype.
    """
    import jax  # pyright: ignore[reportMissingImports]
    from jax.extend.core import Literal  # pyright: ignore[reportMissingImports]

    def backward(first, *rest):
        return jax.vjp(lambda first: function(first, *rest), first)[1]

    jaxpr = jax.make_jaxpr(backward)(*arguments).jaxpr
    given = set(map(id, jaxpr.invars))
    kept = {
        id(v): v.aval
        for v in jaxpr.outvars
        if id(v) not in given and not isinstance(v, Literal)
    }
    return sum(a.size * a.dtype.itemsize for a in kept.values())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The step of one configuration, as a dictionary of plain numbers, in bytes."""
    import jax  # pyright: ignore[reportMissingImports]

    from benchmarks.steps import config_of_side, fresh_state, made_up, side_of
    from deepmac.train.objective import TOTAL
    from deepmac.train.step import loss_and_statistics, open_engine

    config = config_of_side(options.config)
    num_slots = config.train_config.max_number_of_boxes
    part = jax.eval_shape(
        lambda: made_up(
            config, options.batch, num_slots, options.mask_slots or num_slots
        )
    )
    states: list[Any] = []
    # The variables get shapes, but no values.
    jax.eval_shape(
        lambda: states.append(
            fresh_state(config, use_bfloat16=options.precision == "bfloat16")
        )
    )
    state = states[0]
    engine: Any = open_engine(state, rematerialise=options.rematerialise)

    def total(trainable, statistics, part, step):
        losses, _ = loss_and_statistics(state.model, trainable, statistics, part, step)
        return losses[TOTAL]

    trainable, statistics, slots, averages = engine.shapes()
    step = jax.ShapeDtypeStruct((), "int32")
    lowered, update = engine.lower(part), engine.lower_update(part)
    programs = lowered.as_text() + update.as_text()
    found = {
        "side": side_of(config),
        "parameters": sum(v.size for v in trainable),
        "statistics": sum(v.size for v in statistics),
        "flops": lowered.cost_analysis()["flops"],
        "kept": kept_bytes(total, trainable, statistics, part, step),
        "leaving": sorted(leaving_the_device(programs)),
        # Beside what the gradients need as arguments and give.
        "slots": sum(4 * v.size for v in [*slots, *averages]),
        "gradients": sum(4 * v.size for v in trainable),
        "arguments": sum(
            v.size * v.dtype.itemsize
            for v in jax.tree.leaves((trainable, statistics, part))
        ),
    }
    if not options.quick:
        began = time.process_time()
        # How fast its code is does not matter.
        compiled = lowered.compile({"xla_backend_optimization_level": "0"})
        found["allocated"] = compiled.memory_analysis().temp_size_in_bytes
        found["seconds"] = time.process_time() - began
    return found


def run(**options: Any) -> dict[str, Any]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.step_memory", "--measure"]
    for name, value in options.items():
        if value is True:
            command.append(f"--{name}")
        elif value:
            command += [f"--{name}", str(value)]
    env = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_disable_hlo_passes={_UNDOING}",
    }
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(quick: bool) -> None:
    print(
        "| configuration, images and masks on a device | type | rematerialise | TFLOP | "
        "variables, Adam, gradients, batch | kept for the gradient | in sum | XLA allocates | "
        f"in sum | fits {LIMIT_GB:.0f} GB | leaves the device |\n"
        "|---|---|---|---:|---:|---:|---:|---:|---:|---|---|"
    )
    cases = [
        (name, slots, precision, rematerialise)
        for name in ONCE
        for slots, precision, rematerialise in (
            (None, "float32", False),
            (None, "float32", True),
            (None, "bfloat16", False),
            (None, "bfloat16", True),
            (16, "bfloat16", False),
        )
    ]
    same = [name for name in PUBLISHED if name not in ONCE]
    cases += [(name, None, "float32", True) for name in same]
    for name, slots, precision, rematerialise in cases:
        batch = PUBLISHED[name]
        found = run(
            config=name,
            batch=batch,
            mask_slots=slots,
            precision=precision,
            rematerialise=rematerialise,
            quick=quick or precision == "bfloat16" or name in same,
        )
        standing, held = _standing(found), _held(found)
        if "allocated" in found:
            allocated = found["allocated"] / 1e9
            of_xla = f"{allocated:.2f} | {standing + allocated:.2f}"
            fits = "yes" if standing + allocated < LIMIT_GB else "no"
        else:
            of_xla = " | "
            fits = "yes" if held < LIMIT_GB else "not by this count"
        print(
            f"| {name.removeprefix('center_net_deepmac_')}, {batch}, {batch * (slots or 100)} | "
            f"{precision} | {'yes' if rematerialise else 'no'} | {found['flops'] / 1e12:.2f} | "
            f"{standing:.2f} | {found['kept'] / 1e9:.2f} | {held:.2f} | "
            f"{of_xla} | {fits} | "
            f"{', '.join(found['leaving']) or 'nothing'} |",
            flush=True,
        )


def report_sizes() -> None:
    """All configurations, each with its own type and as many images as a device gets."""
    print(
        "| configuration | input | million parameters | MB in float32 | TFLOP an image | images on "
        "a device | type | GB, of JAX's count | with `--rematerialise` |\n"
        "|---|---:|---:|---:|---:|---:|---|---:|---:|"
    )
    for name, batch in (OTHERS | PUBLISHED).items():
        in_bfloat16 = load_config(name).train_config.use_bfloat16
        precision = "bfloat16" if in_bfloat16 else "float32"
        options = {"config": name, "batch": batch, "precision": precision}
        plain = run(**options, quick=True)
        again = run(**options, quick=True, rematerialise=True)
        print(
            f"| {name.removeprefix('center_net_deepmac_')} | {plain['side']} | "
            f"{plain['parameters'] / 1e6:.1f} | "
            f"{4e-6 * (plain['parameters'] + plain['statistics']):.0f} | "
            f"{plain['flops'] / batch / 1e12:.2f} | {batch} | {precision} | {_held(plain):.1f} | "
            f"{_held(again):.1f} |",
            flush=True,
        )


def _standing(found: dict[str, Any]) -> float:
    """GB of what is there in any case."""
    return sum(found[k] for k in ("arguments", "slots", "gradients")) / 1e9


def _held(found: dict[str, Any]) -> float:
    """GB when the backward pass begins, by JAX's count."""
    return _standing(found) + found["kept"] / 1e9


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--config", help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--mask_slots", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--rematerialise", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        found = measure(options)
        peak = peak_bytes()
        print(json.dumps(found | {"peak": peak}))
    elif options.sizes:
        report_sizes()
    else:
        report(options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
