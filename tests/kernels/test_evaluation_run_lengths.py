"""Run lengths in bulk: the same as pycocotools one by one, and nothing malformed gets past."""

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.errors import DataError
from deepmac.evaluation import run_lengths
from deepmac.evaluation.outlines import Outlines
from deepmac.evaluation.run_lengths import (
    BadRunLengths,
    RunLengths,
    decode_counts,
    intersections,
    pair_iou,
)
from deepmac.evaluation.segmentations import read_outlines
from deepmac.masks import rle_from_polygons, runs_of


def encode(mask: np.ndarray) -> dict:
    return pycocotools.mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def noise(seed: int, height: int, width: int, density: float) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width)) < density


def decode(rles: list[dict]) -> RunLengths:
    sizes = np.array([rle["size"] for rle in rles]).reshape(-1, 2)
    return decode_counts([rle["counts"] for rle in rles], sizes)


DENSITIES = st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0])


@given(
    shapes=st.lists(
        st.tuples(
            st.integers(0, 99), st.integers(1, 40), st.integers(1, 300), DENSITIES
        ),
        min_size=1,
        max_size=8,
    )
)
def test_runs_measure_the_pixels(shapes):
    masks = [noise(*shape) for shape in shapes]
    decoded = decode([encode(mask) for mask in masks])
    parts = np.split(decoded.runs, decoded.starts[1:-1])
    for mask, part in zip(masks, parts, strict=True):
        values = np.arange(len(part)) % 2  # zeros and ones in turn
        np.testing.assert_array_equal(np.repeat(values, part), mask.ravel(order="F"))
    np.testing.assert_array_equal(decoded.areas(), [mask.sum() for mask in masks])
    assert not decoded.has_empty_runs().any()


@st.composite
def odd_rles(draw, height: int, width: int) -> dict:
    """Run lengths as they may be written, with empty runs anywhere."""
    runs = draw(st.lists(st.sampled_from([0, 0, 1, 2, 3, 7]), max_size=20))
    ends = np.minimum(np.cumsum(runs), height * width)
    runs = [*np.diff(ends, prepend=0).tolist(), height * width - int(ends[-1:].sum())]
    runs += [0] * draw(st.integers(0, 2))
    odd = {"size": [height, width], "counts": runs}
    return pycocotools.mask.frPyObjects(odd, height, width)


@st.composite
def lists_of_rles(draw):
    """Two lists of masks of one size, made by an encoder or odd."""
    height, width = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    drawn = st.tuples(st.integers(0, 99), st.just(height), st.just(width), DENSITIES)
    rles = odd_rles(height, width) | drawn.map(lambda args: encode(noise(*args)))
    some = st.lists(rles, min_size=1, max_size=4)
    return draw(some), draw(some)


@given(lists=lists_of_rles(), crowds=st.lists(st.booleans(), min_size=4, max_size=4))
def test_areas_boxes_and_iou_are_those_of_pycocotools(lists, crowds):
    for rles in lists:
        masks = decode(rles)
        np.testing.assert_array_equal(masks.areas(), pycocotools.mask.area(rles))
        np.testing.assert_array_equal(
            masks.tight_boxes(), pycocotools.mask.toBbox(rles)
        )
    detections, truths = lists
    expected = pycocotools.mask.iou(detections, truths, crowds[: len(truths)])
    d, g = np.indices(expected.shape).reshape(2, -1)
    found = pair_iou(decode(detections), d, decode(truths), g, np.array(crowds)[g])
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)
    at_least_half = pair_iou(
        decode(detections), d, decode(truths), g, np.array(crowds)[g], lowest=0.5
    )
    is_near = found >= 0.5
    np.testing.assert_array_equal(at_least_half[is_near], found[is_near])
    assert (at_least_half[~is_near] < 0.5).all()


def test_masks_of_unlike_sizes_never_match():
    whole, smaller = encode(np.ones((4, 4))), encode(np.ones((4, 3)))
    rles = decode([whole, smaller])
    d, g = np.array([0, 1, 1]), np.array([1, 0, 1])
    no_crowd = np.zeros(3, bool)
    np.testing.assert_array_equal(
        pair_iou(rles, d, rles, g, no_crowd), [-1.0, -1.0, 1.0]
    )


