"""Networks recorded from the reference, opened and exported."""

import functools
import json
from pathlib import Path

COMMITTED = Path(__file__).resolve().parents[1] / "golden" / "full_hg10_roialign"


def backbone(recorded: Path):
    """The dimensions that a recording replaced; None where it kept the usual ones."""
    from deepmac.model.hourglass import HourglassSpec

    path = recorded / "overrides.json"
    if not path.exists():
        return None
    given = json.loads(path.read_text())["backbone"]
    return HourglassSpec(
        stem_channels=given["input_channel_dims"],
        channels=tuple(given["channel_dims_per_stage"]),
        blocks=tuple(given["blocks_per_stage"]),
        num_hourglasses=given["num_hourglasses"],
    )


def network(recorded: Path):
    """The network of a recording, with its weights."""
    from deepmac.predictors.deepmac import load_network

    return load_network(
        recorded / "pipeline.config",
        checkpoint=recorded / "checkpoint",
        backbone=backbone(recorded),
        reference_quirks=True,
    )


def export(recorded: Path, out: Path, input_type: str) -> Path:
    """Exports a recorded network to a directory, and returns that."""
    from deepmac.config.load import load_config
    from deepmac.export.saved_model import export_saved_model

    cross_check = backbone(recorded) is None
    config = load_config(recorded / "pipeline.config", cross_check=cross_check)
    export_saved_model(network(recorded), config, out, input_type=input_type)
    return out


def exporter(folder: Path):
    """A function from an input type to the directory of the committed network's export."""

    @functools.cache
    def of_type(input_type: str) -> Path:
        return export(COMMITTED, folder / input_type, input_type)

    return of_type
