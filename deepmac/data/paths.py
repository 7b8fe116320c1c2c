"""Paths of the library: which are local, and what is said of those that are not."""

import os
import re

from deepmac.errors import OptionError

_CONTROL = re.compile("[\\0-\x1f\x7f-\x9f\u2028\u2029]")  # line ends among them
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


def scheme_of(path: str) -> str | None:
    """`gs` of `gs://bucket/name`; None of a local path."""
    found = _SCHEME.match(path)
    return found[1].lower() if found else None


def require_local(path: str) -> str:
    """Returns a path as it is, for what is written by libraries that know local files alone.

    Raises:
        OptionError: it is on a remote store.
    """
    if scheme := scheme_of(path):
        raise OptionError(
            f"{path}: is written to local or mounted directories only; copy it to {scheme}:// then"
        )
    return path


def printable(path: str | bytes) -> str:
    """A path as one line of text that can be printed and stored, whatever its name holds."""
    if isinstance(path, str) and not can_name_a_file(path):
        text = path.encode("utf-8", "backslashreplace").decode()
    else:
        text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda c: c[0].encode("unicode_escape").decode(), text)


def can_name_an_object(path: str) -> bool:
    """Whether a store can hold an object of that path; Google's takes no others."""
    name = path.partition("://")[2].partition("/")[2]
    try:
        return 0 < len(name.encode()) <= 1024 and not set(name) & {"\0", "\r", "\n"}
    except UnicodeEncodeError:
        return False


def can_name_a_file(text: str) -> bool:
    """Whether the file system has bytes for a text; it may have them for what is no UTF-8."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
