"""Loads weights into a model: a reference checkpoint, a SavedModel or our own, with a report."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from deepmac.checkpoint.facts import Shapes, infer_embedding_kernel, infer_settings
from deepmac.checkpoint.locate import locate
from deepmac.checkpoint.names import reference_name
from deepmac.checkpoint.native import NativeWeights
from deepmac.checkpoint.reader import ReferenceCheckpoint, Stored
from deepmac.checkpoint.report import Entry, Report, Status, compare
from deepmac.errors import CheckpointError
from deepmac.model.variables import named_variables

if TYPE_CHECKING:
    import keras

BACKBONE = "_feature_extractor/"


class Weights(Protocol):
    """Stored variables by reference name, read one at a time."""

    path: str
    variables: dict[str, Stored]

    def read(self, name: str) -> np.ndarray: ...


def open_weights(path: str | os.PathLike[str]) -> ReferenceCheckpoint | NativeWeights:
    """Opens the weights at a path, of any kind. No value is read yet.

    Args:
        path: anything that `deepmac.checkpoint.locate.locate` accepts.

    Raises:
        CheckpointError: there is nothing that can be read.
    """
    location = locate(path)
    if location.kind == "native":
        return NativeWeights(location.path)
    is_saved_model = location.kind == "saved_model"
    return ReferenceCheckpoint(location.path, is_saved_model=is_saved_model)


def load_weights(
    model: "keras.Model", weights: Weights, *, accept: Sequence[str] = ()
) -> Report:
    """Loads every variable of a model.

    Nothing is changed unless the weights fit. One variable is read at a time, so that memory
    grows by the largest variable and not by the file.

    Args:
        model: whose variables `named_variables` gives.
        weights: from `open_weights`.
        accept: reference names, or patterns such as `_mask_net/*`, of variables that may be
            missing (they keep their initial values), unused or of another shape.

    Returns:
        What became of each variable.

    Raises:
        CheckpointError: a variable that is not accepted does not fit (the message holds the
            table, and the configuration fields that would make it fit), or a value cannot be
            read or is not finite.
    """
    report = check_fit(model, weights, accept=accept)
    _assign(model, weights, report)
    return report


def load_backbone(model: "keras.Model", weights: Weights) -> Report:
    """Loads the backbone alone: heads may differ, such as for another number of classes.

    Raises:
        CheckpointError: as `load_weights`, for the variables of the backbone.
    """
    whole = compare(weights.path, _stored_shapes(weights), _model_shapes(model))
    entries = [entry for entry in whole.entries if entry.name.startswith(BACKBONE)]
    report = Report(weights.path, tuple(entries))
    if not report.counts[Status.LOADED]:
        raise CheckpointError(f"{weights.path}: holds no backbone of this kind")
    if unmatched := report.unmatched():
        raise CheckpointError(_about_misfit(model, weights, report, unmatched))
    _assign(model, weights, report)
    return report


def check_fit(
    model: "keras.Model", weights: Weights, *, accept: Sequence[str] = ()
) -> Report:
    """`load_weights` without loading: the same report and errors, no value is read."""
    report = compare(weights.path, _stored_shapes(weights), _model_shapes(model))
    if unmatched := report.unmatched(accept):
        raise CheckpointError(_about_misfit(model, weights, report, unmatched))
    return report


def misfit_settings(file: Shapes, model: Shapes) -> list[str]:
    """The settings whose value does not fit the weights, one line each, with the one that does.

    Args:
        file, model: shapes by reference name.
    """
    wanted, present = infer_settings(file), infer_settings(model)
    kernels = infer_embedding_kernel(file), infer_embedding_kernel(model)
    if None not in kernels:  # no field of a configuration, but an argument of the model
        wanted["embedding_head_kernel"], present["embedding_head_kernel"] = kernels
    return [
        f"{field}: {json.dumps(value)} (it has {json.dumps(present[field])})"
        for field, value in wanted.items()
        if field in present and present[field] != value
    ]


def _about_misfit(
    model: "keras.Model", weights: Weights, report: Report, unmatched: Sequence[Entry]
) -> str:
    lines = [f"{report.path} does not fit the configuration: {report.summary()}"]
    fields = misfit_settings(_stored_shapes(weights), _model_shapes(model))
    if fields:
        lines += ["these values of the configuration would fit it:"]
        lines += [f"  {field}" for field in fields]
    lines += [Report(report.path, tuple(unmatched)).table()]
    return "\n".join(lines)


def _assign(model: "keras.Model", weights: Weights, report: Report) -> None:
    variables = _by_reference_name(model)
    for entry in report.entries:
        if entry.status is Status.LOADED:
            value = weights.read(entry.name)
            if not np.isfinite(value).all():
                raise CheckpointError(
                    f"{weights.path}: {entry.name} holds values that are not finite; the "
                    f"training that wrote it had diverged"
                )
            variables[entry.name].assign(value)


def _by_reference_name(model: "keras.Model") -> "dict[str, keras.Variable]":
    named = named_variables(model)
    return {reference_name(name) or name: variable for name, variable in named.items()}


def _model_shapes(model: "keras.Model") -> dict[str, tuple[int, ...]]:
    return {name: tuple(v.shape) for name, v in _by_reference_name(model).items()}


def _stored_shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {name: stored.shape for name, stored in weights.variables.items()}
