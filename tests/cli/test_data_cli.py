"""`deepmac data`: as a user calls it, on a small set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from small_dataset import HEIGHT, WIDTH, SmallDataset

from deepmac.commands import run
from deepmac.commands.data import command
from pipelines.build_dataset import main as build
from pipelines.infer import main as label

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "coco_records" / "records"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return SmallDataset(tmp_path_factory.mktemp("data")).write()


@pytest.fixture
def records(source, tmp_path):
    flags = [*source.flags, f"--out={tmp_path / 'records'}", "--num_shards=3"]
    assert build([*flags, "--split=dog"]) == 0
    return tmp_path / "records"


@pytest.fixture
def data(capsys):
    def call(*args):
        capsys.readouterr()
        status = run(command, [str(a) for a in args], "deepmac data")
        return status, *capsys.readouterr()

    return call


def test_show_prints_the_instances_of_an_image(data, records):
    status, out, _ = data("show", records, "--id", 101)
    assert status == 0
    assert "image 101: 'größe 1.jpeg', 32 x 24 (width x height)" in out
    dog, brush = (line for line in out.splitlines() if line.startswith("│"))
    assert "2.00, 3.00, 6.00, 6.00" in dog
    assert "36 pixels" in dog
    assert "toothbrush (crowd)" in brush
    assert "none" in brush  # hidden by the split


def test_show_without_an_id_shows_the_first(data, records):
    status, out, _ = data("show", records)
    assert status == 0
    assert "image 10" in out


def test_show_draws_a_picture(data, records, tmp_path):
    status, _, _ = data("show", records, "--id", 101, "--out", tmp_path / "x.png")
    assert status == 0
    picture = cv2.imread(str(tmp_path / "x.png"))
    assert picture.shape == (20 * HEIGHT, 20 * WIDTH, 3)


def test_stats_count_by_category(data, records):
    status, out, _ = data("stats", records)
    assert status == 0
    rows = [
        line.replace("│", " ").split() for line in out.splitlines() if line[:1] == "│"
    ]
    assert rows == [
        ["1", "person", "6", "6", "0", "0", "26"],
        ["18", "dog", "6", "6", "0", "6", "26"],
        ["90", "toothbrush", "12", "12", "6", "0", "26"],
    ]
    assert (
        "12 images in 3 shards, 24 instances, 6 with a mask, 18 without; split dog"
        in out
    )
    assert "heights 24 to 24, widths 32 to 32 pixels" in out


@pytest.mark.parametrize("converter", ["od_api", "model_garden"])
def test_records_of_the_reference_converters_are_understood(data, converter):
    pattern = f"{GOLDEN}/{converter}_masks-*"
    status, out, _ = data("stats", pattern)
    assert status == 0
    assert "8 images in 3 shards, 23 instances, 23 with a mask, 0 without" in out
    assert data("verify", pattern)[0] == 0
    assert "toothbrush" in data("show", pattern, "--id", 397133)[1]


def test_verify_finds_a_whole_directory_whole(data, records):
    status, out, err = data("verify", records)
    assert (status, err) == (0, "")
    assert "whole; 3 files, 12 images, " in out


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a byte": (change_a_byte, "the checksum of its data differs: damaged"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[:-9]), "ends within the record"),
    "missing": (lambda p: p.unlink(), "records-00001-of-00003.tfrecord: is missing"),
    "empty": (lambda p: p.write_bytes(b""), "0 bytes, "),
    "another shard": (
        lambda p: p.write_bytes(
            p.with_name(p.name.replace("00001-of", "00002-of")).read_bytes()
        ),
        "were written (holds 4 images, 5 were written)",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_mended_by_the_same_command(data, source, records, kind):
    damage, words = DAMAGE[kind]
    before = {p.name: p.read_bytes() for p in records.glob("*.tfrecord")}
    damage(records / "records-00001-of-00003.tfrecord")
    status, out, err = data("verify", records)
    assert status == 2
    assert words in out
    assert "records-00001" in out
    assert (
        f"`deepmac data verify --reset {records}`, then the job's command, make them again"
        in err
    )
    assert len(err.splitlines()) == 1
    status, _, err = data("verify", records, "--reset")
    assert (status, "forgotten: records-00001-of-00003" in err) == (2, True)
    flags = [*source.flags, f"--out={records}", "--num_shards=3"]
    assert build([*flags, "--split=dog"]) == 0
    assert data("verify", records)[0] == 0
    assert {p.name: p.read_bytes() for p in records.glob("*.tfrecord")} == before


@pytest.fixture
def predictions(source, tmp_path):
    folder = tmp_path / "predictions"
    flags = [*source.flags, f"--out={folder}", "--unit_images=5"]
    assert label([*flags, "--model=box"]) == 0
    return folder


def of_first(**changes):
    return lambda manifest, files: manifest[files][0].update(changes)


MANIFEST_DAMAGE = {
    "a file left out": (lambda m, files: m[files].pop(1), "leaves out {}-00001-of-00003"),
    "a file too many": (
        lambda m, files: m[files].append(m[files][0] | {"name": "x"}),
        "lists x, which the job has not made",
    ),
    "a file twice": (lambda m, files: m[files].append(m[files][0]), "lists a file twice"),
    "no files": (lambda m, files: m.pop(files), "has no list of files"),
    "checksum": (of_first(sha256="00"), "sha256 of {}-00000-of-00003"),
    "size": (of_first(bytes=1), "bytes of {}-00000-of-00003"),
    "images and masks": (of_first(images=1, masks=0), "images, masks of {}-00000-of-00003"),
    "counts": (lambda m, files: m["counts"].update(images_in=5), "'counts' is not what"),
    "options": (lambda m, files: m["options"].clear(), "'options' is not what"),
    "categories": (lambda m, files: m["categories"].pop(), "'categories' is not what"),
    "version": (lambda m, files: m.update(deepmac="0"), "'deepmac' is not what"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MANIFEST_DAMAGE)
@pytest.mark.parametrize("files", ["shards", "units"])
def test_a_manifest_that_is_not_as_it_was_written_is_found(data, request, files, kind):
    name = {"shards": "records", "units": "predictions"}[files]
    folder = request.getfixturevalue(name)
    damage, words = MANIFEST_DAMAGE[kind]
    assert data("verify", folder)[0] == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    damage(manifest, files)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    status, out, err = data("verify", folder)
    assert (status, out.count("manifest.json:")) == (2, 1)
    assert words.format(name) in out
    assert "run the job's command again to finish it" in err


def test_the_jobs_command_writes_a_damaged_manifest_again(data, source, records):
    path = records / "manifest.json"
    before = path.read_bytes()
    path.write_text("no JSON")
    status, out, _ = data("verify", records)
    assert status == 2
    problem, command = out.splitlines()
    assert problem == "manifest.json: not a JSON object"
    assert command.startswith(
        f"the job's command, given in {os.getcwd()}: deepmac build --ann"
    )
    assert command.endswith(f"--out={records} --split=dog --num_shards=3")
    flags = [*source.flags, f"--out={records}", "--num_shards=3", "--split=dog"]
    assert build(flags) == 0
    assert path.read_bytes() == before


def test_verify_tells_an_unfinished_directory(data, records):
    (records / "manifest.json").unlink()
    (records / "units" / "records-00002-of-00003.json").unlink()
    status, out, err = data("verify", records)
    assert status == 2
    assert "records-00002-of-00003: not done" in out
    assert "no manifest.json: the job has not finished" in out
    assert "run the job's command again to finish it" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["show", "/no/such"],
            "/no/such: no such directory, and no file that matches it",
        ),
        (["stats", "/etc"], "no manifest.json and no TFRecord files there"),
        (["show", "{records}", "--id", "5"], "no image has the id 5"),
        (
            ["show", "{records}", "--out", "/no/such/x.png"],
            "--out /no/such/x.png: cannot be written",
        ),
        (["verify", "gs://bucket/x"], "gs:// is not available yet"),
        (["show"], "missing argument"),
    ],
)
def test_mistakes_are_one_line(data, records, args, message):
    status, _, err = data(*(a.format(records=records) for a in args))
    assert status == 2
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


AUGMENTED = (
    "--augmented",
    "--pipeline_config_path=center_net_deepmac_tiny",
    "--set=model.center_net.num_classes=90",
    "--set=model.center_net.deepmac_mask_estimation.allowed_masked_classes_ids=[18]",
)


def test_show_draws_what_training_sees(data, records, tmp_path):
    path = tmp_path / "x.png"
    status, out, _ = data(
        "show", records, "--id=101", *AUGMENTED, f"--out={path}", "--num_views=3"
    )
    assert status == 0
    assert "image 101 in 3 views, 256 x 256 pixels each" in out
    rows = [line.split() for line in out.splitlines() if line.startswith("│")]
    assert [row[1] for row in rows] == ["0", "1", "2"]
    picture = cv2.imread(str(path))
    assert picture.shape == (1032, 1032, 3)  # two by two, the last place empty
    assert (picture[520:, 520:] == 255).all()
    assert not (picture[:512, :512] == 255).all()
    again = tmp_path / "again.png"
    data("show", records, "--id=101", *AUGMENTED, f"--out={again}", "--num_views=3")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--augmented"], "give --pipeline_config_path and --out"),
        (["--pipeline_config_path=x"], "--pipeline_config_path and --set go with"),
        ([*AUGMENTED, "--out=x.png", "--id=5"], "no image has the id 5"),
        ([*AUGMENTED[:2], "--out=x.png"], "has categories whose ids are not in 1..24"),
        ([*AUGMENTED[:3], "--out=x.png"], "hides masks that"),
        (
            ["--augmented", "--pipeline_config_path=tiny", "--out=x"],
            "center_net_deepmac_tiny",
        ),
    ],
)
def test_mistakes_in_asking_for_what_training_sees(data, records, args, message):
    status, _, err = data("show", records, *args)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_an_unfinished_directory_is_not_read_as_records(data, records):
    (records / "manifest.json").unlink()
    status, _, err = data("stats", records)
    assert status == 2
    assert "the job that writes this directory has not finished" in err


def test_looking_at_data_imports_neither_tensorflow_nor_beam(records):
    code = (
        "import sys; from deepmac.cli import main; main(['data', 'stats', sys.argv[1]]);"
        "print({m for m in ('tensorflow', 'keras', 'apache_beam') if m in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(records)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "set()", done.stderr
