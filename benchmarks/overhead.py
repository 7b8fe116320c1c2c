"""What the jobs cost beyond the arithmetic: around a predictor, by Beam, and by a second process.

    python -m benchmarks.overhead [free beam processes]

`free`: a `label` unit (read, decode, paste, run lengths, write) with a predictor that costs nothing,
against decoding the same JPEGs alone, CPU seconds of one process.
`beam`: `build` and `label` on Beam's runner for one machine, against the same units done by a plain
loop, CPU seconds of whole processes; the larger of two sizes less the smaller, so that what is paid
once falls out, which is told as well.
`processes`: units of `build` done by two processes of Beam's against one, in units per second from
the first commit to the last.
Images are those of `benchmarks.coco_like`: 640 x 480, 127 kB, 7 boxes. Prints Markdown.
"""

import argparse
import dataclasses
import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.build_speed import write_part
from benchmarks.coco_like import write_set
from deepmac.data.decode import decode_rgb
from deepmac.instances import BoxMasks
from deepmac.label import Settings
from deepmac.predictors.checked import CheckedPredictor
from deepmac.predictors.deepmac import DeepmacPredictor, load_network
from deepmac.processors import keep_freed_memory
from pipelines.label_work import LabelWork
from pipelines.units import Unit

CONFIG = "center_net_deepmac_1024x1024_coco"
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


def network_factory() -> DeepmacPredictor:
    """The largest published network at 512, float32, random weights."""
    resizer = "model.center_net.image_resizer.keep_aspect_ratio_resizer"
    overrides = [f"{resizer}.min_dimension=512", f"{resizer}.max_dimension=512"]
    network = load_network(CONFIG, overrides=overrides, random_weights=True)
    return DeepmacPredictor(network, precision="float32")


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


PLAIN = """
from pipelines import launch, {module} as job
from pipelines.observation import Observation

def loop(options, task, units, **_):
    task.setup()
    for unit in units:
        task.run(*unit)
    return Observation()

launch.run_tasks = loop
raise SystemExit(job.main())
"""


@dataclasses.dataclass(frozen=True)
class Job:
    """A command to measure, on two sizes.

    Attributes:
        module: of `pipelines`.
        options: of the command, besides input and output.
        sizes: images of the smaller and of the larger run.
    """

    module: str
    options: tuple[str, ...]
    sizes: tuple[int, int]


BUILD = Job("build_dataset", ("--num_shards=32",), (1000, 9000))
LABEL = Job(
    "infer", ("--model=benchmarks.overhead:network_factory", "--unit_images=4"), (4, 20)
)


def command_of(
    job: Job, folder: Path, num_images: int, *, plain: bool = False
) -> list[str]:
    """The command for the first images of the set in a folder, to `folder/out`."""
    program = ["-m", f"pipelines.{job.module}"]
    if plain:
        program = ["-c", PLAIN.format(module=job.module)]
    return [
        sys.executable,
        *program,
        f"--annotations={write_part(folder, num_images)}",
        f"--images={folder / 'images'}",
        f"--out={folder / 'out'}",
        *job.options,
    ]


def run_fresh(command: list[str], folder: Path) -> float:
    """CPU seconds of a command and of all that it starts; `folder/out` is emptied before."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_beam(jobs: Sequence[Job] = (BUILD, LABEL)) -> None:
    print(
        "| | images | on Beam, CPU s | in a loop, CPU s | Beam's share | "
        "of what more images cost |\n|---|---:|---:|---:|---:|---:|"
    )
    for job in jobs:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "set"
            write_set(folder, job.sizes[-1])
            spent = {}
            for size in job.sizes:
                for plain in (False, True):
                    command = command_of(job, folder, size, plain=plain)
                    spent[size, plain] = run_fresh(command, folder)
        small, large = job.sizes
        beam, loop = spent[large, False], spent[large, True]
        more = beam - spent[small, False], loop - spent[small, True]
        print(
            f"| {job.module} | {large} | {beam:.1f} | {loop:.1f} | {1 - loop / beam:.1%} | "
            f"{1 - more[1] / more[0]:.1%} |",
            flush=True,
        )


def rate_of_span(folder: Path) -> float:
    """Units per second after the first commit, until the last."""
    records = (folder / "out" / "units").iterdir()
    times = sorted(record.stat().st_mtime for record in records)
    return (len(times) - 1) / (times[-1] - times[0])


def measure_processes(rounds: int = 3) -> None:
    job = Job("build_dataset", ("--num_shards=128",), (6000, 6000))
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set"
        write_set(folder, job.sizes[0])
        command = command_of(job, folder, job.sizes[0])
        for _ in range(rounds):
            rates = []
            for number in (1, 2):
                run_fresh([*command, f"--direct_num_workers={number}"], folder)
                rates.append(rate_of_span(folder))
            ratios.append(rates[1] / rates[0])
    print(
        f"two processes of build against one: {', '.join(f'{r:.2f}' for r in ratios)}"
    )


def main(argv: list[str] | None = None) -> int:
    parts = {
        "free": measure_free,
        "beam": measure_beam,
        "processes": measure_processes,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[*parts])
    for part in parser.parse_args(argv).parts:
        parts[part]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
