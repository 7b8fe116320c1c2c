"""The evaluation beside pycocotools and faster-coco-eval: the same figures, time, memory.

    python -m benchmarks.evaluation_speed [--folder DIR] [--num_images 5000] [--repeats 3]

Writes the set of `val_like` into the folder (a temporary one by default; what is there is used
again), and evaluates its files in processes of their own, in turns: CPU seconds of the whole
process, from start to end, and the most memory it held. The peer of `pip install --no-deps
faster-coco-eval==1.8.0` is left out, aloud, where it is not installed. Intervals are not drawn
(`--draws 0`), no report is made: no peer makes any. `COCOeval` of `deepmac.cocoeval` is timed beside
that of pycocotools on objects that are loaded: the three steps alone. Prints Markdown. Status 1 where
a figure of ours differs from that of pycocotools in any bit.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from benchmarks.val_like import set_in
from deepmac.evaluation.accumulate import finalize
from deepmac.evaluation.detections import Detections, read_detections
from deepmac.evaluation.engine import match_images
from deepmac.evaluation.ground_truth import GroundTruth, read_ground_truth, read_scope
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.results_file import ResultsFile
from deepmac.evaluation.state import count_truths, merge

ARRAYS = ("precision", "recall", "scores")
KINDS = ("segm", "bbox")
GROWTH = 4

PYCOCOTOOLS = """
import sys
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
truth, results, kind, out = sys.argv[1:]
truth = COCO(truth)
run = COCOeval(truth, truth.loadRes(results), kind)
run.evaluate(); run.accumulate(); run.summarize()
np.savez(out, stats=run.stats, **{k: run.eval[k] for k in ("precision", "recall", "scores")})
"""
_FASTER = """
import sys
import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
truth, results, kind, out = sys.argv[1:]
truth = COCO(truth)
run = COCOeval_faster(truth, truth.loadRes(results), kind)
run.evaluate(); run.accumulate(); run.summarize()
"""
_OURS = """
import sys
from pipelines.evaluate import main
truth, results, kind, out, *more = sys.argv[1:]
sys.exit(main(["--ground_truth", truth, "--predictions", results, "--iou_type", kind,
               "--out", out, "--draws", "0", "--no_report", *more]))
"""
_ADAPTER = """
import contextlib, importlib, io, json, sys, time
from pycocotools.coco import COCO
truth, results, kind, module, out = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(truth)
    run = importlib.import_module(module).COCOeval(truth, truth.loadRes(results), kind)
    started = time.process_time()
    run.evaluate(); run.accumulate(); run.summarize()
    taken = time.process_time() - started
with open(out, "w") as file:
    json.dump({"seconds": taken, "stats": run.stats.tolist()}, file)
"""


@dataclasses.dataclass(frozen=True)
class Run:
    """CPU and wall seconds of a process, its peak memory in bytes."""

    cpu: float
    wall: float
    peak: int


def run(program: str, *arguments: object) -> Run:
    """A Python program in a process of its own, and those that it starts."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit(f"{command[:3]} ended with status {process.returncode}")
    wall = time.perf_counter() - started
    return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss * 1024)


def middle(runs: list[Run]) -> Run:
    """The median of each."""
    return Run(
        *(
            statistics.median(v)
            for v in zip(*map(dataclasses.astuple, runs), strict=True)
        )
    )


def in_turns(
    folder: Path, kind: str, programs: dict[str, str], repeats: int
) -> dict[str, Run]:
    """Each program on the set, one after the other, several times."""
    truth, results = folder / "annotations.json", folder / "results.json"
    runs = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            out = folder / f"{name}-{kind}"
            runs[name].append(run(program, truth, results, kind, out))
    return {name: middle(some) for name, some in runs.items()}


def differences(folder: Path, kind: str) -> list[str]:
    """Which arrays of ours are not those of pycocotools."""
    ours = folder / f"arrays-{kind}.npz"
    truth, results = folder / "annotations.json", folder / "results.json"
    run(_OURS, truth, results, kind, folder / f"ours-{kind}", "--arrays", ours)
    stats = json.loads((folder / f"ours-{kind}" / "metrics.json").read_text())
    stats = list(stats[kind]["stats"].values())[:12]
    with np.load(folder / f"pycocotools-{kind}.npz") as a, np.load(ours) as b:
        wrong = [n for n in ARRAYS if not np.array_equal(a[n], b[n])]
        return wrong + ["stats"] * (stats != a["stats"].tolist())


def adapter(folder: Path, kind: str, repeats: int) -> tuple[float, float, bool]:
    """CPU seconds of evaluate, accumulate and summarize: pycocotools', ours; whether `stats` are equal."""
    truth, results = folder / "annotations.json", folder / "results.json"
    modules = ("pycocotools.cocoeval", "deepmac.cocoeval")
    taken, stats = {name: [] for name in modules}, {}
    for _ in range(repeats):
        for name in modules:
            out = folder / f"{name}-{kind}.json"
            run(_ADAPTER, truth, results, kind, name, out)
            found = json.loads(out.read_text())
            taken[name].append(found["seconds"])
            stats[name] = found["stats"]
    theirs, ours = (statistics.median(taken[name]) for name in modules)
    return theirs, ours, stats[modules[0]] == stats[modules[1]]


