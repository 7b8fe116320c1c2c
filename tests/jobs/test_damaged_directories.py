"""Files by which a job keeps track, damaged in every way: told by `data verify` in a line, and mended
or refused in a line by the job's own command. Found by fuzzing."""

import json
import shutil
from collections.abc import Callable

import pytest
from small_dataset import SmallDataset

from deepmac.data.verify import verify
from pipelines.build_dataset import main

JOB, COMMIT = "job.json", "units/records-00000-of-00002.json"


def replaced(value) -> Callable:
    return lambda document: value


def changed(*path, to) -> Callable:
    def change(document):
        *above, last = path
        inner = document
        for key in above:
            inner = inner[key]
        inner[last] = to
        return document

    return change


def without(*path) -> Callable:
    def change(document):
        *above, last = path
        inner = document
        for key in above:
            inner = inner[key]
        del inner[last]
        return document

    return change


COMMITS = {
    "a list": (replaced([1]), "not done"),
    "no data": (without("data"), "it has no 'data'"),
    "data a text": (changed("data", to="x"), "data is 'x', not an object"),
    "no checksum": (without("data", "sha256"), "data has no 'sha256'"),
    "name a number": (changed("data", "name", to=4), "data.name is 4, not a text"),
    "name of another directory": (changed("data", "name", to="../x"), "data.name is '../x', no file's name"),
    "bytes a text": (changed("data", "bytes", to="9"), "data.bytes is '9', not a whole number"),
    "counts a list": (changed("counts", to=[]), "counts is [], not an object"),
    "a count of text": (changed("counts", "images_out", to="6"), "counts.images_out is '6', not a whole"),
    "a letter without reason": (changed("dead_letters", to=[{"stage": "x"}]), "dead_letters[0] has no 'reason'"),
}  # fmt: skip

JOBS = {
    "no version": (without("version"), "it has no 'version'"),
    "job a list": (changed("job", to=["build"]), "job is ['build'], not a text"),
    "options a list": (changed("options", to=[]), "options is [], not an object"),
    "plan a text": (changed("plan", to="x"), "plan is 'x', not an object"),
    "items a number": (changed("plan", "num_items", to=2.5), "plan.num_items is 2.5, not an object"),
    "no context": (without("plan", "context"), "plan has no 'context'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    data = SmallDataset(folder / "data", 4).write()
    flags = [*data.flags, "--split=all", "--num_shards=2"]
    assert main([*flags, f"--out={folder / 'out'}"]) == 0
    return folder / "out", flags


@pytest.fixture
def damaged(built, tmp_path):
    """A copy of the directory in which the JSON of one file is changed; and the job's flags."""

    def damage(name: str, change: Callable):
        shutil.copytree(built[0], tmp_path / "out")
        path = tmp_path / "out" / name
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
        return tmp_path / "out", [*built[1], f"--out={tmp_path / 'out'}"]

    return damage


@pytest.mark.parametrize("case", COMMITS)
def test_a_damaged_commit_record_is_told_and_its_unit_done_again(damaged, built, case):
    change, words = COMMITS[case]
    out, flags = damaged(COMMIT, change)
    (finding,) = verify(str(out)).findings
    assert words in finding.problem
    assert main(flags) == 0
    assert verify(str(out)).findings == []
    assert (out / COMMIT).read_bytes() == (built[0] / COMMIT).read_bytes()


@pytest.mark.parametrize("case", JOBS)
def test_a_damaged_plan_is_told_in_a_line(damaged, case, capsys):
    change, words = JOBS[case]
    out, flags = damaged(JOB, change)
    (finding,) = verify(str(out)).findings
    assert finding.problem == f"job.json: damaged, {words}" or words in finding.problem
    capsys.readouterr()
    assert main(flags) == 2
    printed = capsys.readouterr().err
    assert f"job.json: damaged, {words}" in printed
    assert "use another --out, or delete that one" in printed
    assert len(printed.splitlines()) == 1


def test_a_unit_cannot_be_named_for_another_directory(damaged):
    change = changed("plan", "num_items", to={"../../x": 1})
    out, _ = damaged(JOB, change)
    (finding,) = verify(str(out)).findings
    assert finding.problem == "job.json: damaged, '../../x' can be no unit"
