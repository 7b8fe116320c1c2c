"""What is seen of a run: times of stages, and how observations add up."""

import threading

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deepmac.stage_times import StageTimes
from pipelines.observation import Distribution, Observation

numbers = st.lists(st.integers(0, 10**9), min_size=1)


def test_a_time_shared_by_images_is_one_number_for_each():
    times = StageTimes()
    times.note("read", 5_000_999)
    times.note("predict", 9_000_000, images=3)
    assert dict(times) == {"read": [5000], "predict": [3000, 3000, 3000]}


def test_a_block_that_fails_took_its_time_too():
    times = StageTimes()
    try:
        with times.of("read", images=2):
            raise KeyError
    except KeyError:
        pass
    assert len(dict(times)["read"]) == 2


def test_threads_note_at_once():
    times = StageTimes()

    def work(stage):
        for _ in range(1000):
            with times.of(stage):
                pass

    threads = [threading.Thread(target=work, args=(name,)) for name in "abab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {stage: len(values) for stage, values in times} == {"a": 2000, "b": 2000}


@given(here=numbers, there=numbers)
def test_distributions_of_parts_add_up_to_that_of_the_whole(here, there):
    assert Distribution.of(here) + Distribution.of(there) == Distribution.of(
        here + there
    )


@given(here=numbers, there=numbers, count=st.integers(0, 9))
def test_so_do_observations_in_any_order(here, there, count):
    def seen(values, **counters):
        times = StageTimes()
        for value in values:
            times.note("read", 1000 * value)
        return Observation.of(counters, times)

    parts = (
        seen(here, images_in=count),
        seen(there, images_in=2, bytes=1),
        Observation(),
    )
    one, other = sum(parts, Observation()), sum(parts[::-1], Observation())
    assert one.as_json() == other.as_json()
    assert one.counters == {"images_in": count + 2, "bytes": 1}
    assert one.distributions["read_us"] == Distribution.of(here + there)


def test_the_table_has_a_row_for_each_stage_in_the_order_of_the_work():
    times = StageTimes()
    times.note("image", 2_500_000)
    times.note("commit", 12_000_000)
    times.note("read", 1_000_000)
    times.note("read", 2_000_000)
    console = Console(width=80)
    with console.capture() as shown:
        console.print(Observation.of({}, times).table())
    assert [line.split() for line in shown.get().splitlines()] == [
        ["time", "(ms)", "number", "mean", "longest"],
        ["read", "2", "1.50", "2.00"],
        ["commit", "1", "12.00", "12.00"],
        ["image", "1", "2.50", "2.50"],
    ]


def test_a_run_that_told_nothing_has_no_table():
    assert Observation().table() is None
