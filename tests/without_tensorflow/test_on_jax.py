"""What the installed wheel does where TensorFlow is not installed: `make test-jax`."""

import gzip
import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_training
from native_golden import CASES, GOLDEN
from PIL import Image
from recorded_networks import backbone

import deepmac
from deepmac.boxes import denormalise
from deepmac.config.schema import MaskHeadConfig
from deepmac.errors import CheckpointError
from deepmac.masks import decode_rle
from deepmac.model.mask_head import mask_head
from deepmac.predictors.deepmac import load_network
from deepmac.resize import resize_image

WEIGHTS = Path(sys.prefix) / "weights"  # by support/native_golden.py
NETWORK = ("full_hg10_roialign", GOLDEN / "full_hg10_roialign" / "pipeline.config")


def weights_of(case: str) -> str:
    return str(WEIGHTS / f"{case}.weights.h5")


def test_this_is_the_wheel_on_jax():
    import keras

    assert importlib.util.find_spec("tensorflow") is None
    assert keras.config.backend() == "jax"
    assert Path(deepmac.__file__).is_relative_to(sys.prefix)


@pytest.mark.parametrize("case", CASES)
def test_recorded_networks_give_their_recorded_masks(case):
    predictor = deepmac.load(
        GOLDEN / case / "pipeline.config",
        weights_of(case),
        backbone=backbone(GOLDEN / case),
        reference_quirks=True,
    )
    inputs = np.load(GOLDEN / case / "inputs.npz")
    expected = np.load(GOLDEN / case / "outputs.npz")
    images = [inputs["image/0"], inputs["image/1"]]
    boxes = [
        denormalise(of_image, *image.shape[:2])
        for of_image, image in zip(inputs["user_boxes"], images, strict=True)
    ]
    for given, name in ((boxes, "user_boxes"), (None, "postprocess")):
        for number, result in enumerate(predictor.batch(images, given)):
            # The tolerance came with the recordings.
            np.testing.assert_allclose(
                result.mask_probs,
                expected[f"{name}/detection_masks"][number],
                atol=1e-4,
                rtol=1e-4,
            )


@pytest.mark.parametrize("kind", ["cond_inst3", "embedding_projection"])
def test_heads_without_weights_give_their_recorded_logits(kind):
    folder = GOLDEN / "mask_heads" / kind
    settings = json.loads((folder / "head.json").read_text())
    config = MaskHeadConfig(
        network_type=kind,
        num_init_channels=settings["num_init_channels"],
        pixel_embedding_dim=settings["pixel_embedding_channels"],
        dim=settings["instance_embedding_dim"],
        use_xy=False,
        use_instance_embedding=False,
    )
    inputs, outputs = (
        np.load(folder / f"{name}.npz") for name in ("inputs", "outputs")
    )
    logits = mask_head(config)(
        inputs["pixel_embedding_crops"], inputs["instance_embedding"]
    )
    np.testing.assert_allclose(
        logits, outputs["eval/mask_logits"], atol=2e-5, rtol=1e-5
    )


