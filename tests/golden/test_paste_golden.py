"""Pasting against arrays recorded from the reference implementation (TensorFlow 2, CPU).

`paste/cores.npz`: six 14 x 14 masks (`masks`, `boxes`) resampled to three image sizes, and as
uint8 (mask > 0.5) by nearest. `paste/full.npz`: RoI probabilities of whole reference models
(`<model>/<image>/probs`, `boxes`), given boxes and detections, with the binary image masks.
"""

from pathlib import Path

import numpy as np
import pytest

from deepmac.masks import decode_rle
from deepmac.paste import paste_mask, paste_masks, paste_rles

HERE = Path(__file__).parent / "paste"
SIZES = [(37, 53), (14, 14), (100, 64)]
FULL = sorted({k.rsplit("/", 1)[0] for k in np.load(HERE / "full.npz").files})


@pytest.fixture(scope="module")
def cores():
    return np.load(HERE / "cores.npz")


@pytest.fixture(scope="module")
def full():
    return np.load(HERE / "full.npz")


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_pasting_is_the_references(cores, size):
    expected = cores["bilinear_{}x{}".format(*size)]
    for probs, box, image in zip(cores["masks"], cores["boxes"], expected, strict=True):
        exact = paste_mask(probs, box, *size, reference_quirks=True)
        np.testing.assert_array_equal(exact, image)  # to the last bit
        # float64 coordinates: up to 1e-5 of a mask sample away from the reference's
        np.testing.assert_allclose(paste_mask(probs, box, *size), image, atol=1e-5)


def test_uint8_pasting_is_the_references(cores):
    expected = cores["uint8_nearest_37x53"]
    for probs, box, image in zip(cores["masks"], cores["boxes"], expected, strict=True):
        binary = (probs > 0.5).astype(np.uint8)
        pasted = paste_mask(binary, box, 37, 53, reference_quirks=True)
        np.testing.assert_array_equal(pasted, image)


@pytest.mark.parametrize("case", FULL)
def test_binary_masks_of_whole_models_are_the_references(full, case):
    probs, boxes = full[f"{case}/probs"], full[f"{case}/boxes"]
    expected = full[f"{case}/binary"].astype(bool)
    size = expected.shape[1:]
    quirks = {"reference_quirks": True}
    np.testing.assert_array_equal(paste_masks(probs, boxes, *size, **quirks), expected)
    for rle, mask in zip(
        paste_rles(probs, boxes, *size, **quirks), expected, strict=True
    ):
        np.testing.assert_array_equal(decode_rle(rle), mask)


@pytest.mark.parametrize("case", FULL)
def test_the_edge_tolerance_only_adds_rows_or_columns_at_the_edge_of_a_box(full, case):
    probs, boxes = full[f"{case}/probs"], full[f"{case}/boxes"]
    expected = full[f"{case}/binary"].astype(bool)
    tolerant = paste_masks(probs, boxes, *expected.shape[1:])
    assert not (expected & ~tolerant).any()
    for added in tolerant & ~expected:
        rows, cols = np.nonzero(added)
        assert len(set(rows)) <= 1 or len(set(cols)) <= 1
