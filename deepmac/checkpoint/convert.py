"""Weights from one kind of file into the other: the reference's and our own."""

import concurrent.futures
import dataclasses
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deepmac.checkpoint.facts import (
    BACKBONE,
    infer_embedding_kernel,
    infer_hourglass,
    infer_settings,
)
from deepmac.checkpoint.load import Weights, check_fit, open_weights
from deepmac.checkpoint.locate import GRAPH_FILE
from deepmac.checkpoint.names import our_path, reference_name
from deepmac.checkpoint.native import SUFFIX, NativeWeights, save_values
from deepmac.checkpoint.writer import write_reference, write_state
from deepmac.config.load import load_config
from deepmac.config.schema import CenterNetConfig, PredictionHeadConfig
from deepmac.errors import CheckpointError, ConfigError, one_of

if TYPE_CHECKING:
    from deepmac.model.deepmac import DeepMAC

Target = Literal["native", "reference"]

_ANY_CONFIG = "center_net_deepmac_512x512_voc_only"
_TYPE = ("feature_extractor", "type")
_MASK = "deepmac_mask_estimation"
_NETWORK_TYPE = (_MASK, "network_type")
# Mask networks whose parameters are the instance embedding; what fits its width is one of them.
_WITHOUT_VARIABLES: list[dict[Sequence[str], Any]] = [
    {
        _NETWORK_TYPE: network,
        (_MASK, "use_xy"): use_xy,
        (_MASK, "use_instance_embedding"): False,
        (_MASK, "num_init_channels"): channels,
    }
    for network in ("embedding_projection", "cond_inst1", "cond_inst2", "cond_inst3")
    for use_xy in (False, True)
    for channels in range(1, 65)
]


def check_target(
    path: str, to: Target | None = None, *, overwrite: bool = False
) -> Target:
    """What `convert` would write; raises the errors that can be known before."""
    kind = target_of(path, to)
    there = _files_of(Path(path), kind)
    if there and not overwrite:
        raise CheckpointError(f"{there[0]} is there already; --overwrite replaces it")
    return kind


def target_of(path: str, to: Target | None = None) -> Target:
    """What a file of this name is to be.

    Args:
        path: `name.weights.h5`, or the prefix of a checkpoint.
        to: what the user wants, if he says so.

    Raises:
        CheckpointError: the name is neither's, or of the other.
    """
    name = os.path.basename(path)
    if path.endswith(SUFFIX):
        if to == "reference":
            raise CheckpointError(
                f"{path}: a name of our own weights; a reference checkpoint is named by a prefix "
                f"such as {Path(path).parent / 'ckpt-0'}"
            )
        return "native"
    if to == "native" or name.endswith((".h5", ".keras")):
        raise CheckpointError(
            f"{path}: the name of a weights file must end in {SUFFIX}"
        )
    if not name or os.path.isdir(path):
        raise CheckpointError(
            f"{path}: a directory; name the checkpoint in it, such as {Path(path) / 'ckpt-0'}"
        )
    if name == GRAPH_FILE or re.search(r"\.(index|data-\d+-of-\d+)$", name):
        raise CheckpointError(
            f"{path}: name the checkpoint by its prefix, such as {Path(path).parent / 'ckpt-0'}"
        )
    return "reference"


def convert(
    source: Weights, path: str, to: Target | None = None, *, overwrite: bool = False
) -> Target:
    """Writes weights as a file of the other kind, or of the same.

    The file is written beside its place, read back and compared with the source byte by byte,
    and only then put there. One variable is in memory at a time, in a reference checkpoint up to
    `writer.PART_BYTES` of them.

    Args:
        source: from `open_weights`.
        path: of the new file: `name.weights.h5` for our own weights, else the prefix of a
            reference checkpoint. That gets the variables of the model and a `save_counter`, as an
            exported one; and a file `checkpoint` naming it, if the directory has none.
        to: for a check of the name.
        overwrite: replace what is there.

    Returns:
        What was written.

    Raises:
        CheckpointError: the name does not say what to write, something is there, the source
            holds variables that the other kind has no place for, is damaged, or the file cannot
            be written.
    """
    kind = check_target(path, to, overwrite=overwrite)
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=target.parent, prefix=".convert-"
        ) as folder:
            staged = Path(folder) / target.name
            write = _write_native if kind == "native" else _write_reference
            write(source, str(staged))
            _check_equal(source, open_weights(staged))
            _put_in_place(staged, target, kind)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be written: {e.strerror or e}") from None
    return kind


def _files_of(target: Path, kind: Target) -> list[Path]:
    """The files that a checkpoint has, the index first."""
    if kind == "native":
        return [target] if os.path.exists(target) else []
    index = Path(f"{target}.index")
    data = [
        file
        for file in sorted(target.parent.glob("*.data-*-of-*"))
        if file.name.startswith(target.name + ".data-")
    ]
    return [index, *data] if os.path.exists(index) else data


