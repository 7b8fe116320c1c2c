"""Records without category ids, as the Object Detection API writes them, in every command."""

import json
import re
from pathlib import Path

import pytest
from small_dataset import SmallDataset

from deepmac.commands import run
from deepmac.commands.data import command as data_command
from deepmac.data import tf_example
from deepmac.data.tfrecord import frame, read_frames
from pipelines import build_dataset, evaluate, infer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "coco_records" / "records"
COCO = {"person": 1, "dog": 18, "toothbrush": 90}
OWN = {"Person": 7, "größe": 9, "gadget": 2}


def foreign(folder: Path, names=tuple(COCO), *, keep=()) -> Path:
    """Records of 6 images whose categories are text alone; the first shard has no objects."""
    data = SmallDataset(folder / "data", 6)
    data.annotations = [a for a in data.annotations if a["image_id"] != 100]
    data.categories = [
        entry | {"name": name}
        for entry, name in zip(data.categories, names, strict=True)
    ]
    made, records = folder / "made", folder / "records"
    build = [*data.write().flags, f"--out={made}", "--num_shards=1"]
    assert build_dataset.main(build) == 0
    records.mkdir()
    ours = {"class/label", "annotation_id", "mask/weight"} - set(keep)
    shards = [b"", b""]
    with (made / "records-00000-of-00001.tfrecord").open("rb") as file:
        for number, (_, record) in enumerate(read_frames(file, "")):
            features = tf_example.decode(record)
            for name in ours:
                features.pop(f"image/object/{name}")
            shards[number > 0] += frame(tf_example.encode(features))
    for number, content in enumerate(shards):
        (records / f"x.record-0000{number}-of-00002").write_bytes(content)
    return records


def label_map(folder: Path, ids: dict[str, int]) -> str:
    path = folder / "map.pbtxt"
    items = (f'item {{ id: {i} name: "{name}" }}\n' for name, i in ids.items())
    path.write_text("".join(items), encoding="utf-8")
    return f"--label_map={path}"


def label(records: Path | str, out: Path, *more: str) -> int:
    return infer.main([f"--records={records}", f"--out={out}", "--model=box", *more])


def manifest(out: Path) -> dict:
    return json.loads((out / "manifest.json").read_text())


def test_records_of_the_reference_converter_are_labelled(tmp_path):
    assert label(f"{GOLDEN}/od_api_masks-*", tmp_path / "out") == 0
    counts = manifest(tmp_path / "out")["counts"]
    assert counts["masks_out"] + counts["crowds"] == 23
    assert len(manifest(tmp_path / "out")["categories"]) == 80


@pytest.mark.parametrize("ids", [COCO, OWN], ids=["COCO", "a label map"])
def test_names_become_ids_in_every_command(tmp_path, capsys, ids):
    records, out = foreign(tmp_path, tuple(ids)), tmp_path / "out"
    more = [] if ids is COCO else [label_map(tmp_path, ids)]
    assert label(records, out, *more) == 0
    assert manifest(out)["counts"]["masks_out"] == 7
    assert (out / "dead_letters.jsonl").read_bytes() == b""
    given = [f"--ground_truth={records}", f"--predictions={out}"]
    figures = tmp_path / "figures"
    assert evaluate.main([*given, f"--out={figures}", *more]) == 0
    document = json.loads((figures / "metrics.json").read_text())
    per_category = {c["id"]: c for c in document["segm"]["per_category"]}
    assert {i: per_category[i]["name"] for i in ids.values()} == {
        i: name for name, i in ids.items()
    }
    assert [per_category[i]["annotations"] for i in ids.values()] == [2, 3, 2]
    for name in ("stats", "show"):
        capsys.readouterr()
        argv = [name, str(records), *more]
        argv += ["--id", "101"] if name == "show" else []
        assert run(data_command, argv) == 0
        assert list(ids)[1] in capsys.readouterr().out


def test_ids_that_nobody_tells_are_one_line_and_no_dead_letters(tmp_path, capsys):
    records = foreign(tmp_path, tuple(OWN))
    wanted = (
        "the records hold category names (Person, gadget, größe) but no ids, and not all of "
        "them are COCO's; give a label map with --label_map"
    )
    predictions = tmp_path / "predictions.json"
    predictions.write_text("[]")
    given = [f"--ground_truth={records}", f"--predictions={predictions}"]
    for call in (
        lambda: label(records, tmp_path / "out"),
        lambda: evaluate.main([*given, f"--out={tmp_path / 'figures'}"]),
        lambda: run(data_command, ["stats", str(records)]),
    ):
        capsys.readouterr()
        status = call()
        error = capsys.readouterr().err
        assert status == 2
        assert len(error.splitlines()) == 1
        assert wanted in error
    assert not (tmp_path / "out").exists()


def test_a_label_map_that_does_not_fit(tmp_path, capsys):
    records = foreign(tmp_path, tuple(OWN))
    given = label_map(tmp_path, {"Persons": 7, "größe": 9, "gadget": 2})
    assert label(records, tmp_path / "out", given) == 2
    error = capsys.readouterr().err
    assert "has no category 'Person'" in error
    assert "did you mean 'Persons'?" in error


def test_ids_that_are_there_need_no_label_map_and_are_not_taken_for_cocos(tmp_path):
    records, out = foreign(tmp_path, tuple(OWN), keep=["class/label"]), tmp_path / "out"
    assert label(records, out) == 0
    assert manifest(out)["categories"] == []
    assert manifest(out)["counts"]["masks_out"] == 7
    assert label(records, tmp_path / "b", label_map(tmp_path, OWN)) == 2  # of 1, 18, 90


def test_another_label_map_is_another_job(tmp_path, capsys):
    records, out = foreign(tmp_path, tuple(OWN)), tmp_path / "out"
    assert label(records, out, label_map(tmp_path, OWN)) == 0
    assert label(records, out, label_map(tmp_path, OWN | {"Person": 8})) == 2
    error = capsys.readouterr().err
    assert re.search("was begun with other contents of --label_map; ", error)


def test_where_a_label_map_has_no_place(tmp_path, capsys):
    data, out = SmallDataset(tmp_path / "data", 3).write(), tmp_path / "out"
    given = label_map(tmp_path, COCO)
    assert build_dataset.main([*data.flags, f"--out={out}", "--num_shards=1"]) == 0
    capsys.readouterr()
    assert label(out, tmp_path / "a", given) == 2
    assert "names its categories already" in capsys.readouterr().err
    argv = [*data.flags, f"--out={tmp_path / 'b'}", "--model=box", given]
    assert infer.main(argv) == 2
    assert "--label_map is for --records" in capsys.readouterr().err
    truth = [f"--ground_truth={data.path}", f"--predictions={data.path}"]
    assert evaluate.main([*truth, f"--out={tmp_path / 'c'}", given]) == 2
    assert "is for a directory of records" in capsys.readouterr().err
