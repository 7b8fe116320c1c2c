"""These tests are about an environment; in any other they are left out: see `make test-jax`."""

import importlib.util

collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("tensorflow") else []
