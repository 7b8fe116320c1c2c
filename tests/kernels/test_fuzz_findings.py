"""What fuzzing has found, a test for each: `make fuzz` looks for more."""

import json

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_dataset import encode, picture

from deepmac.checkpoint.locate import locate
from deepmac.config.load import load_config
from deepmac.data import tf_example
from deepmac.data.directory import open_records
from deepmac.data.foreign import open_with_categories
from deepmac.data.image_source import ImageSource
from deepmac.data.json_shape import misfit
from deepmac.data.json_stream import stream_members
from deepmac.data.manifest import PREDICTIONS, RECORDS
from deepmac.data.mask_png import decode_mask_png, encode_mask_png
from deepmac.data.predictions import open_predictions
from deepmac.data.records import decode_example, encode_example
from deepmac.data.tfrecord import frame
from deepmac.data.verify import verify
from deepmac.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DeepmacError,
    OptionError,
)
from deepmac.evaluation.ground_truth import read_scope
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.segmentations import read_masks
from deepmac.instances import Example
from deepmac.masks import (
    MOST_PIXELS,
    encode_rle,
    rle_area,
    rle_from_polygons,
    rle_from_runs,
    rle_from_segmentation,
    rle_runs,
)
from pipelines.preflight import check_output
from pipelines.shards import shard_names

# Masks.


def refused_by_both(segmentation, height, width, words):
    size = np.array([[height, width]])
    with pytest.raises(DataError, match=words):
        rle_from_segmentation(segmentation, height, width)
    with pytest.raises(DataError):
        read_masks([segmentation], size, lambda i: "mask", "error")


HUGE = 2**31 - 1


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 5, 0, 5, 6.5], [1, 1, 2, 1, 2, 2]],
        {"size": [HUGE, 255], "counts": [HUGE * 255]},
        {"size": [HUGE, 255], "counts": "0"},
    ],
)
def test_masks_of_more_pixels_than_pycocotools_can_count_are_refused(segmentation):
    """It wrote outside its memory."""
    refused_by_both(
        segmentation, HUGE, 255, "has more than (masks|polygons) can have, "
    )


def test_the_largest_run_is_written_in_six_characters():
    rle = rle_from_segmentation(
        {"size": [MOST_PIXELS, 1], "counts": [MOST_PIXELS]}, MOST_PIXELS, 1
    )
    assert len(rle["counts"]) == 6
    assert rle_runs(rle["counts"]).tolist() == [MOST_PIXELS]


# Runs that take five characters, so that pycocotools has room.
@given(runs=st.lists(st.integers(0, 2**24 - 1), min_size=6, max_size=9))
def test_run_lengths_are_written_as_pycocotools_writes_them(runs):
    runs = [*runs, 3 * 2**24]  # a large image
    total = sum(runs)
    theirs = pycocotools.mask.frPyObjects(
        {"size": [total, 1], "counts": runs}, total, 1
    )
    assert rle_from_runs(runs, total, 1) == theirs


def test_four_long_runs_are_written_without_pycocotools(monkeypatch):
    """It has 24 bytes for their 24 characters, and writes a null after them."""
    monkeypatch.setattr("deepmac.masks.coco_mask", None)
    runs = [2**24, 2**25, 2**24, 1]
    rle = rle_from_segmentation({"size": [sum(runs), 1], "counts": runs}, sum(runs), 1)
    assert len(rle["counts"]) == 24
    assert rle_runs(rle["counts"]).tolist() == runs


def test_masks_and_polygons_of_large_images_are_those_of_small_ones(monkeypatch):
    monkeypatch.setattr("deepmac.masks._ALWAYS_ROOM", 5)
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 30, 2).tolist()
        mask = rng.random((height, width)) < 0.5
        assert encode_rle(mask) == pycocotools.mask.encode(
            np.asfortranarray(mask, np.uint8)
        )
        polygons = rng.uniform(-9, 39, (2, 2 * rng.integers(3, 6))).tolist()
        drawn = pycocotools.mask.frPyObjects(polygons, height, width)
        assert rle_from_polygons(polygons, height, width) == pycocotools.mask.merge(
            drawn
        )


