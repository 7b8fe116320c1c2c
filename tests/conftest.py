"""Fixtures shared by every test folder."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import recorded_networks

pytest_plugins = ["storage_emulator"]

SHARED_GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


@pytest.fixture(scope="session")
def shared_golden() -> Path:
    """The folder with the reference's recorded numbers, which lies beside the project.

    A user does not have it: the test is skipped. In CI its absence is an error.
    """
    if not SHARED_GOLDEN.is_dir():
        reason = f"the reference's golden data is not at {SHARED_GOLDEN}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return SHARED_GOLDEN


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Callable[[str], Path]:
    """The export of a small recorded network, by its input type; each is made once."""
    pytest.importorskip("tensorflow")
    return recorded_networks.exporter(tmp_path_factory.mktemp("exported"))
