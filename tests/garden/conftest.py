"""Tests against TensorFlow's Model Garden, which `make test-garden` runs where it is installed."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.garden)
