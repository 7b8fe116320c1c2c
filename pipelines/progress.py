"""A job's progress on standard error: a bar on a terminal, now and then a line elsewhere."""

import contextlib
import datetime
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from deepmac.errors import DataError
from deepmac.text import one_line
from pipelines.storage import Output
from pipelines.unit_files import COMMITS, IN_FLIGHT, commit_name, mark_name, read_json

_LOOK_EVERY = 0.5  # seconds
_LINE_EVERY = 30.0  # seconds, where there is no terminal
_LOOK_SHARE = 0.02  # of the time may go into looks, which on a store take requests

# A unit that takes five times the longest wait so far is no chance any more: units are of about
# equal length, and the first wait is as long as a unit at least. Nothing is said before two
# minutes, in which workers start and open a network.
_STALL_FACTOR = 5
_STALL_FLOOR = 120.0  # seconds
_STALL_AGAIN = 2  # the next line comes when the wait is this many times as long
_NAMED = 5  # units in a line
_MARKS_READ = 200  # of those in flight, so that a line costs seconds at most on a store


class Progress:
    """How far a job is, read from its commit records: works wherever the workers are.

    Attributes:
        num_units: of the job.
        num_images: of the units that were committed while it looked.
        look_seconds: that the last look took.
    """

    def __init__(
        self,
        output: Output,
        num_units: int,
        pending: Iterable[str],
        images: Mapping[str, int],
    ):
        """Progress of some units.

        Args:
            output: of the job.
            num_units: of the job.
            pending: those that are to be done.
            images: of each unit, as planned; of those left out the commit record tells.
        """
        self._output, self._images = output, images
        self._waiting = set(pending)
        self._last_commit, self._longest_wait = time.monotonic(), 0.0
        self._told_at = 0.0
        self.num_units = num_units
        self.num_images = 0
        self.look_seconds = 0.0

    @property
    def num_done(self) -> int:
        return self.num_units - len(self._waiting)

    def update(self) -> None:
        """Looks for units that have been committed since the last look."""
        started = time.monotonic()
        committed = {name.removesuffix(".json") for name in self._output.sizes(COMMITS)}
        if new := self._waiting & committed:
            self.num_images += sum(map(self._images_of, new))
            self._waiting -= new
            wait = started - self._last_commit
            self._last_commit = started
            self._longest_wait, self._told_at = max(self._longest_wait, wait), 0.0
        self.look_seconds = time.monotonic() - started

    def stall(self) -> str | None:
        """What to say of a wait that is much longer than those before; seldom anything."""
        wait = time.monotonic() - self._last_commit
        limit = max(_STALL_FLOOR, _STALL_FACTOR * self._longest_wait)
        if not self._waiting or wait < max(limit, _STALL_AGAIN * self._told_at):
            return None
        self._told_at = wait
        names = self._output.sizes(IN_FLIGHT)
        begun = sorted(self._waiting & {n.removesuffix(".json") for n in names})
        marks = [read_json(self._output, mark_name(n)) for n in begun[:_MARKS_READ]]
        return describe_stall(
            wait, len(begun), [m for m in marks if m], len(self._waiting)
        )

    def _images_of(self, unit: str) -> int:
        if unit in self._images:
            return self._images[unit]
        record = read_json(self._output, commit_name(unit))
        return record["counts"]["images_in"] if record else 0


@contextlib.contextmanager
def show_progress(progress: Progress) -> Iterator[None]:
    """Shows units done, images a second and the time that remains, until the block ends."""
    stop = threading.Event()
    show = _bar if sys.stderr.isatty() else _lines
    thread = threading.Thread(target=show, args=(progress, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _bar(progress: Progress, stop: threading.Event) -> None:
    columns = (
        TextColumn("units"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

    def say(line: str) -> None:
        console.print(line)

    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=progress.num_units, completed=progress.num_done)
        for text in _looks(progress, stop, _LOOK_EVERY, say):
            bar.update(task, completed=progress.num_done, description=text)


def _lines(progress: Progress, stop: threading.Event) -> None:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for text in _looks(progress, stop, _LINE_EVERY, say):
        say(f"units {progress.num_done}/{progress.num_units}  {text}")


def _looks(
    progress: Progress,
    stop: threading.Event,
    seconds: float,
    say: Callable[[str], None],
) -> Iterator[str]:
    """After each pause, what to say about the rate; says by itself what units hold up the job."""
    started, done_before = time.monotonic(), progress.num_done
    while not stop.wait(max(seconds, progress.look_seconds / _LOOK_SHARE)):
        try:
            progress.update()
            line = progress.stall()
        except (DataError, OSError):
            continue  # whether the job can do without its storage, the job will see
        if line:
            say(line)
        elapsed = time.monotonic() - started
        done = progress.num_done - done_before
        remaining = (
            (progress.num_units - progress.num_done) * elapsed / done if done else None
        )
        yield describe_rate(progress.num_images / elapsed, remaining)


def describe_rate(images_per_second: float, remaining: float | None) -> str:
    """`12.3 images/s, 1:02:03 left`; the time is unknown before the first unit is done."""
    if remaining is None:
        return "waiting for the first unit"
    return f"{images_per_second:.3g} images/s, {_clock(remaining)} left"


def describe_stall(
    wait: float, num_begun: int, marks: Sequence[Mapping[str, object]], num_waiting: int
) -> str:
    """In one line, which units a job is waiting for.

    Args:
        wait: seconds since the last unit was committed.
        num_begun: units in flight.
        marks: of those, or some: `unit`, `host`, `process` and `since`.
        num_waiting: units that are not committed.
    """
    oldest = sorted(marks, key=lambda mark: str(mark.get("since")))
    said = [
        one_line(
            f"{m.get('unit')} on {m.get('host')} (process {m.get('process')}) since {m.get('since')}"
        )
        for m in oldest[:_NAMED]
    ]
    if len(said) < num_begun:
        said.append(f"{num_begun - len(said)} more")
    return (
        f"no unit was committed for {_clock(wait)}; in flight: {', '.join(said) or 'none'}; "
        f"{num_waiting - num_begun} not begun"
    )


def _clock(seconds: float) -> str:
    """`1:02:03`."""
    return str(datetime.timedelta(seconds=round(seconds)))
