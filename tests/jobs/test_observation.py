"""What the jobs tell of their work: Beam's metrics, run.json, marks of units in flight, a stall."""

import dataclasses
import json
import threading
import time
from types import SimpleNamespace

import pytest
from small_dataset import SmallDataset

from deepmac.errors import DataError
from deepmac.stage_times import StageTimes
from pipelines import build_dataset, evaluate, infer, launch
from pipelines import progress as progress_module
from pipelines.beam_metrics import gather
from pipelines.observation import Distribution, Observation
from pipelines.progress import Progress, describe_stall
from pipelines.storage import LocalOutput, hold_output
from pipelines.units import UnitReport, run_units

NUM_IMAGES = 6


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    data = SmallDataset(tmp_path_factory.mktemp("data"), NUM_IMAGES)
    del data.files[data.images[1]["file_name"]]
    return data.write()


def last_run(out):
    return json.loads((out / "run.json").read_text())["runs"][-1]


def check_counters(out, units):
    """What the workers told is what the commit records say."""
    counters = last_run(out)["metrics"]["counters"]
    manifest = json.loads((out / "manifest.json").read_text())
    told = {
        name: counters.pop(name)
        for name in list(counters)
        if name in manifest["counts"]
    }
    assert told == {
        name: number for name, number in manifest["counts"].items() if number
    }
    assert counters == {
        "bytes": sum(file["bytes"] for file in manifest[units]),
        "units_committed": len(manifest[units]),
        "dead_letters.image.image_missing": 1,
    }


@pytest.mark.parametrize("beam", [[], ["--direct_num_workers=2"]])
def test_build_tells_what_it_did(source, tmp_path, capsys, beam):
    flags = [*source.flags, f"--out={tmp_path}", "--num_shards=2"]
    assert build_dataset.main([*flags, "--max_failed_fraction=1", *beam]) == 0
    check_counters(tmp_path, "shards")
    distributions = last_run(tmp_path)["metrics"]["distributions"]
    numbers = {name: figures["count"] for name, figures in distributions.items()}
    good = NUM_IMAGES - 1
    assert numbers == {
        "read_us": NUM_IMAGES, "check_us": good, "encode_us": good, "write_us": good,
        "commit_us": 2, "unit_us": 2, "seconds_per_image_us": 2,
    }  # fmt: skip
    for figures in distributions.values():
        assert 0 <= figures["min"] <= figures["max"] <= figures["sum"]
    printed = capsys.readouterr().out
    assert printed.index("image_missing") < printed.index("time (ms)")
    assert printed.index("time (ms)") < printed.index("6 images in, 5 out, 1 failed")


def test_label_tells_what_it_did(source, tmp_path):
    flags = [*source.flags, f"--out={tmp_path}", "--model=box", "--unit_images=4"]
    assert infer.main([*flags, "--max_failed_fraction=1"]) == 0
    check_counters(tmp_path, "units")
    distributions = last_run(tmp_path)["metrics"]["distributions"]
    numbers = {name: figures["count"] for name, figures in distributions.items()}
    stages = ("check_us", "decode_us", "predict_us", "paste_us", "write_us")
    assert numbers == {
        **dict.fromkeys(stages, NUM_IMAGES - 1), "read_us": NUM_IMAGES,
        "commit_us": 2, "unit_us": 2, "seconds_per_image_us": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "how", [["--num_processes=1"], ["--num_processes=2"], ["--direct_num_workers=1"]]
)
def test_evaluate_tells_the_same_wherever_it_runs(source, tmp_path, how):
    flags = [*source.flags, f"--out={tmp_path / 'masks'}", "--unit_images=4"]
    assert infer.main([*flags, "--model=box", "--max_failed_fraction=1"]) == 0
    masks = json.loads((tmp_path / "masks" / "manifest.json").read_text())["counts"]
    flags = [f"--ground_truth={source.path}", f"--predictions={tmp_path / 'masks'}"]
    more = [f"--out={tmp_path / 'figures'}", "--draws=0", "--no_report"]
    assert evaluate.main([*flags, *more, *how]) == 0
    metrics = last_run(tmp_path / "figures")["metrics"]
    counters = metrics["counters"]
    assert counters.pop("state_bytes") > 0
    assert counters == {
        "units_committed": 2,
        "results": masks["masks_out"],
        "detections": masks["masks_out"],
        "ground_truths": 2 * NUM_IMAGES,
    }
    numbers = {name: d["count"] for name, d in metrics["distributions"].items()}
    assert (numbers.pop("merge_us", 0) > 0) == ("--direct" in how[0])
    assert numbers == {"read_us": 2, "match_us": 2, "figures_us": 1}


