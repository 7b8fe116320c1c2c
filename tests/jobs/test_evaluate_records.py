"""Ground truth from records, predictions from `label`: the jobs joined."""

import json
from pathlib import Path

import numpy as np
import orjson
import pytest

from deepmac.data.directory import open_records
from deepmac.data.truth_records import as_coco
from deepmac.errors import DataError
from deepmac.samples import write_shapes
from pipelines import build_dataset, evaluate, infer


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Six pictures, built with all masks and with those of the seen categories; labelled."""
    out = tmp_path_factory.mktemp("shapes")
    shapes = write_shapes(out / "shapes", num_images=6, seed=1, size=96)
    for split in ("all", f"@{shapes.seen}"):
        options = build_dataset.Options(
            annotations=str(shapes.annotations),
            images=str(shapes.images),
            out=str(out / ("all" if split == "all" else "seen")),
            split=split,
            num_shards=2,
        )
        assert build_dataset.execute(options, []) == 0
    label = infer.Options(
        records=str(out / "seen"), model="ellipse", out=str(out / "predictions")
    )
    assert infer.execute(label, []) == 0
    return out


def run(made: Path, out: Path, **changes) -> dict:
    given = {
        "ground_truth": str(made / "shapes" / "annotations.json"),
        "predictions": str(made / "predictions"),
        "out": str(out),
        "iou_type": ("segm",),
    }
    assert evaluate.execute(evaluate.Options(**given | changes), []) == 0
    return orjson.loads((out / "metrics.json").read_bytes())


def test_records_with_all_masks_give_the_figures_of_their_source(made, tmp_path):
    from_json = run(made, tmp_path / "json")
    from_records = run(made, tmp_path / "records", ground_truth=str(made / "all"))
    assert from_records == from_json
    assert 0.3 < from_json["segm"]["mean_iou_at_gt_boxes"] < 0.9


def test_records_know_which_categories_are_seen(made, tmp_path):
    """For boxes: they can be evaluated where masks are hidden."""
    figures = run(made, tmp_path, ground_truth=str(made / "seen"), iou_type=("bbox",))
    names = (made / "shapes" / "seen.txt").read_text().split("\n")
    groups = {c["name"]: c["groups"] for c in figures["bbox"]["per_category"]}
    assert {n for n, own in groups.items() if own == ["seen"]} == set(names) - {""}
    assert {n for n, own in groups.items() if own == ["unseen"]} == groups.keys() - set(
        names
    )
    # The boxes are those given, but for what float32 leaves of them.
    assert figures["bbox"]["stats"]["AR100"] == pytest.approx(1)


def test_records_with_hidden_masks_are_refused_for_masks(made, tmp_path):
    with pytest.raises(
        DataError, match=r"hides masks\): annotation .* has no mask"
    ) as e:
        run(made, tmp_path, ground_truth=str(made / "seen"))
    hidden = str(e.value).split("cannot be evaluated on: ")[1].split(";")[0]
    seen = (made / "shapes" / "seen.txt").read_text().split("\n")
    assert not set(hidden.split(", ")) & set(seen)


def test_the_seen_categories_of_such_records_can_be_evaluated(made, tmp_path):
    seen = f"@{made / 'shapes' / 'seen.txt'}"
    partly = run(made, tmp_path / "a", ground_truth=str(made / "seen"), categories=seen)
    whole = run(made, tmp_path / "b", seen=seen)
    names = whole["segm"]["stats"]
    there = whole["segm"]["groups"]["seen"]
    assert partly["segm"]["stats"] == {name: there[name] for name in names}


def test_an_incomplete_directory_of_predictions_is_refused(made, tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    for path in (made / "predictions").iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    unit = next(folder.glob("*.jsonl.gz"))
    unit.write_bytes(unit.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{unit.name} has .* bytes, not"):
        run(made, tmp_path / "out", predictions=str(folder))
    unit.unlink()
    with pytest.raises(DataError, match=f"{unit.name} is missing"):
        run(made, tmp_path / "out", predictions=str(folder))
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="has not finished"):
        run(made, tmp_path / "out", predictions=str(folder))


def test_directories_of_the_wrong_kind_are_refused(made, tmp_path):
    with pytest.raises(DataError, match="this is a directory of records"):
        run(made, tmp_path, predictions=str(made / "all"))
    with pytest.raises(DataError, match="this is a directory of predictions"):
        run(made, tmp_path, ground_truth=str(made / "predictions"))


def test_records_as_coco(made):
    dataset = as_coco(open_records(str(made / "all")), with_masks=True)
    source = json.loads((made / "shapes" / "annotations.json").read_bytes())
    by_id = {a["id"]: a for a in dataset["annotations"]}
    assert by_id.keys() == {a["id"] for a in source["annotations"]}
    for annotation in source["annotations"]:
        same = by_id[annotation["id"]]
        for key in ("image_id", "category_id", "iscrowd"):
            assert same[key] == annotation[key]
        np.testing.assert_allclose(same["bbox"], annotation["bbox"], atol=1e-4)
        # float32 fractions of an image
    assert {c["id"]: c["name"] for c in dataset["categories"]} == {
        c["id"]: c["name"] for c in source["categories"]
    }
    assert {(i["id"], i["height"], i["width"]) for i in dataset["images"]} == {
        (i["id"], i["height"], i["width"]) for i in source["images"]
    }
