"""`python -m chaos`: see the package."""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

from storage_emulator import behind_proxy, strict_store

from chaos.jobs import NUM_UNITS
from chaos.table import table
from chaos.trials import Chaos, LocalPlace, Place, StoragePlace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["local", "storage"])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        place: Place = LocalPlace(folder)
        if options.part == "storage":
            port = stack.enter_context(strict_store())
            place = StoragePlace(stack.enter_context(behind_proxy(port)))
        for outcome in Chaos(folder, place, options.seed).trials(options.trials):
            outcomes.append(outcome)
            print(f"{len(outcomes)}: {outcome}", file=sys.stderr, flush=True)
    print(table(outcomes, NUM_UNITS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
