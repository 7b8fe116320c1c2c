"""The `label` job with the DeepMAC network, on a recorded network of the reference."""

import gzip
import json
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image

from deepmac.boxes import denormalise, to_xywh
from deepmac.masks import decode_rle
from pipelines import infer, label_precision

FOLDER = Path(__file__).parent / "full_hg10_roialign"

# A pixel whose probability is this close to the threshold may fall to either side: float32 sums in
# another order, and boxes that have been pixels in between.
UNDECIDED = 1e-4


@pytest.fixture(scope="module")
def recorded():
    inputs, outputs = np.load(FOLDER / "inputs.npz"), np.load(FOLDER / "outputs.npz")
    return {**inputs, **outputs}


@pytest.fixture(scope="module")
def dataset(recorded, tmp_path_factory):
    """The recorded images, each twice (as 0, 1 and 2, 3), with their boxes."""
    folder = tmp_path_factory.mktemp("dataset")
    images, annotations = [], []
    for image_id in range(4):
        pixels = recorded[f"image/{image_id % 2}"]
        height, width = pixels.shape[:2]
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        name = f"{image_id}.png"
        images.append(
            {"id": image_id, "file_name": name, "height": height, "width": width}
        )
        boxes = denormalise(recorded["user_boxes"][image_id % 2], height, width)
        for box in to_xywh(boxes):
            annotation = {"id": len(annotations), "image_id": image_id}
            annotations.append(annotation | {"category_id": 1, "bbox": box.tolist()})
    (folder / "boxes.json").write_text(
        json.dumps(
            {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": i, "name": f"kind {i}"} for i in range(1, 5)],
            }
        )
    )
    return folder


@pytest.fixture(scope="module")
def label(dataset, tmp_path_factory):
    def run(*more: str) -> list[dict]:
        out = tmp_path_factory.mktemp("out")
        status = infer.main(
            [
                f"--annotations={dataset / 'boxes.json'}",
                f"--images={dataset}",
                f"--model={FOLDER / 'pipeline.config'}",
                f"--checkpoint={FOLDER / 'checkpoint'}",
                f"--out={out}",
                *more,
            ]
        )
        assert status == 0
        assert not (out / "dead_letters.jsonl").read_bytes()
        units = sorted(out.glob("*.jsonl.gz"))
        lines = [gzip.decompress(unit.read_bytes()).splitlines() for unit in units]
        return [orjson.loads(line) for unit in lines for line in unit]

    return run


def mask_of(row) -> np.ndarray:
    rle = row["segmentation"]
    return decode_rle({"size": rle["size"], "counts": rle["counts"].encode()})


