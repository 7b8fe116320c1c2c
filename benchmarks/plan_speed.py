"""Planning of `build` and `label` from large annotation files: rate and memory.

    python -m benchmarks.plan_speed [--fits 300] [--gigabytes 4] [--folder DIR] [--rounds 3]

Writes COCO files of polygons with 20 to 60 points, the same at every run. Of the first, of `--fits`
megabytes, it measures the megabytes (10^6 bytes) per CPU second of `json.loads` and, for
information, of `orjson.loads` and of ijson where that is installed, and of planning: reading,
looking at the file as a whole and writing the plan. Of the second, of `--gigabytes`, it plans
alone. Everything runs in a process of its own, by turns; the best round counts; peak memory is
that of the whole process, Beam and all. Prints one JSON object.
"""

import argparse
import contextlib
import gc
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.memory import peak_bytes

NUM_POLYGONS = 4096  # different ones, which repeat
ANNOTATIONS_PER_IMAGE = 7
NUM_CATEGORIES = 80
PEERS = ("json", "json_without_collector", "orjson", "ijson")
PLANS = ("build", "label", "sha256")


def write_dataset(path: Path, num_bytes: int) -> None:
    """Writes a COCO file of nearly that size, and an image for the first of its entries."""
    rng = np.random.default_rng(0)
    polygons = [_polygon(rng) for _ in range(NUM_POLYGONS)]
    mean = np.mean([len(p) for p in polygons]) + 150 + 260 / ANNOTATIONS_PER_IMAGE
    num_images = max(int(num_bytes / mean) // ANNOTATIONS_PER_IMAGE, 1)
    categories = [{"id": i, "name": f"kind {i}"} for i in range(1, NUM_CATEGORIES + 1)]
    with path.open("w", buffering=1 << 20) as file:
        file.write('{"info": {"year": 2017}, "images": [')
        for number in range(num_images):
            file.write((", " if number else "") + json.dumps(_image(number)))
        file.write('], "annotations": [')
        for number in range(num_images * ANNOTATIONS_PER_IMAGE):
            polygon = polygons[int(rng.integers(NUM_POLYGONS))]
            file.write((", " if number else "") + _annotation(rng, polygon, num_images))
        file.write(f'], "categories": {json.dumps(categories)}}}')
    Image.new("RGB", (640, 480)).save(path.parent / _image(0)["file_name"])


def _image(number: int) -> dict[str, Any]:
    name = f"{number:012}.jpg"
    return {
        "license": 3,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "height": 480,
        "width": 640,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010}_d4e4ec8e37_z.jpg",
        "id": number,
    }


def _polygon(rng: np.random.Generator) -> str:
    """A segmentation as COCO has them: hundredths of pixels, points around a centre."""
    num_points = int(rng.integers(20, 61))
    angles = np.sort(rng.uniform(0, 2 * np.pi, num_points))
    radii = rng.uniform(20, 200) * rng.uniform(0.8, 1.2, num_points)
    x, y = 320 + radii * np.cos(angles), 240 + radii * np.sin(angles)
    return json.dumps([np.stack([x, y], axis=1).ravel().round(2).tolist()])


def _annotation(rng: np.random.Generator, polygon: str, num_images: int) -> str:
    x, y, width, height, area = rng.uniform(1, 300, 5).tolist()
    facts = {
        "area": 100 * area,
        "iscrowd": 0,
        "image_id": int(rng.integers(num_images)),
        "bbox": [round(x, 2), round(y, 2), round(width, 2), round(height, 2)],
        "category_id": 1 + int(rng.integers(NUM_CATEGORIES)),
        "id": int(rng.integers(1 << 50)),
    }
    return f'{{"segmentation": {polygon}, {json.dumps(facts)[1:]}'


def measure(what: str, path: Path) -> dict[str, float]:
    """One measurement in this process: CPU seconds, and gibibytes at its peak."""
    work = _peer(what, path) if what in PEERS else _plan(what, path)
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    peak = peak_bytes()
    return {"cpu_seconds": seconds, "peak_bytes": peak}


def _peer(what: str, path: Path) -> Callable[[], object]:
    if what == "ijson":
        ijson = importlib.import_module("ijson")

        def walk() -> int:
            with path.open("rb") as file:
                items = ijson.items(file, "annotations.item", use_float=True)
                return sum(1 for _ in items)

        return walk
    if what == "json_without_collector":
        gc.disable()
    loads = importlib.import_module(what.partition("_")[0]).loads
    data = path.read_bytes()
    return lambda: loads(data)


def _plan(what: str, path: Path) -> Callable[[], object]:
    from deepmac.data.manifest import file_sha256
    from pipelines import launch  # Beam, as in the command
    from pipelines.build_plan import plan_build
    from pipelines.label_plan import plan_boxes
    from pipelines.shards import shard_names
    from pipelines.storage import hold_output
    from pipelines.units import PlanWriter

    assert launch
    if what == "sha256":
        return lambda: file_sha256(path)

    def plan() -> None:
        with (
            tempfile.TemporaryDirectory(dir=path.parent) as out,
            hold_output(out) as output,
        ):
            writer, images = PlanWriter(output), str(path.parent)
            if what == "build":
                units = shard_names("records", 32)
                plan_build(str(path), images, "all", units, writer)
            else:
                plan_boxes(str(path), images, None, writer)
            writer.flush()

    return plan


def compare(folder: Path, fits: int, gigabytes: float, rounds: int) -> dict[str, Any]:
    """All measurements; rates in 10^6 bytes per CPU second, memory in 2^20 bytes."""
    with _dataset(folder / "fits.json", fits * 10**6) as path:
        size = path.stat().st_size
        peers = [p for p in PEERS if p != "ijson" or _has_ijson()]
        results = {what: [] for what in (*peers, *PLANS)}
        for _ in range(rounds):
            for what, measured in results.items():
                measured.append(_in_own_process(what, path))
    rates = {what: size / 1e6 / _least(found) for what, found in results.items()}
    fastest = max(rates["json"], rates["json_without_collector"])
    report: dict[str, Any] = {
        "fits": {
            "megabytes": size / 1e6,
            "rates": rates,
            "plan_of_build_to_json_loads": rates["build"] / fastest,
            "plan_of_label_to_json_loads": rates["label"] / fastest,
        }
    }
    if gigabytes:
        with _dataset(folder / "large.json", int(gigabytes * 1e9)) as path:
            report["large"] = {"megabytes": path.stat().st_size / 1e6}
            for what in ("build", "label"):
                found = _in_own_process(what, path)
                report["large"][what] = {
                    "rate": path.stat().st_size / 1e6 / found["cpu_seconds"],
                    "peak_mebibytes": found["peak_bytes"] / 2**20,
                }
    return report


def _has_ijson() -> bool:
    return importlib.util.find_spec("ijson") is not None


def _least(found: list[dict[str, float]]) -> float:
    return min(result["cpu_seconds"] for result in found)


@contextlib.contextmanager
def _dataset(path: Path, num_bytes: int) -> Iterator[Path]:
    try:
        write_dataset(path, num_bytes)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _in_own_process(what: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.plan_speed", "--measure", what, path]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=300, help="megabytes")
    parser.add_argument("--gigabytes", type=float, default=4, help="0: not at all")
    parser.add_argument("--folder", help="for the files; needs twice their size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.measure:
        what, path = options.measure
        print(json.dumps(measure(what, Path(path))))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report = compare(Path(folder), options.fits, options.gigabytes, options.rounds)
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
