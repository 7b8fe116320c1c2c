"""What can turn boxes into masks, by name: see `open_predictor`."""

import importlib
import os
import re
from collections.abc import Callable
from typing import Any, cast

from deepmac.config.load import config_names
from deepmac.data.files import is_file, is_folder
from deepmac.errors import DeepmacError, OptionError, did_you_mean, one_of
from deepmac.instances import MaskPredictor
from deepmac.predictors.checked import CheckedPredictor, describe

CLASSICAL = ("grabcut", "box", "ellipse")
"""Predictors without weights."""

SAVED_MODEL = "saved_model"
"""The predictor that runs a SavedModel as it is."""

_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def open_predictor(spec: str, **options: Any) -> CheckedPredictor:
    """A predictor from its name.

    Args:
        spec: one of
            `grabcut`, `box`, `ellipse`: without weights;
            `package.module:factory`: your own; the factory is called with `options` and returns a
            `MaskPredictor`, which may have the attributes `can_detect`, `takes_boxes`,
            `in_image_frame` and `fingerprint` of `CheckedPredictor`;
            a SavedModel with the reference's inputs and outputs, which is run as it is: its
            directory, its `saved_model.pb` or the export directory around it, or `saved_model`
            with such a path as `checkpoint`;
            else the name or the path of a configuration, which opens the DeepMAC network.
        options: for the factory, or for the network (`checkpoint` and the rest of
            `deepmac.load`). Those that are None do not count.

    Raises:
        OptionError: there is no such predictor (says the nearest name), it takes no such option,
            or it cannot be imported.
        DeepmacError: from opening the network.
    """
    options = {name: value for name, value in options.items() if value is not None}
    if spec in CLASSICAL:
        if options:
            raise OptionError(f"predictor '{spec}' takes no {one_of(options)}")
        return CheckedPredictor(spec, _classical(spec))
    if _DOTTED.fullmatch(spec):
        return CheckedPredictor(spec, _make(spec, _find(spec), options))
    if _is_saved_model(spec):
        return CheckedPredictor(spec, _saved_model(spec, options))
    if not _is_config(spec):
        known = (*CLASSICAL, SAVED_MODEL, *config_names())
        hint = did_you_mean(spec, known)
        raise OptionError(
            f"no predictor, configuration or file '{spec}'{hint or f' (known: {one_of(known)})'}"
        )
    from deepmac.predictors.deepmac import open_deepmac

    return CheckedPredictor(spec, open_deepmac(spec, **options))


def _classical(name: str) -> MaskPredictor:
    from deepmac.predictors import grabcut, yardsticks

    mask_of = {
        "grabcut": grabcut.grabcut_mask,
        "box": yardsticks.box_mask,
        "ellipse": yardsticks.ellipse_mask,
    }
    return yardsticks.BoxByBox(name, mask_of[name])


def _is_saved_model(spec: str) -> bool:
    if spec == SAVED_MODEL:
        return True
    if not _is_there(spec):
        return False
    from deepmac.checkpoint.locate import find_saved_model

    return find_saved_model(spec) is not None


def _saved_model(spec: str, options: dict[str, Any]) -> MaskPredictor:
    options = dict(options)
    # It is the reference's graph that runs; the option still decides how masks are pasted.
    options.pop("reference_quirks", None)
    path = options.pop("checkpoint", None)
    if path is None and not _is_there(spec):
        raise OptionError(
            f"predictor '{spec}' needs the directory of a SavedModel: --checkpoint DIR, or DIR "
            f"itself in its place"
        )
    if path is not None and spec != SAVED_MODEL:
        raise OptionError(
            f"{spec} is a SavedModel, with weights of its own; leave the checkpoint away, or name "
            f"a configuration to load it into"
        )
    if options:
        raise OptionError(
            f"predictor '{spec}', a SavedModel, takes no {one_of(options)}"
        )
    from deepmac.predictors.saved_model import open_saved_model

    return open_saved_model(spec if path is None else path)


def _is_config(spec: str) -> bool:
    looks_like_a_path = os.sep in spec or "://" in spec or spec.endswith(".config")
    return looks_like_a_path or spec in config_names() or _is_there(spec)


def _is_there(spec: str) -> bool:
    """Whether there is a file or folder of that path."""
    return is_folder(spec) or is_file(spec)


def _find(spec: str) -> Callable[..., Any]:
    """The factory of `package.module:factory`."""
    module_name, _, attribute = spec.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as e:  # it is the user's code that runs here
        hint = (
            "; is the folder it lies in on PYTHONPATH?"
            if isinstance(e, ModuleNotFoundError)
            else ""
        )
        raise OptionError(
            f"predictor '{spec}': cannot import {module_name}: {_one_line(e)}{hint}"
        ) from e
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, dir(found))
            raise OptionError(
                f"predictor '{spec}': {module_name} has no '{attribute}'{hint}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise OptionError(
            f"predictor '{spec}': {attribute} is {describe(found)}, not a function that makes "
            f"a predictor"
        )
    return found


def _make(spec: str, factory: Callable[..., Any], options: dict) -> MaskPredictor:
    try:
        predict = factory(**options)
    except DeepmacError:
        raise
    except Exception as e:  # the user's code again
        raise OptionError(
            f"predictor '{spec}': the factory failed: {_one_line(e)}"
        ) from e
    if not callable(predict):
        raise OptionError(
            f"predictor '{spec}': the factory returned {describe(predict)}, not something to "
            f"call with images and boxes"
        )
    return cast(MaskPredictor, predict)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
