"""What training minimises: all losses of a batch, weighted and summed."""

import numpy as np

from deepmac.config.message import FieldError
from deepmac.config.schema import CenterNetConfig, ConsistencyType, MaskHeadConfig
from deepmac.config.training_schema import LossNormalize, SelfSupervisionLoss
from deepmac.errors import DataError
from deepmac.model.deepmac import DeepMAC, Output
from deepmac.model.roi import cut_from_own_maps, gather_cells
from deepmac.model.tensors import Tensor, ops
from deepmac.train.batch import Batch, Normalisers
from deepmac.train.losses import (
    box_loss,
    center_loss,
    is_per_pixel,
    mask_loss,
    resize_images,
)
from deepmac.train.targets import (
    box_targets,
    free_of_rivals,
    heatmap,
    image_cells,
    spans_in_image,
    spans_in_rois,
)
from deepmac.train.weak_losses import (
    box_consistency_loss,
    colour_consistency_loss,
    drawn_view,
    point_loss,
    restored,
    restored_rois,
    rgb_to_lab,
    seen_boxes,
    seen_images,
    self_supervision_loss,
    warm_up,
)

TOTAL = "Loss/total_loss"
MASK = "Loss/deep_mask_estimation"
BOX = "Loss/deep_mask_box_consistency"
COLOUR = "Loss/deep_mask_color_consistency"
VIEW = "Loss/deep_mask_augmented_self_supervision"
POINT = "Loss/deep_mask_pointly_supervised"


def compute_losses(
    model: DeepMAC,
    batch: Batch,
    normalisers: Normalisers,
    step: Tensor,
    *,
    training: bool = True,
) -> dict[str, Tensor]:
    """What the network is to minimise, in parts and in sum.

    A loss of weight 0 is neither computed nor reported. Each of the others is the sum over the
    images of what the image adds, times the image's normaliser, times the weight of the loss.

    Args:
        model: the network. Its `reference_quirks` decide where masks lie in the frames of RoIs.
            False and None compare what lies in one frame. True does as the reference: box maps
            are in the frame of the image there, though as large as a RoI; for box consistency
            the RoI is cut out of the RoI once more; a second view is undone as if RoIs were
            images.
        batch: B images.
        normalisers: of the batch, or of the whole that it is a part of.
        step: int, updates so far, for losses that warm up.
        training: whether norms take the statistics of the batch, and losses warm up.

    Returns:
        float32 scalars by the reference's names (`Loss/object_center`, ...), and last their sum,
        `Loss/total_loss`.

    Raises:
        ConfigError: see `check_trainable`.
        DataError: a loss of points, and a batch without any.
    """
    check_trainable(model.config, reference_quirks=model.reference_quirks)
    outputs = model(batch.images, batch.roi_boxes, training=training)
    return losses_of(model, outputs, batch, normalisers, step, training=training)


def losses_of(
    model: DeepMAC,
    outputs: list[Output],
    batch: Batch,
    normalisers: Normalisers,
    step: Tensor,
    *,
    training: bool = True,
) -> dict[str, Tensor]:
    """The second half of `compute_losses`: of what the network said of the batch."""
    config, params = model.config, model.config.deepmac_mask_estimation
    losses = detection_losses(config, outputs, batch, normalisers.detection)
    weights = _weights(params)
    of_instances = instance_losses(model, batch, outputs, step, training=training)
    for name, of_outputs in of_instances.items():
        if name == MASK:
            scale = mask_weights(params, batch) * normalisers.mask[:, None]
        else:
            scale = batch.roi_weights * normalisers.weak[:, None]
        mean = sum(of_outputs) / len(of_outputs)
        losses[name] = weights[name] * ops.sum(mean * scale)
    losses[TOTAL] = sum(losses.values())
    return losses


