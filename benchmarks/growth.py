"""How the cost of a job grows with its units: CPU time, memory of workers, memory of the launcher.

    python -m benchmarks.growth [--units 100 1000 10000] [--rounds 3] [--out gs://bucket/folder]

`build` and `label` (with filled boxes) on two worker processes of this machine, two pictures of 32 x 24
in a unit, so that what is seen is what units cost. Beam's start is in all of it: the CPU time of a
unit is the slope from one size to the next. Prints Markdown.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

IMAGES_PER_UNIT = 2
HEIGHT, WIDTH = 24, 32
_LOOK_EVERY = 0.1  # seconds


def write_set(folder: Path, num_images: int) -> None:
    """Links to one picture, each with two boxes."""
    images = folder / "images"
    images.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    (folder / "picture.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    lists = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    for number in range(num_images):
        name = f"{number:06d}.jpg"
        os.link(folder / "picture.jpg", images / name)
        size = {"height": HEIGHT, "width": WIDTH}
        lists["images"].append({"id": number, "file_name": name, **size})
        for k in (0, 1):
            box = {"bbox": [2, 3, 9 + k, 9], "area": 81, "iscrowd": 0}
            box["segmentation"] = [[2, 3, 11, 3, 11, 12, 2, 12]]
            ids = {"id": 2 * number + k, "image_id": number, "category_id": 1}
            lists["annotations"].append(ids | box)
    (folder / "annotations.json").write_text(json.dumps(lists))


def command_of(job: str, folder: Path, out: str, num_units: int) -> list[str]:
    common = [
        f"--annotations={folder / 'annotations.json'}",
        f"--images={folder / 'images'}",
        f"--out={out}/{job}-{num_units}",
        "--direct_num_workers=2",
    ]
    if job == "build":
        common += [f"--num_shards={num_units}"]
        return [sys.executable, "-m", "pipelines.build_dataset", *common]
    common += ["--model=box", f"--unit_images={IMAGES_PER_UNIT}"]
    return [sys.executable, "-m", "pipelines.infer", *common]


def descendants(process_id: int) -> Iterator[int]:
    for children in Path(f"/proc/{process_id}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:  # the thread has just ended
            continue
        for child in map(int, found):
            yield child
            yield from descendants(child)


def most_memory(process_id: int) -> float:
    """The most that a process has held so far, in megabytes."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1e3
    return 0.0


def measure(command: list[str]) -> tuple[float, float, float, float]:
    """CPU seconds, wall seconds, and the most megabytes of the launcher and of a worker."""
    began = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet)
    launcher, workers, spent = 0.0, {}, {}
    tick = os.sysconf("SC_CLK_TCK")
    while process.poll() is None:
        for pid in (process.pid, *descendants(process.pid)):
            try:
                memory = most_memory(pid)
                fields = (
                    Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
                )
            except OSError:  # it has just ended
                continue
            spent[pid] = (int(fields[11]) + int(fields[12])) / tick
            if pid == process.pid:
                launcher = max(launcher, memory)
            else:
                workers[pid] = max(workers.get(pid, 0.0), memory)
        time.sleep(_LOOK_EVERY)
    if process.returncode:
        raise RuntimeError(f"status {process.returncode}: {' '.join(command)}")
    wall = time.perf_counter() - began
    return sum(spent.values()), wall, launcher, max(workers.values())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--rounds", type=int, default=3, help="the least CPU counts")
    parser.add_argument("--out", help="where jobs write; default: a local folder")
    parser.add_argument("--jobs", nargs="+", default=["build", "label"])
    options = parser.parse_args(argv)
    print(
        "| job | units | CPU s | CPU ms a further unit | worker, MB | launcher, MB | "
        "launcher, bytes a further unit | wall s |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    )
    for job, units in itertools.product(options.jobs, [options.units]):
        before = None
        for num_units in units:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                write_set(folder, num_units * IMAGES_PER_UNIT)
                rounds = []
                for number in range(options.rounds):
                    out = f"{options.out or temporary}/{number}"
                    rounds.append(measure(command_of(job, folder, out, num_units)))
            cpu, wall, *_ = min(rounds)
            launcher, worker = (
                max(memory) for memory in list(zip(*rounds, strict=True))[2:]
            )
            a_unit = memory = ""
            if before:
                more = num_units - before[0]
                a_unit = f"{(cpu - before[1]) / more * 1e3:.2f}"
                memory = f"{(launcher - before[2]) * 1e6 / more:.0f}"
            before = num_units, cpu, launcher
            print(
                f"| {job} | {num_units} | {cpu:.1f} | {a_unit} | {worker:.0f} | {launcher:.0f} | "
                f"{memory} | {wall:.0f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
