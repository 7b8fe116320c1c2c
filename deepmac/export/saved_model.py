"""A network -> an export directory, as the reference's exporter lays it out."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import deepmac
from deepmac.checkpoint.names import reference_name
from deepmac.checkpoint.writer import write_reference, write_state
from deepmac.config.printing import to_text
from deepmac.config.schema import PipelineConfig
from deepmac.errors import OptionError
from deepmac.export.compare import TOLERANCE, Comparison, compare
from deepmac.export.destination import FACTS, check_out, written_whole
from deepmac.export.module import exported_module
from deepmac.model.deepmac import DeepMAC
from deepmac.model.folding import is_folded
from deepmac.model.variables import named_variables
from deepmac.predictors.deepmac import DeepmacPredictor


def export_saved_model(
    model: DeepMAC,
    config: PipelineConfig,
    out: Path,
    *,
    input_type: str,
    overwrite: bool = False,
) -> Comparison:
    """Writes a network as a SavedModel that takes images as they are, and tries it.

        saved_model/      for TensorFlow Serving, `tf.saved_model.load` and `deepmac label`
        checkpoint/       the variables, as the reference's exporter writes them
        pipeline.config   the configuration
        export.json       what was exported, and what the comparison found

    The SavedModel is opened again and compared with the network; only then `out` appears.

    Args:
        model: with its weights, on the TensorFlow backend.
        config: whose model it is.
        out: the directory.
        input_type: of `deepmac.export.INPUT_TYPES`.
        overwrite: replace an export that is there.

    Raises:
        OptionError: `out` is there, or cannot be written.
        ValueError: the model has been folded: its variables are not what was trained any more.
        ConfigError: the network has no input of one size.
        DeepmacError: the SavedModel does not say what the network says.
    """
    if is_folded(model):
        raise ValueError("a folded network is exported without its trained variables")
    check_out(out, overwrite=overwrite)
    with written_whole(out) as folder:
        saved_model = folder / "saved_model"
        _save(exported_module(model, input_type), saved_model)
        loaded: Any = tf.saved_model.load(str(saved_model))
        predict = DeepmacPredictor(model)
        comparison = compare(loaded, predict, input_type, model.config.image_resizer)
        _write_checkpoint(model, folder / "checkpoint")
        (folder / "pipeline.config").write_text(to_text(config), encoding="utf-8")
        facts = _facts(loaded, predict, input_type, comparison)
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    return comparison


def _save(module: Any, path: Path) -> None:
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.WARNING)  # else it says where it writes its assets: none
    try:
        tf.saved_model.save(module, str(path), signatures=module.__call__)
    except (OSError, tf.errors.OpError) as e:
        reason = re.sub(
            r"\{\{.*?\}\} ?", "", str(e).strip().partition("\n")[0]
        )  # graph nodes
        raise OptionError(f"the SavedModel cannot be written: {reason}") from e
    finally:
        logger.setLevel(level)


def _write_checkpoint(model: DeepMAC, folder: Path) -> None:
    folder.mkdir()
    variables = {
        reference_name(path) or path: variable
        for path, variable in named_variables(model).items()
    }
    write_reference(
        str(folder / "ckpt-0"),
        {name: tuple(variable.shape) for name, variable in variables.items()},
        lambda name: np.asarray(variables[name]),
    )
    write_state(folder, "ckpt-0")


def _facts(
    loaded: Any, predict: DeepmacPredictor, input_type: str, comparison: Comparison
) -> dict[str, Any]:
    signature = loaded.signatures["serving_default"]
    return {
        "format": "saved_model",
        "input_type": input_type,
        "inputs": _described(signature.structured_input_signature[1]),
        "outputs": _described(signature.structured_outputs),
        "network": predict.fingerprint,
        "comparison": {
            "images": comparison.num_images,
            "boxes": comparison.num_boxes,
            "tolerance": TOLERANCE,
            "largest_differences": dict(sorted(comparison.differences.items())),
        },
        "versions": {
            "deepmac": deepmac.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        },
    }


def _described(specs: dict[str, tf.TensorSpec]) -> dict[str, str]:
    return {
        name: f"{spec.dtype.name} {spec.shape.as_list()}"
        for name, spec in sorted(specs.items())
    }
