"""Boxes -> what the heads are to say of a feature map, and which cells a box covers.

Boxes are (ymin, xmin, ymax, xmax) in fractions of the padded image, feature maps of h x w cells.
Everything is float32 and constant for the gradients, as boxes are.
"""

from typing import NamedTuple

from deepmac.backend import largest_of_each
from deepmac.config.schema import STRIDE
from deepmac.model.tensors import Tensor, ops

EDGE = 1e-6
"""How far outside a box, in fractions of the image, a sample on its edge may lie by rounding."""


class BoxTargets(NamedTuple):
    """What the size and offset heads are to say, and where.

    Attributes:
        rows, cols: int32 [B, N], the cell that holds the centre of the box.
        sizes: float32 [B, N, 2], height and width, in cells.
        offsets: float32 [B, N, 2], y and x from the corner of that cell to the centre, in cells.
    """

    rows: Tensor
    cols: Tensor
    sizes: Tensor
    offsets: Tensor


class Spans(NamedTuple):
    """The rows and the columns of a map that boxes reach over: 1, the others 0.

    Attributes:
        rows: float32 [..., h].
        cols: float32 [..., w].
    """

    rows: Tensor
    cols: Tensor

    def fill(self) -> Tensor:
        """The maps themselves, float32 [..., h, w]: 1 inside the boxes."""
        return self.rows[..., :, None] * self.cols[..., None, :]


def box_targets(boxes: Tensor, height: int, width: int) -> BoxTargets:
    """Sizes, offsets and cells of boxes.

    Args:
        boxes: float [B, N, 4]. A centre on the lower or right border belongs to the last cell.
        height, width: h, w.
    """
    corners = ops.cast(boxes, "float32") * _frame(height, width)
    centres = (corners[..., :2] + corners[..., 2:]) / 2
    cells = ops.floor(centres)
    rows, cols = ops.unstack(ops.cast(cells, "int32"), 2, axis=-1)
    return BoxTargets(
        rows=ops.clip(rows, 0, height - 1),
        cols=ops.clip(cols, 0, width - 1),
        sizes=corners[..., 2:] - corners[..., :2],
        offsets=centres - cells,
    )


def heatmap(
    boxes: Tensor,
    classes: Tensor,
    weights: Tensor | None,
    height: int,
    width: int,
    num_classes: int,
    min_overlap_iou: float,
) -> Tensor:
    """A bell for each box on the map of its class, 1 in the cell of its centre.

    The bell is a Gaussian over the whole map; its width grows with the box, see `blob_sigma`.
    Where bells of a class overlap the largest value counts. It is multiplied with the weight of
    the box.

    What is held at once is one map for each box, not one for each box and class.

    Args:
        boxes: float [B, N, 4].
        classes: int32 [B, N], class indices; below 0: no object.
        weights: float [B, N]; None: 1.
        height, width: h, w.
        num_classes: K.
        min_overlap_iou: of a box whose corners are off by the radius, with the box.

    Returns:
        float32 [B, h, w, K], from 0 to 1.
    """
    targets = box_targets(boxes, height, width)
    sigma = blob_sigma(blob_radius(targets.sizes, min_overlap_iou))
    down = _bell(targets.rows, sigma, height)
    across = _bell(targets.cols, sigma, width)
    is_object = ops.cast(classes >= 0, "float32")
    scale = is_object if weights is None else is_object * weights
    bells = (scale[..., None] * down)[..., :, None] * across[..., None, :]
    largest = largest_of_each(
        ops.reshape(bells, (*ops.shape(bells)[:2], height * width)),
        ops.maximum(ops.cast(classes, "int32"), 0),
        num_classes,
    )
    maps = ops.maximum(largest, 0.0)  # of a class without boxes it is below
    maps = ops.reshape(maps, (-1, num_classes, height, width))
    return ops.transpose(maps, (0, 2, 3, 1))


def blob_radius(sizes: Tensor, min_overlap_iou: float) -> Tensor:
    """How far the corners of boxes may move, in cells, for an overlap that is still good enough.

    The largest radius is the least of three, for a box that moves, shrinks or grows, each the
    root of a quadratic equation a r^2 + b r + c = 0. As in the reference (and in the code of CenterNet,
    whose slip it keeps) the root is taken as (sqrt(b^2 - 4 a c) - b) / 2, not divided by a.

    Args:
        sizes: float [..., 2], heights and widths in cells.
        min_overlap_iou: above 0 and below 1.

    Returns:
        float [...].
    """
    area, sides = sizes[..., 0] * sizes[..., 1], sizes[..., 0] + sizes[..., 1]
    iou = min_overlap_iou

    def root(a, b, c):
        return (ops.sqrt(ops.maximum(b * b - 4 * a * c, 0.0)) - b) / 2

    moved = root(1.0, -sides, area * ((1 - iou) / (1 + iou)))
    shrunk = root(4.0, -2 * sides, (1 - iou) * area)
    grown = root(4 * iou, 2 * iou * sides, (iou - 1) * area)
    return ops.minimum(ops.minimum(moved, shrunk), grown)


