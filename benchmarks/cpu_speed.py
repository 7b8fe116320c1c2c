"""How fast the largest published network runs on a processor, in float32 and in bfloat16.

    python -m benchmarks.cpu_speed [--sides 512 1024] [--repeats 3]

The network of `center_net_deepmac_1024x1024_coco` (241 M parameters, random weights), an image and
10 boxes, for inputs of 512 and of 1024 pixels; the mask heads alone; and beside them a stack of 3x3
convolutions of 256 channels, which is what most of the network is. Each line is measured in a fresh
process, so that its peak memory is its own. Prints Markdown.

"CPU/2" is the processor time of one call divided by two, the least of several: what two idle cores
approach. Rates count only the operations that the answer needs, not the filling of batches.
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
from deepmac.matrix_units import cpu_field, matrix_units, read_cpuinfo

CONFIG = "center_net_deepmac_1024x1024_coco"
NUM_BOXES = 10
# Multiply-accumulates of the hourglass_104 backbone for an input of 512 x 512, of its two embedding
# heads (3x3) there, and of the mask head for one box: spec of the reference, section 8.
BACKBONE_512 = 234.03e9
EMBEDDINGS_512 = (598_304 + 594_192) * 128 * 128
MASK_HEADS = {"hourglass100": 3.199e9, "hourglass52": 1.798e9}


def best(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """(CPU/2, wall) seconds of a call, the least of each; the first call is for compiling."""
    call()
    cpu, wall = [], []
    for _ in range(repeats):
        before, began = time.process_time(), time.perf_counter()
        call()
        cpu.append((time.process_time() - before) / 2)
        wall.append(time.perf_counter() - began)
    return min(cpu), min(wall)


def measure_network(precision: str, side: int, batch: int, repeats: int) -> dict:
    """`batch` images of `side` x `side` pixels, 10 boxes each, through `deepmac.load`."""
    import deepmac

    resizer = "model.center_net.image_resizer.keep_aspect_ratio_resizer"
    predictor = deepmac.load(
        CONFIG,
        overrides=[
            f"{resizer}.min_dimension={side}",
            f"{resizer}.max_dimension={side}",
        ],
        random_weights=True,
        precision=precision,  # pyright: ignore[reportArgumentType]
    ).batch
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(batch)]
    corners = rng.uniform(0, side - 100, (NUM_BOXES, 2))
    boxes = [np.concatenate([corners, corners + 90], axis=1)] * batch
    cpu, wall = best(lambda: predictor(images, boxes), repeats)
    needed = (BACKBONE_512 + EMBEDDINGS_512) * (side / 512) ** 2
    needed += NUM_BOXES * MASK_HEADS["hourglass100"]
    return {
        "cpu": cpu / batch,
        "wall": wall / batch,
        "gflops": 2e-9 * needed / (cpu / batch),
    }


def measure_mask_head(precision: str, kind: str, batch: int, repeats: int) -> dict:
    """The mask head alone, on a batch of RoIs."""
    import dataclasses

    from deepmac.backend import compiled
    from deepmac.config.load import load_config
    from deepmac.model.folding import fold
    from deepmac.model.mask_head import mask_head

    config = load_config(CONFIG).model.center_net.deepmac_mask_estimation
    head = mask_head(dataclasses.replace(config, network_type=kind))
    fold(head, precision)  # pyright: ignore[reportArgumentType]
    call = compiled(lambda rois, instance: head(rois, instance), head)
    rng = np.random.default_rng(0)
    rois = rng.normal(size=(batch, 32, 32, 18)).astype(np.float32)
    instance = rng.normal(size=(batch, 32)).astype(np.float32)
    cpu, wall = best(lambda: np.asarray(call(rois, instance)), repeats)
    gflops = 2e-9 * batch * MASK_HEADS[kind] / cpu
    return {"cpu": cpu / batch, "wall": wall / batch, "gflops": gflops}


def measure_stack(precision: str, side: int, batch: int, repeats: int) -> dict:
    """Ten 3x3 convolutions of 256 channels with bias and ReLU, on maps of side / 4."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    shape, cells = (3, 3, 256, 256), side // 4

    def variable(shape) -> Any:
        return tf.Variable(tf.cast(rng.normal(0, 0.02, shape), precision))

    weights = [(variable(shape), variable(256)) for _ in range(10)]

    @tf.function
    def stack(x):
        for kernel, bias in weights:
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 1, "SAME"), bias))
        return x

    x = variable((batch, cells, cells, 256))
    cpu, wall = best(lambda: stack(x).numpy(), repeats)
    needed = 10 * batch * cells * cells * 9 * 256 * 256
    return {"cpu": cpu, "wall": wall, "gflops": 2e-9 * needed / cpu}


MEASURES = {
    "network": measure_network,
    "mask_head": measure_mask_head,
    "stack": measure_stack,
}


def run(kind: str, *arguments: Any) -> dict[str, Any]:
    """One measurement in a fresh process, with its peak memory in GiB."""
    command = [sys.executable, "-m", "benchmarks.cpu_speed", "--measure", kind]
    command += map(str, arguments)
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(sides: Sequence[int], repeats: int) -> None:
    import tensorflow as tf

    cpu = cpu_field(read_cpuinfo(), "model name")
    units = matrix_units(os.environ) or "no matrix units"
    print(
        f"{cpu}, {os.cpu_count()} cores, {units}; Python {platform.python_version()}, "
        f"TensorFlow {tf.__version__}\n"
    )
    print("| what | type | CPU/2 | wall | GFLOP/s | of the stack | gain | peak GiB |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    stacks = {p: run("stack", p, 512, 1, repeats) for p in ("float32", "bfloat16")}
    for precision, found in stacks.items():
        _row("ten 3x3 convolutions, 256 channels, 128 x 128", precision, found, found)
    cases = []
    for side in sides:
        cases += [(f"network, {side}, 10 boxes", "network", side, 1)]
        if side <= 512:
            cases += [(f"network, {side}, four images", "network", side, 4)]
    cases += [
        (f"mask head {kind}, {batch} boxes", "mask_head", kind, batch)
        for kind in MASK_HEADS
        for batch in (16, 64)
    ]
    for title, measure, what, batch in cases:
        exact = run(measure, "float32", what, batch, repeats)
        _row(title, "float32", exact, stacks["float32"])
        fast = run(measure, "bfloat16", what, batch, repeats)
        _row(title, "bfloat16", fast, stacks["bfloat16"], exact["cpu"] / fast["cpu"])


def _row(
    title: str, precision: str, found: dict, stack: dict, gain: float | None = None
) -> None:
    share = found["gflops"] / stack["gflops"]
    print(
        f"| {title} | {precision} | {found['cpu']:.4f} | {found['wall']:.4f} | "
        f"{found['gflops']:.0f} | {share:.0%} | {f'{gain:.2f}x' if gain else ''} | "
        f"{found['peak']:.2f} |",
        flush=True,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", nargs="+", type=int, default=[512, 1024])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not options.measure:
        report(options.sides, options.repeats)
        return 0
    kind, precision, what, batch, repeats = options.measure
    what = int(what) if what.isdigit() else what
    found = MEASURES[kind](precision, what, int(batch), int(repeats))
    found["peak"] = peak_bytes() / 2**30
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
