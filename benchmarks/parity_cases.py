"""The cases that can be compared, by name."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.parity_parts import (
    compare_backbone,
    compare_cores,
    compare_mask_head,
    compare_preprocess,
)
from benchmarks.parity_steps import compare_train_steps
from benchmarks.parity_training import compare_targets
from benchmarks.parity_whole import WHOLE_MODELS, compare_whole_model
from benchmarks.recordings import Difference
from deepmac.config.schema import MASK_NETWORK_STAGES


def compare(folder: Path, case: str) -> list[Difference]:
    """The differences of the case in `folder / case`."""
    kind = case.split("/")[0].split("_")[0]
    return _COMPARE[kind](folder, case)


_COMPARE: dict[str, Callable[[Path, str], list[Difference]]] = {
    "preprocess": compare_preprocess,
    "targets": compare_targets,
    "cores": compare_cores,
    "backbones": compare_backbone,
    "mask": compare_mask_head,
    "full": compare_whole_model,
    "train": compare_train_steps,
}


def case_names(folder: Path) -> list[str]:
    """The cases in a folder that are about the networks we have, in order."""
    kinds = [*MASK_NETWORK_STAGES, "cond_inst1", "cond_inst2", "cond_inst3"]
    heads = [f"mask_heads/{kind}" for kind in kinds]
    backbones = [f"backbones/{path.name}" for path in folder.glob("backbones/*/")]
    known = [
        "preprocess",
        "targets",
        "cores",
        *sorted(backbones),
        *heads,
        *WHOLE_MODELS,
        "train_steps",
    ]
    return [case for case in known if (folder / case / "outputs.npz").exists()]
