"""Units in a store: one wins, nothing is torn, and whoever dies wherever, the bytes are the same."""

import collections
import contextlib
import errno
import hashlib
import json
import threading

import pytest
import requests
from doubling import NUM_ITEMS, NUM_UNITS, run
from doubling import contents as local_contents
from storage_emulator import Faults

from deepmac.data import files, google_storage
from deepmac.errors import DataError, OptionError
from pipelines import launch, lease
from pipelines.observation import Observation
from pipelines.storage import hold_output, open_output
from pipelines.units import UnitReport, finish, run_units

OUT = "gs://bucket/out"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch):
    monkeypatch.setattr(google_storage, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.04)
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.01)
    yield
    google_storage.close()


@pytest.fixture
def undisturbed(tmp_path, inline):
    run(tmp_path / "undisturbed")
    return local_contents(tmp_path / "undisturbed")


def contents(storage):
    """Every object but the facts of the runs: name -> bytes."""
    found = storage.contents("out")
    found.pop("run.json", None)
    return found


class Crash(BaseException):
    """The process dies here."""


@contextlib.contextmanager
def each_request(monkeypatch, before):
    """Calls `before` with the number of each request, just before it is sent."""
    numbers, send = iter(range(1 << 30)), requests.Session.send
    lock = threading.Lock()

    def counted(self, request, **options):
        with lock:
            number = next(numbers)
        before(number)
        return send(self, request, **options)

    with monkeypatch.context() as patch:
        patch.setattr(requests.Session, "send", counted)
        yield


def dying(monkeypatch, at):
    """Lets `at` requests through; from then on nothing works, so that nobody can tidy up."""

    def before(number):
        if number >= at:
            raise Crash

    return each_request(monkeypatch, before)


def test_a_directory_in_a_store_is_the_local_one(strict_storage, undisturbed):
    totals = run(OUT)
    assert contents(strict_storage) == undisturbed
    assert totals.counts["images_in"] == NUM_ITEMS
    strict_storage.proxy.forget()
    assert run(OUT).num_resumed == NUM_UNITS
    assert contents(strict_storage) == undisturbed
    written = {r.name for r in strict_storage.proxy.requests if r.kind == "write"}
    assert written == {"out/lease.json", "out/dead_letters.jsonl"}


def test_other_options_and_other_peoples_folders_are_refused(strict_storage, inline):
    run(OUT)
    before = contents(strict_storage)
    with pytest.raises(OptionError, match="gs://bucket/out was begun with version = 1"):
        run(OUT, version=2)
    assert contents(strict_storage) == before
    strict_storage.put("other/holiday/me.jpg", b"mine")
    with pytest.raises(OptionError, match="holds holiday and no earlier double"):
        run("gs://bucket/other")


def test_a_crash_before_any_request_changes_nothing_in_the_end(
    strict_storage, monkeypatch, undisturbed
):
    for at in range(1000):
        for name in strict_storage.names():
            strict_storage.remove(name)
        try:
            with dying(monkeypatch, at):
                run(OUT)
        except Crash:
            before = contents(strict_storage)
            assert_nothing_torn(before, undisturbed)
            run(OUT)
            assert contents(strict_storage) == undisturbed, f"died at request {at}"
        else:
            break
    assert at > 50  # there are that many requests, and each was tried
    assert contents(strict_storage) == undisturbed


def assert_nothing_torn(found, undisturbed):
    """Whatever is under a final name is whole; a data file is that of its record."""
    for name, data in found.items():
        if name.startswith(("u", "plan/")) and name in undisturbed:
            assert data == undisturbed[name]


def test_a_worker_that_dies_is_followed_by_another(
    strict_storage, monkeypatch, undisturbed
):
    """Every unit is begun again and again, by a worker that comes one request further each time."""

    def run_tasks(options, task, units, *, progress, needs, verbose):
        for name, num_items in units:
            for at in range(100):
                with contextlib.suppress(Crash), dying(monkeypatch, at):
                    task.run(name, num_items)
                    break
        progress.update()
        return Observation()

    monkeypatch.setattr(launch, "run_tasks", run_tasks)
    run(OUT)
    assert contents(strict_storage) == undisturbed


def committed(storage, unit="u"):
    """The one commit record of a unit and its data, which must agree."""
    found = contents(storage)
    record = json.loads(found[f"units/{unit}.json"])
    data = found[record["data"]["name"]]
    assert hashlib.sha256(data).hexdigest() == record["data"]["sha256"]
    assert not [name for name in found if name.startswith("attempts/")]
    return record, data


def commit(text):
    """A worker's commit of a unit, with bytes of its own."""
    output = open_output(OUT)
    with output.new_file("data") as file:
        file.write(text)
        data = {"name": "data", "bytes": file.num_bytes, "sha256": file.sha256}
        record = json.dumps({"by": text.decode(), "data": data}).encode()
        return output.commit(file, "units/u.json", record)


