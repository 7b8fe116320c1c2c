"""Masks in each of COCO's forms, read by the build and by the evaluation."""

import json
import random
import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st

from deepmac.data.mask_png import decode_mask_png, encode_mask_png
from deepmac.errors import DeepmacError
from deepmac.evaluation.run_lengths import decode_counts, pair_iou
from deepmac.evaluation.segmentations import read_masks
from deepmac.masks import (
    decode_rle,
    encode_rle,
    rle_area,
    rle_from_segmentation,
    rle_runs,
)
from fuzzing.mutation import json_values, mutate_bytes, mutate_json, mutate_kinds
from fuzzing.target import Target, require_one_line

_SIZE = struct.Struct("<II")
_TEXT, _COUNTS, _POLYGONS, _JSON = range(4)
_KEYS = ("size", "counts", "height", "width", "segmentation")
_PIXELS = 1 << 20  # up to here a mask is also looked at pixel by pixel


class RunLengths(Target):
    """A kind and what it says: compressed text, int32 counts, float32 points, or JSON."""

    name = "rle"

    def seeds(self) -> list[bytes]:
        rng = np.random.default_rng(0)
        masks = [
            np.zeros((5, 7), bool),
            np.ones((5, 7), bool),
            np.eye(6, 9, dtype=bool),
        ]
        masks += [
            rng.random((h, w)) < 0.4 for h, w in ((1, 1), (9, 4), (3, 200), (40, 30))
        ]
        block = np.zeros((400, 300), bool)
        block[50:300, 100:200] = True
        seeds = []
        for mask in [*masks, block]:
            rle = encode_rle(mask)
            height, width = mask.shape
            size = _SIZE.pack(height, width)
            runs = rle_runs(rle["counts"])
            seeds.append(bytes([_TEXT]) + size + rle["counts"])
            seeds.append(bytes([_COUNTS]) + size + runs.astype("<i4").tobytes())
            value = {"size": [height, width], "counts": rle["counts"].decode()}
            seeds.append(_as_json(height, width, value))
            seeds.append(_as_json(height, width, value | {"counts": runs.tolist()}))
        points = np.array([1, 1, 5, 1, 5, 6.5, 1, 6], "<f4").tobytes()
        seeds.append(bytes([_POLYGONS]) + _SIZE.pack(10, 12) + points)
        polygons = [[1, 1, 5, 1, 5, 6.5], [7, 7, 9.25, 7, 9, 8, 8, 9]]
        seeds.append(_as_json(10, 12, polygons))
        return seeds

    def mutate(self, rng: random.Random, data: bytes, other: bytes) -> bytes:
        def of_json(rng: random.Random, data: bytes, other: bytes) -> bytes:
            return mutate_json(rng, data, other, _KEYS)

        kinds = (mutate_bytes, mutate_bytes, mutate_bytes, of_json)
        changed = mutate_kinds(rng, data, other, kinds)
        return _adding_up(changed) if rng.random() < 0.3 else changed

    def examples(self) -> st.SearchStrategy[bytes]:
        side = st.integers(0, 40) | st.sampled_from([2**16, 2**31, 2**32 - 1])
        size = st.tuples(side, side)
        text = st.text(
            "0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmno",
            max_size=30,
        )
        texts = st.tuples(size, text).map(
            lambda v: bytes([_TEXT]) + _SIZE.pack(*v[0]) + v[1].encode()
        )
        runs = st.lists(
            st.integers(-3, 300) | st.integers(-(2**31), 2**31 - 1), max_size=20
        )
        counts = st.tuples(size, runs).map(
            lambda v: (
                bytes([_COUNTS]) + _SIZE.pack(*v[0]) + np.array(v[1], "<i4").tobytes()
            )
        )
        points = st.lists(
            st.floats(-50, 90, width=32) | st.floats(width=32), max_size=16
        )
        polygons = st.tuples(size, points).map(
            lambda v: (
                bytes([_POLYGONS]) + _SIZE.pack(*v[0]) + np.array(v[1], "<f4").tobytes()
            )
        )
        json = st.tuples(size, json_values()).map(lambda v: _as_json(*v[0], v[1]))
        return st.one_of(texts, counts, polygons, json)

    def check(self, data: bytes) -> str:
        height, width, segmentation = _parse(data)
        size = np.array([[height, width]], np.int64)
        evaluated = None
        try:
            masks, _ = read_masks([segmentation], size, lambda i: "mask", "error")
            evaluated = masks.rle(0)
        except DeepmacError as e:
            require_one_line(e)
        else:
            _check_laws(evaluated, height, width)
        rle = rle_from_segmentation(segmentation, height, width)
        _check_laws(rle, height, width)
        if evaluated is None:
            # The one difference that there may be: the build takes 5.0 for 5.
            assert any(type(side) is float for side in segmentation["size"])
            return "accepted by the build alone"
        assert rle_area(rle) == rle_area(evaluated)
        return "accepted"


