"""Annotations -> `label` -> `evaluate`: what joins the two, and what the one tells the other."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_dataset import SmallDataset

from deepmac.data.directory import read_records
from pipelines import build_dataset, evaluate, infer


def labelled(source: SmallDataset | Path, out: Path, *more: str) -> dict[str, Any]:
    """Labels a data set, or records, with full boxes; returns the counts."""
    records = isinstance(source, Path)
    flags = [f"--records={source}"] if records else source.write().flags
    infer.main([*flags, f"--out={out}", "--model=box", *more])
    return json.loads((out / "manifest.json").read_text())["counts"]


def evaluated(truth: Path, predictions: Path, out: Path) -> dict[str, Any]:
    flags = [f"--ground_truth={truth}", f"--predictions={predictions}", f"--out={out}"]
    assert evaluate.main(flags) == 0
    return json.loads((out / "metrics.json").read_text())


IDS = {
    "text": lambda number: f"ann-{number}",
    "numbers as text": str,
    "negative": lambda number: -1 - number,
    "negative as text": lambda number: str(-1 - number),
}


@pytest.fixture(params=IDS)
def data(request, tmp_path) -> SmallDataset:
    found = SmallDataset(tmp_path / "data", 3)
    for annotation in found.annotations:
        annotation["id"] = IDS[request.param](annotation["id"])
    return found


def test_masks_find_their_annotations_by_ids_of_any_kind(data, tmp_path, capsys):
    out = tmp_path / "out"
    truth = Path(data.write().path).rename(tmp_path / "truth.json")
    for annotation in data.annotations:
        del annotation["segmentation"]
    labelled(data, out, "--write_annotations")
    filled = json.loads((out / "annotations.json").read_text())["annotations"]
    assert [bool(a.get("segmentation")) for a in filled] == [
        not a["iscrowd"] for a in data.annotations
    ]
    assert "5 masks filled in, 1 crowds left without" in capsys.readouterr().out
    figures = evaluated(truth, out, tmp_path / "figures")
    assert figures["warnings"] == []
    assert figures["segm"]["mean_iou_at_gt_boxes"] > 0.6


def test_records_keep_ids_of_any_kind(data, tmp_path):
    records, out = tmp_path / "records", tmp_path / "out"
    build = [*data.write().flags, f"--out={records}", "--num_shards=2"]
    assert build_dataset.main(build) == 0
    found = [i.annotation_id for e in read_records(str(records)) for i in e.instances]
    assert sorted(map(str, found)) == sorted(str(a["id"]) for a in data.annotations)
    assert labelled(records, out)["masks_out"] == 5
    figures = evaluated(data.path, out, tmp_path / "figures")
    assert figures["segm"]["mean_iou_at_gt_boxes"] > 0.6
    assert figures["warnings"] == []


@pytest.mark.parametrize("ids", IDS)
def test_an_id_that_stands_twice_is_kept_once(tmp_path, ids):
    data = SmallDataset(tmp_path / "data", 3)
    for annotation in data.annotations:
        annotation["id"] = IDS[ids](annotation["id"] // 5)  # 0 to 4, then 5
    out = tmp_path / "out"
    counts = labelled(data, out)
    assert counts["annotations_failed"] == 4
    letters = [
        json.loads(x) for x in (out / "dead_letters.jsonl").read_text().splitlines()
    ]
    assert {x["reason"] for x in letters} == {"id_duplicate"}


def test_what_label_lost_is_told_when_its_masks_are_evaluated(tmp_path):
    data, out = SmallDataset(tmp_path / "data", 4).write(), tmp_path / "out"
    truth = Path(data.path).rename(tmp_path / "truth.json")
    data.annotations[0]["bbox"] = [3, 4, 0, 5]
    data.annotations[2]["id"] = None
    data.files[data.images[3]["file_name"]] = b"no image"
    labelled(data, out)
    figures = evaluated(truth, out, tmp_path / "figures")
    counts, said = figures["counts"], "\n".join(figures["warnings"])
    assert counts["boxes_failed_in_label"] == counts["images_failed_in_label"] == 1
    assert counts["boxes_of_failed_images_in_label"] == 2
    assert counts["boxes_without_id_in_label"] == 1
    assert "boxes that failed when they were labelled, whose objects count as" in said
    assert "images that failed when they were labelled" in said
    assert "boxes of such images: 2" in said
    assert "boxes whose annotations have no id" in said


def test_boxes_without_an_id_get_no_mask_in_the_annotations_and_it_is_said(
    tmp_path, capsys
):
    data, out = SmallDataset(tmp_path / "data", 2), tmp_path / "out"
    for annotation in data.annotations:
        annotation.update(segmentation=[], iscrowd=0)
    data.annotations[1].pop("id")
    assert labelled(data, out, "--write_annotations")["annotations_without_id"] == 1
    said = capsys.readouterr().out
    assert (
        "3 masks filled in, 1 boxes have no id, so that no mask can be joined" in said
    )
