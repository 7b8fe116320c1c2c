"""A small job of units that doubles numbers, for tests of what happens between its steps."""

import dataclasses

import pytest

from pipelines import launch
from pipelines.dead_letters import DeadLetter
from pipelines.observation import Observation
from pipelines.storage import hold_output
from pipelines.units import UnitReport, finish, run_units

NUM_UNITS, NUM_ITEMS = 4, 23


@dataclasses.dataclass
class Doubling:
    """Writes twice each number; the multiples of 7 fail."""

    broken: str = ""  # "UNIT: kind of error"
    is_ready: bool = False

    def data_name(self, unit_name):
        return f"{unit_name}.txt"

    def setup(self):
        assert not self.is_ready
        self.is_ready = True

    def process(self, unit, out):
        assert self.is_ready
        if self.broken == f"{unit.name}: disk":
            raise OSError(28, "No space left on device")
        if self.broken == f"{unit.name}: bug":
            raise KeyError("a bug")
        letters, offsets = [], []
        for item in unit.items:
            number = item["number"]
            if number % 7 == 0:
                letters.append(letter(unit.name, number))
                continue
            offsets.append(out.tell())
            out.write(f"{2 * number} {item['name']}\n".encode())
        counts = {
            "images_in": len(unit.items),
            "images_out": len(offsets),
            "images_failed": len(letters),
        }
        return UnitReport(counts, letters, {"offsets": offsets})


def letter(unit, number):
    return DeadLetter(
        job="double",
        unit=unit,
        stage="double",
        image_id=number,
        annotation_id=None,
        reason="by_seven",
        exception="ValueError",
        message="a multiple of 7",
    )


def plan(writer):
    for index in range(NUM_UNITS):
        writer.declare(f"u{index}")
    for number in range(NUM_ITEMS):
        # No number goes to the last unit.
        item = {"number": number, "name": f"größe\udcff {number}"[:5]}
        writer.add(f"u{number % (NUM_UNITS - 1)}", item)
    return {"limit": NUM_ITEMS}


def run(out, *, broken="", plan=plan, version=1, name="", **options):
    with hold_output(str(out)) as output:
        totals = run_units(
            output,
            job="double",
            plan=plan,
            work=lambda context: Doubling(broken),
            options={"version": version, "name": name},
            beam_options=launch.parse_beam_args([]),
            **options,
        )
        finish(output, {"counts": totals.counts, "context": totals.context})
    return totals


def contents(out):
    """Every file but the facts of the runs: name -> bytes."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


@pytest.fixture
def inline(monkeypatch):
    """Does the units in this thread, so that a crash can be put anywhere."""

    def run_tasks(options, task, units, *, progress, verbose):
        for name, num_items in units:
            task.run(name, num_items)
        progress.update()
        return Observation()

    class Options:
        def get_all_options(self, drop_default):
            return {}

    monkeypatch.setattr(launch, "run_tasks", run_tasks)
    # Making Beam's parser takes longer than everything else here.
    monkeypatch.setattr(launch, "parse_beam_args", lambda *args: Options())