def _write_native(source: Weights, path: str) -> None:
    model = skeleton(source)
    check_fit(model, source)
    save_values(
        model, path, lambda ours: _float32(source, reference_name(ours) or ours)
    )


def _write_reference(source: Weights, path: str) -> None:
    ours_alone = [
        name
        for name in source.variables
        if isinstance(source, NativeWeights) and our_path(name) is None
    ]
    if ours_alone:
        raise CheckpointError(
            f"{source.path}: the reference has no variable such as "
            f"{one_of(ours_alone, limit=3)}"
        )
    number = re.search(r"-(\d+)$", os.path.basename(path))
    write_reference(
        path,
        {name: stored.shape for name, stored in sorted(source.variables.items())},
        lambda name: _float32(source, name),
        save_counter=int(number[1]) if number else 0,
    )


def _float32(source: Weights, name: str) -> np.ndarray:
    value = source.read(name)
    if value.dtype != np.float32:
        raise CheckpointError(
            f"{source.path}: {name} is {value.dtype}; weights are float32 in either kind of file"
        )
    return value


def _check_equal(source: Weights, written: Weights) -> None:
    if source.variables.keys() != written.variables.keys():
        raise RuntimeError(f"{written.path} does not hold the variables of its source")
    for name in source.variables:
        if source.read(name).tobytes() != written.read(name).tobytes():
            raise RuntimeError(f"{written.path}: {name} was not written as it was read")


def _put_in_place(staged: Path, target: Path, kind: Target) -> None:
    new = _files_of(staged, kind)
    if kind == "native":
        new[0].replace(target)
        return
    # Without its index a checkpoint does not exist: old and new are never mixed.
    for old in _files_of(target, kind):
        old.unlink()
    for file in reversed(new):
        file.replace(target.with_name(file.name))
    if not target.with_name("checkpoint").exists():
        write_state(target.parent, target.name)


def skeleton(weights: Weights) -> "DeepMAC":
    """The network that weights belong to, told from their shapes; its variables have no values.

    Raises:
        CheckpointError: they are of no network that we have.
    """
    shapes = {name: stored.shape for name, stored in weights.variables.items()}
    settings: dict[Sequence[str], Any] = {
        tuple(path.split(".")[2:]): value
        for path, value in infer_settings(shapes).items()
    }
    backbone = infer_hourglass(shapes, BACKBONE)
    kernel = infer_embedding_kernel(shapes)
    if backbone is None or kernel is None:
        part = "backbone" if backbone is None else "embedding heads"
        raise CheckpointError(
            f"{weights.path}: not the weights of a whole network, it has no {part}"
        )
    settings.pop(_TYPE)  # it may have no name; its dimensions say all
    candidates: list[dict[Sequence[str], Any]] = (
        [{}] if _NETWORK_TYPE in settings else _WITHOUT_VARIABLES
    )
    base = load_config(_ANY_CONFIG).model.center_net
    reasons = []
    for more in candidates:
        try:
            return _build_without_values(
                _configured(base, settings | more),
                backbone=backbone,
                embedding_head_kernel=kernel,
            )
        except ConfigError as e:
            reasons.append(str(e))
    raise CheckpointError(f"{weights.path}: no network of ours: {reasons[0]}")


def _configured(
    config: CenterNetConfig, values: Mapping[Sequence[str], Any]
) -> CenterNetConfig:
    """The configuration with other values by path."""
    messages: dict[Sequence[str], dict[str, Any]] = {}
    for path, value in values.items():  # fields of one message are checked together
        messages.setdefault(path[:-1], {})[path[-1]] = value
    for path, fields in messages.items():
        config = _replaced(config, path, fields)
    return config


def _replaced(message: Any, path: Sequence[str], fields: Mapping[str, Any]) -> Any:
    """A message with other values in fields of the one that a path leads to."""
    if path:
        inner = _replaced(getattr(message, path[0]), path[1:], fields)
        return dataclasses.replace(message, **{path[0]: inner})
    if (
        message is None
    ):  # of the messages on the way only those of heads may be left out
        return PredictionHeadConfig(**fields)
    return dataclasses.replace(message, **fields)


def _build_without_values(config: CenterNetConfig, **options: Any) -> "DeepMAC":
    """The network of a configuration, with variables that know their shapes only."""
    import keras

    from deepmac.model.deepmac import DeepMAC

    def build() -> DeepMAC:
        with keras.StatelessScope(initialize_variables=False):
            return DeepMAC(config, **options)

    # Keras keeps a list, in each thread, of the variables that still want their values, and sees
    # to that when it next can. Nothing comes next in this one.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(build).result()