def detection_losses(
    config: CenterNetConfig, outputs: list[Output], batch: Batch, normaliser: Tensor
) -> dict[str, Tensor]:
    """The weighted losses of heatmap, sizes and offsets, means over the feature outputs.

    Args:
        config: of the network.
        outputs: what the network says.
        batch: and what it is to say.
        normaliser: float [B], of the images.
    """
    centers, boxes = config.object_center_params, config.object_detection_task
    _, height, width, _ = outputs[0].heads.center_logits.shape
    found: dict[str, Tensor] = {}
    if centers.object_center_loss_weight:
        wanted = heatmap(
            batch.boxes,
            batch.classes,
            batch.weights,
            height,
            width,
            config.num_classes,
            centers.min_box_overlap_iou,
        )
        is_image = image_cells(batch.true_shapes, height, width)
        of_outputs = [center_loss(config, o.heads, wanted, is_image) for o in outputs]
        found["Loss/object_center"] = sum(of_outputs) * (
            centers.object_center_loss_weight / len(outputs)
        )
    targets = box_targets(batch.boxes, height, width)
    for name, weight, said, wanted in (
        (
            "Loss/box/scale",
            boxes.scale_loss_weight,
            [output.heads.size for output in outputs],
            targets.sizes,
        ),
        (
            "Loss/box/offset",
            boxes.offset_loss_weight,
            [output.heads.offset for output in outputs],
            targets.offsets,
        ),
    ):
        weight *= boxes.task_loss_weight / len(outputs)
        if weight and boxes.localization_loss:
            of_outputs = [
                box_loss(
                    boxes.localization_loss,
                    gather_cells(maps, targets.rows, targets.cols),
                    wanted,
                    batch.weights,
                )
                for maps in said
            ]
            found[name] = sum(of_outputs) * weight
    return {name: ops.sum(loss * normaliser) for name, loss in found.items()}


def instance_losses(
    model: DeepMAC,
    batch: Batch,
    outputs: list[Output],
    step: Tensor,
    *,
    training: bool = True,
) -> dict[str, list[Tensor]]:
    """The losses of masks, of each instance: no weight is in them but the warm-up's.

    Returns:
        By name, for each feature output with masks: float32 [B, M].
    """
    params = model.config.deepmac_mask_estimation
    weights = _weights(params)
    logits = [o.mask_logits for o in outputs if o.mask_logits is not None]
    losses: dict[str, list[Tensor]] = {}
    if weights[MASK]:
        losses[MASK] = _mask_losses(model, batch, logits)
    if weights[BOX]:
        losses[BOX] = _box_losses(model, batch, logits)
    if weights[COLOUR]:
        losses[COLOUR] = _colour_losses(model, batch, logits, outputs[-1].features)
    if weights[VIEW]:
        losses[VIEW] = _view_losses(model, batch, logits, training)
    if weights[POINT]:
        losses[POINT] = _point_losses(model, batch, logits)
    if training:
        for name, start, steps in (
            (
                COLOUR,
                params.color_consistency_warmup_start,
                params.color_consistency_warmup_steps,
            ),
            (
                VIEW,
                params.augmented_self_supervision_warmup_start,
                params.augmented_self_supervision_warmup_steps,
            ),
        ):
            if name in losses:
                rise = warm_up(step, start, steps)
                losses[name] = [loss * rise for loss in losses[name]]
    return losses


def _mask_losses(model: DeepMAC, batch: Batch, logits: list[Tensor]) -> list[Tensor]:
    params = model.config.deepmac_mask_estimation
    counts = None
    if params.ignore_per_class_box_overlap:
        counts = _without_rivals(model, batch)
    return [mask_loss(params, x, batch.masks, counts) for x in logits]


def _without_rivals(model: DeepMAC, batch: Batch) -> Tensor:
    """float32, of the shape of the masks: 0 where two boxes of the instance's class meet."""
    params, (height, width) = (
        model.config.deepmac_mask_estimation,
        batch.masks.shape[2:],
    )
    if model.reference_quirks:
        spans = spans_in_image(batch.target_boxes[:, None], height, width)
        return free_of_rivals(batch.roi_classes, batch.roi_classes, spans)
    if params.predict_full_resolution_masks:
        spans = spans_in_image(batch.boxes[:, None], height, width)
    else:
        rois = batch.target_boxes[:, :, None]
        spans = spans_in_rois(batch.boxes[:, None], rois, height)
    return free_of_rivals(batch.roi_classes, batch.classes, spans)


def _box_losses(model: DeepMAC, batch: Batch, logits: list[Tensor]) -> list[Tensor]:
    params, quirks = model.config.deepmac_mask_estimation, model.reference_quirks
    maps = _box_maps(model, batch, logits[0])
    if quirks and not params.predict_full_resolution_masks:
        size, boxes = params.mask_size, batch.target_boxes
        maps, *logits = (
            cut_from_own_maps(ops.cast(m, "float32"), boxes, size, size, size)
            for m in (maps, *logits)
        )
    return [
        box_consistency_loss(params, x, maps, reference_quirks=quirks) for x in logits
    ]


