"""`deepmac checkpoint`: what a file of weights holds, and which configuration it belongs to."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from deepmac.commands import CommandGroup
from deepmac.config.load import config_names, load_config
from deepmac.config.schema import CenterNetConfig
from deepmac.errors import DeepmacError

if TYPE_CHECKING:
    from deepmac.checkpoint.load import Weights
    from deepmac.checkpoint.report import Report


@click.group("checkpoint", cls=CommandGroup, later=("diff", "convert"))
def command() -> None:
    """Inspect weights, ours and the reference's."""


@command.command()
@click.argument("path", metavar="PATH")
@click.option("--variables", is_flag=True, help="List every variable with its shape.")
@click.option(
    "--config",
    metavar="NAME|PATH",
    help="Say whether the weights fit a configuration, and if not, what would.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD.PATH=VALUE",
    help="With --config: set a field to another value. Repeatable.",
)
def inspect(
    path: str, variables: bool, config: str | None, overrides: tuple[str, ...]
) -> None:
    """Show what a checkpoint holds.

    PATH is a prefix such as path/to/ckpt-51, a directory that holds one (such as an export
    directory), or a .weights.h5 file. No weights are read, only names and shapes. With --config
    the exit status is 2 if they do not fit.
    """
    if overrides and config is None:
        raise DeepmacError(
            "--set needs --config: it changes a value of a configuration"
        )
    # Keras takes seconds to come; a mistake should be told before.
    from deepmac.checkpoint.locate import locate

    location = locate(path)
    wanted = None if config is None else load_config(config, overrides)
    from deepmac.checkpoint.load import open_weights

    weights = open_weights(location.path)
    shapes = {name: stored.shape for name, stored in weights.variables.items()}
    click.echo(f"{weights.path}: {_description(weights)}")
    _echo_settings(shapes)
    _echo_counts(shapes)
    if variables:
        click.echo("\nvariables")
        _echo_table([[name, _text(shape)] for name, shape in sorted(shapes.items())])
    if wanted is not None:
        report = _compare(weights, shapes, wanted.model.center_net)
        click.echo(f"\nit fits {config}: {report.summary()}")


def _description(weights) -> str:
    from deepmac.checkpoint.reader import ReferenceCheckpoint

    if not isinstance(weights, ReferenceCheckpoint):
        return f"weights written by deepmac {weights.version}"
    if weights.step is None:
        kind = "an exported reference checkpoint"
    else:
        kind = f"a reference checkpoint of training step {weights.step}"
    unused = [
        f"{count} of {name}"
        for name, count in sorted(weights.aside.items())
        if name in ("optimizer", "other")
    ]
    return kind + (
        f" (entries beside the model: {', '.join(unused)})" if unused else ""
    )


def _echo_settings(shapes: Mapping[str, tuple[int, ...]]) -> None:
    from deepmac.checkpoint.facts import (
        configured,
        disagreements,
        infer_embedding_kernel,
        infer_settings,
    )

    settings = infer_settings(shapes)
    click.echo("\nwhat its shapes tell")
    rows = [[field, json.dumps(value)] for field, value in settings.items()]
    kernel = infer_embedding_kernel(shapes)
    if kernel is not None:
        rows.append(["first kernel of the embedding heads", _text(kernel)])
    _echo_table(rows)
    configs = {name: load_config(name) for name in config_names()}
    differing = {name: disagreements(settings, c) for name, c in configs.items()}
    fitting = [name for name, fields in differing.items() if not fields]
    if fitting:
        click.echo("\nit fits the configurations")
        _echo_table([[name] for name in fitting])
        return
    nearest = min(differing, key=lambda name: len(differing[name]))
    click.echo(f"\nno shipped configuration fits; the nearest is {nearest}, but for")
    _echo_table(
        [
            [
                field,
                f"{json.dumps(settings[field])}, there "
                f"{json.dumps(configured(configs[nearest], field))}",
            ]
            for field in differing[nearest]
        ]
    )


def _echo_counts(shapes: Mapping[str, tuple[int, ...]]) -> None:
    modules: dict[str, list[int]] = {}
    for name, shape in sorted(shapes.items()):
        depth = 2 if name.startswith("_prediction_head_dict/") else 1
        module = "/".join(name.split("/")[:depth])
        modules.setdefault(module, []).append(math.prod(shape))
    modules["total"] = [math.prod(shape) for shape in shapes.values()]
    click.echo("\nparameters and variables of its parts")
    _echo_table(
        [
            [name, f"{sum(sizes):,}".rjust(13), f"{len(sizes):,}".rjust(6)]
            for name, sizes in modules.items()
        ]
    )


def _compare(
    weights: "Weights", shapes: Mapping[str, tuple[int, ...]], config: CenterNetConfig
) -> "Report":
    from deepmac.checkpoint.facts import infer_embedding_kernel
    from deepmac.checkpoint.load import check_fit
    from deepmac.model.deepmac import DeepMAC

    kernel = infer_embedding_kernel(shapes) or (3, 3)
    return check_fit(DeepMAC(config, embedding_head_kernel=kernel), weights)


def _echo_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True))
        click.echo(f"  {line}".rstrip())


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
