"""The errors a user can cause. The command line prints them as one line, exit status 2."""

import difflib
from collections.abc import Iterable


class DeepmacError(Exception):
    """A mistake in the input, not in the program: says the place, the value and the remedy."""


class ConfigError(DeepmacError):
    """A configuration that cannot be read, or asks for something impossible."""


class DataError(DeepmacError):
    """Annotations, images, records or predictions that cannot be used as they are."""


class CheckpointError(DeepmacError):
    """Weights that cannot be read, or do not fit the configuration."""


class OptionError(DeepmacError):
    """A command-line option, or an argument, with a value that makes no sense."""


def one_of(values: Iterable[object], *, limit: int = 12) -> str:
    """`a, b, c`; a long list is cut and counted."""
    names = [str(v) for v in values]
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error sentence: `; did you mean 'X'?`, or nothing when no name is near."""
    by_lower = {str(k).lower(): str(k) for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean '{by_lower[close[0]]}'?" if close else ""