def _colour_losses(
    model: DeepMAC, batch: Batch, logits: list[Tensor], features: Tensor
) -> list[Tensor]:
    params = model.config.deepmac_mask_estimation
    if not params.predict_full_resolution_masks:  # then only with reference_quirks
        return [ops.zeros_like(batch.roi_weights) for _ in logits]
    _, _, height, width = logits[0].shape
    if params.feature_consistency_type is ConsistencyType.CONSISTENCY_FEATURE_MAP:
        compared = resize_images(ops.cast(features, "float32"), height, width)
    else:
        images = ops.cast(batch.images, "float32")
        compared = rgb_to_lab(resize_images(images, height, width) / 255)
    compared = ops.stop_gradient(compared)
    maps = _box_maps(model, batch, logits[0])
    return [colour_consistency_loss(params, x, compared, maps) for x in logits]


def _view_losses(
    model: DeepMAC, batch: Batch, logits: list[Tensor], training: bool
) -> list[Tensor]:
    params, quirks = model.config.deepmac_mask_estimation, model.reference_quirks
    view = drawn_view(params, batch.view)
    images = seen_images(model.normalise(batch.images), view)
    boxes = seen_boxes(ops.cast(batch.roi_boxes, "float32"), view)
    maps = _box_maps(model, batch, logits[0])
    others = []
    for output in model.outputs(images, boxes, training=training):
        if output.mask_logits is not None:
            other = ops.cast(ops.stop_gradient(output.mask_logits), "float32")
            if quirks or params.predict_full_resolution_masks:
                others.append(restored(other, view, reference_quirks=quirks))
            else:
                others.append(restored_rois(other, view))
    return [
        self_supervision_loss(params, x, other, maps)
        for x, other in zip(logits, others, strict=True)
    ]


def _point_losses(model: DeepMAC, batch: Batch, logits: list[Tensor]) -> list[Tensor]:
    if batch.keypoints is None or batch.point_depths is None:
        raise DataError(
            "pointly_supervised_keypoint_loss_weight is set, but there are no keypoints with "
            "depths; add them to the records, or set it to 0"
        )
    params = model.config.deepmac_mask_estimation
    return [point_loss(params, x, batch.keypoints, batch.point_depths) for x in logits]


def _box_maps(model: DeepMAC, batch: Batch, logits: Tensor) -> Tensor:
    """float32, of the shape of the logits: 1 inside the box of each instance."""
    params, (height, width) = (
        model.config.deepmac_mask_estimation,
        logits.shape[2:],
    )
    # Where RoIs are jittered it is in both frames of a slot; see `check_trainable`.
    is_jittered = params.max_roi_jitter_ratio > 0 and not model.reference_quirks
    boxes = batch.boxes if is_jittered else batch.roi_boxes
    if params.predict_full_resolution_masks or model.reference_quirks:
        return spans_in_image(boxes, height, width).fill()
    return spans_in_rois(boxes, batch.roi_boxes, height).fill()


def mask_weights(params: MaskHeadConfig, batch: Batch) -> Tensor:
    """float32 [B, M]: how much the mask of each instance counts.

    0 for a class that is not among `allowed_masked_classes_ids`, and for a mask that is hidden.
    """
    weights = ops.cast(batch.roi_weights, "float32") * batch.mask_weights
    if ids := params.allowed_masked_classes_ids:
        indices = ops.convert_to_tensor([i - 1 for i in ids], dtype="int32")
        matches = ops.cast(batch.roi_classes, "int32")[..., None] == indices
        weights *= ops.cast(ops.any(matches, axis=-1), "float32")
    return weights


