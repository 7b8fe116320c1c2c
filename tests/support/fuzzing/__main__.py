"""`python -m fuzzing`: runs targets for a while and prints what came of it."""

import argparse
import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.targets import TARGETS, target_class
from fuzzing.watch import Recorder, Statistics, TimeOver, keep_finding, last_input

ENGINE_NAMES = ("mutate", "hypothesis", "atheris")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument(
        "targets", nargs="+", choices=TARGETS, metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="CPU time for each target"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", help="with commas; all that are installed")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz-findings"), help="where findings go"
    )
    parser.add_argument("--replay", type=Path, help="run one input, show its traceback")
    parser.add_argument(
        "--worker",
        nargs=3,
        metavar=("ENGINE", "FOLDER", "SECONDS"),
        help=argparse.SUPPRESS,
    )
    options = parser.parse_args()
    if options.worker:
        engine, folder, seconds = options.worker
        return work(
            options.targets[0], engine, Path(folder), float(seconds), options.seed
        )
    if options.replay:
        return replay(options.targets[0], options.replay)
    engines = (options.engines or ",".join(_installed())).split(",")
    found = 0
    for name in options.targets:
        found += fuzz(name, engines, options.minutes * 60, options.seed, options.keep)
    return 1 if found else 0


def fuzz(name: str, engines: list[str], seconds: float, seed: int, keep: Path) -> int:
    """Gives each engine its share of the time; returns the number of findings."""
    root = Path(tempfile.mkdtemp(prefix=f"fuzzing-{name}-"))
    found = 0
    try:
        _target_class(name).prepare(root)
        for engine in engines:
            folder = root / engine
            folder.mkdir()
            total = _watch(name, engine, folder, seconds / len(engines), seed)
            _report(name, engine, seed, total)
            found += len(total.findings)
            if (folder / "findings").is_dir():
                kept = keep / name / engine
                shutil.copytree(folder / "findings", kept, dirs_exist_ok=True)
                print(f"  inputs and tracebacks: {kept}", flush=True)
    finally:
        shutil.rmtree(root)
    return found


def _watch(
    name: str, engine: str, folder: Path, seconds: float, seed: int
) -> Statistics:
    """Starts the engine again whenever an input has ended it."""
    total = Statistics()
    while total.cpu_seconds < seconds - 1:
        (folder / "statistics.json").unlink(missing_ok=True)
        left = str(seconds - total.cpu_seconds)
        command = [sys.executable, "-m", "fuzzing", name, "--seed", str(seed)]
        command += ["--worker", engine, str(folder), left]
        begin = time.monotonic()
        with (folder / "errors.txt").open("wb") as errors:
            done = subprocess.run(command, stdout=errors, stderr=errors, check=False)
        total.add(Statistics.load(folder / "statistics.json"))
        if done.returncode == 0:
            break
        text = (folder / "errors.txt").read_text(errors="replace")
        place = f"the process ended with {done.returncode} {_innermost(text)}"
        total.findings[place] += 1
        keep_finding(folder, last_input(folder), place, text[-8000:])
        seed += 7919
        if time.monotonic() - begin < 5:  # it does not even begin
            total.cpu_seconds += 5
    return total


def work(name: str, engine: str, folder: Path, seconds: float, seed: int) -> int:
    """The process that is watched."""
    target = _target_class(name, instrument=engine == "atheris")(folder.parent)
    from fuzzing.engines import ENGINES

    recorder = Recorder(target, folder, seconds)
    with contextlib.suppress(TimeOver):
        ENGINES[engine](target, recorder, seed)
    recorder.save()
    return 0


def replay(name: str, path: Path) -> int:
    """Runs one input."""
    with tempfile.TemporaryDirectory() as folder:
        kind = _target_class(name)
        kind.prepare(Path(folder))
        print(kind(Path(folder)).check(path.read_bytes()))
    return 0


def _target_class(name: str, *, instrument: bool = False):
    if not instrument:
        return target_class(name)
    import atheris

    with atheris.instrument_imports(include=["deepmac", "pipelines"]):
        return target_class(name)


def _installed() -> list[str]:
    return [
        e for e in ENGINE_NAMES if e != "atheris" or importlib.util.find_spec("atheris")
    ]


def _innermost(text: str) -> str:
    """The first line of ours in what the fault handler has written."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("  File ")]
    ours = [
        x
        for x in lines
        if "/deepmac/" in x.replace("site-packages", "") or "/pipelines/" in x
    ]
    return (ours or lines or [""])[0]


def _report(name: str, engine: str, seed: int, total: Statistics) -> None:
    outcomes = ", ".join(
        f"{kind} {count:,}" for kind, count in total.outcomes.most_common()
    )
    print(
        f"{name} | {engine} | seed {seed} | {total.cpu_seconds:.0f} CPU s | {total.executions:,} inputs | "
        f"{outcomes} | {total.sentences} sentences | {len(total.findings)} findings",
        flush=True,
    )
    for place, count in total.findings.most_common():
        print(f"  {count:>7,} x {place}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
