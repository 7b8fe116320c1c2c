"""Cutting boxes from feature maps: seen by eye, and by laws. The reference's: tests/golden."""

import numpy as np
import pytest

from deepmac.model.roi import (
    cut_rois,
    gather_cells,
    instance_embedding_at_centres,
    with_coordinates,
)

RNG = np.random.default_rng(0)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def cut(features, boxes, height, width=None) -> np.ndarray:
    features = np.asarray(features, np.float32)
    boxes = np.asarray(boxes, np.float32)
    return np.asarray(cut_rois(features, boxes, height, width or height))


def ramp(height: int, width: int) -> np.ndarray:
    """[1, height, width, 1]: 10 times the row plus the column."""
    return (10.0 * np.arange(height)[:, None] + np.arange(width))[None, :, :, None]


def test_corner_samples_lie_on_the_edges_of_the_box():
    roi = cut(ramp(5, 9), [[WHOLE]], 3)[0, 0, :, :, 0]
    assert roi.tolist() == [[0, 4, 8], [20, 24, 28], [40, 44, 48]]
    half = cut(ramp(5, 9), [[(0.5, 0.25, 1.0, 0.5)]], 2)[0, 0, :, :, 0]
    assert half.tolist() == [[22, 24], [42, 44]]


def test_a_single_sample_is_the_centre():
    assert cut(ramp(5, 9), [[(0.0, 0.5, 0.5, 1.0)]], 1)[0, 0, :, :, 0].tolist() == [
        [16]
    ]


def test_neighbours_outside_the_map_count_as_zero_one_by_one():
    ones = np.ones((1, 3, 3, 1))  # a cell is half of the box [0, 1]
    roi = cut(ones, [[(-0.25, 0.0, 1.25, 1.0)]], 4, 1)[0, 0, :, 0, 0]
    assert roi.tolist() == [0.5, 1, 1, 0.5]
    far = cut(ones, [[(1.5, 1.5, 3.0, 3.0)]], 2)
    assert not far.any()


def test_an_affine_map_is_sampled_exactly():
    boxes = (
        np.sort(RNG.random((2, 6, 2, 2)), axis=2).reshape(2, 6, 4).astype(np.float32)
    )
    slopes, size = RNG.normal(size=(2, 3)), 7
    y, x = np.mgrid[:11, :13]
    features = (y[..., None] * slopes[0] + x[..., None] * slopes[1])[None].repeat(2, 0)
    steps = np.linspace(0, 1, size)
    ys = (boxes[..., :1] + steps * (boxes[..., 2:3] - boxes[..., :1])) * 10
    xs = (boxes[..., 1:2] + steps * (boxes[..., 3:] - boxes[..., 1:2])) * 12
    expected = ys[:, :, :, None, None] * slopes[0] + xs[:, :, None, :, None] * slopes[1]
    np.testing.assert_allclose(cut(features, boxes, size), expected, atol=2e-5)


def test_mirroring_map_and_boxes_mirrors_the_rois():
    features = RNG.normal(size=(1, 9, 12, 4))
    boxes = RNG.uniform(-0.25, 1.25, (1, 5, 4)).astype(
        np.float32
    )  # flipped ones as well
    mirrored = np.stack(
        [boxes[..., 0], 1 - boxes[..., 3], boxes[..., 2], 1 - boxes[..., 1]], -1
    )
    here = cut(features, boxes, 6)
    there = cut(features[:, :, ::-1], mirrored, 6)
    np.testing.assert_allclose(here[:, :, :, ::-1], there, atol=2e-5)


def test_a_box_is_cut_the_same_whichever_others_there_are():
    features = RNG.normal(size=(2, 8, 8, 3))
    boxes = RNG.random((2, 7, 4)).astype(np.float32)
    rois = cut(features, boxes, 5)
    order = RNG.permutation(7)
    np.testing.assert_array_equal(cut(features, boxes[:, order], 5), rois[:, order])
    alone = cut(features[1:], boxes[1:, 3:4], 5)
    np.testing.assert_array_equal(alone[0, 0], rois[1, 3])


def test_no_boxes_give_no_rois():
    assert cut(np.zeros((2, 4, 4, 3)), np.zeros((2, 0, 4)), 5).shape == (2, 0, 5, 5, 3)


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ((0.0, 0.0, 0.0, 0.0), (0, 0)),
        (
            (0.2, 0.2, 0.7, 0.3),
            (1, 1),
        ),  # 1.8 and 1.25: towards zero, not to the nearest
        (WHOLE, (2, 2)),
        ((1.0, 1.0, 1.0, 1.0), (3, 4)),  # beyond the last cell
        ((-1.0, 0.9, 0.5, 1.5), (0, 4)),
    ],
)
def test_the_instance_embedding_is_that_of_the_cell_of_the_centre(box, cell):
    embedding = RNG.normal(size=(1, 4, 5, 3)).astype(np.float32)
    vector = instance_embedding_at_centres(embedding, np.array([[box]], np.float32))
    np.testing.assert_array_equal(np.asarray(vector)[0, 0], embedding[0][cell])


def test_coordinates_come_first_rows_before_columns():
    features = np.full((2, 3, 3, 3, 1), 7, np.float32)
    channels = np.asarray(with_coordinates(features))
    assert channels.shape == (2, 3, 3, 3, 3)
    assert channels[1, 2, :, :, 0].tolist() == [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]
    assert channels[1, 2, :, :, 1].tolist() == [[-1, 0, 1]] * 3
    assert (channels[..., 2] == 7).all()


def test_cells_are_gathered_from_their_own_image():
    features = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4, 1)
    rows, cols = np.array([[2, 0], [1, 1]]), np.array([[3, 0], [0, 2]])
    gathered = np.asarray(gather_cells(features, rows, cols))[..., 0]
    assert gathered.tolist() == [[11, 0], [16, 18]]
