"""An evaluation in a file."""

import io
import json

import coco_cases
import numpy as np
import pytest
from coco_reference import (
    assert_equal,
    form,
    read_truth,
    run_ours,
    run_reference,
    saved_bytes,
)

from deepmac.errors import DataError
from deepmac.evaluation.engine import conclude, match_results
from deepmac.evaluation.parameters import AreaRange, Parameters
from deepmac.evaluation.saved import from_bytes


@pytest.mark.parametrize("name", coco_cases.CASES)
def test_every_trap_survives_equal_to_pycocotools(name):
    case = coco_cases.CASES[name]()
    evaluation = run_ours(case)
    groups = {"g": list(evaluation.scope.category_ids[:1])}
    stored = saved_bytes(evaluation, groups)
    loaded, loaded_groups = from_bytes(stored)
    assert_equal(loaded, run_reference(case))
    assert loaded_groups == groups
    assert loaded.parameters == evaluation.parameters
    assert loaded.scope.category_names == evaluation.scope.category_names
    assert loaded.figures() == evaluation.figures()
    assert saved_bytes(loaded, groups) == stored


def test_the_bytes_do_not_tell_in_how_many_parts_it_was_made():
    case = coco_cases.mixed()
    for number, result in enumerate(case.results):
        result["annotation_id"] = number % 30 + 1
    truth, known, counts = read_truth(case)
    parts = []
    for image in sorted(known.image_ids, reverse=True):
        own = [r for r in case.results if r["image_id"] == image]
        unit = own, "result {}".format
        name = str(len(parts))
        parts.append(
            match_results(unit, form(case), truth, known, case.parameters, name=name)
        )
    parted = conclude(
        truth, parts, case.parameters, counts, list(map(str, range(len(parts))))
    )
    assert saved_bytes(parted, {}) == saved_bytes(run_ours(case))


def test_a_range_without_end_survives():
    ranges = (AreaRange("all", 0, 1e10), AreaRange("big", 9216, float("inf")))
    scene = coco_cases.Scene().object((0, 0, 99, 99)).found((0, 0, 99, 99), 0.5)
    evaluation = run_ours(scene.case(parameters=Parameters(area_ranges=ranges)))
    loaded, _ = from_bytes(saved_bytes(evaluation))
    assert loaded.parameters == evaluation.parameters
    assert loaded.stats == evaluation.stats


def test_it_takes_at_most_16_bytes_a_detection():
    rng = np.random.default_rng(0)
    scene = coco_cases.Scene(images=range(1, 41), categories=range(1, 6))
    for image in range(1, 41):
        for n in range(50):
            x, y = rng.integers(0, 100, 2).tolist()
            if n < 3:
                scene.object((x, y, 20, 20), image, int(rng.integers(1, 6)))
            scene.found((x, y, 20, 20), rng.random(), image, int(rng.integers(1, 6)))
    evaluation = run_ours(scene.case())
    empty = run_ours(coco_cases.Scene().case())  # the file's own
    size = len(saved_bytes(evaluation, {})) - len(saved_bytes(empty))
    assert size <= 16 * len(scene.results)


def damaged():
    good = saved_bytes(run_ours(coco_cases.mixed()), {"g": [2]})
    yield "cut off", good[: len(good) // 2], "has saved, or a damaged one"
    yield "empty", b"", "has saved, or a damaged one"
    yield "other bytes", b"PK\x03\x04" + b"x" * 100, "has saved, or a damaged one"
    middle = len(good) // 2
    spoilt = good[:middle] + bytes(b ^ 255 for b in good[middle : middle + 40])
    yield "spoilt", spoilt + good[middle + 40 :], "has saved, or a damaged one"
    buffer = io.BytesIO()
    np.savez(buffer, precision=np.zeros(3))
    yield "another .npz", buffer.getvalue(), "another .npz file"
    yield "newer", changed(good, version=2), "of version 2; this deepmac reads up to 1"
    yield "no version", changed(good, version=None), "has saved, or a damaged one"
    yield "list", changed(good, groups=3), "has saved, or a damaged one"
    parameters = {"iou_type": "segm"}
    yield (
        "no parameters",
        changed(good, parameters=parameters),
        "has saved, or a damaged one",
    )


def changed(data: bytes, **header) -> bytes:
    with np.load(io.BytesIO(data)) as stored:
        arrays = dict(stored)
    full = json.loads(arrays["header"].tobytes()) | header
    arrays["header"] = np.frombuffer(json.dumps(full).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"), [pytest.param(d, s, id=i) for i, d, s in damaged()]
)
def test_anything_else_is_refused_in_one_line(data, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        from_bytes(data)
    assert "\n" not in str(caught.value)
