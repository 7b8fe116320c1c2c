"""Fixtures of the tests of jobs."""

from doubling import inline

__all__ = ["inline"]