def image_by_image(folder: Path) -> Iterator[tuple[GroundTruth, Detections]]:
    """Some images with their detections, decoded."""
    parameters = Parameters()
    dataset = json.loads((folder / "annotations.json").read_text())
    scope = read_scope(dataset, parameters, "")
    truth, _ = read_ground_truth(dataset, parameters, "", scope)
    results, place = next(ResultsFile(str(folder / "results.json")).in_order())
    found, _ = read_detections(results, scope, scope, parameters, "mask", place)
    for image in np.unique(found.image)[:200]:
        yield (
            truth.of_images(np.array([image])),
            found.take(np.flatnonzero(found.image == image)),
        )


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """CPU seconds, the least of some."""
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def already_decoded(folder: Path) -> tuple[float, float]:
    """Milliseconds an image: to match 100 masks that are decoded, and for pycocotools to decode them."""
    images, parameters = list(image_by_image(folder)), Parameters()
    rles = [[f.masks.rle(i) for i in range(len(f))] for _, f in images]
    match = seconds(
        lambda: [match_images(truth, found, parameters) for truth, found in images]
    )
    decode = seconds(lambda: [coco_mask.decode(some) for some in rles], 2)
    return 1e3 * match / len(images), 1e3 * decode / len(images)


def conclusion(folder: Path) -> tuple[float, float, int]:
    """CPU seconds of merging and of `finalize`; bytes of the state for a detection."""
    parameters = Parameters()
    dataset = json.loads((folder / "annotations.json").read_text())
    scope = read_scope(dataset, parameters, "")
    truth, counts = read_ground_truth(dataset, parameters, "", scope)
    partials = [
        count_truths(truth, np.arange(len(scope.image_ids)), parameters, counts)
    ]
    for results, place in ResultsFile(str(folder / "results.json")).in_order():
        found, _ = read_detections(results, scope, scope, parameters, "mask", place)
        images = truth.of_images(np.unique(found.image))
        partials.append(match_images(images, found, parameters))
    whole = merge(partials)
    merging = seconds(lambda: merge(partials))
    finishing = seconds(lambda: finalize(whole, parameters, scope))
    return merging, finishing, whole.nbytes / len(whole.score)


def report(folder: Path, num_images: int, repeats: int) -> int:
    """Measures and prints; returns the status."""
    programs = {"ours": _OURS, "pycocotools": PYCOCOTOOLS}
    if importlib.util.find_spec("faster_coco_eval"):
        programs["faster-coco-eval"] = _FASTER
    else:
        print("faster-coco-eval is not installed: left out\n", file=sys.stderr)
    status = 0
    print("| | CPU s | of ours | peak GB |\n|---|---:|---:|---:|")
    whole = {}
    for kind in KINDS:
        runs = in_turns(folder, kind, programs, repeats)
        whole[kind] = runs["ours"].cpu
        for name, r in runs.items():
            print(
                f"| {kind}, {name} | {r.cpu:.2f} | {r.cpu / runs['ours'].cpu:.2f} | "
                f"{r.peak / 1e9:.2f} |"
            )
        if wrong := differences(folder, kind):
            print(
                f"{kind}: not equal to pycocotools: {', '.join(wrong)}", file=sys.stderr
            )
            status = 1
    print(
        "\n| COCOeval, loaded | pycocotools, CPU s | ours | share |\n|---|---:|---:|---:|"
    )
    for kind in KINDS:
        theirs, ours, is_equal = adapter(folder, kind, repeats)
        print(f"| {kind} | {theirs:.2f} | {ours:.2f} | 1 / {theirs / ours:.1f} |")
        if not is_equal:
            print(f"{kind}: COCOeval's stats differ", file=sys.stderr)
            status = 1
    print(f"\nfigures equal to pycocotools': {'no' if status else 'yes, every bit'}")
    merging, finishing, size = conclusion(folder)
    share = (merging + finishing) / whole["segm"]
    print(
        f"merge {merging:.2f} s, finalize {finishing:.2f} s: {share:.1%} of the whole; state "
        f"{size:.1f} bytes a detection"
    )
    match, decode = already_decoded(folder)
    print(
        f"an image of 100 masks, decoded: {match:.2f} ms; pycocotools decodes them in "
        f"{decode:.1f} ms, of which 5 % and 1 ms are {1 + 0.05 * decode:.2f} ms"
    )
    truth, shards = folder / "annotations.json", folder / "predictions"
    for number in (1, 2):
        out, flag = folder / f"processes-{number}", ["--num_processes", number]
        runs = [run(_OURS, truth, shards, "segm", out, *flag) for _ in range(repeats)]
        print(
            f"a directory of predictions, {number} process(es): {middle(runs).wall:.2f} s"
        )
    small = set_in(folder / "quarter", num_images // GROWTH)
    quarter = in_turns(small, "segm", {"ours": _OURS}, repeats)["ours"]
    print(
        f"{num_images // GROWTH} images {quarter.cpu:.2f} s, {num_images} {whole['segm']:.2f} s: "
        f"{whole['segm'] / quarter.cpu:.2f} times as much for {GROWTH} times the images"
    )
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--num_images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = set_in(options.folder or Path(temporary), options.num_images)
        return report(folder, options.num_images, options.repeats)


if __name__ == "__main__":
    sys.exit(main())
