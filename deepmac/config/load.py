"""Name or path, and overrides -> PipelineConfig."""

import importlib.resources
import io
import os
import re
import warnings
from collections.abc import Iterable
from importlib.resources.abc import Traversable
from pathlib import Path

from deepmac.config.checks import check_together
from deepmac.config.schema import PipelineConfig
from deepmac.config.textproto import Document, read
from deepmac.data.files import read_file
from deepmac.errors import ConfigError, DataError, did_you_mean, one_of

_SUFFIX = ".config"
_WEIGHTS = ".weights.h5"


class ConfigWarning(UserWarning):
    """Something in a configuration that was left out of account on request."""


def load_config(
    name_or_path: str | Path,
    overrides: Iterable[str] = (),
    *,
    lenient: bool = False,
    cross_check: bool = True,
) -> PipelineConfig:
    """Reads a configuration.

    Args:
        name_or_path: a shipped configuration (see `config_names`; a suffix like `_tpu-32` and the
            ending `.config` may be there) or a file, local or remote.
        overrides: `path.to.field=value`, applied in order; see `textproto.Document.override`.
        lenient: skip fields that are not known, each with a ConfigWarning.
        cross_check: check values of different messages against each other, such as the input size
            against the depth of the backbone. Off for networks whose dimensions the caller
            replaces.

    Raises:
        ConfigError: there is no such configuration, or something is wrong in it: one line with
            the place, the field and what would be accepted.
    """
    document = open_config(name_or_path, overrides, lenient=lenient)
    for ignored in document.ignored:
        warnings.warn(f"{ignored}: not known, ignored", ConfigWarning, stacklevel=2)
    return build_config(document, cross_check=cross_check)


def open_config(
    name_or_path: str | Path, overrides: Iterable[str] = (), *, lenient: bool = False
) -> Document[PipelineConfig]:
    """The first half of `load_config`: the file read, the overrides applied, nothing checked."""
    text, source = _read_text(str(name_or_path))
    document = read(text, PipelineConfig, source, lenient=lenient)
    for assignment in overrides:
        document.override(assignment)
    return document


def build_config(
    document: Document[PipelineConfig], *, cross_check: bool = True
) -> PipelineConfig:
    """The second half of `load_config`: the values, checked."""
    config = document.build()
    if cross_check:
        with document.located():
            check_together(config)
    return config


def config_names() -> list[str]:
    """The names of the shipped configurations."""
    files = [f.name for f in _shipped().iterdir() if f.name.endswith(_SUFFIX)]
    return sorted(f.removesuffix(_SUFFIX) for f in files)


def shipped_weights(name_or_path: str | Path) -> Path | None:
    """The weights that come with a shipped configuration; None where there are none.

    Args:
        name_or_path: of a configuration; one that is a file of its own has no shipped weights.
    """
    text = str(name_or_path)
    if _looks_like_path(text) or os.path.isfile(text):
        return None
    path = Path(str(_shipped())) / f"{_shipped_name(text)}{_WEIGHTS}"
    return path if path.is_file() else None


def read_text_file(path: str) -> str:
    """A text file's contents, without a byte order mark.

    Raises:
        ConfigError: it is missing, cannot be read, or is not UTF-8.
    """
    try:
        data = read_file(path)
    except (DataError, ValueError) as e:  # ValueError: a null character in the name
        raise ConfigError(
            str(e) if isinstance(e, DataError) else f"{path}: {e}"
        ) from None
    if data is None:
        raise ConfigError(f"{path}: no such file")
    try:
        return io.StringIO(data.decode("utf-8-sig"), newline=None).read()
    except UnicodeDecodeError as e:
        raise ConfigError(
            f"{path}: not a text file: byte {e.start} is not UTF-8"
        ) from None


def _read_text(name_or_path: str) -> tuple[str, str]:
    """A configuration's text, and what to call it in errors."""
    if _looks_like_path(name_or_path) or os.path.isfile(name_or_path):
        return read_text_file(name_or_path), name_or_path
    name = _shipped_name(name_or_path)
    names = config_names()
    if name not in names:
        hint = did_you_mean(name, names) or f"; there are {one_of(names)}"
        raise ConfigError(
            f"{name_or_path}: neither a file nor the name of a configuration{hint}"
        )
    file = _shipped() / f"{name}{_SUFFIX}"
    return file.read_text(encoding="utf-8"), file.name


def _shipped_name(text: str) -> str:
    return re.sub(r"_tpu-\d+$", "", text.removesuffix(_SUFFIX))


def _looks_like_path(text: str) -> bool:
    return "/" in text or "\\" in text


def _shipped() -> Traversable:
    """The folder of the shipped configurations."""
    try:
        return importlib.resources.files("deepmac.configs")
    except ModuleNotFoundError:
        # A bare checkout on the path: nothing maps deepmac.configs to the folder beside us.
        return Path(__file__).resolve().parents[2] / "configs"
