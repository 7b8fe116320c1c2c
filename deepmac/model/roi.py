"""Boxes and feature maps -> the features of each box, all in one frame, or whole maps for each.

Boxes are (ymin, xmin, ymax, xmax) in fractions of the padded model input, which is also the
frame of the feature maps. They may be flipped or overhang the map.
"""

import itertools

from deepmac.backend import rows_of_each
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
    rows = _neighbours(ymin, ymax, height, num_rows)
    cols = _neighbours(xmin, xmax, width, num_cols)
    total = 0.0
    for (row, row_weight), (col, col_weight) in itertools.product(rows, cols):
        weights = row_weight[..., :, None] * col_weight[..., None, :]
        cells = gather_cells(features, row[..., :, None], col[..., None, :])
        total = total + weights[..., None] * cells  # [B, N, height, width, C]
    return total


def _neighbours(
    low: Tensor, high: Tensor, num_samples: int, num_cells: int
) -> list[tuple[Tensor, Tensor]]:
    """The two cells beside each sample of one axis, each with its bilinear weight.

    Args:
        low, high: float [B, N], the edges of the boxes.
        num_samples: samples from edge to edge.
        num_cells: of the map.

    Returns:
        For the cell before and the cell after: int32 [B, N, num_samples], inside the map, and
        float [B, N, num_samples], 0 where the cell is outside.
    """
    low, high = low[..., None] * (num_cells - 1), high[..., None] * (num_cells - 1)
    if num_samples == 1:
        position = (low + high) / 2
    else:
        steps = ops.arange(num_samples, dtype=low.dtype) / (num_samples - 1)
        position = low + steps * (high - low)
    before = ops.floor(position)
    fraction = position - before
    neighbours = []
    for cell, weight in ((before, 1 - fraction), (before + 1, fraction)):
        is_inside = ops.logical_and(cell >= 0, cell <= num_cells - 1)
        neighbours.append(
            (
                ops.cast(ops.clip(cell, 0, num_cells - 1), "int32"),
                weight * ops.cast(is_inside, weight.dtype),
            )
        )
    return neighbours


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
    y = plane + ops.linspace(-1.0, 1.0, height, dtype=plane.dtype)[:, None, None]
    x = plane + ops.linspace(-1.0, 1.0, width, dtype=plane.dtype)[:, None]
    return ops.concatenate([y, x, roi_features], axis=-1)


def whole_maps(features: Tensor, boxes: Tensor) -> Tensor:
    """The whole feature map [B, h, w, C] for each of the boxes [B, N, 4]: [B, N, h, w, C]."""
    return features[:, None] + ops.zeros_like(boxes[..., :1])[..., None, None]


def with_offsets_from_centres(maps: Tensor, boxes: Tensor) -> Tensor:
    """Whole maps behind the position as seen from the centre of the box: [B, N, h, w, 2 + C].

    The first two channels are y and x in fractions of the map, whose corner samples are 1 apart.

    Args:
        maps: float [B, N, h, w, C].
        boxes: float [B, N, 4].
    """
    height, width = maps.shape[2:4]
    ymin, xmin, ymax, xmax = ops.unstack(boxes[..., None, None], 4, axis=2)
    plane = ops.zeros_like(maps[..., 0])  # [B, N, h, w]
    y = plane + ops.linspace(0.0, 1.0, height)[:, None] - (ymin + ymax) / 2
    x = plane + ops.linspace(0.0, 1.0, width) - (xmin + xmax) / 2
    return ops.concatenate([y[..., None], x[..., None], maps], axis=-1)


def cut_from_own_maps(
    maps: Tensor, boxes: Tensor, size: int, height: int, width: int
) -> Tensor:
    """Cuts each box from its own map, after a resize of the map.

    The resize is bilinear with half-pixel centres, the cut that of `cut_rois`.

    Args:
        maps: float [B, N, h, w].
        boxes: float [B, N, 4].
        size: S, the sides of the result.
        height, width: of the maps after the resize.

    Returns:
        float [B, N, S, S].
    """
    planes = ops.reshape(maps, (-1, *maps.shape[2:], 1))
    planes = ops.image.resize(
        planes, (height, width), "bilinear", data_format="channels_last"
    )
    cut = cut_rois(planes, ops.reshape(boxes, (-1, 1, 4)), size, size)
    return ops.reshape(cut, (-1, ops.shape(boxes)[1], size, size))


def gather_cells(features: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """The vectors of given cells of each image.

    Args:
        features: [B, h, w, C].
        rows, cols: int32 [B, ...], inside the map; they broadcast against each other.

    Returns:
        [B, ..., C].
    """
    height, width, channels = features.shape[1:]
    cells = rows * width + cols
    num_images, *shape = ops.shape(cells)
    vectors = rows_of_each(
        ops.reshape(features, (-1, height * width, channels)),
        ops.reshape(cells, (num_images, -1)),
    )
    return ops.reshape(vectors, (num_images, *shape, channels))
