"""Mask PNGs: any reader gets the mask back, and any mask file is read."""

import io
import struct
import zlib

import cv2
import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from deepmac.data.mask_png import blank_mask_png, decode_mask_png, encode_mask_png
from deepmac.errors import DataError
from deepmac.masks import decode_rle, encode_rle, rle_from_segmentation

MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@given(mask=MASKS)
def test_two_readers_get_the_mask_back(mask):
    png = encode_mask_png(encode_rle(mask))
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mask)
    read = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, mask)


@given(mask=MASKS)
def test_a_strict_reader_of_the_stream_gets_every_row(mask):
    """zlib checks the checksum that we put together, and that nothing follows the last block."""
    height, width = mask.shape
    png = encode_mask_png(encode_rle(mask))
    (size,) = struct.unpack_from(">I", png, 33)
    stream = zlib.decompressobj()
    rows = stream.decompress(png[41 : 41 + size])
    assert stream.eof
    assert not stream.unused_data
    rows = np.frombuffer(rows, np.uint8).reshape(height, 1 + width)
    np.testing.assert_array_equal(rows[:, 1:], mask)
    assert not rows[:, 0].any()


@given(
    runs=st.lists(st.integers(0, 9), min_size=1, max_size=12), height=st.integers(1, 7)
)
def test_runs_of_no_pixels_do_not_matter(runs, height):
    """They are allowed in run lengths, and pycocotools makes boxes of them."""
    runs[-1] += -sum(runs) % height or (height if not any(runs) else 0)
    width = sum(runs) // height
    rle = rle_from_segmentation(
        {"size": [height, width], "counts": runs}, height, width
    )
    with Image.open(io.BytesIO(encode_mask_png(rle))) as image:
        np.testing.assert_array_equal(np.asarray(image), decode_rle(rle))


POINTS = st.tuples(st.floats(-40, 120, width=32), st.floats(-40, 120, width=32))
POLYGONS = st.lists(st.lists(POINTS, min_size=3, max_size=8), min_size=1, max_size=3)


@given(polygons=POLYGONS, height=st.integers(1, 80), width=st.integers(1, 80))
def test_polygons_have_the_pixels_of_pycocotools(polygons, height, width):
    """Also those that reach beyond the image, cross themselves or have no area."""
    flat = [[c for point in polygon for c in point] for polygon in polygons]
    expected = coco_mask.decode(
        coco_mask.merge(coco_mask.frPyObjects(flat, height, width))
    )
    png = encode_mask_png(rle_from_segmentation(flat, height, width))
    with Image.open(io.BytesIO(png)) as image:
        np.testing.assert_array_equal(np.asarray(image), expected)


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


def test_a_blank_mask_of_an_image_without_end_is_refused():
    with pytest.raises(DataError, match="masks"):
        blank_mask_png(1 << 20, 1 << 20)
