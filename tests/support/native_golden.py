"""Writes recorded networks as weights of ours, for an environment that cannot read the recordings.

python tests/support/native_golden.py FOLDER
"""

import sys
from pathlib import Path

from recorded_networks import backbone

from deepmac.checkpoint.native import save_weights

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = ("full_hg10_roialign", "full_fullres_weak")


def main(folder: str) -> None:
    from deepmac.predictors.deepmac import load_network

    for case in CASES:
        network = load_network(
            GOLDEN / case / "pipeline.config",
            checkpoint=GOLDEN / case / "checkpoint",
            backbone=backbone(GOLDEN / case),
        )
        save_weights(network, f"{folder}/{case}.weights.h5")


if __name__ == "__main__":
    main(*sys.argv[1:])
