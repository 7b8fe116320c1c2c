import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deepmac import masks
from deepmac.errors import DataError

PICTURE = np.array([[0, 1, 1], [0, 1, 0]], bool)  # columns: 00 | 11 | 10

bitmaps = arrays.arrays(
    bool, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.booleans()
)


def test_runs_go_down_the_columns_and_start_with_zeros():
    assert masks.rle_runs(masks.encode_rle(PICTURE)["counts"]).tolist() == [2, 3, 1]


def test_a_mask_that_starts_with_foreground_has_an_empty_first_run():
    assert masks.rle_runs(masks.encode_rle(~PICTURE)["counts"]).tolist() == [0, 2, 3, 1]


@given(mask=bitmaps)
def test_encoding_and_decoding_give_the_mask_back(mask):
    rle = masks.encode_rle(mask)
    assert (masks.decode_rle(rle) == mask).all()
    assert masks.rle_area(rle) == mask.sum()


@given(mask=bitmaps)
def test_runs_are_the_lengths_that_numpy_sees(mask):
    column_major = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(np.diff(column_major)).tolist()
    expected = np.diff([0, *edges, mask.size])
    assert (
        masks.rle_runs(masks.encode_rle(mask)["counts"]).tolist() == expected.tolist()
    )


def test_large_runs_and_large_differences_survive_the_encoding():
    mask = np.zeros((3000, 2000), bool)
    mask[:, 1000:1500] = True
    mask[7, 3] = mask[2990, 1999] = True
    runs = masks.rle_runs(masks.encode_rle(mask)["counts"])
    assert runs.sum() == mask.size
    assert runs[1::2].sum() == mask.sum()


@given(mask=bitmaps)
def test_the_three_written_forms_of_a_mask_are_one(mask):
    rle = masks.encode_rle(mask)
    size = list(mask.shape)
    runs = masks.rle_runs(rle["counts"]).tolist()
    for counts in (rle["counts"], rle["counts"].decode(), runs):
        read = masks.rle_from_segmentation({"size": size, "counts": counts}, *size)
        assert (masks.decode_rle(read) == mask).all()


def test_polygons_are_united_as_pycocotools_does():
    polygons = [
        [1.0, 1.0, 6.0, 1.0, 6.0, 5.0],
        [4.0, 3.0, 9.0, 3.0, 9.0, 8.0, 4.0, 8.0],
    ]
    ours = masks.decode_rle(masks.rle_from_segmentation(polygons, 10, 12))
    parts = coco_mask.decode(coco_mask.frPyObjects(polygons, 10, 12))
    assert (ours == parts.any(axis=-1)).all()
    assert ours.any()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "empty list of polygons"),
        ([[1, 2, 3, 4]], "polygon 0 needs an even count of at least 6 numbers"),
        ([[0, 0, 5, 0, 5]], "polygon 0 needs an even count"),
        ([[0, 0, 5, 0, 5, 5], "abc"], "polygon 1 needs"),
        ([[0, 0, 5, float("nan"), 5, 5]], "not a finite number"),
        ([[0, 0, 5, "x", 5, 5]], "not a finite number"),
        ([[0, 0, 1e9, 0, 5, 5]], "point 1e[+]09 pixels away"),
        (None, "neither a list of polygons nor an RLE"),
        ({"counts": [4]}, "neither a list of polygons nor an RLE"),
        ({"size": [5, 5], "counts": [100]}, r"mask of \[5, 5\] pixels"),
        ({"size": [10, 10], "counts": [50, 49]}, "add up to 99 pixels"),
        ({"size": [10, 10], "counts": [-50, 150]}, "hold a negative number"),
        ({"size": [10, 10], "counts": [[100]]}, "not whole numbers"),
        ({"size": [10, 10], "counts": ["a"]}, "not whole numbers"),
        ({"size": [10, 10], "counts": ""}, "RLE counts are empty"),
        ({"size": [10, 10], "counts": 5}, "neither numbers nor text, but 5"),
        ({"size": [10, 10], "counts": None}, "neither numbers nor text, but None"),
        ({"size": 100, "counts": [100]}, "mask of 100 pixels"),
        ({"size": [10, True], "counts": [10]}, r"mask of \[10, True\] pixels"),
        ({"size": [10, 10], "counts": "é"}, "not part of the encoding"),
        ({"size": [10, 10], "counts": [10**30]}, "add up to 1000"),
        ({"size": [10, 10], "counts": ["100"]}, "not whole numbers"),
        ({"size": [10, 10], "counts": [49.5, 50.5]}, "not whole numbers"),
        ({"size": [10, 10], "counts": "zz"}, "not part of the encoding"),
        ({"size": [10, 10], "counts": "PP"}, "cut off"),
        (
            {"size": [10, 10], "counts": "9"},
            "add up to 9 pixels, image has 10 x 10 = 100",
        ),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(segmentation, message):
    with pytest.raises(DataError, match=message):
        masks.rle_from_segmentation(segmentation, 10, 10)


@given(counts=st.binary(max_size=30))
def test_arbitrary_counts_are_read_or_refused_never_worse(counts):
    try:
        rle = masks.rle_from_segmentation({"size": [7, 9], "counts": counts}, 7, 9)
    except DataError:
        return
    assert masks.decode_rle(rle).shape == (7, 9)
