"""A job's progress on standard error: a bar on a terminal, now and then a line elsewhere."""

import contextlib
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from pipelines.storage import Output
from pipelines.unit_files import COMMITS, commit_name, read_json

_LOOK_EVERY = 0.5  # seconds
_LINE_EVERY = 30.0  # seconds, where there is no terminal


class Progress:
    """How far a job is, read from its commit records: works wherever the workers are."""

    def __init__(self, output: Output, units: Collection[str], pending: Iterable[str]):
        self._output = output
        self._waiting = set(pending)
        self.num_units = len(units)
        self.num_images = 0  # of this run

    @property
    def num_done(self) -> int:
        return self.num_units - len(self._waiting)

    def update(self) -> None:
        committed = {name.removesuffix(".json") for name in self._output.sizes(COMMITS)}
        for name in self._waiting & committed:
            record = read_json(self._output, commit_name(name))
            self.num_images += record["counts"]["images_in"] if record else 0
        self._waiting -= committed


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
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=progress.num_units, completed=progress.num_done)
        for text in _looks(progress, stop, _LOOK_EVERY):
            bar.update(task, completed=progress.num_done, description=text)


def _lines(progress: Progress, stop: threading.Event) -> None:
    for text in _looks(progress, stop, _LINE_EVERY):
        print(
            f"units {progress.num_done}/{progress.num_units}  {text}",
            file=sys.stderr,
            flush=True,
        )


def _looks(progress: Progress, stop: threading.Event, seconds: float) -> Iterator[str]:
    """After each pause, what to say about the rate."""
    started, done_before = time.monotonic(), progress.num_done
    while not stop.wait(seconds):
        progress.update()
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
    minutes, seconds = divmod(round(remaining), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{images_per_second:.3g} images/s, {hours}:{minutes:02}:{seconds:02} left"