def test_losses_and_gradients_are_the_recorded_ones(monkeypatch):
    """Of a network with every loss of masks, but that of a second view."""
    # behind the wheel, so that deepmac itself is still that
    monkeypatch.setattr(sys, "path", [*sys.path, str(GOLDEN.parents[1])])
    training = importlib.import_module("benchmarks.parity_training")
    whole = importlib.import_module("benchmarks.parity_whole")
    recordings = importlib.import_module("benchmarks.recordings")
    case = "full_fullres_weak"
    recording = recordings.Recording(GOLDEN, case)
    model = load_network(
        GOLDEN / case / "pipeline.config",
        checkpoint=weights_of(case),
        backbone=backbone(GOLDEN / case),
        reference_quirks=True,
    )
    resized = [
        resize_image(recording.inputs[name], model.config.image_resizer)
        for name in ("image/0", "image/1")
    ]
    images = np.stack([image for image, _ in resized])
    shapes = np.array([size[:2] for _, size in resized])
    allowed = whole.WHOLE_MODELS[case].learning
    batch = training.recorded_batch(recording, model, images, shapes)
    training.compare_whole_targets(recording, model, batch)
    training.compare_whole_losses(recording, model, batch, allowed)
    training.train_whole_model(recording, model, batch, allowed)
    beyond = [d for d in recording.differences if not d.error <= d.tolerance]
    assert beyond == []
    assert {d.group for d in recording.differences} >= {
        "targets",
        "losses",
        "losses, training",
        "gradients",
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in (1, 2, 3):
        name = f"{number}.png"
        pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": number, "file_name": name, "height": 48, "width": 64})
        annotation = {"image_id": number, "category_id": 1, "bbox": [8, 6, 40, 30]}
        annotations.append(annotation | {"id": 10 * number})
    categories = [{"id": 1, "name": "thing"}]
    tables = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(tables))
    return folder


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the installed package, not of the folder that the tests run in."""
    command = [sys.executable, "-P", "-m", "deepmac", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def label(dataset: Path, out: Path, checkpoint: str, *more: str):
    return run(
        "label",
        f"--annotations={dataset / 'boxes.json'}",
        f"--images={dataset}",
        f"--model={NETWORK[1]}",
        f"--checkpoint={checkpoint}",
        f"--out={out}",
        *more,
    )


def rows_of(out: Path) -> list[dict]:
    return [
        json.loads(line)
        for path in sorted(out.glob("predictions-*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]


def test_label_from_images_to_masks(dataset, tmp_path):
    done = label(dataset, tmp_path / "out", weights_of(NETWORK[0]))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    predictor = deepmac.load(NETWORK[1], weights_of(NETWORK[0]))
    rows = rows_of(tmp_path / "out")
    assert [row["annotation_id"] for row in rows] == [10, 20, 30]
    for number, row in enumerate(rows, 1):
        image = np.asarray(Image.open(dataset / f"{number}.png"))
        (mask,) = predictor(image, boxes=[[6, 8, 36, 48]]).masks
        rle = row["segmentation"]
        stored = decode_rle({"size": rle["size"], "counts": rle["counts"].encode()})
        # Batches of another size add in another order.
        assert (stored != mask).sum() <= 2
        assert 0 < mask.sum() < mask.size


def test_label_by_detection(dataset, tmp_path):
    more = ["--boxes=detect", "--max_detections=3"]
    done = label(dataset, tmp_path / "out", weights_of(NETWORK[0]), *more)
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "out")) == 9


REFERENCE = str(GOLDEN / "full_hg10_roialign" / "checkpoint")
NEEDS_TENSORFLOW = "reading a reference checkpoint needs TensorFlow (pip install"


def test_a_reference_checkpoint_is_refused_in_one_line(dataset, tmp_path):
    for done in (
        label(dataset, tmp_path / "out", REFERENCE),
        run("checkpoint", "inspect", REFERENCE),
    ):
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert NEEDS_TENSORFLOW in done.stderr
        assert done.stderr.count("\n") == 1
    with pytest.raises(CheckpointError, match="needs TensorFlow"):
        deepmac.load(NETWORK[1], REFERENCE)


def test_what_else_needs_tensorflow_says_so_in_one_line(dataset, tmp_path):
    weights = weights_of(NETWORK[0])
    saved_model = tmp_path / "saved_model"
    (saved_model / "variables").mkdir(parents=True)
    (saved_model / "saved_model.pb").write_bytes(b"")
    out = f"--out={tmp_path / 'out'}"
    network = [f"--model={NETWORK[1]}", f"--checkpoint={weights}"]
    files = [f"--annotations={dataset / 'boxes.json'}", f"--images={dataset}"]
    for done in (
        run("export", *network, "--to=saved_model", out),
        run("label", *files, f"--model={saved_model}", out),
        run("checkpoint", "convert", weights, str(tmp_path / "ckpt-0")),
    ):
        assert done.returncode == 2
        assert "TensorFlow" in done.stderr
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_weights_of_ours_can_be_inspected():
    done = run("checkpoint", "inspect", weights_of(NETWORK[0]))
    assert done.returncode == 0, done.stderr
    assert "hourglass20" in done.stdout


def test_training_input_is_made_and_shown(dataset, tmp_path):
    records, picture = str(tmp_path / "records"), tmp_path / "views.png"
    built = run(
        "build",
        f"--annotations={dataset / 'boxes.json'}",
        f"--images={dataset}",
        f"--out={records}",
        "--num_shards=1",
    )
    assert built.returncode == 0, built.stderr
    head = "model.center_net.deepmac_mask_estimation"
    done = run(
        "data",
        "show",
        records,
        "--augmented",
        "--pipeline_config_path=center_net_deepmac_tiny",
        f"--set={head}.task_loss_weight=0",
        f"--out={picture}",
    )
    assert done.returncode == 0, done.stderr
    assert "image 1 in 4 views" in done.stdout
    with Image.open(picture) as views:
        assert views.size == (1032, 1032)


def test_a_network_is_trained_stopped_and_resumed(tmp_path):
    overrides = small_training.write_records(tmp_path)
    words = [f"--set={override}" for override in overrides]
    words += [f"--model_dir={tmp_path / 'run'}", "--checkpoint_every_n=1"]
    words += [f"--pipeline_config_path={small_training.CONFIG}"]
    for num_steps in (1, 2):
        done = run("train", *words, f"--num_train_steps={num_steps}")
        assert done.returncode == 0, done.stderr
    assert "going on after step 1" in done.stderr
    assert "unseen/mean_iou_at_gt_boxes" in done.stderr
    inspected = run("checkpoint", "inspect", str(tmp_path / "run"))
    assert inspected.returncode == 0, inspected.stderr
