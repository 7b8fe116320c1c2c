"""Writes recorded networks as weights of ours, for an environment that cannot read the recordings.

python tests/support/native_golden.py FOLDER
"""

import json
import sys
from pathlib import Path

from deepmac.checkpoint.native import save_weights
from deepmac.model.hourglass import HourglassSpec

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = ("full_hg10_roialign", "full_fullres_weak")


def backbone_of(case: str) -> HourglassSpec | None:
    """The dimensions of a backbone that has no name."""
    overrides = GOLDEN / case / "overrides.json"
    if not overrides.exists():
        return None
    given = json.loads(overrides.read_text())["backbone"]
    return HourglassSpec(
        stem_channels=given["input_channel_dims"],
        channels=tuple(given["channel_dims_per_stage"]),
        blocks=tuple(given["blocks_per_stage"]),
        num_hourglasses=given["num_hourglasses"],
    )


def main(folder: str) -> None:
    from deepmac.predictors.deepmac import load_network

    for case in CASES:
        network = load_network(
            GOLDEN / case / "pipeline.config",
            checkpoint=GOLDEN / case / "checkpoint",
            backbone=backbone_of(case),
        )
        save_weights(network, f"{folder}/{case}.weights.h5")


if __name__ == "__main__":
    main(*sys.argv[1:])