def told(name, **values):
    return SimpleNamespace(
        key=SimpleNamespace(metric=SimpleNamespace(name=name)),
        **({"committed": None, "attempted": None} | values),
    )


class Runner:
    """A result as some runner gives it."""

    def __init__(self, counters=(), distributions=()):
        self._found = {"counters": counters, "distributions": distributions}

    def metrics(self):
        return self

    def query(self, wanted):
        assert wanted.namespaces == {"deepmac"}
        return self._found


class Silent:
    def metrics(self):
        raise NotImplementedError


def test_runners_tell_committed_or_attempted_or_nothing():
    figures = SimpleNamespace(count=2, sum=5, min=1, max=4)
    empty = SimpleNamespace(count=0, sum=0, min=None, max=None)
    result = Runner(
        [
            told("a", committed=1),
            told("a", attempted=2),  # of another step
            told("b", committed=3, attempted=4),
            told("c"),
        ],
        [
            told("read_us", attempted=figures),
            told("x_us", committed=empty),
            told("y_us"),
        ],
    )
    of_units, of_others = (gather(result, of_units=given) for given in (True, False))
    assert of_units.counters == {"a": 3, "b": 4, "c": 0}
    assert of_others.counters == {"a": 3, "b": 3, "c": 0}
    assert of_units.distributions == {"read_us": Distribution(2, 5, 1, 4)}
    for silent in (Silent(), Runner()):
        assert gather(silent, of_units=True).as_json() == {
            "counters": {},
            "distributions": {},
        }


