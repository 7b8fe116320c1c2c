"""What came of trials, as a table."""

import collections
import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """A trial that ended with the output of the undisturbed run; others raise.

    Attributes:
        fault, job: what was done to which job.
        runs: of the command; 1 where it recovered by itself.
        recomputed: units that were begun more often than once.
    """

    fault: str = ""
    job: str = ""
    runs: int = 1
    recomputed: int = 0


def table(outcomes: Iterable[Outcome], num_units: int) -> str:
    """Markdown: trials by fault, how they recovered, and the units that were done again."""
    lines = [
        f"| fault | trials | by itself | by one rerun | more | units done again, of {num_units} |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    by_fault = collections.defaultdict(list)
    for outcome in outcomes:
        by_fault[outcome.fault].append(outcome)
    for fault, some in by_fault.items():
        runs = collections.Counter(min(outcome.runs, 3) for outcome in some)
        again = sum(outcome.recomputed for outcome in some) / len(some)
        most = max(outcome.recomputed for outcome in some)
        lines.append(
            f"| {fault} | {len(some)} | {runs[1]} | {runs[2]} | {runs[3]} | "
            f"{again:.1f} (at most {most}) |"
        )
    return "\n".join(lines)
