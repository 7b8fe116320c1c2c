"""`deepmac config`: the shipped configurations, what is in one, and whether it is right."""

import sys
from collections.abc import Iterable

import click
from rich.console import Console
from rich.text import Text

from deepmac.commands import CommandGroup
from deepmac.config.load import build_config, config_names, load_config, open_config
from deepmac.config.notes import (
    UnusedField,
    idle_class_ids,
    placeholders,
    rereadings,
    unused_fields,
)
from deepmac.config.printing import lines_of
from deepmac.config.schema import CenterNetConfig, KeepAspectRatioResizerConfig
from deepmac.errors import one_of


@click.group("config", cls=CommandGroup, later=("diff",))
def command() -> None:
    """List, show and validate configurations.

    A configuration is known by its name (see `deepmac config list`) or by the path of a file.
    """


_name = click.argument("name", metavar="NAME|PATH")
_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD.PATH=VALUE",
    help="Set a field to another value; a list or a message replaces what was there. Repeatable.",
)
_lenient = click.option(
    "--lenient", is_flag=True, help="Skip fields that are not known, and say which."
)


@command.command("list")
def list_() -> None:
    """Show the shipped configurations."""
    header = ("name", "input", "backbone", "mask head", "masks of")
    rows = [header, *((name, *_summary(name)) for name in config_names())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    console = _console()
    for row in rows:
        padded = map(str.ljust, row, widths)
        line = Text("  ".join(padded).rstrip(), style="bold" if row is header else "")
        if row is not header:
            line.stylize("cyan", 0, len(row[0]))
        console.print(line)


@command.command()
@_name
@_overrides
@_lenient
@click.option(
    "--only_set", is_flag=True, help="Leave out the fields that have their defaults."
)
def show(name: str, overrides: tuple[str, ...], lenient: bool, only_set: bool) -> None:
    """Print a configuration, its defaults marked as such.

    What is printed is itself a configuration file, in protobuf's text format.
    """
    document = open_config(name, overrides, lenient=lenient)
    config = build_config(document)
    console = _console()
    for line in lines_of(config, with_defaults=not only_set):
        is_end = line.text.endswith("}")
        mark = "  # default" if line.is_default and not is_end else ""
        console.print(Text(line.text + mark, style="dim" if line.is_default else ""))
    for ignored in document.ignored:
        print(f"ignored: {ignored}", file=sys.stderr)


@command.command()
@_name
@_overrides
@_lenient
def validate(name: str, overrides: tuple[str, ...], lenient: bool) -> None:
    """Check a configuration; list what is not acted on."""
    document = open_config(name, overrides, lenient=lenient)
    config = build_config(document)
    console = _console()
    console.print(Text(f"{document.source}: valid", style="bold green"))
    _print_section(console, "not known, ignored", document.ignored)
    for title, paths in _by_reason(unused_fields(config)).items():
        _print_section(console, title, paths)
    missing = [f"{path}: {text}" for path, text in placeholders(config)]
    _print_section(console, "to be replaced before training", missing)
    taken = [f"{path}: {how}" for path, how in rereadings(config)]
    _print_section(console, "taken for another value", taken)
    if idle := idle_class_ids(config):
        there_are = f"there are {config.model.center_net.num_classes} classes"
        path = "model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids"
        _print_section(
            console, "without effect", [f"{path}: {one_of(idle)}; {there_are}"]
        )


def _by_reason(fields: Iterable[UnusedField]) -> dict[str, list[str]]:
    """Why fields are not acted on: title to paths, many of one message told by its own."""
    titles: dict[str, dict[str, list[str]]] = {}
    for field in fields:
        title = f"understood, not acted on: {field.unused.reason}"
        titles.setdefault(title, {}).setdefault(field.marked, []).append(field.path)
    return {
        title: [
            f"{marked} ({len(paths)} fields)" if len(paths) > 1 else paths[0]
            for marked, paths in messages.items()
        ]
        for title, messages in titles.items()
    }


def _print_section(console: Console, title: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if not lines:
        return
    console.print()
    console.print(Text(title, style="bold"))
    for line in lines:
        console.print(Text(f"  {line}"))


def _summary(name: str) -> tuple[str, str, str, str]:
    net = load_config(name).model.center_net
    mask_head = net.deepmac_mask_estimation
    ids = mask_head.allowed_masked_classes_ids
    return (
        _input_size(net),
        net.feature_extractor.type,
        mask_head.network_type,
        f"{len(ids)} classes" if ids else "all classes",
    )


def _input_size(net: CenterNetConfig) -> str:
    resizer = net.image_resizer.chosen
    if isinstance(resizer, KeepAspectRatioResizerConfig):
        return str(resizer.max_dimension)
    return type(resizer).__name__.removesuffix("ResizerConfig")


def _console() -> Console:
    # Lines are never broken: what is shown may be piped into a file and read again.
    return Console(soft_wrap=True, highlight=False)
