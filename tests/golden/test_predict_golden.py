"""`deepmac.load` on the reference's checkpoints: its masks, detections and pasted pixels."""

import json
from pathlib import Path

import numpy as np
import pytest

import deepmac
from deepmac.boxes import denormalise, normalise

HERE = Path(__file__).parent
COMMITTED = ["full_hg10_roialign", "full_fullres_weak"]

# From the README of the recordings: float32 sums in another order, amplified by the mask head.
MASK_TOLERANCE = {"atol": 3e-3, "rtol": 1e-4}
BOX_TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


class Case:
    """A recorded network with the images and boxes that it was given."""

    def __init__(self, folder: Path):
        from deepmac.model.hourglass import HourglassSpec

        backbone = None
        if (folder / "overrides.json").exists():
            given = json.loads((folder / "overrides.json").read_text())["backbone"]
            backbone = HourglassSpec(
                stem_channels=given["input_channel_dims"],
                channels=tuple(given["channel_dims_per_stage"]),
                blocks=tuple(given["blocks_per_stage"]),
                num_hourglasses=given["num_hourglasses"],
            )
        self.predictor = deepmac.load(
            str(folder / "pipeline.config"),
            str(folder / "checkpoint"),
            backbone=backbone,
            reference_quirks=True,
        )
        inputs = np.load(folder / "inputs.npz")
        self.expected = np.load(folder / "outputs.npz")
        self.images = [inputs["image/0"], inputs["image/1"]]
        self.boxes = [
            denormalise(boxes, *image.shape[:2])
            for boxes, image in zip(inputs["user_boxes"], self.images, strict=True)
        ]


@pytest.fixture(
    scope="module",
    params=[*COMMITTED, "full_2stack_roialign", "full_2stack_laststage_3x3"],
)
def case(request) -> Case:
    if request.param in COMMITTED:
        return Case(HERE / request.param)
    return Case(request.getfixturevalue("shared_golden") / request.param)


def test_masks_of_given_boxes(case):
    results = case.predictor.batch(case.images, case.boxes)
    for number, result in enumerate(results):
        expected = case.expected["user_boxes/detection_masks"][number]
        np.testing.assert_allclose(result.mask_probs, expected, **MASK_TOLERANCE)


def test_one_image_is_what_the_exported_signature_returns(case):
    result = case.predictor(case.images[0], boxes=case.boxes[0])
    expected = case.expected["export_image0/detection_masks"][0]
    np.testing.assert_allclose(result.mask_probs, expected, **MASK_TOLERANCE)
    np.testing.assert_allclose(result.boxes, case.boxes[0], rtol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_masks_pasted_into_the_image(case, number):
    result = case.predictor(case.images[number], boxes=case.boxes[number])
    probs = case.expected[f"paste/user_boxes_float/{number}"]
    is_open = np.abs(probs - 0.5) < 1e-4  # rounding decides
    # A box as pixels and back is not the same to the last bit, on which the reference's cut-off
    # of border pixels hangs: probabilities there are a sample or nothing.
    is_open |= border_pixels(result.boxes, probs.shape)
    expected = case.expected[f"paste/user_boxes_binary/{number}"].astype(bool)
    np.testing.assert_array_equal(result.masks[~is_open], expected[~is_open])
    assert is_open.mean() < 0.1


def border_pixels(boxes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """bool [N, H, W]: pixels whose row or column lies within 1e-6 of an edge of the box."""
    _, height, width = shape
    ymin, xmin, ymax, xmax = normalise(boxes, height, width).T[..., None]
    rows, cols = np.arange(height) / (height - 1), np.arange(width) / (width - 1)
    on_row = np.minimum(abs(rows - ymin), abs(rows - ymax)) < 1e-6
    on_col = np.minimum(abs(cols - xmin), abs(cols - xmax)) < 1e-6
    return on_row[:, :, None] | on_col[:, None, :]


def test_detections(case):
    results = case.predictor.batch(case.images, None)
    for number, (image, result) in enumerate(zip(case.images, results, strict=True)):
        count = case.expected["postprocess/num_detections"][number]
        expected = {
            name: case.expected[f"postprocess/detection_{name}"][number][:count]
            for name in ("boxes", "scores", "classes", "masks")
        }
        boxes_norm = normalise(result.boxes, *image.shape[:2])
        np.testing.assert_allclose(boxes_norm, expected["boxes"], **BOX_TOLERANCE)
        np.testing.assert_allclose(result.scores, expected["scores"], **BOX_TOLERANCE)
        np.testing.assert_array_equal(result.category_ids, expected["classes"] + 1)
        np.testing.assert_allclose(
            result.mask_probs, expected["masks"], **MASK_TOLERANCE
        )


def test_classes_count_from_1_as_in_the_exported_signature(case):
    result = case.predictor(case.images[0])
    expected = case.expected["export_image0/detection_classes"][0]
    np.testing.assert_array_equal(result.category_ids, expected)


def test_a_batch_equals_its_images_one_by_one(case):
    for boxes in (case.boxes, None):
        together = case.predictor.batch(case.images, boxes)
        for number, image in enumerate(case.images):
            alone = case.predictor(image, None if boxes is None else boxes[number])
            np.testing.assert_allclose(
                alone.mask_probs, together[number].mask_probs, atol=1e-5
            )
            np.testing.assert_allclose(alone.scores, together[number].scores, atol=1e-5)
