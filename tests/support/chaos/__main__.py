"""`python -m chaos`: see the package."""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from storage_emulator import behind_proxy, strict_store

from chaos import flink_trials, jobs
from chaos.flink_trials import flink_chaos
from chaos.table import Outcome, table
from chaos.trials import Chaos, LocalPlace, Place, StoragePlace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["local", "storage", "flink"])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        make = flink if options.part == "flink" else in_processes
        began = time.monotonic()
        for outcome in make(options, folder, stack):
            outcomes.append(outcome)
            now = f"{time.monotonic() - began:.0f} s"
            print(f"{len(outcomes)} ({now}): {outcome}", file=sys.stderr, flush=True)
    num_units = (flink_trials if options.part == "flink" else jobs).NUM_UNITS
    print(table(outcomes, num_units))
    return 0


def in_processes(
    options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack
) -> Iterator[Outcome]:
    place: Place = LocalPlace(folder)
    if options.part == "storage":
        port = stack.enter_context(strict_store())
        place = StoragePlace(stack.enter_context(behind_proxy(port)))
    yield from Chaos(folder, place, options.seed).trials(options.trials)


def flink(
    options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack
) -> Iterator[Outcome]:
    chaos = stack.enter_context(flink_chaos(folder, options.seed))
    for outcome in chaos.trials(options.trials):
        for said in chaos.said:
            print(*said.splitlines()[-1:], file=sys.stderr)
        yield outcome


if __name__ == "__main__":
    sys.exit(main())
