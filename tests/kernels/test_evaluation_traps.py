"""Equal to pycocotools, bit by bit, where evaluators go wrong."""

import coco_cases
import pytest
from coco_reference import assert_equal, run_ours, run_reference

CASES = coco_cases.of_both_types()


@pytest.mark.parametrize("name", CASES)
def test_equals_pycocotools(name):
    assert_equal(run_ours(CASES[name]), run_reference(CASES[name]))
