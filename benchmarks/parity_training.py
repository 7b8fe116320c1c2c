"""What is compared of training: targets, losses and gradients."""

import dataclasses
import itertools
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.backends import as_run, input_gradients, train_once
from benchmarks.recordings import Difference, Recording
from deepmac.checkpoint.names import reference_name
from deepmac.config.schema import CenterNetConfig, MaskHeadConfig
from deepmac.config.training_schema import (
    ClassificationLossConfig,
    DiceLossConfig,
    L1LossConfig,
    LocalizationLossConfig,
    LossNormalize,
    PenaltyReducedFocalLossConfig,
    SelfSupervisionLoss,
    SigmoidLossConfig,
)
from deepmac.model.deepmac import DeepMAC, Output
from deepmac.model.roi import cut_rois
from deepmac.model.tensors import ops
from deepmac.train import losses, objective, targets, weak_losses
from deepmac.train.batch import Batch

SIGMOID = ClassificationLossConfig(weighted_sigmoid=SigmoidLossConfig())
DICE, DICE_SQUARED, DICE_OF_PROBABILITIES = (
    ClassificationLossConfig(
        weighted_dice_classification_loss=DiceLossConfig(**options)
    )
    for options in (
        {},
        {"squared_normalization": True},
        {"is_prediction_probability": True},
    )
)
PIXEL_LOSSES = {"sigmoid": SIGMOID, "dice": DICE, "dice_sq": DICE_SQUARED}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}  # what the recordings of small parts allow


# Targets


