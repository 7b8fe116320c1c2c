"""Boxes and feature maps -> the features of each box, all in one frame.

Boxes are (ymin, xmin, ymax, xmax) in fractions of the padded model input, which is also the
frame of the feature maps. They may be flipped or overhang the map.
"""

from deepmac.model.tensors import Tensor, ops


def cut_rois(features: Tensor, boxes: Tensor, height: int, width: int) -> Tensor:
    """Resamples each box of a feature map to a fixed size.

    Corner-aligned: the first and last sample lie on the edges of the box (a single sample on its
    centre), and coordinate 1 of a box is the centre of the last cell. Bilinear, one sample for
    each output cell; of the four neighbours of a sample those outside the map count as 0.

    Args:
        features: float [B, h, w, C].
        boxes: float [B, N, 4].
        height, width: of the output, in cells.

    Returns:
        float [B, N, height, width, C].
    """
    ymin, xmin, ymax, xmax = ops.unstack(boxes, 4, axis=-1)  # [B, N]
    num_rows, num_cols = features.shape[1:3]
    rows, row_weights = _neighbours(ymin, ymax, height, num_rows)  # [B, N, height, 2]
    cols, col_weights = _neighbours(xmin, xmax, width, num_cols)  # [B, N, width, 2]
    corners = gather_cells(
        features, rows[:, :, :, None, :, None], cols[:, :, None, :, None, :]
    )  # [B, N, height, width, 2, 2, C]
    by_row = ops.sum(corners * col_weights[:, :, None, :, None, :, None], axis=5)
    return ops.sum(by_row * row_weights[:, :, :, None, :, None], axis=4)


def _neighbours(low: Tensor, high: Tensor, num_samples: int, num_cells: int):
    """The two cells beside each sample of one axis, and their bilinear weights.

    Args:
        low, high: float [B, N], the edges of the boxes.
        num_samples: samples from edge to edge.
        num_cells: of the map.

    Returns:
        int32 [B, N, num_samples, 2], inside the map; float, same shape, 0 for cells outside.
    """
    low, high = low[..., None] * (num_cells - 1), high[..., None] * (num_cells - 1)
    if num_samples == 1:
        position = (low + high) / 2
    else:
        steps = ops.arange(num_samples, dtype=low.dtype) / (num_samples - 1)
        position = low + steps * (high - low)
    before = ops.floor(position)
    fraction = position - before
    cells = ops.stack([before, before + 1], axis=-1)
    weights = ops.stack([1 - fraction, fraction], axis=-1)
    is_inside = ops.logical_and(cells >= 0, cells <= num_cells - 1)
    weights = ops.where(is_inside, weights, ops.zeros_like(weights))
    return ops.cast(ops.clip(cells, 0, num_cells - 1), "int32"), weights


def instance_embedding_at_centres(embedding: Tensor, boxes: Tensor) -> Tensor:
    """The embedding in the cell of each box's centre, without interpolation.

    Args:
        embedding: float [B, h, w, E].
        boxes: float [B, N, 4]. A centre outside the map reads the nearest cell of its border.

    Returns:
        float [B, N, E].
    """
    ymin, xmin, ymax, xmax = ops.unstack(boxes, 4, axis=-1)  # [B, N]
    height, width = embedding.shape[1:3]
    rows = ops.cast((ymin + ymax) / 2 * height, "int32")  # towards zero
    cols = ops.cast((xmin + xmax) / 2 * width, "int32")
    return gather_cells(
        embedding, ops.clip(rows, 0, height - 1), ops.clip(cols, 0, width - 1)
    )


def with_coordinates(roi_features: Tensor) -> Tensor:
    """RoI features [..., S, S, C] behind the position in the box: [..., S, S, 2 + C].

    The first two channels are y and x, from -1 to 1 between the corner samples.
    """
    *_, height, width, _ = roi_features.shape
    plane = ops.zeros_like(roi_features[..., :1])
    y = plane + ops.linspace(-1.0, 1.0, height)[:, None, None]
    x = plane + ops.linspace(-1.0, 1.0, width)[:, None]
    return ops.concatenate([y, x, roi_features], axis=-1)


def gather_cells(features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """The vectors of given cells of each image.

    Args:
        features: [B, h, w, C].
        rows, cols: int32 [B, ...], inside the map; they broadcast against each other.

    Returns:
        [B, ..., C].
    """
    height, width, channels = features.shape[1:]
    image = ops.arange(ops.shape(features)[0], dtype="int32")
    image = ops.reshape(image, (-1, *[1] * (len(rows.shape) - 1)))
    flat = (image * height + rows) * width + cols
    return ops.take(ops.reshape(features, (-1, channels)), flat, axis=0)
