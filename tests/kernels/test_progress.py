"""What is said of a job's progress."""

import json
from types import SimpleNamespace

import pytest

from deepmac.data.files import Unreachable
from pipelines import progress as module
from pipelines.progress import Progress, describe_rate, show_progress
from pipelines.storage import LocalOutput


@pytest.mark.parametrize(
    ("rate", "remaining", "text"),
    [
        (12.345, 3723.4, "12.3 images/s, 1:02:03 left"),
        (0.5, 59.6, "0.5 images/s, 0:01:00 left"),
        (0.0, None, "waiting for the first unit"),
    ],
)
def test_rates_read_well(rate, remaining, text):
    assert describe_rate(rate, remaining) == text


def commit(output, unit, images):
    output.write(
        f"units/{unit}.json", json.dumps({"counts": {"images_in": images}}).encode()
    )


def test_progress_counts_what_is_committed_while_it_looks(tmp_path):
    output = LocalOutput(str(tmp_path))
    commit(output, "a", 5)  # by an earlier run
    progress = Progress(output, 3, ["b", "c"], {})
    progress.update()
    assert (progress.num_done, progress.num_units, progress.num_images) == (1, 3, 0)
    commit(output, "c", 7)
    commit(output, "stranger", 9)
    progress.update()
    assert (progress.num_done, progress.num_images) == (2, 7)


def test_without_a_terminal_there_is_a_line_now_and_then(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_LINE_EVERY", 0.01)
    output = LocalOutput(str(tmp_path))
    progress = Progress(output, 2, ["a", "b"], {})
    with show_progress(progress):
        commit(output, "a", 3)
        while "1/2" not in (shown := capsys.readouterr().err):
            assert shown == "" or "units 0/2  waiting for the first unit" in shown
    assert "images/s, 0:00:0" in shown


def test_a_look_at_storage_that_is_away_is_taken_again(tmp_path, monkeypatch):
    progress = Progress(LocalOutput(str(tmp_path)), 1, ["a"], {"a": 3})
    errors = [Unreachable("away"), OSError(5, "Input/output error")]
    update = progress.update

    def look():
        if errors:
            raise errors.pop()
        update()

    monkeypatch.setattr(progress, "update", look)
    waits = iter([False, False, False, True])
    stop = SimpleNamespace(wait=lambda seconds: next(waits))
    texts = list(module._looks(progress, stop, 0.0, print))
    assert texts == ["waiting for the first unit"]
