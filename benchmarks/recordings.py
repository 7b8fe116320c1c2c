"""Arrays recorded from the reference, and how far ours are from them.

A case is a folder with `inputs.npz`, `outputs.npz` and, where there are weights, a reference
checkpoint `checkpoint/ckpt-1`.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """One array, ours against the recorded one."""

    case: str
    array: str
    group: str  # of arrays that belong together in a table
    error: (
        float  # largest absolute difference (of gradient norms: largest relative one)
    )
    tolerance: float  # that the recordings allow; 0: equal


class Recording:
    """The arrays of one case, and what became of them."""

    def __init__(self, folder: Path, case: str):
        self.folder = folder / case
        self.case = case
        self.inputs = _arrays(self.folder / "inputs.npz")
        self.outputs = _arrays(self.folder / "outputs.npz")
        self.differences: list[Difference] = []

    def compare(
        self, array: str, ours: Any, group: str, atol: float = 0.0, rtol: float = 0.0
    ) -> None:
        """Compares with a tolerance of atol + rtol * the largest recorded value."""
        if array not in self.outputs:
            return
        recorded = self.outputs[array].astype(np.float64)
        ours = np.asarray(ours, np.float64)
        if ours.shape != recorded.shape:
            raise SystemExit(
                f"{self.case}: {array}: recorded {recorded.shape}, ours {ours.shape}"
            )
        error = float(np.abs(ours - recorded).max(initial=0.0))
        tolerance = atol + rtol * float(np.abs(recorded).max(initial=0.0))
        self.add(array, group, error, tolerance)

    def add(self, array: str, group: str, error: float, tolerance: float) -> None:
        self.differences.append(
            Difference(self.case, array, group, float(error), float(tolerance))
        )

    def finish(self, *others: str) -> list[Difference]:
        """The differences; every array was compared, or matches one of the patterns."""
        compared = {d.array for d in self.differences}
        left = [
            name
            for name in self.outputs
            if name not in compared and not any(re.match(o, name) for o in others)
        ]
        if left or not compared:
            raise SystemExit(f"{self.case}: not compared: {', '.join(left) or 'all'}")
        return self.differences


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)
