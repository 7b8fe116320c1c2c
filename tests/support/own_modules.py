"""Modules that a test writes for itself, as a user writes a predictor of their own."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def importable(folder: Path) -> Iterator[None]:
    """The modules in `folder` can be imported by their bare names, inside only.

    On the way out they are forgotten, so that another test of the same process can give the same
    name to a module of its own.
    """
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file and folder in Path(file).parents:
                del sys.modules[name]
