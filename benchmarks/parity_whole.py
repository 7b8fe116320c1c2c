"""What is compared in the cases that are whole networks, fed with the recorded inputs."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from benchmarks.parity_parts import compare_statistics, hourglass_dimensions
from benchmarks.recordings import Difference, Recording
from deepmac.checkpoint.load import load_weights, open_weights
from deepmac.config.load import load_config
from deepmac.config.schema import CenterNetConfig
from deepmac.model import decode, preprocess
from deepmac.model.deepmac import DeepMAC
from deepmac.model.tensors import ops
from deepmac.paste import paste_mask, paste_masks


@dataclasses.dataclass(frozen=True)
class _Allowed:
    """(atol, rtol) of the groups in which whole models differ."""

    masks: tuple[float, float]
    train: tuple[float, float]
    statistics: tuple[float, float]


WHOLE_MODELS = {
    "full_hg10_roialign": _Allowed((1e-4, 1e-4), (1e-3, 5e-4), (1e-4, 1e-3)),
    "full_2stack_roialign": _Allowed((5e-4, 1e-4), (1e-2, 5e-3), (1e-4, 3e-2)),
    "full_2stack_laststage_3x3": _Allowed((3e-3, 1e-4), (5e-2, 5e-3), (1e-4, 3e-2)),
    "full_fullres_weak": _Allowed((1e-4, 1e-4), (1e-3, 5e-4), (1e-4, 1e-3)),
}


def compare_whole_model(folder: Path, case: str) -> list[Difference]:
    """From the image file's pixels to masks in the image, and one training step's statistics."""
    recording = Recording(folder, case)
    allowed = WHOLE_MODELS[case]
    model, config = open_whole_model(recording.folder)
    names = [n for n in recording.inputs if n.startswith("image/")]
    resized = [
        preprocess.resize_image(recording.inputs[name], config.image_resizer)
        for name in names
    ]
    images = np.stack([image for image, _ in resized])
    shapes = np.array([[*size[:2], 3] for _, size in resized], np.int32)
    recording.compare("preprocess/true_image_shapes", shapes, "input")
    recording.compare("preprocess/images", model.normalise(images), "input", 1e-4, 1e-5)
    _compare_layers(recording, model, images)
    _compare_outputs(recording, model, images, False, (1e-4, 1e-4), allowed.masks)
    _compare_detections(recording, model, images, shapes, allowed)
    _compare_given_boxes(recording, model, images, shapes, allowed)
    _compare_pasting(recording, [recording.inputs[name] for name in names], allowed)
    _compare_outputs(recording, model, images, True, allowed.train, allowed.train)
    compare_statistics(recording, model, "", "after_one_predict", *allowed.statistics)
    return recording.finish(
        "eval_loss/", "targets/", "train_loss/", "train/(back|hour|feat)"
    )


def open_whole_model(folder: Path) -> tuple[DeepMAC, CenterNetConfig]:
    """The network of a recorded case with its weights."""
    overrides_path = folder / "overrides.json"
    overrides = (
        json.loads(overrides_path.read_text()) if overrides_path.exists() else {}
    )
    backbone = hourglass_dimensions(overrides["backbone"]) if overrides else None
    # the size of the images fits the reduced backbone, not the one that the file names
    assignment = "model.center_net.feature_extractor.type=hourglass_10"
    config = load_config(
        folder / "pipeline.config", [assignment] if overrides else [], cross_check=False
    ).model.center_net
    kernel_height, kernel_width = overrides.get("embedding_head_kernel", (1, 3))
    model = DeepMAC(
        config,
        backbone=backbone,
        embedding_head_kernel=(kernel_height, kernel_width),
        reference_quirks=True,
    )
    load_weights(model, open_weights(str(folder / "checkpoint" / "ckpt-1")))
    return model, config


def _compare_layers(recording: Recording, model: DeepMAC, images: np.ndarray) -> None:
    close = {"group": "features and heads", "atol": 1e-4, "rtol": 1e-4}
    normalised = model.normalise(images)
    stem = model.backbone.stem(normalised)
    recording.compare("eval/backbone_input_block", stem, **close)
    hourglass = model.backbone.hourglasses[0](stem)
    recording.compare("eval/hourglass0_output", hourglass, **close)
    for i, features in enumerate(model.backbone(normalised)):
        recording.compare(f"eval/features/{i}", features, **close)


def _compare_outputs(
    recording: Recording,
    model: DeepMAC,
    images: np.ndarray,
    training: bool,
    heads_allowed: tuple[float, float],
    masks_allowed: tuple[float, float],
) -> None:
    """What is trained, for ground-truth boxes, in one of the two modes."""
    mode, suffix = ("train", ", training") if training else ("eval", "")
    boxes = recording.inputs["groundtruth/boxes"]
    outputs = model(images, boxes, training=training)
    for i, output in enumerate(outputs):
        for name, ours in (
            ("class_heatmap_logits", output.heads.center_logits),
            ("box_size", output.heads.size),
            ("box_offset", output.heads.offset),
            ("instance_embedding", output.heads.instance_embedding),
            ("pixel_embedding", output.heads.pixel_embedding),
        ):
            group = f"features and heads{suffix}"
            recording.compare(f"{mode}/{name}/{i}", ours, group, *heads_allowed)
    logits = [o.mask_logits for o in outputs if o.mask_logits is not None]
    for i, ours in enumerate(logits):
        name = f"{mode}/mask_logits_gt_boxes/{i}"
        recording.compare(name, ours, f"mask logits{suffix}", *masks_allowed)


def _compare_detections(
    recording: Recording,
    model: DeepMAC,
    images: np.ndarray,
    shapes: np.ndarray,
    allowed: _Allowed,
) -> None:
    features = model.features(images)
    found = model.detect(features, shapes)
    masks = model.masks_for_boxes(model.embed(features), found.boxes_norm)
    in_image = decode.boxes_in_image(found.boxes_cells, shapes)
    group, close = "detections", (1e-4, 1e-4)
    name = "postprocess/{}".format
    recording.compare(name("detection_scores"), found.scores, group, *close)
    recording.compare(
        name("detection_multiclass_scores"), found.class_probs, group, *close
    )
    recording.compare(name("detection_classes"), found.class_indices, group)
    recording.compare(name("num_detections"), found.num_detections, group)
    recording.compare(name("detection_boxes"), in_image, group, *close)
    recording.compare(name("detection_boxes_strided"), found.boxes_cells, group, *close)
    recording.compare(name("detection_masks"), masks, group, *allowed.masks)


def _compare_given_boxes(
    recording: Recording,
    model: DeepMAC,
    images: np.ndarray,
    shapes: np.ndarray,
    allowed: _Allowed,
) -> None:
    features = model.features(images)
    boxes = decode.boxes_in_padded_input(
        ops.convert_to_tensor(recording.inputs["user_boxes"]),
        shapes,
        *images.shape[1:3],
    )
    masks = model.masks_for_boxes(model.embed(features), boxes)
    cells = boxes * np.array([*features.shape[1:3]] * 2, np.float32)
    group = "masks of given boxes"
    recording.compare("user_boxes/boxes_feature_absolute", cells, group, 1e-4, 1e-4)
    recording.compare("user_boxes/detection_masks", masks, group, *allowed.masks)
    # an exported model answers for one image, and counts classes from 1
    features = model.features(images[:1])
    found = model.detect(features, shapes[:1])
    masks = model.masks_for_boxes(model.embed(features), boxes[:1])
    in_image = decode.boxes_in_image(found.boxes_cells, shapes[:1])
    name = "export_image0/{}".format
    recording.compare(name("detection_masks"), masks, group, *allowed.masks)
    recording.compare(name("detection_boxes"), in_image, group, 1e-4, 1e-4)
    recording.compare(name("detection_scores"), found.scores, group, 1e-4, 1e-4)
    recording.compare(name("detection_classes"), found.class_indices + 1, group)
    recording.compare(name("num_detections"), found.num_detections, group)


def _compare_pasting(
    recording: Recording, images: list[np.ndarray], allowed: _Allowed
) -> None:
    """Into the images, with the recorded masks and boxes: the last bit of a box decides."""
    recorded, quirks = recording.outputs, {"reference_quirks": True}
    for i, image in enumerate(images):
        size = image.shape[:2]
        if f"paste/user_boxes_float/{i}" not in recorded:
            continue
        probs = recorded["user_boxes/detection_masks"][i]
        boxes = recording.inputs["user_boxes"][i]
        pasted = [
            paste_mask(p, b, *size, **quirks) for p, b in zip(probs, boxes, strict=True)
        ]
        recording.compare(f"paste/user_boxes_float/{i}", pasted, "pasting", 1e-4, 1e-4)
        pasted = paste_masks(probs, boxes, *size, **quirks)
        recording.compare(f"paste/user_boxes_binary/{i}", pasted, "pasting")
        probs = recorded["postprocess/detection_masks"][i]
        boxes = recorded["postprocess/detection_boxes"][i]
        pasted = paste_masks(probs, boxes, *size, **quirks)
        recording.compare(f"paste/detections_binary/{i}", pasted, "pasting")
