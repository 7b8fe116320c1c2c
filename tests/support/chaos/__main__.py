"""`python -m chaos`: see the package."""

import argparse
import sys
import tempfile
from pathlib import Path

from chaos.jobs import NUM_UNITS
from chaos.local import LocalChaos
from chaos.table import table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["local"])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for outcome in LocalChaos(Path(folder), options.seed).trials(options.trials):
            outcomes.append(outcome)
            print(f"{len(outcomes)}: {outcome}", file=sys.stderr, flush=True)
    print(table(outcomes, NUM_UNITS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