def at_edges(boxes_norm: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """bool [N, H, W]: pixels within 1e-6 of an edge, where the reference's cut-off is chance."""
    _, height, width = shape
    ymin, xmin, ymax, xmax = boxes_norm.T[..., None]
    rows, cols = np.arange(height) / (height - 1), np.arange(width) / (width - 1)
    near = np.minimum(abs(rows - ymin), abs(rows - ymax)) < 1e-6  # [N, H]
    beside = np.minimum(abs(cols - xmin), abs(cols - xmax)) < 1e-6  # [N, W]
    return near[:, :, None] | beside[:, None, :]


def test_given_boxes_get_the_references_masks(label, recorded):
    rows = label()
    assert [row["annotation_id"] for row in rows] == list(range(20))
    for image_id in range(4):
        number, mine = image_id % 2, rows[5 * image_id : 5 * image_id + 5]
        masks = np.stack([mask_of(row) for row in mine])
        expected = recorded[f"paste/user_boxes_binary/{number}"].astype(bool)
        probs = recorded[f"paste/user_boxes_float/{number}"]
        is_open = np.abs(probs - 0.5) < UNDECIDED
        is_open |= at_edges(recorded["user_boxes"][number], masks.shape)
        np.testing.assert_array_equal(masks[~is_open], expected[~is_open])
        assert is_open.mean() < 0.1
        in_box = recorded["user_boxes/detection_masks"][number]
        inside = in_box > 0.5
        means = [
            p[i].mean() if i.any() else 0 for p, i in zip(in_box, inside, strict=True)
        ]
        np.testing.assert_allclose([row["score"] for row in mine], means, atol=1e-3)


def test_detections_are_the_references(label, recorded):
    rows = label("--boxes=detect", "--unit_images=3")
    for image_id in range(4):
        number = image_id % 2
        mine = [row for row in rows if row["image_id"] == image_id]
        scores = recorded["postprocess/detection_scores"][number]
        scores = scores[scores > 0]
        assert len(mine) == len(scores)
        np.testing.assert_allclose([row["score"] for row in mine], scores, atol=1e-4)
        classes = recorded["postprocess/detection_classes"][number][: len(scores)]
        assert [row["category_id"] for row in mine] == (classes + 1).tolist()
        boxes = recorded["postprocess/detection_boxes"][number][: len(scores)]
        height, width = mine[0]["segmentation"]["size"]
        expected = to_xywh(denormalise(boxes, height, width))
        found = np.array([row["box_xywh"] for row in mine])
        np.testing.assert_allclose(found, expected, atol=1e-2)  # 1e-4 of 64 pixels
        masks = np.stack([mask_of(row) for row in mine])
        binary = recorded[f"paste/detections_binary/{number}"][: len(scores)] > 0
        is_open = at_edges(boxes, masks.shape)
        assert (masks != binary)[~is_open].mean() < 1e-3  # boxes differ by 1e-4


def test_no_batch_or_unit_size_changes_a_mask(label):
    one = label("--unit_images=1", "--micro_batch=1")
    all_together = label("--micro_batch=4")
    assert len(one) == len(all_together) == 20
    for a, b in zip(one, all_together, strict=True):
        assert abs(a["score"] - b["score"]) <= 1e-5
        assert a["annotation_id"] == b["annotation_id"]
        assert (mask_of(a) != mask_of(b)).mean() <= 1e-3


def test_going_on_with_another_network_is_refused(dataset, tmp_path, capsys):
    arguments = [
        f"--annotations={dataset / 'boxes.json'}",
        f"--images={dataset}",
        f"--model={FOLDER / 'pipeline.config'}",
        f"--checkpoint={FOLDER / 'checkpoint'}",
        f"--out={tmp_path}",
    ]
    assert infer.main(arguments) == 0
    assert infer.main([*arguments, "--reference_quirks"]) == 2
    assert "model_fingerprint" in capsys.readouterr().err


def arguments_for(dataset, out, *more) -> list[str]:
    return [
        f"--annotations={dataset / 'boxes.json'}",
        f"--images={dataset}",
        f"--model={FOLDER / 'pipeline.config'}",
        f"--checkpoint={FOLDER / 'checkpoint'}",
        f"--out={out}",
        *more,
    ]


def test_a_job_in_bfloat16_says_what_that_does_and_never_mixes_types(
    dataset, tmp_path, capsys
):
    arguments = arguments_for(dataset, tmp_path, "--unit_images=1")
    assert infer.main([*arguments, "--precision=bfloat16"]) == 0
    assert "bfloat16 against float32: mean mask IoU" in capsys.readouterr().out
    manifest = orjson.loads((tmp_path / "manifest.json").read_bytes())
    assert manifest["options"]["precision"] == "bfloat16"
    proof = manifest["precision"]
    assert proof["precision"] == "bfloat16"
    assert proof["comparison"]["num_masks"] == 20
    assert 0 < proof["comparison"]["mean_iou"] <= 1
    for other in ("float32", "auto"):
        assert infer.main([*arguments, f"--precision={other}"]) == 2
        assert "begun with precision" in capsys.readouterr().err
    # A unit that is lost is done again in the same type, without another comparison.
    unit = "predictions-00001-of-00004"
    before = (tmp_path / f"{unit}.jsonl.gz").read_bytes()
    (tmp_path / "units" / f"{unit}.json").unlink()
    (tmp_path / f"{unit}.jsonl.gz").unlink()
    assert infer.main([*arguments, "--precision=bfloat16"]) == 0
    assert (tmp_path / f"{unit}.jsonl.gz").read_bytes() == before
    assert orjson.loads((tmp_path / "manifest.json").read_bytes()) == manifest


def test_what_auto_settled_on_stays_when_the_job_goes_on_elsewhere(
    dataset, tmp_path, capsys, monkeypatch
):
    arguments = arguments_for(dataset, tmp_path, "--unit_images=1", "--precision=auto")
    monkeypatch.setattr(label_precision, "bfloat16_units", lambda environment: None)
    assert infer.main(arguments) == 0
    assert "precision: float32 (there are no matrix units" in capsys.readouterr().out
    (tmp_path / "units" / "predictions-00001-of-00004.json").unlink()
    monkeypatch.setattr(label_precision, "bfloat16_units", lambda environment: "amx")
    plan = orjson.loads((tmp_path / "job.json").read_bytes())["plan"]
    assert plan["context"]["settled"] == ["float32"]
    # The plan's files are gone with the first run, so planning settles anew; whatever it
    # settles on, the units of the other type do not count as done.
    assert infer.main(arguments) == 0
    manifest = orjson.loads((tmp_path / "manifest.json").read_bytes())
    settled = manifest["precision"]["precision"]
    commits = [orjson.loads(p.read_bytes()) for p in (tmp_path / "units").iterdir()]
    assert len({commit["fingerprint"] for commit in commits}) == 1
    assert f"precision: {settled}" in capsys.readouterr().out


def test_bfloat16_is_for_networks(dataset, tmp_path, capsys):
    arguments = arguments_for(dataset, tmp_path, "--precision=bfloat16")
    arguments[2:4] = ["--model=ellipse"]
    assert infer.main(arguments) == 2
    assert "'ellipse' is not the network" in capsys.readouterr().err
