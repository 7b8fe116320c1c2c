"""Training with everything in Google Cloud Storage: records, checkpoints, summaries."""

from pathlib import Path

import pytest
import small_training

pytest.importorskip("google.cloud.storage")

from google.api_core.retry import Retry
from storage_emulator import Faults

import deepmac
from deepmac.checkpoint.load import open_weights
from deepmac.config.load import load_config
from deepmac.data import google_storage
from deepmac.errors import CheckpointError
from deepmac.train.model_dir import open_model_dir
from deepmac.train.run import RunOptions, train

RUN = "gs://bucket/runs/a"


@pytest.fixture(autouse=True)
def hasty(monkeypatch, tmp_path):
    def policy():
        return Retry(google_storage._may_pass, initial=0.005, maximum=0.05, timeout=2)

    monkeypatch.setattr(google_storage, "_policy", policy)
    monkeypatch.setenv("DEEPMAC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
    google_storage.close()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    return folder, small_training.write_records(folder)


def options(model_dir, num_steps):
    return RunOptions(
        model_dir=model_dir, num_steps=num_steps, checkpoint_every=1, keep=2
    )


def values_of(path):
    weights = open_weights(path)
    return {name: weights.read(name).tobytes() for name in weights.variables}


def test_a_run_in_a_bucket_is_the_one_of_a_local_folder(storage, records, tmp_path):
    folder, overrides = records
    here = load_config(small_training.CONFIG, overrides)
    assert train(here, options(tmp_path / "run", 2))
    storage.upload(folder, "data")
    moved = [o.replace(str(folder), "gs://bucket/data") for o in overrides]
    there = load_config(small_training.CONFIG, moved)
    storage.proxy.faults = Faults(errors=0.1, lost_answers=0.05, cut_short=0.05)
    # The upload of the last checkpoint is cut off before the file that makes it one.
    storage.proxy.refusals = {r"step-00000002/run\.json": 503}
    with pytest.raises(CheckpointError, match=r"step-00000002/run.json: ") as caught:
        train(there, options(RUN, 2))
    assert "the newest checkpoint is in" in str(caught.value)
    assert "runs/a/step-00000002/state.npz" in storage.names("runs/a/step-")
    storage.proxy.refusals = {}
    found = Path(open_weights(RUN).path).parent.name
    assert found.startswith("gs___bucket_runs_a_step-00000001")
    assert train(there, options(RUN, 2))
    assert values_of(RUN) == values_of(tmp_path / "run")
    whole = {n.split("/")[2] for n in storage.names("runs/a/step-")}
    assert whole == {"step-00000001", "step-00000002"}  # the newest two
    assert len(storage.get("runs/a/evaluations.jsonl").splitlines()) == 2
    assert any("tfevents" in n for n in storage.names("runs/a/train/"))
    assert deepmac.load(
        small_training.CONFIG, checkpoint=RUN, overrides=small_training.OVERRIDES
    )


def test_the_last_to_begin_wins(storage, tmp_path):
    with (
        open_model_dir(RUN, is_chief=True) as first,
        open_model_dir(RUN, is_chief=True) as second,
    ):
        for run in (first, second):
            (run.path / "evaluations.jsonl").write_text(run.path.name)
        second.publish(keep=1)
        with pytest.raises(
            CheckpointError, match=r"another run, process .* this one stops"
        ):
            first.publish(keep=1)
    assert storage.get("runs/a/evaluations.jsonl").decode() == second.path.name
    assert not list(tmp_path.glob("deepmac-train-*"))


def test_files_of_two_runs_are_no_checkpoint(storage):
    for name in ("model.weights.h5", "state.npz"):
        storage.put(f"runs/a/step-00000005/{name}", b"x")
    storage.put("runs/a/step-00000005/run.json", b'{"sha256": {"state.npz": "0"}}')
    with (
        pytest.raises(
            CheckpointError, match=r"gs://bucket/runs/a/step-00000005: damaged"
        ),
        open_model_dir(RUN, is_chief=True),
    ):
        pass
