"""deepmac: boxes in, masks out, for a whole dataset.

Importing this package is cheap: TensorFlow, Keras and Beam load when they are first needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "BoxMasks",
    "EvaluationResult",
    "ImageMasks",
    "MaskPredictor",
    "Predictor",
    "evaluate",
    "load",
    "load_config",
]

if TYPE_CHECKING:
    from deepmac.config.load import load_config
    from deepmac.evaluation_result import EvaluationResult
    from deepmac.instances import BoxMasks, ImageMasks, MaskPredictor
    from deepmac.predict import Predictor, load
    from deepmac.scoring import evaluate

_HOME = {
    "BoxMasks": "deepmac.instances",
    "EvaluationResult": "deepmac.evaluation_result",
    "ImageMasks": "deepmac.instances",
    "MaskPredictor": "deepmac.instances",
    "Predictor": "deepmac.predict",
    "evaluate": "deepmac.scoring",
    "load": "deepmac.predict",
    "load_config": "deepmac.config.load",
}


def __getattr__(name: str) -> Any:
    if name == "cocoeval":  # a module, found without an import of its own
        return importlib.import_module("deepmac.cocoeval")
    if name not in _HOME:
        raise AttributeError(f"module 'deepmac' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