def normalisers(batch: Batch, config: CenterNetConfig, num_groups: int) -> Normalisers:
    """What makes means of sums: of all images, or of groups whose means are averaged.

    The reference normalises what each replica sees by itself; it is a group then.

    Args:
        batch: NumPy arrays, of B images.
        config: of the network.
        num_groups: groups of neighbouring images, of equal size; 1: all images are one.

    Returns:
        float32 [B] each, the same within a group: 1 / (num_groups * max(1, count)), where the
        count is, of the group, the boxes whose weight is not 0 (`detection`), the weights of
        the masks that count (`mask`), or the weights of the instances (`weak`).

    Raises:
        ConfigError: the groups would not be equal.
    """
    num_images = len(batch.weights)
    if num_images % num_groups:
        raise FieldError(
            "train_config.batch_size",
            f"must be a multiple of the {num_groups} parts it is normalised in, "
            f"got {num_images}",
        )
    params = config.deepmac_mask_estimation
    of_masks = np.asarray(batch.roi_weights) * np.asarray(batch.mask_weights)
    if ids := params.allowed_masked_classes_ids:
        of_masks = of_masks * np.isin(batch.roi_classes, np.asarray(ids) - 1)

    def scale(counted: np.ndarray) -> np.ndarray:
        counts = counted.sum(axis=1, dtype=np.float64).reshape(num_groups, -1)
        of_groups = 1 / (num_groups * np.maximum(counts.sum(axis=1), 1))
        return np.repeat(of_groups, num_images // num_groups).astype(np.float32)

    return Normalisers(
        detection=scale(np.asarray(batch.weights) != 0),
        mask=scale(of_masks),
        weak=scale(np.asarray(batch.roi_weights)),
    )


def _weights(params: MaskHeadConfig) -> dict[str, float]:
    """The weights of the losses of masks."""
    return {
        MASK: params.task_loss_weight,
        BOX: params.box_consistency_loss_weight,
        COLOUR: params.color_consistency_loss_weight,
        VIEW: params.augmented_self_supervision_loss_weight,
        POINT: params.pointly_supervised_keypoint_loss_weight,
    }


def trains_detection(config: CenterNetConfig) -> bool:
    """Whether the centres and the sides of boxes are trained, so that the network can detect."""
    boxes = config.object_detection_task
    has_sides = boxes.task_loss_weight > 0 and boxes.scale_loss_weight > 0
    return config.object_center_params.object_center_loss_weight > 0 and has_sides


def check_trainable(
    config: CenterNetConfig, *, reference_quirks: bool | None = None
) -> None:
    """Checks what only training needs of a configuration.

    Args:
        config: of the network.
        reference_quirks: True lets a colour loss without full-resolution masks pass, which then
            is 0, as in the reference.

    Raises:
        ConfigError: a loss is not chosen or cannot be had, naming the field.
    """
    centers, boxes, params = (
        config.object_center_params,
        config.object_detection_task,
        config.deepmac_mask_estimation,
    )
    weights = _weights(params)

    def require(ok: bool, field: str, what: str) -> None:
        if not ok:
            raise FieldError(f"model.center_net.{field}", what)

    has_centers = centers.object_center_loss_weight > 0
    has_boxes = boxes.task_loss_weight * max(
        boxes.scale_loss_weight, boxes.offset_loss_weight
    )
    require(
        bool(has_centers or has_boxes or any(weights.values())),
        "object_center_params.object_center_loss_weight",
        "nothing is trained: all loss weights are 0",
    )
    require(
        not has_centers or centers.classification_loss is not None,
        "object_center_params.classification_loss",
        "training needs it; the published networks have "
        "penalty_reduced_logistic_focal_loss { alpha: 2.0 beta: 4.0 }",
    )
    require(
        not centers.use_labeled_classes,
        "object_center_params.use_labeled_classes",
        "records do not say which classes were looked for; use false",
    )
    require(
        not has_boxes or boxes.localization_loss is not None,
        "object_detection_task.localization_loss",
        "training needs it; the published networks have l1_localization_loss {}",
    )
    _check_masks(params, weights, require, bool(reference_quirks))


def _check_masks(params: MaskHeadConfig, weights, require, quirks: bool) -> None:
    mask_head, loss = "deepmac_mask_estimation", params.classification_loss
    is_full = params.predict_full_resolution_masks
    only_full = "needs predict_full_resolution_masks: true; else use 0"
    require(
        loss is not None or not (weights[MASK] or weights[BOX] or weights[POINT]),
        f"{mask_head}.classification_loss",
        "training needs it; the published networks have weighted_sigmoid {}",
    )
    require(
        is_full or quirks or not weights[COLOUR],
        f"{mask_head}.color_consistency_loss_weight",
        only_full,
    )
    require(
        is_full or not weights[POINT],
        f"{mask_head}.pointly_supervised_keypoint_loss_weight",
        only_full,
    )
    require(
        params.box_consistency_loss_normalize is not LossNormalize.NORMALIZE_BALANCED
        or not weights[BOX]
        or (loss is not None and is_per_pixel(loss)),
        f"{mask_head}.box_consistency_loss_normalize",
        "NORMALIZE_BALANCED needs a loss of each pixel, which the dice loss is not; use "
        "NORMALIZE_AUTO",
    )
    require(
        params.augmented_self_supervision_loss is not SelfSupervisionLoss.LOSS_UNSET
        or not weights[VIEW],
        f"{mask_head}.augmented_self_supervision_loss",
        "must be LOSS_DICE, LOSS_MSE or LOSS_KL_DIV, got LOSS_UNSET",
    )
    is_drawn, is_jittered = params.mask_num_subsamples > 0, params.max_roi_jitter_ratio
    require(
        not (is_drawn and is_jittered and (weights[BOX] or weights[VIEW])),
        f"{mask_head}.max_roi_jitter_ratio",
        "cannot be combined with mask_num_subsamples and a loss that compares masks with boxes; "
        "use 0",
    )
