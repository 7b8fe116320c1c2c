"""What a path to weights means, and what is said when it means nothing."""

import pytest

from deepmac.checkpoint.locate import Location, locate
from deepmac.errors import CheckpointError


@pytest.fixture
def touch(tmp_path):
    def touch(*names: str, content: bytes = b""):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path

    return touch


def files(prefix: str, shards: int = 1) -> list[str]:
    data = [f"{prefix}.data-{i:05d}-of-{shards:05d}" for i in range(shards)]
    return [f"{prefix}.index", *data]


@pytest.mark.parametrize(
    "given",
    ["ckpt-51", "ckpt-51.index", "ckpt-51.data-00000-of-00001", ""],
)
def test_a_checkpoint_is_found_by_prefix_file_or_directory(touch, given):
    folder = touch(*files("ckpt-51"))
    assert locate(str(folder / given)) == Location("reference", str(folder / "ckpt-51"))


def test_a_directory_means_the_one_its_checkpoint_file_names(touch):
    folder = touch(*files("ckpt-1"), *files("ckpt-51"))
    (folder / "checkpoint").write_text(
        'model_checkpoint_path: "/far/away/ckpt-51"\nall_model_checkpoint_paths: "ckpt-1"\n'
    )
    assert locate(str(folder)).path == str(folder / "ckpt-51")


def test_an_export_directory_means_its_checkpoint_folder(touch):
    folder = touch(
        "pipeline.config", "saved_model/saved_model.pb", *files("checkpoint/ckpt-0")
    )
    assert locate(str(folder)).path == str(folder / "checkpoint" / "ckpt-0")


@pytest.mark.parametrize(
    "given", ["", "saved_model", "saved_model/saved_model.pb", "saved_model/"]
)
def test_a_saved_model_is_found_by_its_export_its_directory_or_its_file(touch, given):
    variables = files("saved_model/variables/variables")
    folder = touch("pipeline.config", "saved_model/saved_model.pb", *variables)
    expected = Location("saved_model", str(folder / "saved_model"))
    assert locate(f"{folder}/{given}") == expected


def test_several_shards_are_one_checkpoint(touch):
    folder = touch(*files("ckpt-3", shards=3))
    assert locate(str(folder / "ckpt-3")).kind == "reference"


def test_our_own_weights_are_told_by_their_content(touch):
    folder = touch("any.name", content=b"\x89HDF\r\n\x1a\n...")
    assert locate(str(folder / "any.name")).kind == "native"


@pytest.mark.parametrize(
    ("present", "given", "message"),
    [
        ([], "ckpt-1", r"ckpt-1: no such checkpoint$"),
        ([], "nowhere/ckpt-1", r"directory .*nowhere does not exist"),
        (files("ckpt-51"), "ckpt-15", r"did you mean 'ckpt-51'\?"),
        (files("ckpt-51"), "other", r"holds ckpt-51$"),
        (["ckpt-1.index"], "ckpt-1", r"data file ckpt-1\.data-00000-of-00001 is not"),
        (files("ckpt-1")[1:], files("ckpt-1")[1], r"ckpt-1\.index is missing"),
        (files("c", 3)[:-1], "c", r"c\.data-00002-of-00003 is missing \(3 belong"),
        (files("c") + files("c", 2), "c", r"of-00001 and of-00002"),
        (files("a") + files("b"), "", r"holds a, b: name one of them"),
        (["notes.txt"], "", r"no checkpoint in this directory"),
        (["notes.txt"], "notes.txt", r"not a checkpoint; expected a prefix"),
        (["w.weights.h5"], "w.weights.h5", r"not an HDF5 file"),
        (["checkpoint"], "", r"names no model_checkpoint_path"),
        (["saved_model.pb"], "", r"a SavedModel without its variables/ folder"),
        (
            ["saved_model.pb", files("variables/variables")[1]],
            "saved_model.pb",
            r"a SavedModel without its variables/variables\.index",
        ),
        (
            [
                "saved_model/saved_model.pb",
                *files("saved_model/variables/variables", 2)[:2],
            ],
            "",
            r"variables\.data-00001-of-00002 is missing",
        ),
        (["saved_model/readme"], "", r"no checkpoint in this directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(touch, present, given, message):
    folder = touch(*present)
    path = given if "://" in given else str(folder / given)
    with pytest.raises(CheckpointError, match=message) as caught:
        locate(path)
    assert "\n" not in str(caught.value)


def test_an_archive_is_not_taken_for_weights(touch):
    folder = touch("model.keras", content=b"PK\x03\x04....")
    with pytest.raises(CheckpointError, match="archive"):
        locate(str(folder / "model.keras"))
