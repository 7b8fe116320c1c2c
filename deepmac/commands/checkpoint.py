"""`deepmac checkpoint`: what a file of weights holds, what two differ in, another kind of file."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from deepmac.commands import CommandGroup
from deepmac.config.load import config_names, load_config
from deepmac.config.schema import CenterNetConfig
from deepmac.data.paths import require_local
from deepmac.errors import DeepmacError

if TYPE_CHECKING:
    from deepmac.checkpoint.convert import Target
    from deepmac.checkpoint.load import Weights
    from deepmac.checkpoint.report import Report


DIFFERENT = 1
"""Exit status of `diff` where it has found a difference, as that of the tool of that name."""


@click.group("checkpoint", cls=CommandGroup)
def command() -> None:
    """Inspect, compare and convert weights, ours and the reference's."""


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
    directory), the directory of a SavedModel, or a .weights.h5 file. No weights are read, only names and shapes. With --config
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
    from deepmac.checkpoint.report import shape_text

    weights = open_weights(location.path)
    shapes = {name: stored.shape for name, stored in weights.variables.items()}
    click.echo(f"{weights.path}: {_description(weights)}")
    _echo_settings(shapes)
    _echo_counts(shapes)
    if variables:
        click.echo("\nvariables")
        _echo_table(
            [[name, shape_text(shape)] for name, shape in sorted(shapes.items())]
        )
    if wanted is not None:
        report = _compare(weights, shapes, wanted.model.center_net)
        click.echo(f"\nit fits {config}: {report.summary()}")


@command.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--tolerance",
    type=float,
    default=0.0,
    show_default=True,
    help="Values this far apart count as equal.",
)
@click.option(
    "--all", "show_all", is_flag=True, help="One line for each variable, no groups."
)
def diff(first: str, second: str, tolerance: float, show_all: bool) -> int:
    """Compare two checkpoints, of whatever kind each is.

    Tells the variables that only one of A and B has, that have another shape or other values, and
    the settings in which their networks differ. The exit status is 0 if all are equal, 1 if not,
    and 2 if a file cannot be read.
    """
    if not (0 <= tolerance < math.inf):
        raise DeepmacError(f"--tolerance must be 0 or more, got {tolerance}")
    from deepmac.checkpoint.locate import locate

    paths = [locate(path).path for path in (first, second)]
    from deepmac.checkpoint.differences import differences
    from deepmac.checkpoint.load import open_weights

    a, b = (open_weights(path) for path in paths)
    found = differences(a, b, tolerance=tolerance)
    click.echo(f"first   {a.path}: {_description(a)}")
    click.echo(f"second  {b.path}: {_description(b)}")
    click.echo(f"\nvariables: {found.summary()}")
    if not found:
        return 0
    click.echo(found.table(max_rows=len(found.variables) if show_all else 12))
    if found.settings:
        click.echo("\nwhat their shapes tell of the networks")
        click.echo(found.settings_table())
    return DIFFERENT


@command.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--to",
    type=click.Choice(["native", "reference"]),
    help="What DST is to be; by default its name says it.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def convert(source: str, target: str, to: "Target | None", overwrite: bool) -> None:
    """Write the weights of SRC, a checkpoint of any kind, as another kind.

    DST is a name.weights.h5, for weights of deepmac's own, or a prefix such as path/to/ckpt-0, for
    a checkpoint that the reference reads, with the variables of the model alone. No configuration
    is needed. What was written is read back and compared before it takes its place.
    """
    from deepmac.checkpoint.locate import locate

    require_local(target)
    location = locate(source)
    from deepmac.checkpoint import convert as conversion
    from deepmac.checkpoint.load import open_weights

    conversion.check_target(target, to, overwrite=overwrite)
    weights = open_weights(location.path)
    kind = conversion.convert(weights, target, to, overwrite=overwrite)
    written = "weights of deepmac" if kind == "native" else "a reference checkpoint"
    sizes = [math.prod(stored.shape) for stored in weights.variables.values()]
    click.echo(
        f"{target}: {written}, {len(sizes):,} variables of {sum(sizes):,} parameters, read "
        f"back and equal to {weights.path}"
    )
    if left := _beside(weights):
        click.echo(f"left out, since they are no weights of the model: {left}")


def _beside(weights: "Weights") -> str:
    """`optimizer (212), step (1)`: entries of a file that are not the model's."""
    aside = getattr(weights, "aside", {})
    return ", ".join(f"{name} ({count})" for name, count in sorted(aside.items()))


def _description(weights) -> str:
    from deepmac.checkpoint.reader import ReferenceCheckpoint

    if not isinstance(weights, ReferenceCheckpoint):
        return f"weights written by deepmac {weights.version}"
    if weights.is_saved_model:
        kind = "an exported SavedModel"
    elif weights.step is None:
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
    from deepmac.checkpoint.report import shape_text

    settings = infer_settings(shapes)
    click.echo("\nwhat its shapes tell")
    rows = [[field, json.dumps(value)] for field, value in settings.items()]
    kernel = infer_embedding_kernel(shapes)
    if kernel is not None:
        rows.append(["first kernel of the embedding heads", shape_text(kernel)])
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