def blob_sigma(radius: Tensor) -> Tensor:
    """The standard deviation of bells, in cells: a sixth of the whole cells that they span."""
    return (2 * ops.maximum(ops.floor(radius), 0.0) + 1) / 6


def _bell(centre: Tensor, sigma: Tensor, num_cells: int) -> Tensor:
    """float32 [B, N, num_cells], along one axis; 1 at the centre."""
    cells = ops.arange(num_cells, dtype="float32")
    distance = cells - ops.cast(centre, "float32")[..., None]
    return ops.exp(-(distance**2) / (2 * sigma[..., None] ** 2))


def image_cells(true_shapes: Tensor, height: int, width: int) -> Tensor:
    """float32 [B, h, w, 1]: 1 in the cells of the image, 0 in those of the padding.

    A cell counts with any of its pixels.

    Args:
        true_shapes: int [B, 2 or 3], height and width of the images without padding, pixels.
        height, width: h, w.
    """
    limits = ops.ceil(ops.cast(true_shapes, "float32") / STRIDE)[:, None, None, :2]
    rows = ops.arange(height, dtype="float32")[None, :, None]
    cols = ops.arange(width, dtype="float32")[None, None, :]
    is_inside = ops.logical_and(rows < limits[..., 0], cols < limits[..., 1])
    return ops.cast(is_inside, "float32")[..., None]


def spans_in_image(boxes: Tensor, height: int, width: int) -> Spans:
    """The boxes [..., 4] on a map of the whole image.

    Row i of h is covered when ymin * h <= i <= ymax * h: the index counts, not the middle of the
    cell, as in the reference. A small box may cover nothing.
    """
    ymin, xmin, ymax, xmax = ops.unstack(
        ops.cast(boxes, "float32") * _frame(height, width), 4, axis=-1
    )
    return Spans(
        rows=_between(ops.arange(height, dtype="float32"), ymin, ymax),
        cols=_between(ops.arange(width, dtype="float32"), xmin, xmax),
    )


def spans_in_rois(boxes: Tensor, rois: Tensor, size: int) -> Spans:
    """The boxes [..., 4] on maps of `size` x `size` samples in the frames of `rois` [..., 4].

    The samples are those of `roi.cut_rois`: the outermost lie on the edges of the RoI.
    """
    ymin, xmin, ymax, xmax = ops.unstack(ops.cast(boxes, "float32"), 4, axis=-1)
    top, left, bottom, right = ops.unstack(ops.cast(rois, "float32"), 4, axis=-1)
    steps = ops.arange(size, dtype="float32") / max(size - 1, 1)
    if size == 1:
        steps += 0.5
    rows = top[..., None] + steps * (bottom - top)[..., None]
    cols = left[..., None] + steps * (right - left)[..., None]
    return Spans(
        rows=_between(rows, ymin - EDGE, ymax + EDGE),
        cols=_between(cols, xmin - EDGE, xmax + EDGE),
    )


def free_of_rivals(classes: Tensor, other_classes: Tensor, spans: Spans) -> Tensor:
    """Where at most one box of the class of an instance lies: 1, elsewhere 0.

    Args:
        classes: int32 [B, M], of the instances, which have a map each; below 0: no object.
        other_classes: int32 [B, N], of all boxes.
        spans: of all boxes on the map of each instance, [B, M, N, h] and [B, M, N, w]; M may be
            1, where these are all one.

    Returns:
        float32 [B, M, h, w].
    """
    is_rival = ops.logical_and(
        classes[:, :, None] == other_classes[:, None, :],
        (other_classes >= 0)[:, None, :],
    )
    rows = ops.cast(is_rival, "float32")[..., None] * spans.rows  # [B, M, N, h]
    count = ops.matmul(ops.swapaxes(rows, -1, -2), spans.cols)
    return ops.cast(count < 1.5, "float32")


def _between(positions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """float32 [..., n]: 1 where the positions [..., n] lie from low to high [...]."""
    is_inside = ops.logical_and(
        positions >= low[..., None], positions <= high[..., None]
    )
    return ops.cast(is_inside, "float32")


def _frame(height: int, width: int) -> Tensor:
    return ops.convert_to_tensor([height, width, height, width], dtype="float32")
