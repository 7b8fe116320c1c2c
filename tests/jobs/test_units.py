"""Units: whatever happens between two steps, the same command ends with the same bytes."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil

import pytest
from doubling import NUM_ITEMS, NUM_UNITS, Doubling, contents, plan, run

from deepmac.errors import DataError, OptionError
from pipelines import launch
from pipelines.dead_letters import conclude
from pipelines.observation import Distribution, Observation
from pipelines.storage import LocalOutput
from pipelines.units import PlanWriter, Totals, UnitReport, run_units


def stamps(out):
    """Identity and time of the commit records: a unit done again would have another one."""
    return {
        p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.glob("units/u*")
    }


@pytest.fixture
def undisturbed(tmp_path, inline):
    run(tmp_path / "undisturbed")
    return contents(tmp_path / "undisturbed")


def test_a_job_writes_its_units_and_what_they_amount_to(tmp_path):
    totals = run(tmp_path)
    assert totals.counts == {"images_in": 23, "images_out": 19, "images_failed": 4}
    assert totals.reasons == {("double", "by_seven"): 4}
    assert totals.num_resumed == 0
    files = contents(tmp_path)
    assert set(files) == {
        "job.json", "manifest.json", "dead_letters.jsonl",
        *(f"u{i}.txt" for i in range(4)), *(f"units/u{i}.json" for i in range(4)),
    }  # fmt: skip
    assert files["u1.txt"].decode().split("\n")[0].startswith("2 gr")
    assert files["u3.txt"] == b""
    letters = [json.loads(line) for line in files["dead_letters.jsonl"].splitlines()]
    assert sorted(one["image_id"] for one in letters) == [0, 7, 14, 21]
    record = json.loads(files["units/u1.json"])
    assert record["data"]["bytes"] == len(files["u1.txt"])
    assert len(record["details"]["offsets"]) == record["counts"]["images_out"]
    (facts,) = json.loads((tmp_path / "run.json").read_text())["runs"]
    assert facts["units"] == {"all": 4, "done_before": 0}


def test_a_second_run_does_nothing(tmp_path):
    run(tmp_path)
    before, when = contents(tmp_path), stamps(tmp_path)
    totals = run(tmp_path, plan=lambda writer: pytest.fail("planned again"))
    assert totals.num_resumed == NUM_UNITS
    assert (contents(tmp_path), stamps(tmp_path)) == (before, when)
    assert len(json.loads((tmp_path / "run.json").read_text())["runs"]) == 1


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_only_the_unit_whose_data_is_damaged_is_done_again(tmp_path, damage):
    run(tmp_path)
    before, when = contents(tmp_path), stamps(tmp_path)
    if damage == "missing":
        (tmp_path / "u1.txt").unlink()
    else:
        (tmp_path / "u1.txt").write_bytes(before["u1.txt"][:-1])
    assert run(tmp_path).num_resumed == NUM_UNITS - 1
    assert contents(tmp_path) == before
    changed = [name for name, stamp in stamps(tmp_path).items() if stamp != when[name]]
    assert changed == ["u1.json"]


def test_how_often_the_plan_is_flushed_does_not_matter(tmp_path):
    whole, piecewise = (LocalOutput(str(tmp_path / name)) for name in "ab")
    for output, size in ((whole, 1 << 20), (piecewise, 1)):
        writer = PlanWriter(output, buffer_bytes=size)
        plan(writer)
        writer.flush()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


class Crash(BaseException):
    """The process dies here."""


@contextlib.contextmanager
def dying(monkeypatch, at):
    """Lets the file system be used `at` times; from then on nothing works any more.

    So `finally` blocks cannot tidy up either, as in a process that was killed.
    """
    steps = iter(range(at))

    def step(real):
        def call(*args, **kwargs):
            if next(steps, None) is None:
                raise Crash
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in (
            (pathlib.Path, "rename"),
            (pathlib.Path, "unlink"),
            (pathlib.Path, "mkdir"),
            (pathlib.Path, "open"),
            (os, "fsync"),
            (shutil, "rmtree"),
        ):
            patch.setattr(owner, name, step(getattr(owner, name)))
        yield


def test_a_crash_at_any_step_changes_nothing_in_the_end(
    tmp_path, monkeypatch, inline, undisturbed
):
    for at in range(1000):
        out = tmp_path / f"crash{at}"
        try:
            with dying(monkeypatch, at):
                run(out)
        except Crash:
            before = stamps(out) if out.exists() else {}
            run(out)
            assert contents(out) == undisturbed, f"died at step {at}"
            assert stamps(out).items() >= before.items(), f"died at step {at}"
        else:
            break
    assert at > 50  # there are that many steps, and each was tried
    assert contents(out) == undisturbed


def test_a_run_that_dies_again_and_again_ends_all_the_same(
    tmp_path, monkeypatch, inline, undisturbed
):
    for at in range(5, 200):
        with contextlib.suppress(Crash), dying(monkeypatch, at):
            run(tmp_path / "out")
            break
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"version": 2},
            "was begun with version = 1, now it is 2; use the same input and options",
        ),
        ({"inputs": {"images": "/b"}}, 'was begun with images = null, now it is "/b"'),
    ],
)
def test_other_options_are_refused_by_name(tmp_path, change, message):
    run(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(OptionError, match=message):
        run(tmp_path, **change)
    assert contents(tmp_path) == before


def test_another_version_and_another_job_are_refused(tmp_path, monkeypatch):
    run(tmp_path)
    monkeypatch.setattr("deepmac.__version__", "9.9")
    with pytest.raises(OptionError, match=r"was begun with version 0.*, this is 9"):
        run(tmp_path)
    with pytest.raises(OptionError, match="was begun with job double, this is triple"):
        run_units(
            LocalOutput(str(tmp_path)),
            job="triple",
            plan=plan,
            work=lambda _: Doubling(),
            options={},
            beam_options=launch.parse_beam_args([]),
        )


def test_a_plan_that_failed_leaves_room_for_other_options(tmp_path):
    def bad_plan(writer):
        plan(writer)
        raise DataError("no such thing")

    with pytest.raises(DataError, match="no such thing"):
        run(tmp_path, plan=bad_plan)
    assert run(tmp_path, version=2).counts["images_in"] == NUM_ITEMS


def test_a_full_disk_stops_the_job_in_one_line_and_loses_nothing(tmp_path):
    with pytest.raises(DataError, match="No space left on device") as caught:
        run(tmp_path, broken="u2: disk")
    assert "unit u2: OSError" in str(caught.value)
    assert "of 4 units are done; the same command goes on from there" in str(
        caught.value
    )
    assert not (tmp_path / "manifest.json").exists()
    done = stamps(tmp_path)
    assert "u2.json" not in done
    run(tmp_path)
    assert stamps(tmp_path).items() >= done.items()
    assert not list(tmp_path.rglob(".unfinished*"))


@pytest.mark.parametrize("step", ["append", "new_file", "remove_temporaries"])
def test_a_disk_that_is_full_for_the_launcher_is_one_line_too(
    tmp_path, monkeypatch, step
):
    def full(self, *args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalOutput, step, full)
        with pytest.raises(DataError, match=f"{tmp_path}: No space left on device"):
            run(tmp_path)
    assert run(tmp_path).counts["images_in"] == NUM_ITEMS


def test_what_json_can_hardly_hold_is_kept_and_counts_as_done(
    tmp_path, inline, monkeypatch
):
    process = Doubling.process

    def process_and_tell(self, unit, out):
        report = process(self, unit, out)
        report.details |= {"name": "half a pair: \ud800", "number": 2**80}
        return report

    monkeypatch.setattr(Doubling, "process", process_and_tell)
    path = {"images": os.fsdecode(b"/im\xffages")}
    assert run(tmp_path, inputs=path, name="\ud800").num_resumed == 0
    assert run(tmp_path, inputs=path, name="\ud800").num_resumed == NUM_UNITS
    record = json.loads((tmp_path / "units" / "u1.json").read_bytes())
    assert record["details"]["number"] == 2**80


def test_a_bug_keeps_its_traceback(tmp_path):
    with pytest.raises(Exception, match="a bug") as caught:
        run(tmp_path, broken="u0: bug")
    assert not isinstance(caught.value, DataError)


def test_a_lost_plan_is_noticed(tmp_path, inline):
    def plan_and_lose(writer):
        plan(writer)
        writer.flush()
        (tmp_path / "plan" / "u1.jsonl").write_bytes(b"")

    with pytest.raises(
        DataError, match=r"u1\.jsonl holds 0 of 8 items; delete .*/plan and"
    ):
        run(tmp_path, plan=plan_and_lose)


def test_two_launchers_do_not_share_a_directory(tmp_path):
    with (
        LocalOutput(str(tmp_path)).exclusive(),
        pytest.raises(DataError, match="another run is writing to this directory"),
    ):
        run(tmp_path)


def test_of_two_workers_on_one_unit_the_first_to_finish_wins(tmp_path):
    output = LocalOutput(str(tmp_path))
    with output.new_file("data") as slow, output.new_file("data") as fast:
        slow.write(b"slow")
        fast.write(b"fast")
        assert output.commit(fast, "units/u.json", b"fast")
        assert not output.commit(slow, "units/u.json", b"slow")
    assert contents(tmp_path) == {"data": b"fast", "units/u.json": b"fast"}


def test_a_unit_that_somebody_committed_meanwhile_is_left_alone(tmp_path, monkeypatch):
    tasks = []

    def run_tasks(options, task, units, *, progress, needs, verbose):
        for _ in range(2):
            for name, num_items in units:
                task.run(name, num_items)
            tasks.append(stamps(tmp_path))
        return Observation()

    monkeypatch.setattr(launch, "run_tasks", run_tasks)
    run(tmp_path)
    assert tasks[0] == tasks[1]


def test_a_job_that_loses_an_image_is_a_bug(tmp_path, inline, monkeypatch):
    def process(self, unit, out):
        return UnitReport({"images_in": 3, "images_out": 1, "images_failed": 1})

    monkeypatch.setattr(Doubling, "process", process)
    with pytest.raises(AssertionError, match="1 images neither written nor failed"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("limit", "status"), [(0.0, 3), (0.17, 3), (0.18, 0), (1.0, 0)]
)
def test_too_many_failures_are_status_3(tmp_path, capsys, limit, status):
    totals = run(tmp_path)  # 4 of 23 fail: 17.4 %
    assert conclude(totals, limit, out="OUT") == status
    printed = capsys.readouterr().out
    assert "23 images in, 19 out, 4 failed; 4 units (0 done before)" in printed
    assert "by_seven" in printed
    assert ("more than --max_failed_fraction" in printed) == (status == 3)


def test_times_of_some_units_alone_are_no_times_of_all(tmp_path, capsys):
    totals = run(tmp_path)
    told = Observation(
        counters={"units_committed": 3},
        distributions={"unit_us": Distribution(3, 30, 9, 11)},
    )
    conclude(dataclasses.replace(totals, observed=told), 1.0, out="OUT")
    assert "The times are of 3 of 4 units: the runner lost" in capsys.readouterr().out
    whole = dataclasses.replace(told, counters={"units_committed": 4})
    conclude(dataclasses.replace(totals, observed=whole), 1.0, out="OUT")
    assert "The times are of" not in capsys.readouterr().out


def test_losing_every_annotation_is_no_success(capsys):
    counts = {"images_in": 2, "images_out": 2, "annotations_failed": 5}
    totals = Totals(
        context={}, units=(), counts=counts, reasons={}, num_resumed=0, seconds=1.0
    )
    assert conclude(totals, 0.01, out="OUT") == 3
    printed = capsys.readouterr().out
    assert "5 annotations failed" in printed
    assert "none of the 5 annotations could be used; see OUT" in printed
    counts["masks_out"] = 1
    assert conclude(totals, 0.01, out="OUT") == 0


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the output directory"):
        run(tmp_path / "file" / "out")


def test_a_directory_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(
        OptionError, match=r"holds holiday.jpg and no earlier double; name another"
    ):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
