"""What the jobs cost beyond the arithmetic: around a predictor, by Beam, and by a second process.

    python -m benchmarks.overhead [free beam processes]

`free`: a `label` unit (read, decode, paste, run lengths, write) with a predictor that costs nothing,
against decoding the same JPEGs alone, CPU seconds of one process.
`beam`: `build` and `label` on Beam's runner for one machine, against the same units done by a plain
loop, CPU seconds of whole processes; the larger of two sizes less the smaller, so that what is paid
once falls out, which is told as well.
`processes`: units of `build` done by two processes of Beam's against one, in images per second from
the beginning of the first unit to the end of the last.
Images are those of `benchmarks.coco_like`: 640 x 480, 127 kB, 7 boxes. Prints Markdown.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.coco_like import write_set
from deepmac.data.decode import decode_rgb
from deepmac.instances import BoxMasks
from deepmac.label import Settings
from deepmac.predictors.checked import CheckedPredictor
from deepmac.processors import keep_freed_memory
from pipelines.label_work import LabelWork
from pipelines.units import Unit

NUM_IMAGES = 200
SIDE = 32  # of the masks, as in the published configurations
ROUNDS = 7


class FreePredictor:
    """Masks that were made before: soft blobs with a wavy edge."""

    can_detect = False

    def __init__(self, num_shapes: int = 16):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        angle, radius = np.arctan2(y, x), np.hypot(y, x)
        waves = rng.integers(2, 7, (num_shapes, 1, 1))
        turned = waves * angle + rng.uniform(0, 6, (num_shapes, 1, 1))
        edge = SIDE * (0.37 + 0.06 * np.sin(turned))
        self._probs = (1 / (1 + np.exp((radius - edge) * 1.2))).astype(np.float32)

    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None
    ) -> list[BoxMasks]:
        assert boxes is not None
        return [
            BoxMasks(
                boxes=b.astype(np.float32),
                mask_probs=self._probs[: len(b)],
                scores=np.ones(len(b), np.float32),
                category_ids=np.full(len(b), -1, np.int32),
            )
            for b in boxes
        ]


def free_factory() -> FreePredictor:
    """For `--model benchmarks.overhead:free_factory`."""
    return FreePredictor()


def items_of(folder: Path) -> list[dict]:
    """The items of a unit that holds the whole set."""
    lists = json.loads((folder / "annotations.json").read_text())
    items = [{"image": image} for image in lists["images"]]
    for position, annotation in enumerate(lists["annotations"]):
        del annotation["segmentation"]
        items.append({"annotation": annotation, "position": position})
    return items


def least_cpu(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Least CPU milliseconds an image of several rounds, in turns."""
    least = dict.fromkeys(functions, np.inf)
    for _ in range(ROUNDS):
        for name, function in functions.items():
            began = time.process_time()
            function()
            spent = (time.process_time() - began) / NUM_IMAGES * 1e3
            least[name] = min(least[name], spent)
    return least


def measure_free() -> None:
    cv2.setNumThreads(1)
    keep_freed_memory()  # as workers do; it speeds up plain decoding too
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set"
        write_set(folder, NUM_IMAGES)
        unit = Unit("unit", items_of(folder))
        encoded = [path.read_bytes() for path in sorted((folder / "images").iterdir())]
        work = LabelWork(
            model="free",
            model_options=(),
            settings=Settings(),
            images=str(folder / "images"),
            from_records=False,
            category_names={1: "person", 18: "dog"},
            repeats=frozenset(),
            out_of_bounds="clip",
        )
        work.predictor = CheckedPredictor("free", FreePredictor())
        kept = []

        def decode_and_keep() -> None:
            kept[:] = map(decode_rgb, encoded)

        def decode_by_opencv() -> None:
            for data in encoded:
                cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

        least = least_cpu(
            {
                "`label` with a predictor that costs nothing": lambda: work.process(
                    unit, io.BytesIO()
                ),
                "decoding, pixels dropped at once": lambda: [
                    None for data in encoded if decode_rgb(data) is None
                ],
                "decoding, pixels kept": decode_and_keep,
                "decoding by OpenCV": decode_by_opencv,
            }
        )
    ours = next(iter(least.values()))
    print("| | CPU ms an image | `label`, times that |\n|---|---:|---:|")
    for name, cost in least.items():
        print(f"| {name} | {cost:.2f} | {ours / cost:.2f} |")


def main(argv: list[str] | None = None) -> int:
    parts = {"free": measure_free}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[*parts])
    for part in parser.parse_args(argv).parts:
        parts[part]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
