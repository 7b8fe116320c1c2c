"""Seconds and memory of the largest published network: open its checkpoint, label an image.

    python -m benchmarks.load_240m [--folder DIR]

Writes a checkpoint of the reference's layout with random weights (0.96 GB, into a temporary
folder unless --folder names one, where it stays), then opens it in a fresh process and labels an
image of 1024 x 1024 pixels with 20 boxes. Prints one JSON object.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import peak_bytes

CONFIG = "center_net_deepmac_1024x1024_coco"
IMAGE_SIDE = 1024
NUM_BOXES = 20


def write_checkpoint(prefix: str) -> None:
    """Saves the network of `CONFIG`, as fresh as it is, the way the reference does."""
    import tensorflow as tf

    from deepmac.checkpoint.names import reference_name
    from deepmac.config.load import load_config
    from deepmac.model.deepmac import DeepMAC
    from deepmac.model.variables import named_variables

    model = DeepMAC(load_config(CONFIG).model.center_net)
    tree: dict[str, Any] = {}
    for path, variable in named_variables(model).items():
        *parents, leaf = (reference_name(path) or path).split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name.replace(".S", "/"), {})
        node[leaf] = variable.value

    def trackable(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return tf.train.Checkpoint(**{k: trackable(v) for k, v in node.items()})

    step = tf.Variable(50_000, dtype=tf.int64)
    tf.train.Checkpoint(model=trackable(tree), step=step).write(prefix)


def measure(prefix: str) -> dict[str, Any]:
    """Opens the checkpoint and labels.

    Of each step: seconds on the clock, seconds of all processors, gibibytes at the peak so far.
    """
    results: dict[str, Any] = {}

    @contextlib.contextmanager
    def step(name: str) -> Iterator[None]:
        clock, cpu = time.perf_counter(), time.process_time()
        yield
        results[f"{name}_seconds"] = round(time.perf_counter() - clock, 1)
        results[f"{name}_cpu_seconds"] = round(time.process_time() - cpu, 1)
        peak = peak_bytes() / 2**30
        results[f"{name}_peak_gib"] = round(peak, 2)

    with step("open"):
        import deepmac
        from deepmac.checkpoint.load import open_weights

        predictor = deepmac.load(CONFIG, prefix)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (IMAGE_SIDE, IMAGE_SIDE, 3), np.uint8)
    corners = rng.uniform(0, IMAGE_SIDE - 100, (NUM_BOXES, 2))
    boxes = np.concatenate([corners, corners + 90], axis=1)
    for name in ("first_image", "second_image"):
        with step(name):
            masks = predictor(image, boxes=boxes).masks
    assert masks.shape == (NUM_BOXES, IMAGE_SIDE, IMAGE_SIDE)
    variables = open_weights(prefix).variables.values()
    results["parameters"] = sum(int(np.prod(v.shape)) for v in variables)
    return results


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="keep the checkpoint here and use it again")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.write:
        write_checkpoint(options.write)
    elif options.measure:
        print(json.dumps(measure(options.measure)))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            prefix = Path(options.folder or temporary) / "ckpt-51"
            if not prefix.with_suffix(".index").exists():
                _run("--write", prefix)
            print(_run("--measure", prefix))
    return 0


def _run(step: str, prefix: Path) -> str:
    """One step in a process of its own: memory is measured from its beginning."""
    command = [sys.executable, "-m", "benchmarks.load_240m", step, str(prefix)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
