"""Fixtures shared by every test folder."""

import os
from pathlib import Path

import pytest

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
