"""COCO files: what is taken from them, and what is said of categories that make no sense."""

import json

import pytest

from deepmac.categories import Category
from deepmac.data.coco import (
    InstanceReader,
    image_id_of,
    read_categories,
    stream_dataset,
)
from deepmac.data.failures import Unusable
from deepmac.data.splits import Split
from deepmac.errors import DataError, OptionError

SPLIT = Split("all", frozenset({1, 2}))


def test_entries_come_in_the_order_of_the_file_with_their_texts(tmp_path):
    path = tmp_path / "a.json"
    document = {
        "annotations": [
            {"id": 1, "image_id": 2, "caption": "long", "bbox": [1, 2, 3, 4]}
        ],
        "info": {"year": 2017},
        "images": [{"id": 2, "file_name": "a.jpg", "flickr_url": "x"}, 7],
        "licenses": [{"id": 1}],
        "categories": [{"id": 1, "name": "cat", "supercategory": "animal"}],
    }
    path.write_text(json.dumps(document))
    found = [
        (kind, position, value, text)
        for kind, first, values, texts in stream_dataset(str(path))
        for position, (value, text) in enumerate(zip(values, texts, strict=True), first)
    ]
    assert found == [
        (kind, position, entry, json.dumps(entry).encode())
        for kind in ("annotations", "images", "categories")
        for position, entry in enumerate(document[kind])
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"images": [], "annotations": []}, "no list of categories; is this a COCO"),
        ({}, "no list of images, annotations, categories"),
        ({"images": {}}, "'images' is not a list"),
    ],
)
def test_lists_that_are_missing_are_named(tmp_path, document, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        list(stream_dataset(str(path)))


def test_categories_are_ordered_by_id():
    entries = [{"id": 9, "name": "b"}, {"id": 2.0, "name": " a "}]
    assert read_categories(entries, "f") == (Category(2, "a"), Category(9, "b"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "f: the list of categories is empty"),
        (["cat"], "f: category 0 of the list is not a JSON object"),
        (
            [{"id": "1", "name": "a"}],
            "f: category 0 of the list: its id is '1', not a whole",
        ),
        ([{"id": True, "name": "a"}], "its id is True"),
        ([{"id": 1}], "its name is None, not a text"),
        ([{"id": 1, "name": " "}], "its name is ' ', not a text"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "categories share the id 1"),
        (
            [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}],
            "categories share the name 'a'",
        ),
    ],
)
def test_categories_that_make_no_sense_are_refused(entries, message):
    with pytest.raises(DataError, match=message):
        read_categories(entries, "f")


@pytest.mark.parametrize(
    ("value", "image_id"),
    [(7, 7), (7.0, 7), ("7", 7), ("007", "007"), ("a", "a"), (-1, -1)],
)
def test_ids_are_numbers_or_text(value, image_id):
    found = image_id_of(value)
    assert found == image_id
    assert type(found) is type(image_id)


@pytest.mark.parametrize("value", [None, True, 1.5, float("nan"), "", [1], {}, 2**70])
def test_other_values_are_no_ids(value):
    with pytest.raises(Unusable, match="an image id must be a number or text"):
        image_id_of(value)


def read(bbox, out_of_bounds, height=10, width=20):
    reader = InstanceReader(frozenset({1, 2}), SPLIT, out_of_bounds)
    annotation = {"id": 1, "category_id": 1, "bbox": bbox}
    return reader.read("x", height, width, [annotation])


@pytest.mark.parametrize(
    ("bbox", "clipped", "dropped"),
    [
        # ymin, xmin, ymax, xmax; the reference drops what passes the right or lower border.
        ([0, 0, 20, 10], (0, 0, 10, 20), (0, 0, 10, 20)),
        ([-2, -1, 5, 5], (0, 0, 4, 3), (-1, -2, 4, 3)),
        ([18, 8, 5, 5], (8, 18, 10, 20), None),
        ([0, 0, 20.000001, 10], (0, 0, 10, 20), None),
        ([20, 0, 5, 5], None, None),
        ([-5, 0, 5, 5], None, (0, -5, 5, 0)),
    ],
)
def test_boxes_beyond_the_border(bbox, clipped, dropped):
    for out_of_bounds, expected in (("clip", clipped), ("drop", dropped)):
        result = read(bbox, out_of_bounds)
        assert [i.box for i in result.instances] == (
            [] if expected is None else [expected]
        )
        assert len(result.failures) == (expected is None)


def test_only_clip_and_drop_are_known():
    with pytest.raises(
        OptionError, match="out_of_bounds is one of clip, drop, got 'cut'"
    ):
        read([0, 0, 1, 1], "cut")


def test_box_ends_are_exact_sums():
    (instance,) = read([0.1, 0.7, 0.2, 0.1], "clip").instances
    assert instance.box == (0.7, 0.1, 0.7 + 0.1, 0.1 + 0.2)
