"""The targets by name, each loaded when it is asked for."""

import importlib
from pathlib import Path

from fuzzing.target import Target

GOLDEN = Path(__file__).parents[2] / "golden"

TARGETS = {
    "config": ("fuzzing.config_text", "ConfigText"),
    "coco": ("fuzzing.coco_json", "CocoJson"),
    "rle": ("fuzzing.run_lengths", "RunLengths"),
    "records": ("fuzzing.records", "Records"),
    "checkpoints": ("fuzzing.checkpoints", "Checkpoints"),
    "images": ("fuzzing.images", "Images"),
}


def target_class(name: str) -> type[Target]:
    module, class_name = TARGETS[name]
    return getattr(importlib.import_module(module), class_name)
