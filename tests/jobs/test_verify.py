"""`data verify`: whatever is missing, damaged or too much in a directory is found and named, and nothing
in a whole one."""

import json
import shutil

import pytest
from small_dataset import SmallDataset

from deepmac.data.verify import verify
from pipelines import build_dataset, infer

BEGINNING = {"build": "records", "label": "predictions"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Directory of each job, with dead letters of images and annotations in every unit."""
    folder = tmp_path_factory.mktemp("made")
    data = SmallDataset(folder / "data", num_images=9)
    for place in (0, 4, 8):
        del data.files[data.images[place]["file_name"]]
        data.annotations[2 * place + 3 if place < 8 else 4]["bbox"] = [1, 2, 3]
    data.write()
    flags = [*data.flags, "--max_failed_fraction=1"]
    build, label = folder / "build", folder / "label"
    assert build_dataset.main([*flags, f"--out={build}", "--num_shards=3"]) == 0
    more = ["--model=box", "--unit_images=3", "--write_annotations", "--review"]
    assert infer.main([*flags, *more, "--write_coco_results", f"--out={label}"]) == 0
    return {"build": build, "label": label}


@pytest.fixture(params=["build", "label"])
def case(made, tmp_path, request):
    """A copy of a directory, and the name of a unit of it that has dead letters."""
    job, out = request.param, tmp_path / "out"
    shutil.copytree(made[job], out)
    unit = json.loads((out / "dead_letters.jsonl").read_text().splitlines()[0])["unit"]
    assert unit.startswith(BEGINNING[job])
    return out, unit


def problems(out):
    return [finding.problem for finding in verify(str(out)).findings]


def change_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def change_lines(path, change):
    lines = path.read_text().splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines))


def test_a_whole_directory_is_whole(case):
    found = verify(str(case[0]))
    assert found.findings == []
    assert (found.num_files, found.num_images, found.num_failed) == (3, 6, 3)


def commit(out, unit):
    return out / "units" / f"{unit}.json"


def an_image_lost(out, unit):
    change_json(
        commit(out, unit), lambda r: r["counts"].update(images_in=5, images_out=9)
    )


def an_image_not_planned_for(out, unit):
    change_json(out / "job.json", lambda j: j["plan"]["num_images"].update({unit: 99}))


def another_job(out, unit):
    change_json(commit(out, unit), lambda r: r.update(fingerprint="0" * 64))


def a_letter_changed(out, unit):
    change_lines(
        out / "dead_letters.jsonl",
        lambda s: s.__setitem__(0, s[0].replace("image_", "picture_")),
    )


DAMAGE = {  # what is done, words of the finding, whether the unit is named as damaged
    "a unit lost an image": (an_image_lost, "of 5 images 9 were written and", True),
    "an image of the plan": (an_image_not_planned_for, "images, 99 were planned", True),
    "another job": (another_job, "not of the same job and options as the other units", True),
    "no record": (lambda o, u: commit(o, u).unlink(), ": not done", False),
    "a letter changed": (a_letter_changed, "dead_letters.jsonl: line 1 is not what units/", False),
    "a letter lost": (
        lambda o, u: change_lines(o / "dead_letters.jsonl", lambda s: s.pop()),
        "dead_letters.jsonl: ends before those of", False,
    ),
    "a letter too many": (
        lambda o, u: change_lines(o / "dead_letters.jsonl", lambda s: s.append(s[0])),
        "is of no unit", False,
    ),
    "no letters": (lambda o, u: (o / "dead_letters.jsonl").unlink(), "no dead_letters.jsonl", False),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(case, kind):
    out, unit = case
    change, words, is_damaged = DAMAGE[kind]
    change(out, unit)
    found = verify(str(out))
    (finding, *_) = found.findings
    assert words in finding.problem
    assert found.damaged_units() == ([unit] if is_damaged else [])
    assert len(finding.problem.splitlines()) == 1


def test_files_that_the_job_has_not_made_are_named(case):
    out, _ = case
    (out / "records-00007-of-00009.tfrecord").write_bytes(b"")
    (out / "notes").mkdir()
    (out / "units" / "x\n.json").write_bytes(b"{}")
    assert problems(out) == [
        "notes: not of this job; delete it",
        "records-00007-of-00009.tfrecord: not of this job; delete it",
        "units/x\\n.json: not of this job; delete it",
    ]
    assert all(finding.is_stray for finding in verify(str(out)).findings)


def test_working_files_are_no_strays(case):
    out, unit = case
    for folder in ("in_flight", "plan"):
        (out / folder).mkdir()
        (out / folder / f"{unit}.json").write_bytes(b"")
    (out / ".unfinished-x").write_bytes(b"")
    assert problems(out) == []


def test_an_unfinished_directory_tells_what_is_missing(case):
    out, unit = case
    (out / "manifest.json").unlink()
    commit(out, unit).unlink()  # its data is there: the worker died in between
    assert problems(out) == [
        f"{unit}: not done",
        "no manifest.json: the job has not finished",
    ]


def test_many_units_that_are_missing_are_one_line(case):
    out, _ = case
    plan = {f"{i:02}": 1 for i in range(30)}
    change_json(out / "job.json", lambda j: j["plan"].update(num_items=plan))
    assert problems(out)[0].startswith("30 of 30 units are not done: 00, 01, 02")


def test_the_command_to_give_again_is_known(case):
    out, _ = case
    command, _ = verify(str(out)).command
    assert command.startswith("deepmac ")
    assert "--max_failed_fraction=1" in command
