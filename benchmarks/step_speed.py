"""How fast a training step is: on a processor against the same network run eagerly, on a GPU
against the rate at which the chip multiplies matrices.

    python -m benchmarks.step_speed                                  on a processor, TensorFlow
    python -m benchmarks.step_speed --backend jax --sides 512 1024   on a GPU or TPU

On a processor: a step of `center_net_deepmac_512x512_voc_only` (217 M parameters), one image with 5
instances. Beside it the same step as the reference does it, in the same run: every operation by
itself (no graph), batch norms made of plain operations. And a stack of 3x3 convolutions of 256
channels with their gradients, which is what most of the step is. Seconds are of the processor,
all cores together, the least of several steps after the first.

On JAX: images a second, and the share of the rate of one large product of bfloat16 matrices, of
training and of inference (detector, masks for as many boxes as there are instances). Operations
are XLA's count of the program before it is optimised.

Each line is a fresh process, so that its peak memory is its own. Prints Markdown.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.memory import peak_bytes

CONFIGS = {
    512: "center_net_deepmac_512x512_voc_only",
    1024: "center_net_deepmac_1024x1024_coco",
}
REFERENCE_SECONDS, REFERENCE_GB = 18.2, 8.6  # eager, 2 idle cores of a Xeon with AMX


def seconds(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Of a call, the least of each; the first one, which compiles, apart."""
    first = time.process_time()
    call()
    first, cpu, wall = time.process_time() - first, [], []
    for _ in range(repeats):
        before, began = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - before)
        wall.append(time.perf_counter() - began)
    return {"first": first, "cpu": min(cpu), "wall": min(wall)}


def measure_training(options: argparse.Namespace) -> dict[str, float]:
    """A step of training as `deepmac train` does it; `eager`: as the reference does."""
    from benchmarks.steps import config_of_side, eagerly, fresh_state, made_up
    from deepmac.train.objective import TOTAL
    from deepmac.train.step import open_engine

    config = config_of_side(options.config, options.side)
    is_eager = options.precision == "eager"
    state = fresh_state(
        config,
        use_bfloat16=options.precision == "bfloat16",
        reference_quirks=is_eager or None,
    )
    engine: Any = open_engine(state)
    part = made_up(config, options.batch, options.instances, options.instances)

    def step() -> float:
        return float(engine.step([part], 0, 1e-4, 0.9)[TOTAL])

    if is_eager:
        with eagerly():
            return seconds(step, options.repeats)
    engine.trace(part)
    found = seconds(step, options.repeats)
    if options.backend == "jax":
        found["flops"] = engine.lower(part).cost_analysis()["flops"]
    return found


def measure_inference(options: argparse.Namespace) -> dict[str, float]:
    """The detector, and the masks of given boxes, on JAX; norms folded, weights in bfloat16."""
    import jax  # pyright: ignore[reportMissingImports]
    import keras

    from benchmarks.steps import config_of_side, made_up
    from deepmac.model.deepmac import DeepMAC
    from deepmac.model.folding import fold

    config = config_of_side(options.config, options.side)
    model = DeepMAC(config.model.center_net)
    fold(model, options.precision)
    batch = made_up(config, options.batch, options.instances, 1).batch

    def run(values, images, shapes, boxes):
        with keras.StatelessScope(zip(model.variables, values, strict=True)):
            features = model.features(images)
            found = model.detect(features, shapes)
            return found, model.masks_for_boxes(model.embed(features), boxes)

    arguments = [batch.images, batch.true_shapes, batch.boxes]
    arguments = jax.device_put([[v.value for v in model.variables], *arguments])
    program = jax.jit(run).lower(*arguments)
    compiled, costs = program.compile(), program.cost_analysis()
    assert costs is not None
    found = seconds(
        lambda: jax.block_until_ready(compiled(*arguments)), options.repeats
    )
    return found | {"flops": costs["flops"]}


def measure_stack(options: argparse.Namespace) -> dict[str, float]:
    """Three 3x3 convolutions of 256 channels on maps of 128 x 128, and all their gradients."""
    import tensorflow as tf

    rng = np.random.default_rng(0)

    def variable(*shape: int) -> Any:
        return tf.Variable(tf.cast(rng.normal(0, 0.02, shape), options.precision))

    kernels, x = (
        [variable(3, 3, 256, 256) for _ in range(3)],
        variable(1, 128, 128, 256),
    )

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            y = x.value()
            tape.watch(y)
            first = y
            for kernel in kernels:
                y = tf.nn.relu(tf.nn.conv2d(y, kernel, 1, "SAME"))
            total = tf.reduce_sum(y)
        found: list[Any] = tape.gradient(total, [first, *kernels])  # pyright: ignore[reportAssignmentType]
        return tf.add_n([tf.reduce_sum(tf.cast(g, tf.float32)) for g in found])

    return seconds(gradients, options.repeats) | {
        "flops": 2.0 * 3 * 3 * 128 * 128 * 9 * 256 * 256
    }


