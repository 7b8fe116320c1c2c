"""The `deepmac` command. Each sub-command lives in its own module, imported when it is called."""

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

import deepmac
from deepmac.commands import CommandGroup, run
from deepmac.errors import DeepmacError


@dataclasses.dataclass(frozen=True)
class _Lazy:
    """A sub-command: the module whose `command` it is, and its line in `deepmac --help`."""

    module: str
    help: str


COMMANDS = {
    "quickstart": _Lazy(
        "pipelines.quickstart", "Everything below on a small generated set, in minutes."
    ),
    "build": _Lazy(
        "pipelines.build_dataset", "Annotations and images -> split records (TFRecord)."
    ),
    "train": _Lazy(
        "deepmac.commands.train", "A network from a configuration and records."
    ),
    "label": _Lazy("pipelines.infer", "Images and boxes -> one mask for each box."),
    "evaluate": _Lazy(
        "pipelines.evaluate", "Predictions and ground truth -> exact COCO AP."
    ),
    "compare": _Lazy(
        "pipelines.compare", "Two evaluations -> which is better, and how sure that is."
    ),
    "benchmark": _Lazy(
        "pipelines.benchmark",
        "The published table, with numbers of your own beside it.",
    ),
    "data": _Lazy("deepmac.commands.data", "Show, count and verify records."),
    "config": _Lazy(
        "deepmac.commands.config", "List, show and validate configurations."
    ),
    "checkpoint": _Lazy(
        "deepmac.commands.checkpoint",
        "Inspect, compare and convert weights, ours and the reference's.",
    ),
    "export": _Lazy(
        "deepmac.commands.export",
        "A network as a SavedModel that takes images as they are.",
    ),
    "doctor": _Lazy(
        "deepmac.commands.doctor",
        "Say what works here, what is missing and how to get it.",
    ),
}

_OF_ANY_STORE = ("deepmac.commands.data",)
"""Modules of commands that read what jobs have written, wherever jobs can write."""

LATER = ("serve",)
"""Names kept for commands that are still to come."""


class _Root(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        return _load(COMMANDS[cmd_name].module).command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


def _load(name: str) -> Any:
    if name.startswith("pipelines.") or name in _OF_ANY_STORE:
        _check_pipelines_are_ours()
    try:
        if name in _OF_ANY_STORE:
            importlib.import_module("pipelines")  # which knows further stores
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        package = (e.name or "").partition(".")[0]
        if package in ("", "deepmac", "pipelines"):
            raise
        raise DeepmacError(
            f"the Python package '{package}' is not installed; install deepmac with what it "
            f"depends on: pip install deepmac"
        ) from e


def _check_pipelines_are_ours() -> None:
    """`pipelines` is a common name: refuse somebody else's package found first on the path."""
    ours = Path(deepmac.__file__).resolve().parent.parent
    spec = importlib.util.find_spec("pipelines")
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places or Path(places[0]).resolve().parent != ours:
        where = f"at {places[0]}" if places else "as a single file"
        raise DeepmacError(
            f"found another package named 'pipelines' {where}; run from a different directory "
            f"or take it off PYTHONPATH"
        )


@click.group(
    cls=_Root, later=LATER, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(deepmac.__version__, prog_name="deepmac")
def root() -> None:
    """Boxes in, masks out, for a whole dataset.

    Start with: deepmac quickstart
    """


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status (design.md 3.1: 0, 2 or 3)."""
    return run(root, argv, prog_name="deepmac")


if __name__ == "__main__":
    sys.exit(main())
