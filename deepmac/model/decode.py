"""Heatmap peaks -> scored boxes."""

from typing import NamedTuple

from deepmac.config.schema import STRIDE
from deepmac.model.roi import gather_cells
from deepmac.model.tensors import Tensor, ops


class Peaks(NamedTuple):
    """The best local maxima of a class heatmap: [B, D] each, scores descending."""

    scores: Tensor  # float in [0, 1]
    rows: Tensor  # int32
    cols: Tensor  # int32
    class_indices: Tensor  # int32, heatmap channel


class Detections(NamedTuple):
    """What the detector found.

    Attributes:
        boxes_norm: float [B, D, 4], in fractions of the padded model input, not of the image.
        boxes_cells: float [B, D, 4], in feature cells, clipped to the map.
        scores: float [B, D] in [0, 1], descending.
        class_indices: int32 [B, D], heatmap channel.
        class_probs: float [B, D, K], of all classes in the cell of the peak.
        num_detections: int32 [B], how many scores are above 0.
    """

    boxes_norm: Tensor
    boxes_cells: Tensor
    scores: Tensor
    class_indices: Tensor
    class_probs: Tensor
    num_detections: Tensor


def decode(
    heatmap: Tensor,
    sizes: Tensor,
    offsets: Tensor,
    num_boxes: int,
    kernel_size: int = 3,
) -> Detections:
    """The `num_boxes` best boxes of each image.

    Args:
        heatmap: float [B, h, w, K], class probability of a box centre in each cell.
        sizes: float [B, h, w, 2], height and width of the box centred there, in cells.
        offsets: float [B, h, w, 2], from the cell to the centre, in cells.
        num_boxes: D.
        kernel_size: side of the window in which a peak must be the largest.
    """
    peaks = find_peaks(heatmap, num_boxes, kernel_size)
    boxes_cells = boxes_at(peaks.rows, peaks.cols, sizes, offsets)
    height, width = heatmap.shape[1:3]
    return Detections(
        boxes_norm=boxes_cells / _frame(height, width),
        boxes_cells=boxes_cells,
        scores=peaks.scores,
        class_indices=peaks.class_indices,
        class_probs=gather_cells(heatmap, peaks.rows, peaks.cols),
        num_detections=ops.sum(ops.cast(peaks.scores > 0, "int32"), axis=-1),
    )


def find_peaks(heatmap: Tensor, num_peaks: int, kernel_size: int = 3) -> Peaks:
    """The `num_peaks` highest local maxima over all cells and classes.

    A peak is a cell that is the largest of its own class (up to 1e-6) in a window around it;
    neighbouring equal cells are both peaks. Where there are fewer peaks than asked for, the rest
    has score 0. Ties go to the first in order of row, column, class.

    Args:
        heatmap: float [B, h, w, K], probabilities.
        num_peaks: D.
        kernel_size: side of the window, odd.
    """
    _, height, width, num_classes = heatmap.shape
    largest = ops.max_pool(
        heatmap, kernel_size, strides=1, padding="same", data_format="channels_last"
    )
    is_peak = ops.abs(heatmap - largest) < 1e-6
    flat = ops.reshape(
        ops.where(is_peak, heatmap, ops.zeros_like(heatmap)),
        (-1, height * width * num_classes),
    )
    scores, index = ops.top_k(flat, num_peaks)
    index = ops.cast(index, "int32")
    cell, class_indices = index // num_classes, index % num_classes
    return Peaks(scores, cell // width, cell % width, class_indices)


def boxes_at(rows: Tensor, cols: Tensor, sizes: Tensor, offsets: Tensor) -> Tensor:
    """float [B, D, 4], the boxes predicted in given cells, in cells, clipped to the map.

    Args:
        rows, cols: int32 [B, D].
        sizes, offsets: float [B, h, w, 2], as (y, x) in cells; negative sizes count as 0.
    """
    half = ops.maximum(gather_cells(sizes, rows, cols), 0) / 2  # [B, D, 2]
    cell = ops.cast(ops.stack([rows, cols], axis=-1), half.dtype)
    centre = cell + gather_cells(offsets, rows, cols)
    boxes = ops.concatenate([centre - half, centre + half], axis=-1)
    return ops.clip(boxes, 0, _frame(*sizes.shape[1:3]))


def true_image_mask(
    height: int, width: int, true_shapes: Tensor, in_cells: bool
) -> Tensor:
    """float [B, h, w, 1]: 1 in the cells of the image, 0 in those of the padding.

    Args:
        height, width: h, w.
        true_shapes: int [B, 2 or 3], height and width of the image in the padded input, pixels.
        in_cells: False compares cells with pixels, as the reference does: nothing is masked
            unless the image is smaller than h or w *pixels*. True compares cells with cells.
    """
    limits = ops.cast(true_shapes, "float32")[:, None, None, :2]  # [B, 1, 1, 2]
    if in_cells:
        limits = limits / STRIDE
    rows = ops.arange(height, dtype="float32")[None, :, None]
    cols = ops.arange(width, dtype="float32")[None, None, :]
    is_inside = ops.logical_and(rows < limits[..., 0], cols < limits[..., 1])
    return ops.cast(is_inside, "float32")[..., None]


def boxes_in_image(boxes_cells: Tensor, true_shapes: Tensor) -> Tensor:
    """Boxes [B, D, 4] in cells as fractions of the unpadded image, clipped to it.

    Args:
        boxes_cells: float [B, D, 4].
        true_shapes: int [B, 2 or 3], height and width of the image in the padded input, pixels.
    """
    sides = ops.cast(true_shapes, boxes_cells.dtype)[:, None, :2]  # [B, 1, 2]
    frame = ops.concatenate([sides, sides], axis=-1)
    return ops.clip(boxes_cells * STRIDE / frame, 0, 1)


def boxes_in_padded_input(
    boxes_norm: Tensor, true_shapes: Tensor, height: int, width: int
) -> Tensor:
    """Boxes [B, N, 4] in fractions of the unpadded image as fractions of the padded input.

    Args:
        boxes_norm: float [B, N, 4].
        true_shapes: int [B, 2 or 3], height and width of the image in the padded input, pixels.
        height, width: of the padded input, pixels.
    """
    sides = ops.cast(true_shapes, boxes_norm.dtype)[:, None, :2]  # [B, 1, 2]
    frame = ops.concatenate([sides, sides], axis=-1)
    return boxes_norm * frame / _frame(height, width)


def _frame(height: int, width: int) -> Tensor:
    return ops.convert_to_tensor([height, width, height, width], dtype="float32")