def measure_matrices(options: argparse.Namespace) -> dict[str, float]:
    """One product of two large square matrices, on JAX."""
    import jax  # pyright: ignore[reportMissingImports]
    import jax.numpy as jnp  # pyright: ignore[reportMissingImports]

    n = options.side
    a = jnp.ones((n, n), options.precision)
    times = 20  # one call has a cost of its own
    product = jax.jit(lambda x, y: jax.lax.fori_loop(0, times, lambda _, z: z @ y, x))
    found = seconds(
        lambda: jax.block_until_ready(product(a, a)), max(options.repeats, 3)
    )
    return found | {"flops": 2.0 * times * n**3}


def measure_device(options: argparse.Namespace) -> dict[str, Any]:
    import jax  # pyright: ignore[reportMissingImports]

    device = jax.devices()[0]
    return {"device": device.device_kind, "platform": device.platform}


MEASURES = {
    "training": measure_training,
    "inference": measure_inference,
    "stack": measure_stack,
    "matrices": measure_matrices,
    "device": measure_device,
}


def run(kind: str, backend: str, **options: Any) -> dict[str, Any]:
    """One measurement in a fresh process, with its peak memory in GB."""
    command = [sys.executable, "-m", "benchmarks.step_speed", "--measure", kind]
    for name, value in {"backend": backend, **options}.items():
        command += [f"--{name}", str(value)]
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report_processor(
    config: str, side: int | None, batch: int, instances: int, repeats: int
) -> None:
    """The step on a processor, in three ways."""
    from deepmac.matrix_units import cpu_field, matrix_units, read_cpuinfo

    units = matrix_units(os.environ) or "no matrix units"
    print(
        f"{cpu_field(read_cpuinfo(), 'model name')}, {os.cpu_count()} cores, {units}; Python "
        f"{platform.python_version()}; load {os.getloadavg()[0]:.0f}\n\n"
        f"| {batch} image, {instances} instances | CPU s | wall s | first step, CPU s | peak GB | "
        f"against eager |\n|---|---:|---:|---:|---:|---:|",
        flush=True,
    )
    shape = {"config": config, "batch": batch, "instances": instances}
    if side:
        shape["side"] = side
    eager: dict[str, Any] = {}
    for precision in ("eager", "float32", "bfloat16"):
        found = run(
            "training", "tensorflow", precision=precision, repeats=repeats, **shape
        )
        eager = eager or found
        title = "eager float32, plain norms" if precision == "eager" else precision
        print(
            f"| {title} | {found['cpu']:.2f} | {found['wall']:.2f} | {found['first']:.1f} | "
            f"{found['peak']:.2f} | {eager['cpu'] / found['cpu']:.2f}x |",
            flush=True,
        )
    print(
        f"| *the reference on 2 idle cores of a Xeon with AMX* | | {REFERENCE_SECONDS} | | "
        f"{REFERENCE_GB} | |\n",
        flush=True,
    )
    for precision in ("float32", "bfloat16"):
        found = run("stack", "tensorflow", precision=precision, repeats=repeats)
        rate = 1e-9 * found["flops"] / found["cpu"]
        print(
            f"3x3 convolutions of 256 channels and their gradients in {precision}: {rate:.0f} "
            f"GFLOP a CPU second",
            flush=True,
        )


def report_jax(
    sides: Sequence[int], batch: int, instances: int, repeats: int, config: str | None
) -> None:
    """Training and inference on the first device of JAX."""
    device = run("device", "jax")
    is_accelerator = device["platform"] != "cpu"
    side = 8192 if is_accelerator else 512
    found = run("matrices", "jax", precision="bfloat16", side=side, repeats=repeats)
    peak = found["flops"] / found["wall"]
    print(
        f"{device['device']}: {1e-12 * peak:.2f} TFLOP/s, bfloat16 matrices of {side} x {side}; "
        f"Python {platform.python_version()}\n\n"
        f"| {instances} instances | images a call | s a call | images/s | TFLOP a call | of the rate of matrices |\n"
        f"|---|---:|---:|---:|---:|---:|",
        flush=True,
    )
    for side in sides:
        for kind in ("training", "inference"):
            found = run(
                kind,
                "jax",
                precision="bfloat16",
                config=config or CONFIGS[side],
                side=side,
                batch=batch,
                instances=instances,
                repeats=repeats,
            )
            print(
                f"| {kind}, {side} | {batch} | {found['wall']:.3f} | {batch / found['wall']:.1f} | "
                f"{1e-12 * found['flops']:.2f} | {found['flops'] / found['wall'] / peak:.0%} |",
                flush=True,
            )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backend", choices=["tensorflow", "jax"], default="tensorflow"
    )
    parser.add_argument("--config", help="another one than the published ones")
    parser.add_argument("--sides", nargs="+", type=int, default=[512])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--instances", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--side", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        found = MEASURES[options.measure](options)
        peak = peak_bytes() / 1e9
        print(json.dumps(found | {"peak": peak}))
        return 0
    many = options.batch, options.instances, options.repeats
    if options.backend == "jax":
        report_jax(options.sides, *many, options.config)
    else:
        for side in options.sides:
            report_processor(options.config or CONFIGS[side], side, *many)
    return 0


if __name__ == "__main__":
    sys.exit(main())
