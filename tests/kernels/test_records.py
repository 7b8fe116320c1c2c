"""Records: what is written is read, and so is what the two reference writers leave out or do."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deepmac.data import tf_example
from deepmac.data.records import decode_example, encode_example
from deepmac.errors import DataError
from deepmac.instances import Example, Instance
from deepmac.masks import decode_rle, encode_rle

NAMES = {1: "person", 18: "dog", 90: "toothbrush"}
IDS = {name: number for number, name in NAMES.items()}


def jpeg(height=40, width=60):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 60)).save(file, "JPEG")
    return file.getvalue()


def square(top, left, side, height=40, width=60):
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    return mask


EXAMPLE = Example(
    image_id=17,
    file_name="größe 図.jpg",
    height=40,
    width=60,
    encoded=jpeg(),
    instances=(
        Instance(
            box=(5.0, 10.0, 15.0, 20.0),
            category_id=18,
            annotation_id=3,
            area=100.0,
            mask_rle=encode_rle(square(5, 10, 10)),
        ),
        Instance(
            box=(0.0, 0.0, 40.0, 60.0),
            category_id=90,
            annotation_id=None,
            area=7.5,
            is_crowd=True,
            mask_weight=0.0,
        ),
    ),
)


def features_of(example=EXAMPLE, **options):
    return tf_example.decode(encode_example(example, NAMES, **options))


def read(features, **options):
    return decode_example(tf_example.encode(features), **options)


def without(*keys):
    return {key: value for key, value in features_of().items() if key not in keys}


def test_what_is_written_is_read():
    # 40 and 60 pixels with these boxes: thirds and sixths are what float32 leaves of them.
    found = decode_example(encode_example(EXAMPLE, NAMES))
    for mine, theirs in zip(EXAMPLE.instances, found.instances, strict=True):
        np.testing.assert_allclose(theirs.box, mine.box, rtol=2e-7)
    boxes = [i.box for i in EXAMPLE.instances]
    same = tuple(map(lambda i, b: replace(i, box=b), found.instances, boxes))
    assert replace(found, instances=same) == EXAMPLE


def test_every_feature_of_the_format_is_there():
    features = features_of()
    assert features["image/format"] == [b"jpeg"]
    assert features["image/source_id"] == [b"17"]
    assert features["image/filename"] == ["größe 図.jpg".encode()]
    assert features["image/object/class/text"] == [b"dog", b"toothbrush"]
    assert features["image/object/class/label"].tolist() == [18, 90]
    assert features["image/object/is_crowd"].tolist() == [0, 1]
    assert features["image/object/annotation_id"].tolist() == [3, -1]
    assert features["image/object/mask/weight"].tolist() == [1, 0]
    assert features["image/object/bbox/xmax"].dtype == np.float32


def test_a_hidden_mask_keeps_its_place_as_a_blank_one():
    first, second = features_of()["image/object/mask"]
    for png, area in ((first, 100), (second, 0)):
        with Image.open(io.BytesIO(png)) as image:
            assert (image.size, np.asarray(image).sum()) == ((60, 40), area)


@pytest.mark.parametrize("given", ["ann-7", -1, -7, 0, "größe", "007", None])
def test_ids_of_annotations_come_back_as_they_were(given):
    first, second = EXAMPLE.instances
    one = replace(EXAMPLE, instances=(replace(first, annotation_id=given), second))
    found = decode_example(encode_example(one, NAMES)).instances
    assert [i.annotation_id for i in found] == [given, None]
    numbers = features_of(one)["image/object/annotation_id"].tolist()
    assert numbers == [given if isinstance(given, int) else -1, -1]


def test_numbers_need_no_ids_as_text():
    assert "image/object/annotation_id/text" not in features_of()


def test_lists_of_objects_are_there_without_objects():
    empty = Example(image_id=1, file_name="a", height=40, width=60, encoded=jpeg())
    features = features_of(empty)
    lists = {key for key in features_of() if key.startswith("image/object/")}
    assert lists <= features.keys()
    assert all(len(features[key]) == 0 for key in lists)
    assert decode_example(encode_example(empty, NAMES)) == empty


def test_without_masks_no_mask_is_stored_and_none_is_known():
    features = features_of(with_masks=False)
    assert not [key for key in features if "mask" in key]
    for instance in read(features).instances:
        assert (instance.mask_rle, instance.mask_weight) == (None, 0.0)


def test_masks_need_not_be_decoded():
    found = decode_example(encode_example(EXAMPLE, NAMES), with_masks=False)
    assert [i.mask_rle for i in found.instances] == [None, None]
    assert [i.mask_weight for i in found.instances] == [1.0, 0.0]


@given(
    text=st.sampled_from(["007", "1_0", " 1", "+1", "-0", "², x", "1e3", "cat", "٣"])
)
def test_text_that_is_not_the_form_of_a_number_stays_text(text):
    assert read(features_of() | {"image/source_id": [text.encode()]}).image_id == text


@given(number=st.integers(-(10**18), 10**18))
def test_numbers_are_read_as_numbers(number):
    source_id = {"image/source_id": [str(number).encode()]}
    assert read(features_of() | source_id).image_id == number


# What the reference's writers leave out.


def test_names_alone_need_a_label_map():
    features = without("image/object/class/label")
    assert [i.category_id for i in read(features, category_ids=IDS).instances] == [
        18,
        90,
    ]
    with pytest.raises(
        DataError, match="category names \\(such as 'dog'\\) but no ids"
    ):
        read(features)
    with pytest.raises(
        DataError, match="unknown category 'toothbrush'; did you mean 'tooth"
    ):
        read(features, category_ids={"dog": 1, "toothbrushes": 2})


def test_ids_alone_need_no_names():
    features = without("image/object/class/text")
    assert [i.category_id for i in read(features).instances] == [18, 90]


def test_a_record_without_objects_may_lack_every_list():
    names = [key for key in features_of() if key.startswith("image/object/")]
    assert read(without(*names)).instances == ()


def test_missing_size_area_crowd_and_ids_are_made_up_from_the_rest():
    found = read(
        without(
            "image/height", "image/width", "image/object/area", "image/object/is_crowd",
            "image/object/annotation_id", "image/source_id",
        )
    )  # fmt: skip
    assert (found.height, found.width) == (40, 60)
    assert found.image_id == "größe 図.jpg"
    first = found.instances[0]
    assert first.area == pytest.approx(100, rel=1e-6)
    assert (first.is_crowd, first.annotation_id) == (False, None)


def test_an_image_without_any_name_is_known_by_its_bytes():
    found = read(without("image/source_id", "image/filename"))
    other = read(
        without("image/source_id", "image/filename") | {"image/encoded": [jpeg(41)]}
    )
    assert len(found.image_id) == 64
    assert found.image_id != other.image_id


def test_missing_weights_are_one():
    found = read(without("image/object/mask/weight"))
    assert [i.mask_weight for i in found.instances] == [1.0, 1.0]
    assert not decode_rle(found.instances[1].mask_rle).any()


def test_masks_of_0_and_255_are_read():
    file = io.BytesIO()
    Image.fromarray(square(5, 10, 10).astype(np.uint8) * 255).save(file, "PNG")
    masks = {
        "image/object/mask": [file.getvalue()] * 2,
        "image/object/mask/weight": np.ones(2),
    }
    for instance in read(features_of() | masks).instances:
        np.testing.assert_array_equal(decode_rle(instance.mask_rle), square(5, 10, 10))


def test_masks_as_numbers_are_read():
    stack = np.stack([square(5, 10, 10), square(0, 0, 3)]).astype(np.float32)
    masks = {"image/object/mask": stack.ravel(), "image/object/mask/weight": np.ones(2)}
    found = read(features_of() | masks).instances
    np.testing.assert_array_equal([decode_rle(i.mask_rle) for i in found], stack > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image/object/bbox/xmin": np.zeros(3)},
            "sides of the boxes are 2, 3, 2, 2 in number",
        ),
        ({"image/object/mask": [b""]}, "'image/object/mask' has 1 values for 2 boxes"),
        (
            {"image/object/mask": np.zeros(7)},
            "7 mask numbers for 2 boxes of 40 x 60 pixels",
        ),
        (
            {"image/object/area": np.zeros(1)},
            "'image/object/area' has 1 values for 2 boxes",
        ),
        ({"image/object/class/label": np.ones(3, int)}, "has 3 values for 2 boxes"),
        ({"image/object/area": [b"1", b"2"]}, "holds bytes where numbers belong"),
        ({"image/encoded": np.ones(1)}, "holds numbers where bytes belong"),
        ({"image/object/mask": [b"x", b"y"]}, "not a readable image"),
        (
            {"image/height": np.array([41])},
            r"a mask of \[40, 60\] pixels in an image of 41 x 60",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(changes, message):
    with pytest.raises(DataError, match=message):
        read(features_of() | changes)


def test_what_is_no_record_is_refused():
    with pytest.raises(DataError, match=r"not a tf\.Example"):
        decode_example(b"\xff\xff\xff")


def test_an_image_of_another_kind_is_not_stored():
    example = Example(
        image_id=7,
        file_name="a.gif",
        height=1,
        width=1,
        instances=(),
        encoded=b"GIF89a",
    )
    with pytest.raises(DataError, match="image 7 is neither JPEG nor PNG"):
        encode_example(example, NAMES)