def compare_targets(folder: Path, case: str) -> list[Difference]:
    """Heatmaps, sizes, offsets and the radius of blobs."""
    recording = Recording(folder, case)
    given, recorded = recording.inputs, recording.outputs
    boxes, weights = given["boxes"], given["weights"]
    classes = class_indices(given["classes"])
    height, width = given["input_height_width"]
    for name in (n for n in recorded if n.startswith("heatmap")):
        stride, iou = re.findall(r"stride(\d+)_iou([\d.]+\d)", name)[0]
        run = as_run(
            lambda b, c, w, s=int(stride), t=float(iou): targets.heatmap(
                b, c, w, height // s, width // s, 3, t
            )
        )
        is_weighted = not name.startswith("heatmap_unweighted")
        heatmap = run(boxes, classes, weights if is_weighted else np.ones_like(weights))
        recording.compare(name, heatmap, "heatmaps", atol=1e-6)
    for stride in (4, 8):
        found = as_run(
            lambda b, s=stride: targets.box_targets(b, height // s, width // s)
        )(boxes)
        compare_box_targets(recording, f"boxes/stride{stride}", found, weights)
    sizes = np.stack([given["radius/height"], given["radius/width"]], axis=-1)
    for name in (n for n in recorded if n.startswith("radius/max_distance")):
        iou = name.split("iou")[1]
        radius = as_run(lambda s, t=float(iou): targets.blob_radius(s, t))(sizes)
        recording.compare(name, radius, "radius", rtol=1e-5)
        sigma = as_run(targets.blob_sigma)(np.asarray(radius))
        recording.compare(f"radius/sigma_iou{iou}", sigma, "radius", rtol=1e-5)
    # recorded in cells; a cell is of the image with any of its pixels
    shapes = given["valid/true_image_shapes_stride4_units"] * 4
    valid = as_run(lambda s: targets.image_cells(s, 16, 24))(shapes)
    valid = np.asarray(valid).reshape(len(shapes), -1)
    recording.compare("valid/anchor_weights", valid, "cells of the image")
    return recording.finish()


def compare_box_targets(
    recording: Recording, prefix: str, found: targets.BoxTargets, weights: np.ndarray
) -> None:
    """The recorded arrays have a row for each box of all images."""
    rows, cols = np.asarray(found.rows), np.asarray(found.cols)
    image = np.arange(len(rows))[:, None] + np.zeros_like(rows)
    group = "sizes and offsets"
    indices = np.stack([image, rows, cols], axis=-1).reshape(-1, 3)
    recording.compare(f"{prefix}/indices", indices, group)
    sizes, offsets = (
        np.asarray(a).reshape(-1, 2) for a in (found.sizes, found.offsets)
    )
    recording.compare(f"{prefix}/height_width", sizes, group, atol=1e-5)
    recording.compare(f"{prefix}/offsets", offsets, group, atol=1e-5)
    recording.compare(f"{prefix}/weights", weights.reshape(-1), group)


def class_indices(one_hot: np.ndarray) -> np.ndarray:
    """int32 [...] from [..., K]; -1 where there is no class."""
    return np.where(one_hot.any(-1), one_hot.argmax(-1), -1).astype(np.int32)


# Small parts


def compare_losses(recording: Recording) -> None:
    """Those that are recorded on their own."""
    given = recording.inputs
    if "loss/logits" in given:
        _compare_elementwise(recording)
    if "masks/boxes" in given:
        _compare_maps(recording)
    if "color/rgb" in given:
        _compare_colours(recording)
    if "boxcons/logits_full" in given:
        _compare_instance_losses(recording)
    if "transform/images" in given:
        _compare_transforms(recording)
    if "schedule/steps" in given:
        rise = as_run(lambda step: weak_losses.warm_up(step, 100, 100))
        name = "schedule/warmup_weight_start100_steps100"
        recording.compare(name, rise(given["schedule/steps"]), "warm-up", **CLOSE)


def _compare_elementwise(recording: Recording) -> None:
    given = recording.inputs
    logits, wanted, weights = (
        given[f"loss/{name}"] for name in ("logits", "targets", "weights")
    )

    def run(config, logits, wanted):
        return as_run(
            lambda x, z, w: losses.classification_loss(config, x, z, w, axis=1)
        )(logits, wanted, weights)

    def focal(alpha, beta):
        config = PenaltyReducedFocalLossConfig(alpha=alpha, beta=beta)
        return ClassificationLossConfig(penalty_reduced_logistic_focal_loss=config)

    def compare(name, ours):
        recording.compare(f"loss/{name}", ours, "pixel losses", **CLOSE)

    for alpha, beta in ((2.0, 4.0), (1.0, 2.0), (3.0, 4.0)):
        name = f"penalty_reduced_focal_a{alpha:.0f}_b{beta:.0f}"
        compare(name, run(focal(alpha, beta), logits, wanted))
    compare("weighted_sigmoid", run(SIGMOID, logits, wanted))
    compare("dice_squared0", run(DICE, logits, wanted))
    compare("dice_squared1", run(DICE_SQUARED, logits, wanted))
    # what was recorded here compares the two rows of targets with each other
    compare("dice_probability", run(DICE_OF_PROBABILITIES, wanted, wanted[::-1]))
    l1 = LocalizationLossConfig(l1_localization_loss=L1LossConfig())
    distance = as_run(lambda x, z: losses.localization_loss(l1, x, z))
    compare("l1", np.asarray(distance(logits, wanted)) * weights)
    (gradient,) = input_gradients(
        lambda x: losses.classification_loss(focal(2.0, 4.0), x, wanted, weights),
        logits,
        of=ops.sum,
    )
    compare("penalty_reduced_focal_grad_of_sum", gradient)


def _compare_maps(recording: Recording) -> None:
    """Maps of boxes, resized masks, and which masks count."""
    given = recording.inputs
    boxes, one_hot, masks, weights = (
        given[f"masks/{name}"] for name in ("boxes", "classes", "masks", "weights")
    )
    classes, group = class_indices(one_hot), "maps of boxes and masks"
    for size in ((24, 20), (16, 16)):
        fill = as_run(lambda b, s=size: targets.spans_in_image(b, *s).fill())
        recording.compare("masks/fill_boxes_{}x{}".format(*size), fill(boxes), group)

    def without_rivals(boxes, classes):
        spans = targets.spans_in_image(boxes[:, None], 24, 20)
        return targets.free_of_rivals(classes, classes, spans)

    maps = np.array(as_run(without_rivals)(boxes, classes))
    recorded = recording.outputs["masks/no_class_overlap_24x20"]
    # An empty slot has the class 0 in the recordings, here none, and no weight in either.
    maps[classes < 0] = recorded[classes < 0]
    recording.compare("masks/no_class_overlap_24x20", maps, group)
    resize = as_run(lambda m: losses.resize_maps(m, 11, 30))
    resized = resize(masks.astype(np.float32))
    recording.compare("masks/resize_11x30", resized, group, **CLOSE)
    for ids in ((), (1,), (2,), (1, 3), (1, 2, 3)):
        name = "masks/filter_" + ("_".join(map(str, ids)) or "none")
        params = MaskHeadConfig(allowed_masked_classes_ids=ids)
        ones = np.ones_like(weights)
        allowed, valid = (
            np.asarray(
                objective.mask_weights(
                    params,
                    batch_of(roi_classes=classes, roi_weights=w, mask_weights=ones),
                )
            )
            for w in (ones, weights)
        )
        sums = masks.sum((2, 3)) * allowed
        recording.compare(f"{name}/weights", valid, group)
        recording.compare(f"{name}/classes", one_hot * allowed[..., None], group)
        recording.compare(f"{name}/mask_sums", sums, group)


def batch_of(**arrays: Any) -> Batch:
    """A batch that has no more than these arrays."""
    return Batch(**(dict.fromkeys(Batch._fields) | arrays))


def _compare_colours(recording: Recording) -> None:
    given, group = recording.inputs, "colours"
    rgb, logits = given["color/rgb"], given["color/mask_logits"]
    lab = np.asarray(as_run(weak_losses.rgb_to_lab)(rgb))
    recording.compare("color/lab", lab, group, atol=1e-3)
    lab = recording.outputs["color/lab"]
    boxes = given["masks/boxes"]

    def neighbours(maps, dilation, axes=(1, 2)):
        return ops.stack(
            [
                weak_losses.shifted(maps, (y * dilation, x * dilation), axes)
                for y, x in weak_losses.NEIGHBOURS
            ]
        )

    def similarity(lab, dilation, theta):
        scaled = lab * (weak_losses.THETA / theta)
        return weak_losses.gaussian_similarity(
            scaled[None], neighbours(scaled, dilation)
        )

    def same_label(logits, dilation):
        probs = ops.sigmoid(logits)
        return weak_losses.same_side(probs[None], neighbours(probs, dilation, (2, 3)))

    def loss(logits, lab, boxes, dilation, threshold):
        params = MaskHeadConfig(
            color_consistency_dilation=dilation, color_consistency_threshold=threshold
        )
        maps = targets.spans_in_image(boxes, *logits.shape[2:]).fill()
        return weak_losses.colour_consistency_loss(params, logits, lab, maps)

    for dilation in (1, 2, 3):
        found = as_run(lambda x, d=dilation: neighbours(x, d))(lab)
        recording.compare(f"color/neighbors_dilation{dilation}", found, group, **CLOSE)
        for theta in (2, 0.5):
            found = as_run(lambda x, d=dilation, t=theta: similarity(x, d, t))(lab)
            name = f"color/similarity_dilation{dilation}_theta{theta}"
            recording.compare(name, found, group, atol=1e-4)
        found = as_run(lambda x, d=dilation: same_label(x, d))(logits)
        recording.compare(f"color/same_label_dilation{dilation}", found, group, **CLOSE)
        for threshold in (0.4, 0.1, 0.8):
            run = as_run(lambda x, y, b, d=dilation, t=threshold: loss(x, y, b, d, t))
            name = f"color/loss_threshold{threshold}_dilation{dilation}"
            recording.compare(name, run(logits, lab, boxes), group, atol=1e-4)


def _compare_instance_losses(recording: Recording) -> None:
    """Box consistency, masks, self-supervision and points."""
    given, recorded = recording.inputs, recording.outputs
    boxes, one_hot = given["masks/boxes"], given["masks/classes"]
    batch = batch_of(
        boxes=boxes,
        roi_boxes=boxes,
        target_boxes=given["boxcons/boxes_for_crop"],
        roi_classes=class_indices(one_hot),
        keypoints=given["points/keypoints"],
        point_depths=given["points/depths"],
    )
    logits = {size: given[f"boxcons/logits_{size}"] for size in ("full", "roi")}

    def run(batch: Batch, size: str, **fields: Any) -> np.ndarray:
        params = MaskHeadConfig(
            mask_size=16,
            network_type="resnet4",
            predict_full_resolution_masks=size == "full",
            **({"task_loss_weight": 0.0} | fields),
        )
        config = SimpleNamespace(deepmac_mask_estimation=params)
        model = SimpleNamespace(config=config, reference_quirks=True)

        def loss(logits):
            outputs = [Output(None, logits, None)]  # type: ignore[arg-type]
            found = objective.instance_losses(model, batch, outputs, 0)  # type: ignore[arg-type]
            ((loss,),) = found.values()
            return loss

        return np.array(as_run(loss)(logits[size]))

    for (kind, pixel_loss), is_tight, method, size in itertools.product(
        PIXEL_LOSSES.items(), (False, True), LossNormalize, logits
    ):
        tightness = "tight" if is_tight else "loose"
        name = f"boxcons/{kind}_{tightness}_{method.name.lower()}_{size}"
        if name in recorded:
            ours = run(
                batch,
                size,
                classification_loss=pixel_loss,
                box_consistency_loss_weight=1.0,
                box_consistency_tightness=is_tight,
                box_consistency_loss_normalize=method,
            )
            _compare_per_instance(recording, name, ours, "box consistency")
    crops = recorded["masks/crop_and_resize_16"]
    for (kind, pixel_loss), (what, ignore), (suffix, masks) in itertools.product(
        PIXEL_LOSSES.items(),
        (("plain", False), ("ignore_overlap", True)),
        (("", crops), ("_resized", given["masks/masks"])),
    ):
        ours = run(
            batch._replace(masks=masks, target_boxes=boxes),
            "roi",
            classification_loss=pixel_loss,
            task_loss_weight=1.0,
            ignore_per_class_box_overlap=ignore,
        )
        name = f"maskloss/{kind}_{what}{suffix}"
        if ignore:  # empty slots have a class in the recordings, and no weight
            is_empty = batch.roi_classes < 0
            ours[is_empty] = recorded[name][is_empty]
        _compare_per_instance(recording, name, ours, "masks")
    for kind, pixel_loss in PIXEL_LOSSES.items():
        ours = run(
            batch,
            "full",
            classification_loss=pixel_loss,
            pointly_supervised_keypoint_loss_weight=1.0,
        )
        recording.compare(f"points/{kind}", ours, "points", **CLOSE)
    for kind in list(SelfSupervisionLoss)[1:]:
        params = MaskHeadConfig(augmented_self_supervision_loss=kind)
        compare = as_run(
            lambda x, other, b, p=params: weak_losses.self_supervision_loss(
                p, x, other, targets.spans_in_image(b, *x.shape[2:]).fill()
            )
        )
        ours = compare(logits["full"], given["selfsup/target_logits"], boxes)
        name = f"selfsup/{kind.name.lower()}"
        recording.compare(name, ours, "self-supervision", **CLOSE)


def _compare_per_instance(
    recording: Recording, name: str, ours: np.ndarray, group: str
) -> None:
    """Recorded as [B, M]; by a slip of broadcasting the dice loss in places as [B, M, B * M],
    whose entry for an instance is what was meant."""
    recorded = recording.outputs[name].astype(np.float64)
    if recorded.ndim == 3:
        recorded = np.diagonal(recorded.reshape(ours.size, -1)).reshape(ours.shape)
    is_finite = np.isfinite(recorded)
    same_elsewhere = np.array_equal(
        ours[~is_finite].astype(np.float64), recorded[~is_finite], equal_nan=True
    )
    error = np.abs(
        np.where(is_finite, ours - np.where(is_finite, recorded, 0), 0)
    ).max()
    largest = np.abs(recorded[is_finite]).max()
    tolerance = CLOSE["atol"] + CLOSE["rtol"] * largest
    recording.add(name, group, error if same_elsewhere else np.inf, tolerance)


def _compare_transforms(recording: Recording) -> None:
    given, group = recording.inputs, "second view"
    shifts, scales = (
        np.stack([given[f"transform/{s}{axis}"] for axis in "xy"], axis=-1)
        for s in "ts"
    )
    view = weak_losses.View(shifts, scales, given["transform/flip"].astype(np.float32))
    for name, run in (
        ("images", weak_losses.seen_images),
        ("boxes", weak_losses.seen_boxes),
    ):
        ours = as_run(lambda x, f=run: f(x, view))(given[f"transform/{name}"])
        recording.compare(f"transform/{name}", ours, group, **CLOSE)
    restored = as_run(
        lambda maps: weak_losses.restored(maps, view, reference_quirks=True)
    )(given["transform/instance_masks"])
    recording.compare("transform/instance_masks", restored, group, **CLOSE)


# Whole networks


@dataclasses.dataclass(frozen=True)
class AllowedInTraining:
    """(atol, rtol) of the groups in which whole models differ, of norms of gradients rtol."""

    per_instance: tuple[float, float]
    losses: tuple[float, float]
    train_losses: tuple[float, float]
    gradients: float
    gradient_norms: float


def recorded_batch(
    recording: Recording, model: DeepMAC, images: np.ndarray, shapes: np.ndarray
) -> Batch:
    """The ground truth of a recording as a batch.

    Args:
        recording: of a whole model.
        model: whose masks are made for it.
        images: float32 [B, H, W, 3], resized and padded.
        shapes: int32 [B, 2 or 3], their size without padding.
    """
    given, params = recording.inputs, model.config.deepmac_mask_estimation
    boxes, masks, weights = (
        given[f"groundtruth/{name}"] for name in ("boxes", "masks", "weights")
    )
    classes = class_indices(given["groundtruth/classes"])
    if not params.predict_full_resolution_masks:
        size, planes = params.mask_size, masks.reshape(-1, *masks.shape[2:], 1)
        crops = as_run(lambda p, b: cut_rois(p, b, size, size))(
            planes.astype(np.float32), boxes.reshape(-1, 1, 4)
        )
        masks = np.asarray(crops).reshape(*boxes.shape[:2], size, size)
    return Batch(
        images=images,
        true_shapes=shapes,
        boxes=boxes,
        classes=classes,
        weights=weights,
        roi_boxes=boxes,
        target_boxes=boxes,
        roi_classes=classes,
        roi_weights=weights,
        mask_weights=np.ones_like(weights),
        masks=masks,
        view=np.zeros((len(images), 5), np.float32),
        keypoints=given.get("groundtruth/keypoints"),
        point_depths=given.get("groundtruth/keypoint_depths"),
    )


def compare_whole_targets(recording: Recording, model: DeepMAC, batch: Batch) -> None:
    """What the network is to say."""
    group, config = "targets", model.config
    _, height, width, _ = recording.outputs["targets/heatmap"].shape
    heatmap = as_run(
        lambda *arrays: targets.heatmap(
            *arrays,
            height,
            width,
            config.num_classes,
            config.object_center_params.min_box_overlap_iou,
        )
    )(batch.boxes, batch.classes, batch.weights)
    recording.compare("targets/heatmap", heatmap, group, atol=1e-5, rtol=1e-6)
    found = as_run(lambda b: targets.box_targets(b, height, width))(batch.boxes)
    compare_box_targets(recording, "targets", found, batch.weights)
    masks = "eval_loss/groundtruth_mask_crops"
    recording.compare(masks, batch.masks, group, **CLOSE)  # as of crops on their own
    valid = objective.mask_weights(config.deepmac_mask_estimation, batch)
    recording.compare("eval_loss/valid_mask_weights", valid, group)
    _, height, width, _ = recording.outputs["eval_loss/lab_image"].shape

    def lab(images):
        return weak_losses.rgb_to_lab(losses.resize_images(images, height, width) / 255)

    ours = as_run(lab)(batch.images)
    recording.compare("eval_loss/lab_image", ours, group, atol=1e-3, rtol=1e-4)


def compare_whole_losses(
    recording: Recording, model: DeepMAC, batch: Batch, allowed: AllowedInTraining
) -> None:
    """The losses in inference mode: in sum, unweighted, and of each instance."""
    config = model.config
    normalisers = objective.normalisers(batch, config, num_groups=1)

    def run(images, boxes):
        # the recordings have the losses of weight 0, too
        outputs = model(images, boxes, training=False)
        arguments = (model, outputs, batch, normalisers, 0)
        weighted = objective.losses_of(*arguments, training=False)
        model.config = _with_all_losses(config, batch)
        of_instances = objective.instance_losses(
            model, batch, outputs, 0, training=False
        )
        model.config = config
        return weighted, of_instances

    weighted, of_instances = as_run(run, model)(batch.images, batch.roi_boxes)
    for name, loss in weighted.items():
        recording.compare(f"eval_loss/{name}", loss, "losses", *allowed.losses)
    for name, of_outputs in of_instances.items():
        short = name.removeprefix("Loss/")
        weights, scale = batch.roi_weights, normalisers.weak
        if name == objective.MASK:
            weights = np.asarray(
                objective.mask_weights(config.deepmac_mask_estimation, batch)
            )
            scale = normalisers.mask
        for i, loss in enumerate(of_outputs):
            recorded = f"eval_loss/per_instance/{short}/{i}"
            loss = np.array(loss)
            if (
                name == objective.MASK
            ):  # recorded with empty masks where they do not count
                loss[weights == 0] = recording.outputs[recorded][weights == 0]
            group = "losses of instances"
            recording.compare(recorded, loss, group, *allowed.per_instance)
        mean = np.mean([np.asarray(loss) for loss in of_outputs], axis=0)
        total = (mean * weights * scale[:, None]).sum()
        group = "losses, unweighted"
        recording.compare(
            f"eval_loss/unweighted/{short}", total, group, *allowed.losses
        )


def _with_all_losses(config: CenterNetConfig, batch: Batch) -> CenterNetConfig:
    """With all losses that are not constant in the recordings."""
    params = dataclasses.replace(
        config.deepmac_mask_estimation,
        box_consistency_loss_weight=1.0,
        color_consistency_loss_weight=1.0,
        pointly_supervised_keypoint_loss_weight=float(batch.keypoints is not None),
    )
    return dataclasses.replace(config, deepmac_mask_estimation=params)


def train_whole_model(
    recording: Recording, model: DeepMAC, batch: Batch, allowed: AllowedInTraining
) -> list[Output]:
    """Losses and gradients of one step; returns what the network said.

    Moves the statistics of its norms.
    """
    normalisers = objective.normalisers(batch, model.config, num_groups=1)

    def forward():
        outputs = model(batch.images, batch.roi_boxes, training=True)
        found = objective.losses_of(model, outputs, batch, normalisers, 0)
        return found[objective.TOTAL], (outputs, found)

    (outputs, found), gradients = train_once(model, forward)
    for name, loss in found.items():
        group = "losses, training"
        recording.compare(f"train_loss/{name}", loss, group, *allowed.train_losses)
    _compare_whole_gradients(recording, gradients, allowed)
    return outputs


def _compare_whole_gradients(
    recording: Recording,
    gradients: dict[str, np.ndarray],
    allowed: AllowedInTraining,
) -> None:
    """As the recordings say: of an array relative to its largest entry, and 1e-4 of the norm of
    the whole gradient is rounding."""
    recorded, prefix = recording.outputs, "train_loss"
    ours = {f"model/{reference_name(name)}": g for name, g in gradients.items()}
    norms = {name: np.linalg.norm(g.astype(np.float64)) for name, g in ours.items()}
    whole = float(recorded[f"{prefix}/grad_global_norm"])
    group, rounding = "gradient norms", 1e-5 + 1e-4 * whole
    recording.compare(
        f"{prefix}/grad_global_norm",
        np.linalg.norm(list(norms.values())),
        group,
        rtol=allowed.gradient_norms,
    )
    # NaN where no gradient reaches a weight, which then has none here, or 0
    expected = recorded[f"{prefix}/grad_norms"] = np.nan_to_num(
        recorded[f"{prefix}/grad_norms"]
    )
    found = [norms.get(name, 0.0) for name in recorded[f"{prefix}/grad_names"]]
    assert len(found) == len(expected) >= len(norms)
    recording.compare(
        f"{prefix}/grad_norms", found, group, rounding, allowed.gradient_norms
    )
    for name in (n for n in recorded if n.startswith(f"{prefix}/grad/")):
        recording.compare(
            name,
            ours[name.removeprefix(f"{prefix}/grad/")],
            "gradients",
            atol=rounding,
            rtol=allowed.gradients,
        )