def test_a_run_that_was_stopped_stays_in_run_json(source, tmp_path, monkeypatch):
    flags = [*source.flags, f"--out={tmp_path}", "--num_shards=2"]
    with monkeypatch.context() as patch:
        patch.setattr(launch, "run_pipeline", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_dataset.main([*flags, "--max_failed_fraction=1"])
    begun = last_run(tmp_path)
    assert "finished" not in begun
    assert begun["command"].startswith("deepmac build --annotations=")
    path = tmp_path / "run.json"  # which tells seconds
    path.write_text(path.read_text().replace(begun["started"], "2001-01-01T00:00:00"))
    assert build_dataset.main([*flags, "--max_failed_fraction=1"]) == 0
    runs = json.loads((tmp_path / "run.json").read_text())["runs"]
    assert ["finished" in run for run in runs] == [False, True]


# Units in flight.


@dataclasses.dataclass
class Watched:
    """Units of one image each; what is in flight meanwhile is written down."""

    root: str
    hang: bool = False

    def data_name(self, unit_name):
        return unit_name

    def setup(self):
        pass

    def process(self, unit, out):
        output = LocalOutput(self.root)
        if self.hang and unit.name == "slow":
            while output.read("go on") is None:
                time.sleep(0.01)
        for name in output.sizes("in_flight"):
            out.write(output.read(f"in_flight/{name}") or b"")
        counts = {"images_in": 1, "images_out": 1, "images_failed": 0}
        return UnitReport(counts, times=StageTimes())


def plan(writer):
    for name in ("quick", "slow", "waiting"):
        writer.add(name, {"n": 1})
        writer.count_images(name, 1)


def run(out, work=None):
    with hold_output(str(out)) as output:
        return run_units(
            output,
            job="watched",
            plan=plan,
            work=lambda _: work or Watched(str(out)),
            options={},
            beam_options=launch.parse_beam_args([]),
        )


def test_who_does_a_unit_is_marked_while_it_is_done(tmp_path):
    (tmp_path / "out").mkdir()
    run(tmp_path / "out")
    for name in ("quick", "slow", "waiting"):
        mark = json.loads((tmp_path / "out" / name).read_text())
        assert mark["unit"] == name
        assert mark.keys() == {"unit", "host", "process", "since"}
    assert list((tmp_path / "out" / "in_flight").iterdir()) == []


def test_a_unit_that_somebody_else_committed_counts_nowhere(tmp_path, monkeypatch):
    tasks = []

    def run_tasks(options, task, units, **_):
        tasks.extend(task.run(*unit) for unit in [*units, *units])
        return Observation()

    monkeypatch.setattr(launch, "run_tasks", run_tasks)
    run(tmp_path)
    assert [done is None for done in tasks] == [False] * 3 + [True] * 3
    (tmp_path / "units" / "slow.json").unlink()
    with monkeypatch.context() as patch:  # somebody is quicker
        patch.setattr(LocalOutput, "commit", lambda *_: False)
        with pytest.raises(DataError, match="unit slow has not been committed"):
            run(tmp_path)
    assert tasks[-1] is None


def test_marks_of_dead_workers_go_with_the_next_launcher(tmp_path):
    work = Watched(str(tmp_path))
    with pytest.raises(KeyError), hold_output(str(tmp_path)) as output:
        run_units(
            output, job="watched", plan=plan, work=lambda _: {}["x"], options={},
            beam_options=launch.parse_beam_args([]),
        )  # fmt: skip
    LocalOutput(str(tmp_path)).write("in_flight/gone.json", b"{}")
    run(tmp_path, work)
    assert not (tmp_path / "in_flight" / "gone.json").exists()


def test_a_mark_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    write = LocalOutput.write

    def full(self, name, data):
        if name.startswith("in_flight/"):
            raise OSError(28, "No space left on device")
        write(self, name, data)

    monkeypatch.setattr(LocalOutput, "write", full)
    assert run(tmp_path).counts["images_out"] == 3


def test_a_unit_that_hangs_is_named_sparingly(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress_module, "_STALL_FLOOR", 0.2)
    monkeypatch.setattr(progress_module, "_STALL_FACTOR", 0)
    monkeypatch.setattr(progress_module, "_LINE_EVERY", 0.02)
    threading.Timer(2.0, lambda: LocalOutput(str(tmp_path)).write("go on", b"")).start()
    run(tmp_path, Watched(str(tmp_path), hang=True))
    lines = [x for x in capfd.readouterr().err.splitlines() if "no unit was" in x]
    named = [line for line in lines if "in flight: slow on " in line]
    assert named
    assert "(process " in named[0]
    assert named[0].endswith("; 1 not begun")
    assert len(lines) <= 5  # 0.2, 0.4, 0.8, 1.6 seconds


def test_a_wait_is_long_by_the_waits_before_it(tmp_path, monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now.seconds)
    output = LocalOutput(str(tmp_path))
    progress = Progress(output, 2, ["a", "b"], {"a": 7})

    def at(seconds):
        now.seconds = seconds
        progress.update()
        return progress.stall()

    assert at(119) is None
    assert "0:02:00; in flight: none; 2 not begun" in at(120)
    assert [bool(at(t)) for t in (121, 239, 241, 479)] == [False, False, True, False]
    output.write("units/a.json", b"{}")
    assert at(600) is None
    assert progress.num_images == 7  # as planned: the record is not read
    assert [bool(at(600 + t)) for t in (2999, 3001)] == [False, True]
    output.write("units/b.json", b'{"counts": {"images_in": 5}}')
    assert at(10_000) is None
    assert progress.num_images == 12


def test_a_look_that_takes_long_is_taken_seldom(tmp_path):
    progress = Progress(LocalOutput(str(tmp_path)), 1, ["a"], {})
    progress.look_seconds = 3.0
    waits = []

    class Stop:
        def wait(self, seconds):
            waits.append(seconds)
            return True

    list(progress_module._looks(progress, Stop(), 0.5, print))
    assert waits == [150.0]


def test_of_many_units_the_oldest_are_named():
    marks = [
        {"unit": f"u{i}", "host": "h\n", "process": i, "since": f"10:0{9 - i}"}
        for i in range(8)
    ]
    text = describe_stall(3723.4, 12, marks, 20)
    assert text.startswith(
        "no unit was committed for 1:02:03; in flight: u7 on h\\n (process 7) since 10:02, u6"
    )
    assert text.endswith("u3 on h\\n (process 3) since 10:06, 7 more; 8 not begun")