def test_a_run_of_more_characters_than_pycocotools_reads_is_refused():
    """Leading zeros, which we read and it made another number of."""
    counts = {"size": [5, 1], "counts": "eP" + "PPPPPP0"}
    refused_by_both(counts, 5, 1, "more than 30 bits")


def test_a_polygon_that_runs_to_and_fro_is_refused():
    """Each of its corners was near enough; the walk along it took gigabytes."""
    zigzag = [v for n in range(50) for v in (9e5 * (n % 2), n)]
    refused_by_both([zigzag], 100, 100, r"an outline of 4.5e[+]07 pixels")


@pytest.mark.parametrize("counts", [["9"], [4.5, 4.5], [True] * 9, [None, 9]])
def test_counts_that_numpy_would_make_numbers_of_are_refused(counts):
    refused_by_both({"size": [3, 3], "counts": counts}, 3, 3, "not whole numbers")


def test_polygons_of_text_that_looks_like_numbers_are_refused():
    refused_by_both([["1", "1", "5", "1", "5", "6"]], 9, 9, "not a finite number")


def test_a_size_beyond_64_bits_is_refused():
    refused_by_both(
        {"size": [5, 2**64], "counts": "0"},
        5,
        5,
        "mask of .5, 18446744073709551616. pixels",
    )


def test_a_size_beyond_64_bits_whose_pixels_are_none_is_refused():
    size = np.array([[1, 255]])
    rle = {"size": [10**400, 0], "counts": "1"}
    with pytest.raises(DataError, match="RLE size is"):
        read_masks([rle], size, lambda i: "mask", "error")


@given(cuts=st.lists(st.integers(0, 12), min_size=1, max_size=9).map(sorted))
def test_runs_of_length_zero_change_neither_mask_nor_png(cuts):
    """pycocotools gives some of them a box of -1 columns, which ended the build."""
    runs = np.diff([0, *cuts, 12]).tolist()
    rle = rle_from_segmentation({"size": [3, 4], "counts": runs}, 3, 4)
    pixels = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(4, 3).T
    assert rle == pycocotools.mask.encode(np.asfortranarray(pixels))
    assert rle_area(decode_mask_png(encode_mask_png(rle))) == pixels.sum()


def test_an_image_of_a_size_beyond_64_bits_is_one_line():
    dataset = {
        "images": [{"id": 1, "height": 2**64, "width": 4}],
        "annotations": [],
        "categories": [],
    }
    with pytest.raises(
        DataError, match="image 1 has height 18446744073709551616 and width 4"
    ):
        read_scope(dataset, Parameters(), "gt.json")
    assert (
        len(read_scope(dataset, Parameters(iou_type="bbox"), "gt.json").image_ids) == 1
    )


# Records.


def message(**changes):
    size = {"image/height": np.array([3]), "image/width": np.array([4])}
    return tf_example.encode({**size, "image/encoded": [b"x"], **changes})


def with_objects(**changes):
    sides = {
        f"image/object/bbox/{s}": np.array([0.5], np.float32)
        for s in ("ymin", "xmin", "ymax", "xmax")
    }
    label = {"image/object/class/label": np.array([1])}
    return message(
        **sides, **label, **{f"image/object/{k}": v for k, v in changes.items()}
    )


@pytest.mark.parametrize(
    "name",
    [
        "image/height",
        "image/width",
        "image/object/class/label",
        "image/object/annotation_id",
    ],
)
def test_fractions_where_whole_numbers_belong_are_refused(name):
    with pytest.raises(DataError, match=f"'{name}' holds fractions"):
        decode_example(message(**{name: np.array([np.inf], np.float32)}))


