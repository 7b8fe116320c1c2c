"""How much of a `label` job's time passes outside of the network.

    python -m benchmarks.label_speed [--num_images 24] [--precision float32 bfloat16]

Images of 640 x 480 pixels (JPEG) with 20 boxes each, the network of
`center_net_deepmac_1024x1024_coco` at 512 pixels with random weights, one unit of the job as a worker
does it: read, decode, resize, network, paste, run lengths, write. The clock of the calls into the
network is taken in the same run; the rest is what lies around. Prints Markdown.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepmac.backend import compiled
from deepmac.label import Settings
from deepmac.predictors.checked import CheckedPredictor
from deepmac.predictors.deepmac import DeepmacPredictor, load_network
from pipelines.label_work import LabelWork
from pipelines.units import Unit

CONFIG = "center_net_deepmac_1024x1024_coco"
NUM_BOXES = 20
HEIGHT, WIDTH = 480, 640


class Clock:
    """Adds up the time that passes in functions of the network."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def compile(self, function: Callable, model: Any) -> Callable:
        run = compiled(function, model)

        def timed(*arguments):
            wall, cpu = time.perf_counter(), time.process_time()
            result = run(*arguments)
            _wait_for(result)
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu
            return result

        return timed


def _wait_for(result: Any) -> None:
    parts = result if isinstance(result, tuple) else (result,)
    for part in parts:
        if isinstance(part, tuple):
            _wait_for(part)
        else:
            np.asarray(part)


def write_images(folder: Path, count: int) -> list[dict]:
    """The items of a unit; smooth noise, which compresses as photographs do."""
    rng, items = np.random.default_rng(0), []
    for number in range(count):
        small = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        picture = Image.fromarray(small).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC
        )
        noise = rng.integers(-12, 13, (HEIGHT, WIDTH, 3))
        pixels = (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
        name = f"{number}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=85)
        items.append(
            {
                "image": {
                    "id": number,
                    "file_name": name,
                    "height": HEIGHT,
                    "width": WIDTH,
                }
            }
        )
        for i in range(NUM_BOXES):
            x, y = rng.uniform(0, WIDTH - 210), rng.uniform(0, HEIGHT - 210)
            w, h = rng.uniform(20, 200, 2).tolist()
            box = {"id": number * 100 + i, "image_id": number, "category_id": 1}
            items.append(
                {"annotation": box | {"bbox": [x, y, w, h]}, "position": len(items)}
            )
    return items


def measure(precision: Any, num_images: int) -> dict[str, float]:
    resizer = "model.center_net.image_resizer.keep_aspect_ratio_resizer"
    overrides = [f"{resizer}.min_dimension=512", f"{resizer}.max_dimension=512"]
    network = load_network(CONFIG, overrides=overrides, random_weights=True)
    clock = Clock()
    predictor = DeepmacPredictor(network, precision=precision, compile=clock.compile)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        items = write_images(folder, num_images)
        work = LabelWork(
            model=CONFIG,
            model_options=(),
            settings=Settings(),
            images=str(folder),
            from_records=False,
            category_names={1: "thing"},
            repeats=frozenset(),
            out_of_bounds="clip",
        )
        work.predictor = CheckedPredictor("network", predictor)
        # Half of the images first, for compiling
        work.process(Unit("warm", items[: len(items) // 2]), io.BytesIO())
        clock.wall = clock.cpu = 0.0
        wall, cpu = time.perf_counter(), time.process_time()
        counts = work.process(Unit("unit", items), io.BytesIO()).counts
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert counts["masks_out"] == num_images * NUM_BOXES, counts
    return {"wall": wall, "network": clock.wall, "cpu": cpu, "network_cpu": clock.cpu}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num_images", type=int, default=24)
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    options = parser.parse_args(argv)
    print(
        "| type | s/image | of it network | around it, wall | around it, CPU s/image |"
    )
    print("|---|---:|---:|---:|---:|")
    for precision in options.precision:
        found = measure(precision, options.num_images)
        n = options.num_images
        around = 1 - found["network"] / found["wall"]
        cpu_around = (found["cpu"] - found["network_cpu"]) / n
        print(
            f"| {precision} | {found['wall'] / n:.3f} | {found['network'] / n:.3f} | "
            f"{around:.1%} | {cpu_around:.3f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
