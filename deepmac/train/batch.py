"""What one training step is fed: arrays of fixed shapes, made on the host."""

from typing import Any, NamedTuple


class Batch(NamedTuple):
    """B images with N slots for instances, of which M take part in the masks.

    The arrays come from NumPy, float32 unless said otherwise. Boxes are (ymin, xmin, ymax, xmax)
    in fractions of the padded image; an empty slot has box 0, class -1 and weight 0. M is N, or
    `mask_num_subsamples` where that draws some of the instances.

    Everything random has been drawn on the host, so that a step is a function of its batch.

    Attributes:
        images: [B, H, W, 3], RGB from 0 to 255, padded, as `deepmac.resize.resize_image` makes them.
        true_shapes: int32 [B, 2], height and width of the images without padding, pixels.
        boxes: [B, N, 4], what the detector is to find.
        classes: int32 [B, N], class indices: category ids less one.
        weights: [B, N], of the instances.
        roi_boxes: [B, M, 4], where features are cut out for the mask head.
        target_boxes: [B, M, 4], where `masks` are cut out. Those of `roi_boxes`, jittered or not,
            but with `reference_quirks`, where these alone are jittered.
        roi_classes: int32 [B, M].
        roi_weights: [B, M], of the instances.
        mask_weights: [B, M], as stored with the masks: 0 where the mask is hidden or unknown.
        masks: [B, M, S, S], masks in the frames of `target_boxes`, from 0 to 1. With
            full-resolution masks uint8 [B, M, H, W], 0 or 1.
        view: [B, 5], drawn from 0..1: how the second view of an image differs, for augmented
            self-supervision: translation in x and y, scale in x and y, flip.
        keypoints: [B, M, P, 2], points (y, x) in fractions of the image, NaN where there is none;
            None unless points supervise.
        point_depths: [B, M, P], above 0 where the point is foreground; None as above.
    """

    images: Any
    true_shapes: Any
    boxes: Any
    classes: Any
    weights: Any
    roi_boxes: Any
    target_boxes: Any
    roi_classes: Any
    roi_weights: Any
    mask_weights: Any
    masks: Any
    view: Any
    keypoints: Any = None
    point_depths: Any = None


class Normalisers(NamedTuple):
    """What the losses of each image are multiplied with before they are summed: [B] each.

    They hold all that normalisation needs to know of the other images, so that the loss and the
    gradients of a batch are plain sums over its images, however these are spread over devices
    and over time.

    Attributes:
        detection: of the heatmap, the sizes and the offsets.
        mask: of the mask loss.
        weak: of the losses that need no masks.
    """

    detection: Any
    mask: Any
    weak: Any
