"""Heatmap peaks and their boxes: seen by eye, and by laws. The reference's: tests/golden."""

import numpy as np

from deepmac.model.decode import (
    boxes_at,
    boxes_in_image,
    boxes_in_padded_input,
    decode,
    find_peaks,
    true_image_mask,
)


def heatmap(*rows: str) -> np.ndarray:
    """[1, h, w, 1]: every digit a tenth."""
    cells = [[int(digit) / 10 for digit in row] for row in rows]
    return np.array(cells, np.float32)[None, :, :, None]


def peaks_of(values, num_peaks, kernel_size=3):
    found = find_peaks(values, num_peaks, kernel_size)
    return [
        (round(float(s), 4), int(y), int(x), int(c))
        for s, y, x, c in zip(*(np.asarray(field)[0] for field in found), strict=True)
    ]


def test_only_local_maxima_count_best_first():
    values = heatmap(
        "12100",
        "13100",
        "11150",
        "00009",
    )
    # 5 is beside 9; the 0 at the left is a peak of a flat surrounding, of no worth
    assert peaks_of(values, 3) == [(0.9, 3, 4, 0), (0.3, 1, 1, 0), (0.0, 0, 0, 0)]
    assert peaks_of(values, 3, kernel_size=1)[:2] == [(0.9, 3, 4, 0), (0.5, 2, 3, 0)]


def test_ties_go_to_the_first_row_then_column_then_class():
    values = np.zeros((1, 5, 5, 2), np.float32)
    for y, x, c in [(4, 0, 0), (0, 4, 1), (0, 0, 1), (0, 4, 0)]:
        values[0, y, x, c] = 0.5
    found = peaks_of(values, 4)
    assert [place for _, *place in found] == [
        [0, 0, 1],
        [0, 4, 0],
        [0, 4, 1],
        [4, 0, 0],
    ]


def test_classes_do_not_suppress_each_other_and_plateaus_stay():
    values = np.zeros((1, 3, 3, 2), np.float32)
    values[0, 1, 1] = (0.9, 0.8)
    values[0, 1, 2, 0] = 0.9
    assert peaks_of(values, 3) == [(0.9, 1, 1, 0), (0.9, 1, 2, 0), (0.8, 1, 1, 1)]


def test_a_box_lies_around_its_cell_and_inside_the_map():
    sizes = np.zeros((1, 6, 8, 2), np.float32)
    offsets = np.zeros((1, 6, 8, 2), np.float32)
    sizes[0, 2, 3], offsets[0, 2, 3] = (2, 4), (0.5, -0.25)
    sizes[0, 5, 7] = (4, 6)
    sizes[0, 1, 1] = (-3, 2)  # negative sides count as zero
    rows, cols = np.array([[2, 5, 1]]), np.array([[3, 7, 1]])
    boxes = np.asarray(boxes_at(rows, cols, sizes, offsets))[0]
    assert boxes.tolist() == [[1.5, 0.75, 3.5, 4.75], [3, 4, 6, 8], [1, 0, 1, 2]]


def test_detections_say_how_many_are_real():
    values = heatmap("00000", "00700", "00000")
    sizes = np.full((1, 3, 5, 2), 2, np.float32)
    found = decode(values, sizes, np.zeros_like(sizes), num_boxes=3)
    assert np.asarray(found.num_detections).tolist() == [1]
    assert np.asarray(found.boxes_cells)[0, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(np.asarray(found.boxes_norm)[0, 0], [0, 0.2, 2 / 3, 0.6])
    np.testing.assert_allclose(np.asarray(found.class_probs)[0, 0], [0.7])


def test_the_padding_is_masked_only_when_cells_are_compared_with_cells():
    shapes = np.array(
        [[8, 16, 3], [3, 16, 3]], np.int32
    )  # pixels; the map is 4 x 4 cells
    likened = np.asarray(true_image_mask(4, 4, shapes, in_cells=True))[..., 0]
    assert likened[0].tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4]
    reference = np.asarray(true_image_mask(4, 4, shapes, in_cells=False))[..., 0]
    assert reference[0].all()
    assert reference[1].tolist() == [[1] * 4, [1] * 4, [1] * 4, [0] * 4]


def test_boxes_go_to_the_padded_input_and_come_back():
    shapes = np.array([[48, 64, 3]], np.int32)
    boxes = np.array([[[0.0, 0.25, 1.0, 0.5], [0.5, 0.5, 0.75, 1.0]]], np.float32)
    padded = np.asarray(boxes_in_padded_input(boxes, shapes, 64, 64))
    assert padded[0, 0].tolist() == [0, 0.25, 0.75, 0.5]
    cells = padded * 16  # of 4 pixels
    np.testing.assert_allclose(boxes_in_image(cells, shapes), boxes, atol=1e-6)
    assert np.asarray(boxes_in_image(cells + 16, shapes)).max() == 1