def test_many_pairs_are_compared_a_part_at_a_time(monkeypatch):
    masks = [noise(n, 9, 7, 0.3) for n in range(40)]
    decoded = decode([encode(mask) for mask in masks])
    d, g = np.indices((40, 40)).reshape(2, -1)
    monkeypatch.setattr(run_lengths, "_BATCH_RUNS", 50)
    common = intersections(decoded, d, decoded, g)
    pixels = np.array(masks).reshape(40, -1).astype(np.int64)
    np.testing.assert_array_equal(common.reshape(40, 40), pixels @ pixels.T)


def test_no_masks_are_no_masks():
    none = decode([])
    assert len(none) == len(none.areas()) == len(none.has_empty_runs()) == 0
    assert none.tight_boxes().shape == (0, 4)
    no_rows = np.zeros(0, np.int64)
    some = decode([GOOD])
    for masks in (none, some):
        assert not len(pair_iou(masks, no_rows, some, no_rows, np.zeros(0, bool)))


@given(rows=st.lists(st.integers(0, 6), max_size=9), cut=st.integers(0, 7))
def test_masks_are_taken_and_put_together(rows, cut):
    rles = [encode(noise(n, 5 + n, 7, 0.4)) for n in range(7)]
    masks = decode(rles)
    taken = masks.take(np.array(rows, np.int64))
    assert [taken.rle(i) for i in range(len(taken))] == [rles[row] for row in rows]
    together = RunLengths.concatenate([decode(rles[:cut]), decode(rles[cut:])])
    assert [together.rle(i) for i in range(7)] == rles


GOOD = encode(noise(1, 20, 30, 0.5))

BAD = {
    "too few pixels": (encode(noise(1, 19, 30, 0.5))["counts"], "add up to 570 pixels"),
    "too many pixels": (encode(noise(1, 21, 30, 0.5))["counts"], "its size is 20 x 30"),
    "cut off": (b"h\x60", "cut off"),
    "foreign character": (b"ab~", "not part of the encoding"),
    "not even text": (b"\xff\x00", "not part of the encoding"),
    "a run without end": (b"o" * 30 + b"0", "more than 30 bits"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("num_before", [0, 1, 3, 5000])
def test_the_first_bad_one_is_found(name, num_before):
    counts, reason = BAD[name]
    good = GOOD["counts"]
    everything = [good] * num_before + [counts, good, counts]
    sizes = np.tile([20, 30], (len(everything), 1))
    with pytest.raises(BadRunLengths, match=reason) as refusal:
        decode_counts(everything, sizes)
    assert refusal.value.index == num_before


def test_runs_of_negative_length_are_found_although_the_sum_is_right():
    counts = b"O" + b"ib0"  # -1, 601
    runs, _ = runs_of([counts])
    assert runs.tolist() == [-1, 601]
    with pytest.raises(BadRunLengths, match="hold a negative run"):
        decode_counts([counts], np.array([[20, 30]]))


def test_text_that_is_no_rle_is_refused():
    with pytest.raises(DataError, match="cut off"):
        runs_of([b"\x60"])


def test_outlines_are_drawn_as_they_would_have_been_at_once():
    square, triangle = [1, 1, 1, 9, 9, 9, 9, 1], [0.5, 0, 12.25, 3, 7, 8]
    size_and_runs = {"size": [12, 14], "counts": [20, 30, 118]}
    crowd = pycocotools.mask.frPyObjects(size_and_runs, 12, 14)
    values = [
        [square],
        size_and_runs,
        [square, triangle],
        [triangle],
    ]
    sizes = np.array([[12, 14], [12, 14], [12, 14], [20, 10]])
    outlines, num_other = read_outlines(values, sizes, "mask {}".format, "error")
    expected = [
        rle_from_polygons([square], 12, 14),
        crowd,
        rle_from_polygons([square, triangle], 12, 14),
        rle_from_polygons([triangle], 20, 10),
    ]
    assert isinstance(outlines, Outlines)
    assert num_other == 0
    assert [outlines.rle(i) for i in range(4)] == expected
    for rows in ([0, 1, 2, 3], [3, 1], [2], []):
        drawn = outlines.take(np.array(rows, np.int64)).drawn()
        assert [drawn.rle(i) for i in range(len(rows))] == [expected[i] for i in rows]
