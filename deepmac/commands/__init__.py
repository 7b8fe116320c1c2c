"""Sub-commands of the command line, and what they share: options as data, errors as one line."""

import dataclasses
import io
import os
import re
import shlex
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

import click

from deepmac.errors import DeepmacError, did_you_mean

_SECRET = re.compile("secret|token|password|connection_string")

USER_ERROR = 2
"""Exit status of a user's mistake."""


def option(
    help: str,
    *,
    default: Any = dataclasses.MISSING,
    choices: Sequence[str] | None = None,
    metavar: str | None = None,
) -> Any:
    """A field of an options dataclass, and at the same time an option of the command line.

    Args:
        help: one sentence, shown by `--help`.
        default: of the field; without one the option is required.
        choices: the words allowed.
        metavar: what `--help` shows for the value.
    """
    metadata = {"help": help, "choices": choices, "metavar": metavar}
    return dataclasses.field(default=default, metadata=metadata)


def from_options(
    name: str,
    options_class: type,
    execute: Callable[[Any, list[str]], int],
    *,
    mix_in_unknown: bool = False,
) -> click.Command:
    """A click command whose options are the fields of a dataclass.

    `bool` fields become `--flag/--no_flag`, `tuple[T, ...]` fields may be given several times,
    the rest take one value. The class's docstring is the help text.

    Args:
        name: of the command.
        options_class: a dataclass made with `option` fields.
        execute: gets the options and the arguments meant for Beam; returns the exit status.
        mix_in_unknown: take unknown flags as Beam's wherever they stand; otherwise Beam's flags
            follow a `--`.
    """
    hints = typing.get_type_hints(options_class)
    params: list[click.Parameter] = [
        _parameter(field, hints[field.name])
        for field in dataclasses.fields(options_class)
    ]
    params.append(
        click.Argument(["beam_args"], nargs=-1, type=click.UNPROCESSED, metavar="")
    )

    def callback(beam_args: tuple[str, ...], **values: Any) -> int:
        return execute(options_class(**values), list(beam_args))

    where = "anywhere" if mix_in_unknown else "after --"
    return click.Command(
        name,
        params=params,
        callback=callback,
        help=options_class.__doc__,
        options_metavar="[OPTIONS]" + ("" if mix_in_unknown else " [-- BEAM_FLAGS]"),
        epilog=f"Flags of Apache Beam ({where}), such as --direct_num_workers=2, are passed on.",
        context_settings={
            "ignore_unknown_options": mix_in_unknown,
            "show_default": True,
        },
    )


def command_line(command: str, options: Any, beam_args: Sequence[str] = ()) -> str:
    """What to type for a command with these options; those at their defaults are left out.

    Secrets among Beam's arguments, such as keys of a store, are left out too: this is kept and shown.

    Args:
        command: its words.
        options: a dataclass made with `option` fields.
        beam_args: the arguments meant for Beam.
    """
    words = command.split()
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{field.name}" if value else f"--no_{field.name}")
            continue
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{field.name}={one}" for one in values]
    return shlex.join(
        [*words, *(("--", *without_secrets(beam_args)) if beam_args else ())]
    )


def is_secret(name: str) -> bool:
    """Whether an option's value may not be kept: `--s3_secret_access_key`, say."""
    return _SECRET.search(name.split("=")[0]) is not None


def without_secrets(args: Sequence[str]) -> list[str]:
    """Arguments meant for Beam as they may be kept and shown: see `is_secret`."""
    shown: list[str] = []
    for before, arg in zip(("", *args), args, strict=False):
        if is_secret(before) and "=" not in before:
            shown.append("...")
        elif is_secret(arg) and "=" in arg:
            shown.append(f"{arg.split('=')[0]}=...")
        else:
            shown.append(arg)
    return shown


def _parameter(field: dataclasses.Field, hint: Any) -> click.Option:
    optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
    if optional:
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    multiple = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if multiple else hint
    choices = field.metadata["choices"]
    # click takes a default of None for a value that was given
    if field.default is dataclasses.MISSING:
        presence = {"required": True}
    else:
        shown = field.default not in (None, ())
        presence = {"default": field.default, "show_default": shown}
    return click.Option(
        [f"--{field.name}/--no_{field.name}" if kind is bool else f"--{field.name}"],
        type=click.Choice(choices) if choices else kind,
        multiple=multiple,
        help=field.metadata["help"],
        metavar=field.metadata["metavar"],
        **presence,
    )


class CommandGroup(click.Group):
    """Commands under one name; a word that is none of them is answered in one sentence.

    Args:
        later: names kept for commands that are still to come.
    """

    def __init__(self, *args: Any, later: Sequence[str] = (), **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.later = later

    def resolve_command(self, ctx: click.Context, args: list[str]):
        name = args[0]
        known = self.list_commands(ctx)
        spoken = f"{ctx.command_path} {name}".partition(" ")[2]
        if name in self.later:
            raise DeepmacError(f"'{spoken}' is not available yet")
        if name not in known and not name.startswith("-"):
            hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
            raise DeepmacError(f"no such command '{spoken}'{hint}")
        return super().resolve_command(ctx, args)


def run(
    command: click.Command,
    argv: Sequence[str] | None = None,
    prog_name: str | None = None,
):
    """Runs a command and returns its exit status; a user's mistake becomes one line on stderr."""
    # TensorFlow's greetings would bury the one line that matters.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # File names may be no Unicode, and are shown all the same.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = command.main(args=argv, prog_name=prog_name, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.NoArgsIsHelpError as e:
        print(e.format_message())
        return USER_ERROR
    except click.exceptions.Exit as e:
        return e.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail("interrupted", status=130)
    except click.ClickException as e:
        return _fail(_sentence(e))
    except DeepmacError as e:
        return _fail(str(e))
    except BrokenPipeError:
        # The reader (`| head`) has gone; leave quietly as other commands do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _fail(message: str, status: int = USER_ERROR) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _sentence(error: click.ClickException) -> str:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [
            o
            for p in error.ctx.command.get_params(error.ctx)
            for o in p.opts
            if isinstance(p, click.Option)
        ]
        hint = did_you_mean(error.option_name, known)
        if not hint:
            hint = f" (see {error.ctx.command_path} --help"
            takes_beam_args = any(
                p.name == "beam_args" for p in error.ctx.command.params
            )
            hint += "; flags of Apache Beam follow a --)" if takes_beam_args else ")"
        return f"no such option: {error.option_name}{hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        path = error.ctx.command_path if error.ctx else ""
        param = error.param
        name = param.opts[0]
        if isinstance(param, click.Argument):
            name = param.metavar or name
        return f"missing {param.param_type_name} {name} (see {path} --help)"
    text = error.format_message().rstrip(".")
    return text[:1].lower() + text[1:]
