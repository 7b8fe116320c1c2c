"""What the launcher itself writes after the work: on a full disk, and beside another launcher."""

import pytest
from small_dataset import SmallDataset

from deepmac.cli import main
from deepmac.data.local_files import LocalFiles
from deepmac.errors import DataError
from pipelines import build_dataset, evaluate, infer
from pipelines.storage import LocalOutput, hold_output, refusals_told


@pytest.fixture
def commands(tmp_path):
    """Job -> its command line; each writes to OUT/JOB."""
    data = SmallDataset(tmp_path / "data", num_images=3).write()
    flags = {
        "build": [*data.flags, "--num_shards=2"],
        "label": [
            *data.flags, "--model=box", "--write_coco_results", "--write_annotations",
        ],
        "evaluate": [
            f"--ground_truth={data.path}",
            f"--predictions={tmp_path / 'label'}",
            f"--arrays={tmp_path / 'evaluate' / 'arrays.npz'}",
        ],
    }  # fmt: skip
    return {job: [job, *own, f"--out={tmp_path / job}"] for job, own in flags.items()}


def label_first(commands, job):
    if job == "evaluate":
        assert main(commands["label"]) == 0


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ("build", "manifest.json"),
        ("label", "predictions.json"),
        ("label", "annotations.json"),
        ("label", "manifest.json"),
        ("evaluate", "arrays.npz"),
        ("evaluate", "metrics.json"),
        ("evaluate", "run.json"),
    ],
)
def test_a_disk_that_is_full_at_the_end_is_one_line(
    commands, tmp_path, monkeypatch, capsys, job, name
):
    label_first(commands, job)
    capsys.readouterr()
    new_file, write = LocalOutput.new_file, LocalFiles.write

    def full(self, wanted):
        if wanted == name:
            raise OSError(28, "No space left on device")
        return new_file(self, wanted)

    def full_elsewhere(self, path, data):
        if path.endswith(f"/{name}"):
            raise OSError(28, "No space left on device")
        return write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalOutput, "new_file", full)
        patch.setattr(LocalFiles, "write", full_elsewhere)
        assert main(commands[job]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    place = tmp_path / job / (name if name == "arrays.npz" else "")
    assert line == (
        f"error: {place}: No space left on device; put that right and run the same command again"
    )
    assert main(commands[job]) == 0
    assert (tmp_path / job / name).is_file()


@pytest.mark.parametrize(
    ("job", "module", "step"),
    [
        ("build", build_dataset, "finish"),
        ("label", infer, "write_results"),
        ("label", infer, "write_annotations"),
        ("label", infer, "finish"),
        ("evaluate", evaluate, "note_run"),
    ],
)
def test_a_second_launcher_is_kept_away_to_the_last_step(
    commands, tmp_path, monkeypatch, job, module, step
):
    label_first(commands, job)
    do, reached = getattr(module, step), []

    def beside_another(*args):
        with (
            pytest.raises(DataError, match="another run is writing"),
            hold_output(str(tmp_path / job)),
        ):
            pass
        reached.append(step)
        return do(*args)

    monkeypatch.setattr(module, step, beside_another)
    assert main(commands[job]) == 0
    assert reached == [step]


def test_arrays_cannot_take_the_place_of_a_directory(commands, tmp_path, capsys):
    label_first(commands, "evaluate")
    (tmp_path / "evaluate" / "arrays.npz").mkdir(parents=True)
    capsys.readouterr()
    assert main(commands["evaluate"]) == 2
    assert capsys.readouterr().err == (
        f"error: --arrays: {tmp_path / 'evaluate' / 'arrays.npz'} is a directory\n"
    )
    assert not (tmp_path / "evaluate" / "metrics.json").exists()


def test_arrays_may_go_where_no_directory_is_yet(commands, tmp_path):
    label_first(commands, "evaluate")
    arrays = f"--arrays={tmp_path / 'new' / 'a.npz'}"
    assert (
        main([*commands["evaluate"], arrays, "--iou_type=segm", "--iou_type=bbox"]) == 0
    )
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "a-bbox.npz", "a-segm.npz",
    ]  # fmt: skip


def test_what_is_no_refusal_stays_what_it_is():
    for error in (KeyError("a bug"), BrokenPipeError(32, "Broken pipe")):
        with pytest.raises(type(error)), refusals_told("out"):
            raise error


@pytest.mark.parametrize("job", ["build", "label"])
def test_what_a_worker_left_that_died_is_removed(commands, tmp_path, monkeypatch, job):
    """Where the job goes on without it, no next run comes to do so."""
    job_module = {"build": build_dataset, "label": infer}[job]
    finish = job_module.finish
    left = tmp_path / job / ".unfinished-file-1-0123"

    def after_a_death(output, manifest):
        left.write_bytes(b"half")
        finish(output, manifest)

    monkeypatch.setattr(job_module, "finish", after_a_death)
    assert main(commands[job]) == 0
    assert not left.exists()
