"""What a training run says while it runs."""

import io
import time

from deepmac.train.progress import Pace, Progress, duration


def test_a_long_phase_says_that_it_has_begun_and_how_long_it_took():
    said = io.StringIO()
    progress = Progress(1, stream=said)
    with progress.phase("compiling"):
        while "compiling ..." not in said.getvalue():
            time.sleep(0.01)
    assert said.getvalue().splitlines()[-1].startswith("compiling: ")


def test_a_line_about_steps_names_the_pace_and_what_bounds_it():
    said = io.StringIO()
    progress = Progress(4, stream=said, every=0.0)
    time.sleep(0.01)
    progress.waited(0.008)
    pace = progress.steps_done(2, 3, {"Loss/total_loss": 1.5})
    assert pace is not None
    assert pace.bound == "input"
    (line,) = said.getvalue().splitlines()
    assert line.startswith("step 2 of 3: total_loss 1.5; ")
    assert "so the input bounds it" in line


def test_steps_between_two_lines_are_counted():
    said = io.StringIO()
    progress = Progress(4, stream=said, every=3600.0)
    assert progress.steps_done(1, 10, {}) is None
    assert said.getvalue() == ""
    assert progress.steps_done(10, 10, {}) is not None  # the last one is always told


def test_a_device_that_seldom_waits_bounds_the_step():
    pace = Pace(images_per_second=1.0, seconds_per_step=1.0, waiting=0.05)
    assert pace.bound == "device"


def test_durations_are_short():
    assert [duration(s) for s in (3.2, 300, 9000)] == ["3 s", "5 min", "2.5 h"]
