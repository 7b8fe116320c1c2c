"""What the heads are to say, and where boxes lie: seen by eye, and by laws. The reference's:
tests/golden."""

import numpy as np
import pytest

from deepmac.model.roi import cut_rois
from deepmac.train import targets

RNG = np.random.default_rng(0)


def boxes_norm(*shape: int) -> np.ndarray:
    """float32 [..., 4] inside the image."""
    corners = np.sort(RNG.uniform(0, 1, (*shape, 2, 2)), axis=-2)
    return corners.reshape(*shape, 4).astype(np.float32)


def rows_of(maps) -> list[str]:
    return ["".join(map(str, row)) for row in np.asarray(maps).astype(int)]


def heatmap(boxes, classes, weights=None, *, height=8, width=8, iou=0.7) -> np.ndarray:
    return np.asarray(targets.heatmap(boxes, classes, weights, height, width, 3, iou))


def test_a_bell_is_1_in_the_cell_of_the_centre_and_falls_to_all_sides():
    box = np.array([[[0.0, 0.25, 1.0, 0.75]]], np.float32)  # 8 x 4 cells, centre (4, 4)
    maps = heatmap(box, np.array([[1]]))
    assert maps.shape == (1, 8, 8, 3)
    assert maps[0, 4, 4, 1] == 1
    np.testing.assert_allclose(maps[0, 4, 3, 1], np.exp(-1 / (2 * 0.5**2)), rtol=1e-6)
    np.testing.assert_allclose(maps[0, 2, 5, 1], maps[0, 6, 3, 1], rtol=1e-6)
    assert maps[..., [0, 2]].max() == 0


def test_the_largest_bell_of_a_class_counts_times_its_weight():
    boxes, classes = (
        boxes_norm(2, 6),
        np.array([[0, 0, 1, 2, 2, 2], [1, 1, 1, 1, 0, -1]]),
    )
    weights = RNG.uniform(0, 1, (2, 6)).astype(np.float32)
    maps = heatmap(boxes, classes, weights)
    for image in range(2):
        for k in range(3):
            members = [n for n in range(6) if classes[image, n] == k]
            one_by_one = [
                weights[image, n]
                * heatmap(boxes[image, n][None, None], np.array([[0]]))[0, ..., 0]
                for n in members
            ]
            expected = np.max([np.zeros((8, 8)), *one_by_one], axis=0)
            np.testing.assert_allclose(maps[image, ..., k], expected, rtol=1e-6)


def test_no_boxes_give_an_empty_map():
    nothing = np.zeros((2, 4, 4), np.float32)
    maps = heatmap(nothing, np.full((2, 4), -1))
    assert maps.max() == maps.min() == 0
    maps = heatmap(nothing, np.zeros((2, 4), int), np.zeros((2, 4), np.float32))
    assert maps.max() == maps.min() == 0


@pytest.mark.parametrize("side", [0.5, 3.0, 40.0])
def test_a_blob_grows_with_the_overlap_that_may_be_lost(side):
    sizes = np.array([[side, side]], np.float32)
    radii = [float(targets.blob_radius(sizes, iou)[0]) for iou in (0.1, 0.5, 0.9)]
    assert radii == sorted(radii, reverse=True)
    assert min(radii) >= 0


def test_offsets_lead_from_the_cell_to_the_centre():
    boxes = boxes_norm(3, 5)
    found = targets.box_targets(boxes, 8, 16)
    cells = np.stack([found.rows, found.cols], axis=-1)
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2 * np.array([8, 16])
    np.testing.assert_allclose(cells + np.asarray(found.offsets), centres, atol=1e-5)
    assert np.asarray(found.offsets).min() >= 0
    assert np.asarray(found.offsets).max() < 1


def test_a_centre_on_the_border_belongs_to_the_last_cell():
    corner = np.ones((1, 1, 4), np.float32)
    found = targets.box_targets(corner, 8, 16)
    assert (int(found.rows[0, 0]), int(found.cols[0, 0])) == (7, 15)
    assert heatmap(corner, np.array([[0]]))[0, 7, 7, 0] == 1


def test_a_cell_is_of_the_image_with_any_of_its_pixels():
    maps = np.asarray(targets.image_cells(np.array([[9, 4, 3], [12, 16, 3]]), 3, 4))
    assert rows_of(maps[0, ..., 0]) == ["1000", "1000", "1000"]
    assert rows_of(maps[1, ..., 0]) == ["1111", "1111", "1111"]


def test_boxes_cover_the_cells_whose_index_they_reach():
    boxes = np.array([[0.2, 0.25, 0.7, 0.5], [0.3, 0.0, 0.31, 1.0]], np.float32)
    maps = np.asarray(targets.spans_in_image(boxes, 5, 4).fill())
    assert rows_of(maps[0]) == ["0000", "0110", "0110", "0110", "0000"]
    assert rows_of(maps[1]) == ["0000"] * 5  # between two indices


def test_a_box_fills_its_own_roi():
    boxes = np.concatenate([boxes_norm(50), np.full((1, 4), 0.3, np.float32)])
    for size in (1, 7, 32):
        assert np.asarray(targets.spans_in_rois(boxes, boxes, size).fill()).min() == 1


def test_boxes_in_rois_lie_where_rois_are_cut():
    """Against what `cut_rois` cuts out of a map of positions."""
    boxes, rois = boxes_norm(1, 20), boxes_norm(1, 20)
    y, x = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9), indexing="ij")
    positions = np.stack([y, x], axis=-1)[None].astype(np.float32)
    where = np.asarray(cut_rois(positions, rois, 6, 6))  # [1, 20, 6, 6, 2]
    low, high = boxes[:, :, None, None, :2], boxes[:, :, None, None, 2:]
    expected = ((where >= low) & (where <= high)).all(-1)
    found = np.asarray(targets.spans_in_rois(boxes, rois, 6).fill())
    assert (found == expected).mean() > 0.999  # an edge may fall on a sample
    assert 0.05 < expected.mean() < 0.95


def test_rivals_are_boxes_of_the_same_class():
    boxes = np.array(
        [[[0, 0, 1, 0.5], [0, 0.25, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]], np.float32
    )
    classes = np.array([[2, 2, 0, -1]])
    spans = targets.spans_in_image(boxes[:, None], 1, 8)
    found = np.asarray(targets.free_of_rivals(classes, classes, spans))
    assert rows_of(found[0, 0]) == rows_of(found[0, 1]) == ["11000111"]
    assert rows_of(found[0, 2]) == rows_of(found[0, 3]) == ["11111111"]
