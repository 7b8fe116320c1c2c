"""Boxes that were read before and are checked again, as `label` does with those of records."""

import math

import numpy as np
import pytest

from deepmac.data.coco import InstanceReader
from deepmac.data.splits import Split
from deepmac.instances import Instance

READER = InstanceReader(frozenset({1}), Split("none", frozenset()))


def check(*boxes, height=427, width=640, category_id=1):
    instances = [Instance(box=box, category_id=category_id) for box in boxes]
    return READER.check("x", height, width, instances)


def test_no_box_inside_the_image_is_touched_or_counted():
    rng = np.random.default_rng(0)
    ends = rng.uniform(0, 1, (2000, 2, 2)).astype(np.float32) * np.array([427.0, 640.0])
    ends = np.sort(ends, axis=1)
    ends[1000:, 1] = 427, 640
    boxes = [tuple(box) for box in ends.reshape(2000, 4).tolist()]
    found = check(*boxes)
    assert [i.box for i in found.instances] == boxes
    assert found.counts["boxes_clipped"] == 0
    assert found.counts["instances_out"] == 2000


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((5.0, 5.0, 5.0, 9.0), "box_empty"),
        ((5.0, 9.0, 8.0, 5.0), "box_empty"),
        ((500.0, 5.0, 510.0, 9.0), "box_outside"),
        ((math.nan, 5.0, 10.0, 9.0), "box_malformed"),
        ((1.0, 5.0, math.inf, 9.0), "box_malformed"),
    ],
)
def test_a_bad_box_is_a_failure_and_the_others_stay(box, reason):
    good = (1.0, 2.0, 3.0, 4.0)
    found = check(box, good)
    assert [(f.stage, f.reason) for f in found.failures] == [("box", reason)]
    assert [i.box for i in found.instances] == [good]
    assert found.counts["annotations_failed"] == found.counts["instances_out"] == 1


def test_a_box_beyond_the_border_is_cut_and_counted():
    found = check((-1.0, 2.0, 430.0, 4.0))
    assert found.instances[0].box == (0.0, 2.0, 427.0, 4.0)
    assert found.counts["boxes_clipped"] == 1


def test_a_category_that_is_not_known_is_a_failure():
    found = check((1.0, 2.0, 3.0, 4.0), category_id=7)
    assert [(f.stage, f.reason) for f in found.failures] == [
        ("annotation", "category_unknown")
    ]