def test_a_mask_of_another_size_is_not_even_decoded(monkeypatch):
    """Its header asked for 900 megabytes."""
    monkeypatch.setattr("deepmac.data.records.decode_mask_png", None)
    mask = bytearray(encode(picture(0, 3, 4, "L"), "PNG"))
    mask[16:24] = (30000).to_bytes(4, "big") * 2
    with pytest.raises(
        DataError, match=r"a mask of \[30000, 30000\] pixels in an image of 3 x 4"
    ):
        decode_example(with_objects(mask=[bytes(mask)]))


def test_an_image_id_that_is_no_unicode_comes_back():
    data = message(**{"image/source_id": [b"gr\xfc\xdfe"]})
    example = decode_example(data)
    whole = Example(
        image_id=example.image_id,
        file_name="a",
        height=24,
        width=32,
        encoded=encode(picture(0)),
    )
    assert decode_example(encode_example(whole, {})).image_id == example.image_id


def test_category_names_with_line_ends_are_shown_in_one_line(tmp_path):
    sides = {
        f"image/object/bbox/{s}": np.array([0.5], np.float32)
        for s in ("ymin", "xmin", "ymax", "xmax")
    }
    data = message(**sides, **{"image/object/class/text": [b"a\nb\x0c"]})
    (tmp_path / "a-00000-of-00001").write_bytes(frame(data))
    with pytest.raises(DataError) as caught:
        open_with_categories(str(tmp_path))
    assert "(a\\nb\\x0c)" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(DataError) as caught:
        decode_example(data, category_ids={"c": 1})
    assert len(str(caught.value).splitlines()) == 1


# Directories.


def manifest(kind, **changes):
    entry = {
        "name": "a.tfrecord",
        "bytes": 0,
        "sha256": "",
        "images": 0,
        "instances": 0,
        "masks": 0,
    }
    of_records = {
        "split": "all",
        "supervised_category_ids": [1],
        "categories": [{"id": 1, "name": "a"}],
    }
    return {**kind.head(), "counts": {}, kind.files: [entry], **of_records, **changes}


MANIFESTS = {
    "files in an object": ({"{files}": {}}, "{files} is {{}}, not a list"),
    "a file that is a number": ({"{files}": [3]}, "{files}[0] is 3, not an object"),
    "no name": ({"{files}": [{}]}, "{files}[0] has no 'name'"),
    "a name that is a number": ({"{files}": [{"name": 5.0}]}, "{files}[0] has no 'sha256'"),
    "counts in a list": ({"counts": []}, "counts is [], not an object"),
    "a count that is a text": ({"counts": {"a": "1"}}, "counts.a is '1', not a whole number"),
    "a count that is true": ({"counts": {"a": True}}, "counts.a is True, not a whole number"),
}  # fmt: skip
OF_RECORDS = {
    "categories that are numbers": ({"categories": [1]}, "categories[0] is 1, not an object"),
    "a category without name": ({"categories": [{"id": 1}]}, "categories[0] has no 'name'"),
    "ids that are objects": ({"supervised_category_ids": [{}]}, "supervised_category_ids[0] is {{}}, not a whole"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "case"),
    [(RECORDS, case) for case in MANIFESTS | OF_RECORDS]
    + [(PREDICTIONS, case) for case in MANIFESTS],
)
def test_what_is_wrong_in_a_manifest_is_said(tmp_path, kind, case):
    changes, words = (MANIFESTS | OF_RECORDS)[case]
    changes = {k.format(files=kind.files): v for k, v in changes.items()}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest(kind, **changes)))
    with pytest.raises(DataError) as caught:
        (open_records if kind is RECORDS else open_predictions)(str(tmp_path))
    words = words.format(files=kind.files)
    assert f"manifest.json: damaged, {words}" in str(caught.value)


@pytest.mark.parametrize("name", ["../a.tfrecord", "/etc/hostname", "a\nb", "", ".."])
def test_a_manifest_names_files_of_its_directory_only(tmp_path, name):
    whole = manifest(RECORDS)
    whole["shards"][0]["name"] = name
    (tmp_path / "manifest.json").write_text(json.dumps(whole))
    with pytest.raises(DataError, match=r"shards\[0\]\.name is .*, no file's name"):
        open_records(str(tmp_path))


