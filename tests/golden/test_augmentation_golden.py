"""Augmentations, jitter and mask targets against arrays of the reference, see `augmentation/README.md`."""

import json
from pathlib import Path

import numpy as np
import pytest

from deepmac.config.schema import ImageResizerConfig, JitterMode
from deepmac.config.textproto import read
from deepmac.data.augment import (
    Frame,
    Picture,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    crop,
    crop_border,
    mirror,
    square_crop,
)
from deepmac.data.jitter import jitter_boxes
from deepmac.data.mask_targets import cut_mask, whole_mask
from deepmac.resize import geometry

HERE = Path(__file__).parent / "augmentation"
INPUTS, OUTPUTS, ROIS = (
    np.load(HERE / f"{name}.npz") for name in ("inputs", "outputs", "rois")
)
COLOURS = {
    "brightness/delta": (adjust_brightness, 2e-3),
    "contrast/factor": (adjust_contrast, 2e-3),
    "hue/delta": (adjust_hue, 5e-2),
    "saturation/factor": (adjust_saturation, 5e-2),
}
CROPS = range(6)
JITTERS = [k for k in ROIS.files if "ratio" in k]


@pytest.mark.parametrize(
    "name", [k for k in OUTPUTS.files if k.startswith(tuple(COLOURS))]
)
def test_colours(name):
    (start,) = (s for s in COLOURS if name.startswith(s))
    adjust, tolerance = COLOURS[start]
    found = adjust(INPUTS["image"], float(name.removeprefix(start)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, OUTPUTS[name], atol=tolerance)


def test_flip():
    picture = mirror(Picture.of(INPUTS["image"], INPUTS["boxes"]))
    np.testing.assert_array_equal(picture.image, OUTPUTS["flip/u0.2/image"])
    np.testing.assert_allclose(picture.boxes, OUTPUTS["flip/u0.2/boxes"], atol=1e-6)
    masks = [whole_mask(m, picture.frame) for m in INPUTS["masks"]]
    np.testing.assert_array_equal(masks, OUTPUTS["flip/u0.2/masks"])


@pytest.mark.parametrize("number", CROPS)
def test_square_crop(number):
    scale, y, x = INPUTS[f"square_crop/{number}/scale_ycenter_xcenter"]
    whole = Picture.of(INPUTS["image"], INPUTS["boxes"])
    found = crop(whole, square_crop(30, 41, scale, int(y), int(x)))
    expected = {
        name: OUTPUTS[f"square_crop/{number}/{name}"]
        for name in ("image", "boxes", "labels", "masks")
    }
    np.testing.assert_array_equal(found.image, expected["image"])
    np.testing.assert_allclose(found.boxes, expected["boxes"], atol=1e-6)
    np.testing.assert_array_equal(INPUTS["labels"][found.kept], expected["labels"])
    masks = [whole_mask(INPUTS["masks"][k], found.frame) for k in found.kept]
    np.testing.assert_array_equal(masks, expected["masks"])


def test_the_border_that_centres_keep_off():
    sizes = INPUTS["square_crop/border/sizes"].tolist()
    borders = [crop_border(size, 128) for size in sizes]
    assert borders == OUTPUTS["square_crop/border/border_max128"].tolist()


@pytest.mark.parametrize("name", JITTERS)
def test_jitter(name):
    mode, ratio = name.removeprefix("jitter/").rsplit("_ratio", 1)
    boxes, draws = ROIS["jitter/boxes"], ROIS["jitter/unit_draws"]
    found = jitter_boxes(boxes, JitterMode[mode.upper()], float(ratio), draws)
    np.testing.assert_allclose(found, ROIS[name], atol=1e-5, rtol=1e-5)


def test_every_jitter_mode_was_recorded():
    recorded = {name.split("/")[1].rsplit("_ratio", 1)[0].upper() for name in JITTERS}
    assert recorded == {mode.name for mode in JitterMode}


def test_cut_masks():
    frame = Frame.of(24, 20)
    for masks, boxes, expected in zip(
        ROIS["masks/masks"],
        ROIS["masks/boxes"],
        ROIS["masks/crop_and_resize_16"],
        strict=True,
    ):
        found = [
            cut_mask(mask, frame, box, 16)
            for mask, box in zip(masks, boxes, strict=True)
        ]
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "case",
    ["full_hg10_roialign", "full_2stack_roialign", "full_2stack_laststage_3x3"],
)
def test_mask_targets_of_whole_models(shared_golden, case):
    inputs = np.load(shared_golden / case / "inputs.npz")
    expected = np.load(shared_golden / case / "outputs.npz")[
        "eval_loss/groundtruth_mask_crops"
    ]
    size = expected.shape[-1]
    for masks, boxes, targets in zip(
        inputs["groundtruth/masks"], inputs["groundtruth/boxes"], expected, strict=True
    ):
        frame = Frame.of(*masks.shape[1:])
        found = [cut_mask(m, frame, b, size) for m, b in zip(masks, boxes, strict=True)]
        np.testing.assert_allclose(found, targets, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("number", range(10))
def test_masks_through_the_resizers(shared_golden, number):
    folder = shared_golden / "preprocess"
    masks = np.load(folder / "inputs.npz")[f"masks/{number}"]
    outputs = np.load(folder / "outputs.npz")
    for name, text in json.loads((folder / "resizers.json").read_text()).items():
        if f"{name}/{number}/resized_masks" not in outputs:
            continue  # an image of one row does not go through every resizer
        size = geometry(*masks.shape[1:], read(text, ImageResizerConfig, name).build())
        frame = Frame.of(*masks.shape[1:]).resized(size)
        found = [whole_mask(mask, frame) for mask in masks]
        expected = outputs[f"{name}/{number}/resized_masks"]
        np.testing.assert_array_equal(found, expected)
