"""Where the time goes: how long each stage of the work took, image by image."""

import time
from collections.abc import Iterator


class StageTimes:
    """Whole microseconds that stages took, one number for each image that passed.

    Facts of a run, never part of what a job writes as its result. Several threads may note at
    once.
    """

    def __init__(self):
        self._microseconds: dict[str, list[int]] = {}

    def __iter__(self) -> Iterator[tuple[str, list[int]]]:
        """(stage, its numbers), in the order in which stages were first noted."""
        return iter(self._microseconds.items())

    def note(self, stage: str, nanoseconds: int, images: int = 1) -> None:
        """Adds a time that some images took together: an equal part for each."""
        mine = self._microseconds.setdefault(stage, [])
        mine.extend([nanoseconds // (1000 * images)] * images)

    def of(self, stage: str, images: int = 1) -> "_Timing":
        """Notes how long the block takes, also if it fails."""
        return _Timing(self, stage, images)


class _Timing:
    # A generator would do, at three times the cost.
    __slots__ = ("_images", "_stage", "_started", "_times")

    def __init__(self, times: StageTimes, stage: str, images: int):
        self._times, self._stage, self._images = times, stage, images

    def __enter__(self) -> None:
        self._started = time.perf_counter_ns()

    def __exit__(self, *error: object) -> None:
        took = time.perf_counter_ns() - self._started
        self._times.note(self._stage, took, self._images)
