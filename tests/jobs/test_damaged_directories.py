"""Files by which a job keeps track, damaged in every way: told by `data verify` in a line, and mended
or refused in a line by the job's own command. Found by fuzzing."""

import json
import os
import shutil
from collections.abc import Callable

import pytest
from small_dataset import SmallDataset

from deepmac.data.directory import open_records
from deepmac.data.tfrecord import read_frames
from deepmac.data.verify import verify
from deepmac.errors import DataError
from pipelines import infer
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


def cut_to(num_records: int) -> Callable:
    """Cuts a shard off between two records, where every record is whole."""

    def cut(path):
        with path.open("rb") as file:
            offsets = [offset for offset, _ in read_frames(file, "")]
        path.write_bytes(path.read_bytes()[: offsets[num_records]])

    return cut


@pytest.mark.parametrize("kept", [0, 1])
def test_a_shard_cut_off_between_records_does_not_lose_images_in_silence(
    built, tmp_path, kept
):
    shutil.copytree(built[0], tmp_path / "records")
    shard = max(
        (tmp_path / "records").glob("*.tfrecord"), key=lambda p: p.stat().st_size
    )
    (whole,) = [s for s in open_records(str(built[0])).shards if s.name == shard.name]
    assert whole.num_images > 1
    cut_to(kept)(shard)
    with pytest.raises(
        DataError, match=f"holds {kept} images, {whole.num_images} were written"
    ):
        list(open_records(str(tmp_path / "records")).examples())
    out = tmp_path / "out"
    assert (
        infer.main([f"--records={tmp_path / 'records'}", f"--out={out}", "--model=box"])
        == 3
    )
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert (counts["images_in"], counts["images_failed"]) == (
        4,
        whole.num_images - kept,
    )
    (letter,) = map(json.loads, (out / "dead_letters.jsonl").read_text().splitlines())
    assert letter["reason"] == "shard_damaged"
    assert (
        f"{shard.name}: ends after {kept} of {whole.num_images} images"
        in letter["message"]
    )


def test_a_pipe_in_place_of_a_shard_is_not_waited_for(built, tmp_path):
    shutil.copytree(built[0], tmp_path / "records")
    shard = min((tmp_path / "records").glob("*.tfrecord"))
    shard.unlink()
    os.mkfifo(shard)
    (finding,) = verify(str(tmp_path / "records")).findings
    assert finding.problem == f"{shard.name}: not a regular file"
    with pytest.raises(DataError, match="is missing"):
        open_records(str(tmp_path / "records"))
