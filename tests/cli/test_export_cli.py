"""`deepmac export` as a user runs it, and what it does when the export is not the network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepmac.cli import main

RECORDED = Path(__file__).parents[1] / "golden" / "full_hg10_roialign"
OF_RECORDED = [
    *("--model", str(RECORDED / "pipeline.config")),
    *("--checkpoint", str(RECORDED / "checkpoint")),
]


def export(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deepmac", "export", *arguments]
    # JAX, imported by other tests, leaves a level there that is not the user's wish.
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, env=kept | env
    )


def test_it_says_what_it_wrote_and_how_far_apart_it_is(tmp_path):
    pytest.importorskip("tensorflow")
    out = tmp_path / "export"
    result = export(
        *(*OF_RECORDED, "--to", "saved_model", "--out", str(out)),
        *("--input_type", "encoded_image_string_tensor"),
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # not a word from TensorFlow
    wrote, compared = result.stdout.splitlines()
    assert wrote == f"wrote {out}"
    assert compared.startswith(
        "compared with the network on 3 images: the largest difference is "
    )
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    facts = json.loads((out / "export.json").read_text())
    assert facts["inputs"] == {"input_tensor": "string [None]"}
    assert not {"time", "host", str(tmp_path)} & set(json.dumps(facts).split('"'))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*OF_RECORDED, "--to", "onnx"], "'export --to onnx' is not available yet"),
        ([*OF_RECORDED, "--to", "saved_modl"], "'saved_modl' is not one of"),
        (
            [*OF_RECORDED, "--to", "saved_model", "--input_type", "image"],
            "'image' is not one of 'image_and_boxes_tensor', 'encoded_image_and_boxes'",
        ),
        (["--checkpoint", "x", "--to", "saved_model"], "missing option --model"),
        (
            [*OF_RECORDED[:2], "--checkpoint", "no/ckpt-1", "--to", "saved_model"],
            "the directory no does not exist",
        ),
        (
            ["--model", "tiny", *OF_RECORDED[2:], "--to", "saved_model"],
            "neither a file nor the name of a configuration",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, message, tmp_path, capsys):
    assert main(["export", *arguments, "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    command = ["export", *OF_RECORDED, "--to", "saved_model", "--out", str(tmp_path)]
    for options in ([], ["--overwrite"]):
        assert main([*command, *options]) == 2
        assert "is there, and is no export" in capsys.readouterr().err
    (tmp_path / "export.json").write_text("{}")
    assert main(command) == 2
    assert "holds an export; --overwrite replaces it" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_it_needs_tensorflow(tmp_path):
    result = export(
        *(*OF_RECORDED, "--to", "saved_model", "--out", str(tmp_path / "new")),
        KERAS_BACKEND="jax",
    )
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "error: exporting a SavedModel needs Keras on TensorFlow, here it runs on jax; set "
        "KERAS_BACKEND=tensorflow"
    ]


def test_an_export_that_is_not_the_network_does_not_appear(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("tensorflow")
    from deepmac.export import saved_model
    from deepmac.model.variables import named_variables

    make, save = saved_model.exported_module, saved_model._save
    changed = []

    def remember(model, input_type):
        changed.append(named_variables(model)["mask_head/project_out/bias"])
        return make(model, input_type)

    def save_other_weights(module, path):
        value = np.asarray(changed[0])
        changed[0].assign(value + 0.01)
        save(module, path)
        changed[0].assign(value)

    monkeypatch.setattr(saved_model, "exported_module", remember)
    monkeypatch.setattr(saved_model, "_save", save_other_weights)
    out = tmp_path / "export"
    out.mkdir()
    (out / "export.json").write_text("{}")  # an export of before
    arguments = [*OF_RECORDED, "--to", "saved_model", "--out", str(out), "--overwrite"]
    assert main(["export", *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "network is not the network: detection_masks differs by 0.002" in error
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert [path.name for path in out.iterdir()] == ["export.json"]


def test_overwriting_replaces_the_whole(tmp_path):
    from deepmac.export.destination import written_whole

    out = tmp_path / "export"
    out.mkdir()
    (out / "old").touch()
    with written_whole(out) as folder:
        (folder / "new").touch()
    assert [path.name for path in out.iterdir()] == ["new"]
    with pytest.raises(KeyboardInterrupt), written_whole(out) as folder:
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert [path.name for path in out.iterdir()] == ["new"]
