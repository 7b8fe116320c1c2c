"""`python -m chaos`: see the package."""

import argparse
import contextlib
import itertools
import signal
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
    parser.add_argument(
        "--kinds", default="", help="of faults on Flink: parts of names"
    )
    parser.add_argument("--cut", type=float, default=60, help="seconds, on Flink")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so as to tidy up
    outcomes, num_lost = [], 0
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        make = _on_flink if options.part == "flink" else _in_processes
        began = time.monotonic()
        for outcome in make(options, folder, stack):
            took = f"{time.monotonic() - began:.0f} s"
            print(f"{took}: {outcome}", file=sys.stderr, flush=True)
            if isinstance(outcome, Outcome):
                outcomes.append(outcome)
            else:
                num_lost += 1
    num_units = (flink_trials if options.part == "flink" else jobs).NUM_UNITS
    print(table(outcomes, num_units))
    return 1 if num_lost else 0


def _in_processes(
    options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack
) -> Iterator[Outcome]:
    place: Place = LocalPlace(folder)
    if options.part == "storage":
        port = stack.enter_context(strict_store())
        place = StoragePlace(stack.enter_context(behind_proxy(port)))
    yield from Chaos(folder, place, options.seed).trials(options.trials)


def _on_flink(
    options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack
) -> Iterator[Outcome | str]:
    """Outcomes, and what is wrong with those that are none: the others are worth the time."""
    chaos = stack.enter_context(
        flink_chaos(folder, options.seed, cut_seconds=options.cut)
    )
    words = options.kinds.split(",")
    kinds = [kind for kind in chaos.kinds if any(word in kind for word in words)]
    for kind in itertools.islice(itertools.cycle(kinds), options.trials):
        try:
            yield chaos.trial(kind)
        except AssertionError as e:
            yield f"{kind}: {e}"
        for said in chaos.said:
            print("  ", *said.splitlines()[-1:], file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
