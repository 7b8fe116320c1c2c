"""What two files of weights differ in: by hand, and by law."""

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from deepmac.checkpoint.differences import Gap, Kind, differences, gap_between
from deepmac.checkpoint.reader import Stored

HEAD = "_prediction_head_dict/object_center/0/layer_with_weights-0/"


@dataclasses.dataclass
class Held:
    """Weights in memory."""

    values: dict[str, np.ndarray]
    path: str = "held"

    @property
    def variables(self):
        return {n: Stored(n, v.shape, str(v.dtype)) for n, v in self.values.items()}

    def read(self, name):
        return self.values[name]


def held(**values) -> Held:
    return Held({n: np.asarray(v, np.float32) for n, v in values.items()})


def test_each_kind_of_difference_by_hand():
    a = held(same=[1, 2], only_a=[1], shape=[1, 2], value=[1, 2, -4])
    b = held(same=[1, 2], only_b=[1], shape=[[1, 2]], value=[1, 2.5, -3])
    found = differences(a, b)
    assert found
    assert [(d.name, d.kind) for d in found.variables] == [
        ("only_a", Kind.ONLY_IN_FIRST),
        ("only_b", Kind.ONLY_IN_SECOND),
        ("shape", Kind.SHAPE),
        ("value", Kind.VALUE),
    ]
    assert found.variables[-1].gap == Gap(count=2, size=3, absolute=1, relative=0.25)
    assert found.summary() == (
        "1 equal, 1 only in first, 1 only in second, 1 shape differs, 1 value differs"
    )
    assert found.table().splitlines()[-2:] == [
        "shape           1      2      1x2                                 shape",
        "value           1      3      3       2 of 3    1        0.25     value",
    ]


def test_groups_have_the_largest_gap_of_their_members():
    names = [f"a/b/{i}" for i in range(20)] + ["c/d"]
    a = Held({name: np.zeros(5, np.float32) for name in names})
    b = Held({name: np.full(5, i, np.float32) for i, name in enumerate(names)})
    rows = [line.split() for line in differences(a, b).table().splitlines()[1:]]
    assert rows == [
        ["value", "19", "95", "of", "95", "19", "1", "a/b/*"],
        ["value", "1", "5", "5", "5", "of", "5", "20", "1", "c/d"],
    ]


def test_the_networks_that_the_shapes_tell_of():
    def heads(kernel, classes):
        return Held(
            {
                f"{HEAD}kernel": np.zeros((*kernel, 8, 16), np.float32),
                f"{HEAD[:-2]}1/kernel": np.zeros((1, 1, 16, classes), np.float32),
            }
        )

    settings = differences(heads((3, 3), 4), heads((5, 5), 90)).settings
    assert settings == {
        "model.center_net.num_classes": (4, 90),
        "model.center_net.object_center_params.center_head_params.kernel_sizes": (
            (3,),
            (5,),
        ),
    }


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([np.nan, 1], [np.nan, 1], Gap(0, 2, 0, 0)),
        ([np.inf, 1], [np.inf, 1], Gap(0, 2, 0, 0)),
        ([np.nan, 1], [0, 1], Gap(1, 2, np.inf, np.inf)),
        ([np.inf, 1], [-np.inf, 1], Gap(1, 2, np.inf, np.inf)),
        ([0, 0], [-0.0, 1e-30], Gap(1, 2, float(np.float32(1e-30)), 1)),
        ([], [], Gap(0, 0, 0, 0)),
    ],
)
def test_numbers_that_are_none_and_zeros(a, b, expected):
    assert gap_between(np.array(a, "f"), np.array(b, "f")) == expected


@given(
    arrays.arrays(np.float32, (4,), elements=st.floats(-1e3, 1e3, width=32)),
    arrays.arrays(np.float32, (4,), elements=st.floats(-1e3, 1e3, width=32)),
)
def test_it_is_symmetric_and_the_tolerance_is_the_largest_gap(a, b):
    gap = gap_between(a, b)
    assert gap == gap_between(b, a)
    assert gap_between(a, b, tolerance=gap.absolute).count == 0
    assert 0 <= gap.relative <= 2
    assert gap_between(a, a).count == 0