@pytest.mark.parametrize("texts", [(b"slow", b"fast"), (b"same", b"same")])
def test_of_two_workers_on_one_unit_exactly_one_wins(
    strict_storage, monkeypatch, texts
):
    slow, fast = texts
    outcomes = set()
    for at in range(100):
        for name in strict_storage.names():
            strict_storage.remove(name)
        won = []

        def overtake(number, at=at, won=won):
            if (
                number == at
            ):  # its own requests come through here again, with other numbers
                won.append(commit(fast))

        with each_request(monkeypatch, overtake):
            slow_won = commit(slow)
        if not won:
            break
        record, data = committed(strict_storage)
        assert data == (slow if slow_won else fast)
        assert record["by"].encode() == data
        assert slow == fast or [slow_won] != won
        outcomes.add(slow_won)
    assert at >= 4
    assert outcomes == ({True, False} if slow != fast else {True})


def test_many_workers_on_one_unit_at_once(strict_storage):
    start, won = threading.Barrier(8), []

    def work(number):
        start.wait()
        won.append(commit(b"%d" % number) and number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = filter(None, won)
    assert committed(strict_storage)[1] == b"%d" % winner


def test_a_worker_of_an_earlier_run_does_not_overwrite_what_came_later(
    strict_storage, monkeypatch
):
    """It sleeps before it copies; meanwhile record and data are made anew."""
    for at in range(2, 20):
        for name in strict_storage.names():
            strict_storage.remove(name)
        woken = []

        def sleep(number, at=at, woken=woken):
            if number == at and not woken:
                woken.append(True)
                open_output(OUT).remove("units/u.json")
                assert commit(b"new")

        with each_request(monkeypatch, sleep):
            commit(b"old")
        if not woken:
            break
        assert committed(strict_storage)[1] == b"new"
    assert at > 3


@pytest.mark.parametrize("seed", range(3))
def test_a_store_on_a_bad_day(strict_storage, undisturbed, seed):
    strict_storage.proxy.faults = Faults(
        errors=0.2,
        lost_answers=0.1,
        cut_short=0.1,
        hangs=0.05,
        hang_seconds=0.01,
        seed=seed,
    )
    run(OUT)
    faults = collections.Counter(r.fault for r in strict_storage.proxy.requests)
    assert faults["errors"] > 5
    assert faults["lost_answers"] > 2
    assert contents(strict_storage) == undisturbed


def test_a_store_that_stays_away_is_one_line_and_the_rerun_goes_on(
    strict_storage, monkeypatch, undisturbed
):
    monkeypatch.setattr(google_storage, "DEADLINE_SECONDS", 0.05)
    strict_storage.proxy.refusals = {"units/u2.json": 503}
    with pytest.raises(DataError, match=r"gs://bucket/out/units/u2.json: .*503"):
        run(OUT)
    assert "units/u1.json" in contents(strict_storage)
    strict_storage.proxy.refusals = {"out/u2.txt|attempts/u2": 403}
    with pytest.raises(DataError, match=r"attempts/u2-.*403.*run the same command"):
        run(OUT)
    strict_storage.proxy.refusals = {}
    assert run(OUT).num_resumed == 2
    assert contents(strict_storage) == undisturbed


@pytest.mark.parametrize("damage", ["missing", "short", "record", "commit"])
def test_what_is_damaged_is_done_again(strict_storage, undisturbed, damage):
    run(OUT)
    if damage == "missing":
        strict_storage.remove("out/u1.txt")
    elif damage == "short":
        strict_storage.put("out/u1.txt", b"x")
    elif damage == "record":
        strict_storage.put("out/units/u1.json", b"{")
    else:
        strict_storage.remove("out/units/u1.json")
    assert run(OUT).num_resumed == NUM_UNITS - 1
    assert contents(strict_storage) == undisturbed


def test_data_that_a_dead_worker_did_not_copy_is_not_made_again(
    strict_storage, undisturbed
):
    run(OUT)
    data, record = (undisturbed[n] for n in ("u1.txt", "units/u1.json"))
    strict_storage.remove("out/u1.txt")
    sha256 = json.loads(record)["data"]["sha256"]
    strict_storage.put(f"out/attempts/u1-{sha256[:16]}", data)
    strict_storage.put("out/attempts/u2-0123456789abcdef", b"of one who lost")
    assert run(OUT).num_resumed == NUM_UNITS
    assert contents(strict_storage) == undisturbed


# The launcher's hold


def test_a_launcher_that_lives_keeps_its_directory(strict_storage, monkeypatch, capsys):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 30.0)
    with (
        hold_output(OUT) as output,
        pytest.raises(DataError, match="another run is writing to this directory"),
        hold_output(OUT),
    ):
        pass
    assert (
        "may still be writing here; waiting for up to 30 s" in capsys.readouterr().err
    )
    assert output.entries() == []
    assert strict_storage.names() == []  # let go
    with hold_output(OUT):
        pass


