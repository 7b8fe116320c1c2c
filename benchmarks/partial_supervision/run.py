"""Trains and tests one run of the protocol; given again after an interruption, it goes on.

    python -m benchmarks.partial_supervision.run --list
    python -m benchmarks.partial_supervision.run stamps-seen-hourglass20-0 --data DIR
    python -m benchmarks.partial_supervision.run stamps-seen-hourglass20-0 --data DIR --look_back

Writes `results/RUN.json` when it ends, and nothing before. Checkpoints lie in DIR/runs/RUN. One
thread, so that two runs side by side have a core each.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.partial_supervision import runs, score
from benchmarks.partial_supervision.data import Place
from deepmac.errors import DeepmacError, OptionError

_LOOKED_AT = 100


def train(run: runs.Run, root: Path, folder: Path, threads: int) -> None:
    """Trains to the last step, from wherever an earlier call came to."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pipeline.config"
    text = runs.config_text(run, root)
    if config.exists() and config.read_text() != text:
        raise OptionError(
            f"{config}: holds another configuration of this run; remove {folder} to begin anew"
        )
    config.write_text(text)
    command = [sys.executable, "-m", "deepmac", "train"]
    command += ["--pipeline_config_path", str(config), "--model_dir", str(folder)]
    command += ["--num_train_steps", str(run.num_steps), "--seed", str(run.seed)]
    command += ["--mask_slots", str(runs.MASK_SLOTS), "--evaluate_every_n", "0"]
    command += ["--checkpoint_every_n", "100", "--checkpoint_max_to_keep", "2"]
    process = subprocess.Popen(command, env=os.environ | _few_threads(threads))
    # Training saves what it has before it stops; it has to be told, and waited for
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        status = process.wait()
    finally:
        process.wait()
        signal.signal(signal.SIGTERM, before)
        _add_cost(folder)
    if status:
        raise OptionError(
            f"{run.name}: training ended with status {status}; the same command goes on"
        )


def test(run: runs.Run, root: Path, folder: Path, out: Path) -> list[dict[str, Any]]:
    """Summaries of the test sets of both kinds; of the validation part for a pilot."""
    from deepmac.predictors import open_predictor

    predictor = open_predictor(str(folder / "pipeline.config"), checkpoint=str(folder))
    if run.is_pilot:
        place = Place(root, run.train_set, run.seed)
        scores = score.score(predictor, place, "val")
        summary = score.summarise(scores, score.read_instances(place, "val"))
        # The masks of unseen categories are there, but nobody who trains could look at them
        return [{key: summary[key] for key in ("set", "seed", "seen")}]
    summaries = []
    for name in ("stamps", "shapes"):
        place = Place(root, name, run.seed)
        instances = score.read_instances(place)
        score.write_instances(instances, out)
        summaries.append(score.summarise(score.score(predictor, place), instances))
    return summaries


def look_back(name: str, root: Path) -> dict[str, float]:
    """Mean IoU on pictures that a run of one set was trained on, seen and unseen categories.

    Beside that on new pictures it tells a network that has learned too little from one that has
    learned its pictures by heart.
    """
    from deepmac.predictors import open_predictor

    run = runs.find_run(name)
    folder = root / "runs" / name
    predictor = open_predictor(str(folder / "pipeline.config"), checkpoint=str(folder))
    place = Place(root, run.train_set, run.seed)
    iou = score.score(predictor, place, "train", _LOOKED_AT).iou
    instances = score.read_instances(place, "train")
    return {
        group: round(float(iou[instances.group(group)[: len(iou)]].mean()), 4)
        for group in score.GROUPS
    }


def facts(run: runs.Run, folder: Path) -> dict[str, Any]:
    """What the result file says of the run itself."""
    import keras

    from deepmac.predictors.deepmac import load_network

    network = load_network(folder / "pipeline.config", random_weights=True)
    return {
        "run": run.name,
        "method": run.head,
        "train_set": run.train_set,
        "supervision": run.supervision,
        "seed": run.seed,
        "steps": run.num_steps,
        "batch_size": _batch_size(folder),
        "learning_rate": run.rate,
        "width": runs.WIDTHS[run.head],
        "parameters": {
            "all": _count(network),
            "mask_head": _count(network.mask_head),
        },
        "config_digest": runs.config_digest(run),
        **read_cost(folder),
        "versions": {
            **score.versions(),
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
    }


def _batch_size(folder: Path) -> int:
    from deepmac.config.load import load_config

    train_config = load_config(folder / "pipeline.config").train_config
    assert train_config is not None, "base.config has one"
    return train_config.batch_size


def read_cost(folder: Path) -> dict[str, Any]:
    """CPU seconds of training so far, and how many calls they are from: those that came to their end,
    or to a signal that they could hear.
    """
    path = folder / "cost.json"
    if not path.exists():
        return {"cpu_seconds": 0.0, "calls": 0}
    return json.loads(path.read_text())


def _add_cost(folder: Path) -> None:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = read_cost(folder)
    seconds = round(cost["cpu_seconds"] + used.ru_utime + used.ru_stime, 1)
    value = {"cpu_seconds": seconds, "calls": cost["calls"] + 1}
    (folder / "cost.json").write_text(json.dumps(value))


def _few_threads(threads: int) -> dict[str, str]:
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def _count(layer: Any) -> int:
    return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", help="name of a run")
    parser.add_argument("--list", action="store_true", help="show the runs")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument(
        "--look_back",
        action="store_true",
        help=f"say how good the run is on {_LOOKED_AT} pictures that it was trained on",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=score.RESULTS, metavar="DIR")
    options = parser.parse_args()
    if options.list:
        for name in runs.all_runs():
            done = (options.out / f"{name}.json").exists()
            print(f"{'done' if done else '-':6}{name}")
        return
    if options.run is None or options.data is None:
        parser.error("a run and --data are needed, or --list")
    try:
        if options.look_back:
            print(options.run, look_back(options.run, options.data.absolute()))
            return
        conclude(options.run, options.data.absolute(), options.threads, options.out)
    except DeepmacError as e:
        sys.exit(f"error: {e}")


def conclude(name: str, root: Path, threads: int, out: Path) -> None:
    """Trains, tests, and writes the result of a run."""
    run = runs.find_run(name)
    result = out / f"{name}.json"
    if result.exists():
        raise OptionError(f"{result}: the run has ended; remove the file to repeat it")
    records = Place(root, run.train_set, run.seed).records(run.supervision)
    if not records.is_dir():
        raise OptionError(
            f"{records}: no such folder; make it with "
            f"python -m benchmarks.partial_supervision.data --data {root}"
        )
    folder = root / "runs" / name
    # Read by TensorFlow when it is first imported, which scoring does
    os.environ.update(_few_threads(threads))
    train(run, root, folder, threads)
    tests = test(run, root, folder, out)
    score.write_json(result, {**facts(run, folder), "tests": tests})
    for summary in tests:
        for group in score.GROUPS:
            if group in summary:
                print(summary["set"], group, summary[group])


if __name__ == "__main__":
    main()