def _adding_up(data: bytes) -> bytes:
    """Counts whose last run fills the image: chance would hardly find any."""
    height, width, value = _parse(data)
    if data[0] != _COUNTS or not value["counts"]:
        return data
    *runs, _ = value["counts"]
    last = max(height * width - sum(runs), 0) & 0x7FFFFFFF
    packed = np.array([*runs, last], "<i4").tobytes()
    return bytes([_COUNTS]) + _SIZE.pack(height, width) + packed


def _as_json(height: int, width: int, segmentation: Any) -> bytes:
    value = {"height": height, "width": width, "segmentation": segmentation}
    return bytes([_JSON]) + json.dumps(value).encode()


def _parse(data: bytes) -> tuple[int, int, Any]:
    """Height, width and segmentation: sizes as an image can have them, nothing else is valid."""
    kind, rest = (data[0] if data else 0) % 4, data[1:]
    if kind == _JSON:
        try:
            value = json.loads(rest)
            height, width = value["height"], value["width"]
            segmentation = value["segmentation"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return 4, 4, None
        if any(type(n) is not int or not 0 < n < 2**31 for n in (height, width)):
            height, width = 4, 4
        return height, width, segmentation
    rest = rest.ljust(8, b"\1")
    height, width = (max(n & 0x7FFFFFFF, 1) for n in _SIZE.unpack(rest[:8]))
    rest = rest[8:]
    if kind == _TEXT:
        counts = rest.decode("latin-1")
        return height, width, {"size": [height, width], "counts": counts}
    rest = rest[: len(rest) // 4 * 4]
    if kind == _COUNTS:
        counts = np.frombuffer(rest, "<i4").tolist()
        return height, width, {"size": [height, width], "counts": counts}
    points = np.frombuffer(rest, "<f4").tolist()
    half = len(points) // 2 // 2 * 2
    return height, width, [points[:half], points[half:]] if half >= 6 else [points]


def _check_laws(rle: Any, height: int, width: int) -> None:
    """What a mask that was accepted can do without harm."""
    assert list(rle["size"]) == [height, width]
    if isinstance(rle["counts"], str):
        rle = {"size": rle["size"], "counts": rle["counts"].encode()}
    runs = rle_runs(rle["counts"])
    assert (runs >= 0).all()
    assert runs.sum() == height * width
    masks = decode_counts([rle["counts"]], np.array([[height, width]]))
    area = rle_area(rle)
    assert area == runs[1::2].sum() == masks.areas()[0]
    first = np.zeros(1, np.int64)
    (iou,) = pair_iou(masks, first, masks, first, np.zeros(1, bool))
    assert not iou > 1
    if (runs[1:] == 0).any():
        return  # pycocotools itself is lost there, and the evaluation is to equal it
    ((x, y, box_width, box_height),) = masks.tight_boxes()
    assert x >= 0 <= y
    assert x + box_width <= width
    assert y + box_height <= height
    assert area <= box_width * box_height
    assert iou == (area > 0) or (area == 0 and np.isnan(iou)), iou
    if height * width > _PIXELS:
        return
    mask = decode_rle(rle)
    assert mask.sum() == area
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    assert (mask == values.reshape(width, height).T).all()
    again = encode_rle(mask)
    assert rle_area(again) == area
    assert decode_mask_png(encode_mask_png(rle)) == again
