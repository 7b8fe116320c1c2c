"""Results decoded into typed objects are what `json.loads` would have given, or go that way."""

import copy
import json
import tempfile

import coco_cases
import numpy as np
import pytest
from coco_reference import form, read_truth
from hypothesis import given
from hypothesis import strategies as st

from deepmac.evaluation.detections import form_of, read_detections
from deepmac.evaluation.results_file import ResultsFile
from deepmac.evaluation.typed_results import TYPES, as_dicts, decoder_like

IDS = st.integers() | st.text(max_size=3)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(
    -(2**70), 2**70
)
MASKS = st.fixed_dictionaries(
    {"size": st.lists(st.integers(), min_size=2, max_size=2), "counts": st.text()}
)
PLAIN = {"image_id": IDS, "category_id": IDS, "score": NUMBERS}
BOXES = st.lists(NUMBERS, min_size=4, max_size=4)
USUAL = (
    st.fixed_dictionaries(PLAIN | {"segmentation": MASKS})
    | st.fixed_dictionaries(PLAIN | {"bbox": BOXES})
    | st.fixed_dictionaries(PLAIN | {"bbox": BOXES, "segmentation": MASKS})
)
ANY = st.none() | st.booleans() | NUMBERS | st.text(max_size=2) | st.lists(NUMBERS)


def floating(value):
    """A result with floating point where it is meant."""
    value = value | {"score": float(value["score"])}
    if "bbox" in value:
        value["bbox"] = [float(v) for v in value["bbox"]]
    return value


@given(result=USUAL)
def test_the_usual_forms_are_taken(result):
    data = json.dumps([result, result]).encode()
    decoded = decoder_like(result)(data)
    assert decoded is not None
    assert {type(d) for d in decoded} <= {*TYPES}
    for same in as_dicts(decoded):
        assert with_lists(same) == floating(result)
        assert type(same["image_id"]) is type(result["image_id"])


def with_lists(value):
    """As JSON has it: lists, not tuples."""
    return json.loads(json.dumps(value))


@given(result=USUAL, key=st.sampled_from(["score", "image_id", "x", "bbox"]), value=ANY)
def test_what_is_unusual_is_refused_or_means_the_same(result, key, value):
    changed = result | {key: value}
    decoded = decoder_like(result)(json.dumps([changed]).encode())
    if decoded is not None:
        (same,) = as_dicts(decoded)
        is_typed = type(decoded[0]) is not dict
        assert with_lists(same) == (floating(changed) if is_typed else changed)


def detections_of(results, case):
    truth, known, _ = read_truth(case)
    place = "result {}".format
    return read_detections(
        results, truth.scope, known, case.parameters, form(case), place
    )


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("name", coco_cases.CASES)
def test_every_trap_reads_the_same_from_a_file(name, iou_type, tmp_path):
    case = coco_cases.CASES[name]().of_type(iou_type)
    path = tmp_path / "dt.json"
    path.write_text(json.dumps(case.results, default=bytes.decode))
    typed = [r for part, _ in ResultsFile(str(path)).in_order() for r in part]
    plain = json.loads(path.read_text())
    (a, counts), (b, same_counts) = (
        detections_of(typed, case),
        detections_of(plain, case),
    )
    assert counts == same_counts
    for field in ("image", "category", "score", "area", "boxes"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    np.testing.assert_array_equal(a.masks.runs, b.masks.runs)
    np.testing.assert_array_equal(a.masks.sizes, b.masks.sizes)
    assert list(a.annotation_ids) == list(b.annotation_ids)


def test_a_file_of_several_forms_is_read_as_a_whole(tmp_path):
    case = coco_cases.mixed()
    results = copy.deepcopy(case.results)
    for number, result in enumerate(results):
        if number % 7 == 0:
            result["note"] = "x"
    path = tmp_path / "dt.json"
    path.write_text(json.dumps(results))
    assert form_of(results[1], "") == form(case)
    read = [r for part, _ in ResultsFile(str(path)).in_order() for r in part]
    a, _ = detections_of(read, case)
    b, _ = detections_of(case.results, case)
    np.testing.assert_array_equal(a.score, b.score)
    np.testing.assert_array_equal(a.masks.runs, b.masks.runs)


@given(
    lengths=st.lists(st.integers(1, 60), max_size=12), num_results=st.integers(1, 50)
)
def test_pieces_hold_whole_images_and_are_about_as_long_as_asked(lengths, num_results):
    results = [
        {"image_id": image, "category_id": 1, "score": 0.5, "bbox": [0, 0, 1, image]}
        for image, length in enumerate(lengths)
        for _ in range(length)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(results, indent=1))
        file.flush()
        pieces = [r for r, _ in ResultsFile(file.name).in_order(num_results)]
    read = [r for piece in pieces for r in as_dicts(piece)]
    assert with_lists(read) == [floating(r) for r in results]
    images = [{r["image_id"] for r in as_dicts(piece)} for piece in pieces]
    assert sum(map(len, images)) == len(lengths)  # none in two pieces


def test_boxes_of_the_mask_form_are_those_given_in_a_file_too(tmp_path):
    # The first result decides for the form, others may have boxes: pycocotools uses them.
    scene = coco_cases.Scene(images=(1, 2), categories=(1,))
    scene.object((0, 0, 20, 20), 1, 1)
    scene.found((0, 0, 20, 20), 0.9, 1, 1)
    case = scene.case().of_type("bbox")
    mask = case.results[0]["segmentation"]
    first = case.results[0] | {"bbox": []}
    rest = case.results[0] | {"bbox": [5, 5, 9, 9.5], "segmentation": mask}
    path = tmp_path / "dt.json"
    path.write_text(json.dumps([first, rest, rest], default=bytes.decode))
    assert form_of(first, "") == "mask"
    typed = decoder_like(rest)(json.dumps([rest], default=bytes.decode).encode())
    assert typed is not None
    truth, known, _ = read_truth(case)
    place = "result {}".format
    args = truth.scope, known, case.parameters, "mask", place
    a, _ = read_detections(typed, *args)
    b, _ = read_detections([rest], *args)
    np.testing.assert_array_equal(a.boxes, [[5, 5, 9, 9.5]])
    np.testing.assert_array_equal(a.boxes, b.boxes)
