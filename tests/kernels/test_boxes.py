import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deepmac import boxes

corners = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(0, 20)
).flatmap(
    lambda low: arrays.arrays(np.float64, low.shape, elements=st.integers(0, 9)).map(
        lambda size: np.concatenate([low, low + size], axis=1)
    )
)


def test_a_coco_box_becomes_its_corners():
    assert boxes.from_xywh([10, 20, 5, 7]).tolist() == [20, 10, 27, 15]


@given(corners)
def test_corners_and_xywh_are_inverse(b):
    assert (boxes.from_xywh(boxes.to_xywh(b)) == b).all()


def test_normalised_boxes_are_fractions_of_height_and_width():
    fractions = boxes.normalise(np.array([10.0, 20, 30, 40]), height=40, width=80)
    assert fractions.tolist() == [0.25, 0.25, 0.75, 0.5]
    assert boxes.denormalise(fractions, height=40, width=80).tolist() == [
        10,
        20,
        30,
        40,
    ]