def test_a_launcher_that_died_is_waited_for(strict_storage, undisturbed):
    held = lease.Lease(f"{OUT}/lease.json", OUT)
    held._take()  # and never renews it
    run(OUT)
    assert contents(strict_storage) == undisturbed


def test_a_launcher_that_was_taken_for_dead_writes_no_more(strict_storage, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    with hold_output(OUT) as slow, hold_output(OUT) as other:
        other.write("mine", b"1")

        def write_on():
            while True:
                slow.write("mine", b"2")

        with pytest.raises(DataError, match="another run has taken this directory"):
            write_on()
    assert strict_storage.names() == ["out/mine"]


def test_a_renewal_that_was_given_up_and_had_arrived_loses_nothing(
    strict_storage, monkeypatch
):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.01)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 30.0)
    replace, enough, results = files.replace_file, threading.Event(), []

    def without_an_answer(path, old, new):
        results.append(replace(path, old, new))
        if len(results) == 1:
            raise OSError(errno.EIO, "no answer")
        if len(results) == 5:
            enough.set()
        return results[-1]

    monkeypatch.setattr(files, "replace_file", without_an_answer)
    with hold_output(OUT) as output:
        assert enough.wait(20)
        output.write("mine", b"1")
    assert results[:5] == [True, False, True, True, True]
    assert strict_storage.names() == ["out/mine"]


def test_a_lease_that_ends_as_it_is_taken_over_is_taken(strict_storage, monkeypatch):
    held = lease.Lease(f"{OUT}/lease.json", OUT)
    held._take()

    def too_late(path, old, new):
        held.let_go()
        raise FileNotFoundError(errno.ENOENT, "No such file", path)

    monkeypatch.setattr(files, "replace_file", too_late)
    with hold_output(OUT) as output:
        output.write("mine", b"1")
    assert strict_storage.names() == ["out/mine"]


def test_leaving_without_ceremony_ends_the_lease(strict_storage):
    with hold_output(OUT):
        assert strict_storage.names() == ["out/lease.json"]
        lease.let_all_go()
        assert strict_storage.names() == []


# Costs


class Null:
    """A unit that costs nothing but its requests."""

    def data_name(self, unit_name):
        return f"{unit_name}.txt"

    def setup(self):
        pass

    def process(self, unit, out):
        out.write(unit.name.encode())
        counts = {"images_in": 1, "images_out": 1, "images_failed": 0}
        return UnitReport(counts)


REQUESTS_OF_A_UNIT = {
    "write": 4,  # plan, mark of its worker, attempt, record
    "read": 3,  # by the worker: is it done?, plan; by the merge: record
    "copy": 1,
    "remove": 3,  # attempt, mark, plan
}


@pytest.mark.slow
def test_requests_grow_with_the_units_by_eleven_each(strict_storage, monkeypatch):
    def run_tasks(options, task, units, *, progress, needs, verbose):
        for _ in files.map_requests(lambda unit: task.run(*unit), units):
            pass
        return Observation()

    monkeypatch.setattr(launch, "run_tasks", run_tasks)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 1000.0)  # three requests each time
    options = launch.parse_beam_args([])
    counts = {}
    for number in (10, 310):
        strict_storage.proxy.forget()

        def plan(writer, number=number):
            for index in range(number):
                writer.add(f"u{index:05}", {"n": index})

        out = f"gs://bucket/{number}"
        with hold_output(out) as output:
            totals = run_units(
                output, job="null", plan=plan, work=lambda _: Null(), options={},
                beam_options=options,
            )  # fmt: skip
            finish(output, {"counts": totals.counts})
        assert totals.counts["images_out"] == number
        counts[number] = strict_storage.proxy.counts()
    # Nothing is listed, and nothing else asked, once for each unit.
    grown = counts[310] - counts[10]
    assert grown == {kind: 300 * n for kind, n in REQUESTS_OF_A_UNIT.items()}


def test_a_worker_that_was_taken_for_dead_puts_its_data_in_place_all_the_same(
    strict_storage, undisturbed, monkeypatch
):
    """The next launcher has tidied up between its upload and its record."""
    create = files.create_file

    def tidied_up_before(path, data):
        if "/units/" in path:
            files.remove_folder(f"{OUT}/attempts")
        return create(path, data)

    monkeypatch.setattr(files, "create_file", tidied_up_before)
    run(OUT)
    assert contents(strict_storage) == undisturbed
