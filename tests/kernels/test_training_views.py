"""Pictures of what the network is trained on."""

import numpy as np

from deepmac.data.input import InputBatch
from deepmac.train.batch import Batch
from deepmac.training_views import draw_view, sheet


def batch(size: int = 640) -> Batch:
    """A grey image with two boxes, side by side; the target of the first is its lower half."""
    boxes = np.zeros((1, 3, 4), np.float32)
    boxes[0, 0], boxes[0, 1] = (0.25, 0.1, 0.75, 0.4), (0.25, 0.6, 0.75, 0.9)
    masks = np.zeros((1, 3, 8, 8), np.float32)
    masks[0, :2, 4:] = 1
    return Batch(
        images=np.full((1, size, size, 3), 100, np.float32),
        true_shapes=np.array([[size, size]], np.int32),
        boxes=boxes,
        classes=np.array([[0, 1, -1]], np.int32),
        weights=np.array([[1, 1, 0]], np.float32),
        roi_boxes=boxes,
        target_boxes=boxes,
        roi_classes=np.array([[0, 1, -1]], np.int32),
        roi_weights=np.array([[1, 1, 0]], np.float32),
        mask_weights=np.array([[1, 1, 0]], np.float32),
        masks=masks,
        view=np.zeros((1, 5), np.float32),
    )


def is_tinted(picture: np.ndarray, y: float, x: float) -> bool:
    pixel = picture[int(y * len(picture)), int(x * len(picture))].astype(int)
    return np.ptp(pixel) > 10


def test_targets_are_put_back_at_their_boxes():
    seen = InputBatch(batch(), [1], {}, [])
    picture = draw_view(seen, {1: "person"}, None)
    assert picture.shape == (640, 640, 3)
    for x in (0.25, 0.75):
        assert is_tinted(picture, 0.65, x)
        assert not is_tinted(picture, 0.4, x)
    marked = draw_view(seen, {1: "person"}, frozenset({1}))
    assert is_tinted(marked, 0.65, 0.25)
    assert not is_tinted(marked, 0.65, 0.75)  # its category may not


def test_full_resolution_masks_are_drawn_as_they_are():
    masks = np.zeros((1, 3, 640, 640), np.uint8)
    masks[0, 0, :64] = 1
    seen = InputBatch(batch()._replace(masks=masks), [1], {}, [])
    picture = draw_view(seen, {}, None)
    assert is_tinted(picture, 0.05, 0.5)
    assert not is_tinted(picture, 0.15, 0.5)


def test_a_sheet_of_three():
    tiles = [np.full((4, 5, 3), value, np.uint8) for value in (1, 2, 3)]
    found = sheet(tiles, 2)
    assert found.shape == (16, 18, 3)
    assert [found[y, x, 0] for y, x in ((0, 0), (0, 13), (12, 0))] == [1, 2, 3]
    assert (found[12:, 13:] == 255).all()