@pytest.mark.parametrize(
    ("value", "shape", "words"),
    [
        (3, int, None),
        (3, float, None),
        (3.5, int, "it is 3.5, not a whole number"),
        (True, float, "it is True, not a number"),
        ("\ud800", str, r"it is '\ud800', not a text"),
        ([1, "a"], [int], "[1] is 'a', not a whole number"),
        ([1, "a"], (int, str), None),
        ([1], (int, str), "it is [1], not a list of 2"),
        ({"a": [{"b": 1}]}, {"a": [{"b": str}]}, "a[0].b is 1, not a text"),
        ({"a": 1, "more": 2}, {"a": int}, None),
        ({}, {"a": int}, "it has no 'a'"),
        ({"a": {}}, {"a": {"b": int}}, "a has no 'b'"),
        ({"x": 1, "y\n": None}, {str: int}, "'y\\n' is None, not a whole number"),
        ([], {"a": int}, "it is [], not an object"),
    ],
)
def test_the_first_misfit_is_named(value, shape, words):
    assert misfit(value, shape) == words


# Files.


def test_an_override_of_several_lines_is_one_line_of_error():
    with pytest.raises(ConfigError, match="must be path") as caught:
        load_config("center_net_deepmac_tiny", ["model\n.center_net=1"])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("pattern", ["{folder}", "{folder}*", "{folder}/*"])
def test_a_path_does_not_lead_out_of_the_directory_of_images(tmp_path, pattern):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    source = ImageSource(pattern.format(folder=tmp_path / "images"))
    assert source.read("a.jpg") == b"a"
    for name in ("../b.jpg", "x/../../b.jpg", str(tmp_path / "b.jpg")):
        with pytest.raises(DataError, match=r"leads out|no file that matches"):
            source.read(name)


LONG = "a" * 5000


@pytest.mark.parametrize(
    "read",
    [open_records, open_predictions, verify, check_output, locate],
    ids=lambda f: f.__name__,
)
def test_a_name_too_long_for_the_file_system_is_one_line(read):
    with pytest.raises(DeepmacError) as caught:
        read(LONG)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "1:2: not valid JSON"),
        ('{"a": [1\x0c', "',' or ']' belongs here, not '\\x0c'"),
        ('{"a\\nb": 1, "a\\nb": 2}', "the key 'a\\nb' stands there twice"),
    ],
)
def test_control_characters_of_json_are_shown_in_one_line(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        list(stream_members(str(path)))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_checkpoint_file_that_names_control_characters_is_one_line(tmp_path):
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt\x0b-1"\n')
    with pytest.raises(CheckpointError, match=r"names 'ckpt\\x0b-1', no file's name"):
        locate(tmp_path)


@pytest.mark.parametrize("named", [".", "{folder}", "{folder}/"])
def test_a_checkpoint_file_that_names_its_own_directory_is_one_line(tmp_path, named):
    text = f'model_checkpoint_path: "{named.format(folder=tmp_path)}"\n'
    (tmp_path / "checkpoint").write_text(text)
    with pytest.raises(
        CheckpointError, match=r"which is a directory|no such checkpoint"
    ):
        locate(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "", ".a", "a/b"])
def test_shards_have_plain_names(name):
    with pytest.raises(OptionError, match="--name must be a plain file name"):
        shard_names(name, 3)


def test_a_limit_of_predictions_beyond_32_bits_is_refused():
    with pytest.raises(OptionError, match=r"less than 2\*\*31"):
        Parameters(max_dets=(1, 10**22))


@pytest.mark.parametrize("text", ["model \x85", "model { x: '\u2028", "\x0b: 1"])
def test_control_characters_of_a_configuration_are_shown_in_one_line(tmp_path, text):
    path = tmp_path / "a.config"
    path.write_text(text, newline="")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(str(caught.value).splitlines()) == 1
