"""What a training run says of itself while it runs: lines, on standard error by default."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

_BEAT = 10.0  # seconds: no silence is longer


class Progress:
    """Says what is going on: each phase as it begins, then how far it is every few seconds.

    Args:
        batch_size: images of a step.
        stream: where to; None: standard error.
        every: seconds between two lines about steps.
    """

    def __init__(
        self,
        batch_size: int,
        *,
        stream: TextIO | None = None,
        every: float = _BEAT,
    ):
        self._batch_size = batch_size
        self._stream = stream or sys.stderr
        self._every = every
        self._reset()

    def say(self, text: str) -> None:
        """One line."""
        print(text, file=self._stream, flush=True)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase that may take a while: said after a second, every ten, and when it has ended."""
        begin = time.monotonic()
        with self._heartbeat(name, announce_after=1.0):
            yield
        elapsed = time.monotonic() - begin
        self.say(f"{name}: {elapsed:.1f} s")
        self._begin += elapsed  # no part of the pace of steps

    def patience(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Says every ten seconds what is being waited for inside."""
        return self._heartbeat(name)

    @contextlib.contextmanager
    def _heartbeat(
        self, name: str, *, announce_after: float | None = None
    ) -> Iterator[None]:
        begin = time.monotonic()
        done = threading.Event()

        def beat() -> None:
            if announce_after is not None and not done.wait(announce_after):
                self.say(f"{name} ...")
            while not done.wait(_BEAT):
                self.say(f"{name}: {time.monotonic() - begin:.0f} s so far")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def waited(self, seconds: float) -> None:
        """Counts time in which the devices had nothing to do for want of input."""
        self._waited += seconds

    def restart(self) -> None:
        """The pace is from now on."""
        self._reset()

    def steps_done(
        self, step: int, num_steps: int, metrics: Mapping[str, float]
    ) -> "Pace | None":
        """Counts a step; says how things are when it is time to.

        Args:
            step: updates done, of the whole run.
            num_steps: of the whole run.
            metrics: of the last step.

        Returns:
            The pace since the last line, when there is a new one.
        """
        self._num_done += 1
        elapsed = max(time.monotonic() - self._begin, 1e-9)
        if elapsed < self._every and step < num_steps:
            return None
        pace = Pace(
            images_per_second=self._num_done * self._batch_size / elapsed,
            seconds_per_step=elapsed / self._num_done,
            waiting=self._waited / elapsed,
        )
        remaining = (num_steps - step) * pace.seconds_per_step
        losses = ", ".join(
            f"{name.rpartition('/')[2]} {value:.4g}" for name, value in metrics.items()
        )
        self.say(
            f"step {step} of {num_steps}: {losses}; {pace.images_per_second:.1f} images/s, "
            f"{pace.waiting:.0%} of the time waiting for input, so the {pace.bound} bounds it; "
            f"{duration(remaining)} left"
        )
        self._reset()
        return pace

    def _reset(self) -> None:
        self._begin = time.monotonic()
        self._waited = 0.0
        self._num_done = 0


class Pace:
    """How fast steps are.

    Attributes:
        images_per_second: of all devices.
        seconds_per_step: of wall time.
        waiting: share of the time in which the devices waited for input.
    """

    def __init__(
        self, *, images_per_second: float, seconds_per_step: float, waiting: float
    ):
        self.images_per_second = images_per_second
        self.seconds_per_step = seconds_per_step
        self.waiting = waiting

    @property
    def bound(self) -> str:
        """What makes a step take as long as it does: `input` or `device`."""
        return "input" if self.waiting > 0.1 else "device"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
