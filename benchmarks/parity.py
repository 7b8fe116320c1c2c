"""How far the network is from the reference: a table of the largest error of each case.

    python -m benchmarks.parity tests/golden
    python -m benchmarks.parity RECORDED --write docs/parity.md

RECORDED is a folder of cases, see `recordings`. Everything is measured with TensorFlow as it
comes, and without oneDNN, whose convolutions add in another order than those that were recorded;
and once more on JAX.
The table goes to the screen, or between the markers of a page. Exit status 1: a difference is
beyond its tolerance.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.recordings import Difference

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- parity table -->", "<!-- end of parity table -->"
ON_JAX = {"KERAS_BACKEND": "jax"}
WITHOUT_ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "0"}  # read when TensorFlow is imported


def measure(recorded: Path, environment: dict[str, str]) -> list[Difference]:
    """The differences of all cases of a folder, in a process with this environment."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.parity", str(recorded.resolve()), "--json"],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return [Difference(**fields) for fields in json.loads(process.stdout)]


def table(
    default: Sequence[Difference],
    without_onednn: Sequence[Difference],
    on_jax: Sequence[Difference],
) -> str:
    """A Markdown table: of each group of arrays of each case the one nearest to its tolerance."""
    lines = [
        "| case | compared | arrays | largest error | without oneDNN | JAX | tolerance |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    others = [_by_group(without_onednn), _by_group(on_jax)]
    for (case, group), members in _by_group(default).items():
        worst = max(members, key=_closeness)
        tolerance = f"{worst.tolerance:.1e}" if worst.tolerance else "equal"
        cells = [_error(members), *(_error(o.get((case, group))) for o in others)]
        lines.append(
            f"| {case} | {group} | {len(members)} | {' | '.join(cells)} | {tolerance} |"
        )
    return "\n".join(lines)


def _error(members: Sequence[Difference] | None) -> str:
    if members is None:
        return "-"
    error = max(members, key=_closeness).error
    return f"{error:.1e}" if error else "0"


def _by_group(
    differences: Sequence[Difference],
) -> dict[tuple[str, str], list[Difference]]:
    groups: dict[tuple[str, str], list[Difference]] = {}
    for difference in differences:
        groups.setdefault((difference.case, difference.group), []).append(difference)
    return groups


def _closeness(difference: Difference) -> float:
    if difference.tolerance:
        return difference.error / difference.tolerance
    return float("inf") if difference.error else 0.0


def _print_json(recorded: Path) -> None:
    from benchmarks.parity_cases import case_names, compare  # TensorFlow

    rows = []
    for case in case_names(recorded):
        print(case, file=sys.stderr)
        rows += [
            dataclasses.asdict(difference) for difference in compare(recorded, case)
        ]
    json.dump(rows, sys.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compares the network with recordings."
    )
    parser.add_argument("recorded", type=Path, help="folder of cases")
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    parser.add_argument("--json", action="store_true", help="measure here, print all")
    arguments = parser.parse_args()
    if arguments.json:
        _print_json(arguments.recorded)
        return 0
    default = measure(arguments.recorded, {})
    without_onednn = measure(arguments.recorded, WITHOUT_ONEDNN)
    on_jax = measure(arguments.recorded, ON_JAX)
    text = table(default, without_onednn, on_jax)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        page = f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"
        arguments.write.write_text(page, encoding="utf-8")
    else:
        print(text)
    failed = [d for d in (*default, *without_onednn, *on_jax) if d.error > d.tolerance]
    for difference in failed:
        print(f"beyond its tolerance: {difference}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
