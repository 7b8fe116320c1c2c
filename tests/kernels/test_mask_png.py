"""Mask PNGs: any reader gets the mask back, and any mask file is read."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from deepmac.data.mask_png import blank_mask_png, decode_mask_png, encode_mask_png
from deepmac.errors import DataError
from deepmac.masks import decode_rle, encode_rle

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(mask=MASKS)
def test_two_readers_get_the_mask_back(mask):
    png = encode_mask_png(encode_rle(mask))
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mask)
    read = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, mask)


@given(mask=MASKS, foreground=st.integers(1, 255))
def test_every_value_above_zero_is_foreground(mask, foreground):
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * foreground).save(file, "PNG")
    np.testing.assert_array_equal(decode_rle(decode_mask_png(file.getvalue())), mask)


def test_a_one_bit_mask_is_read():
    mask = np.eye(9, dtype=bool)
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    np.testing.assert_array_equal(decode_rle(decode_mask_png(file.getvalue())), mask)


def test_a_mask_with_many_runs():
    mask = (
        np.random.default_rng(0).random((300, 200)) > 0.5
    )  # more runs than a byte counts
    png = encode_mask_png(encode_rle(mask))
    np.testing.assert_array_equal(decode_rle(decode_mask_png(png)), mask)


def test_a_blank_mask_is_a_mask_of_nothing():
    rle = decode_mask_png(blank_mask_png(6, 4))
    assert rle["size"] == [6, 4]
    assert not decode_rle(rle).any()


def test_equal_masks_give_equal_bytes():
    rle = encode_rle(np.tri(30, 40, dtype=bool))
    assert encode_mask_png(rle) == encode_mask_png(dict(rle))
    empty = encode_rle(np.zeros((6, 4), bool))
    assert encode_mask_png(empty) == blank_mask_png(6, 4)


def test_what_is_no_image_is_refused():
    with pytest.raises(DataError, match="not a readable image"):
        decode_mask_png(b"no image")
