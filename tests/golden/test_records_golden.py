"""Records against those of the two reference converters, image by image and feature by feature.

`coco_records`: eight images with annotations of every awkward kind, converted by the Object
Detection API (`od_api`) and by the Model Garden (`model_garden`), with and without masks: the
TFRecord files, and each record decoded (JSON; mask pixels in an .npz). Deliberate differences:
which record is in which shard, and in which order; `image/format` is "jpeg" always; lists of
objects and `image/object/class/label` are there always; masks have other PNG bytes, equal pixels.
"""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepmac.categories import COCO_CATEGORIES
from deepmac.data import tf_example
from deepmac.data.directory import open_records
from deepmac.data.tfrecord import read_frames
from deepmac.masks import decode_rle
from pipelines.build_dataset import main

HERE = Path(__file__).parent / "coco_records"
CONVERTERS = ("od_api", "model_garden")
OURS_ALONE = {"image/object/annotation_id", "image/object/mask/weight"}


@pytest.fixture(scope="module", params=["masks", "nomasks"])
def ours(request, tmp_path_factory):
    """(kind, {source id: features}, directory) of our own job."""
    out = tmp_path_factory.mktemp("golden") / request.param
    paths = [f"--annotations={HERE}/annotations.json", f"--images={HERE}/images"]
    status = main(
        [
            *paths,
            f"--out={out}",
            "--num_shards=3",
            "--out_of_bounds=drop",
            "--masks" if request.param == "masks" else "--no_masks",
        ]
    )
    assert status == 0
    return request.param, features_by_id(sorted(out.glob("*.tfrecord"))), out


def features_by_id(paths):
    found = {}
    for path in paths:
        with path.open("rb") as file:
            for _, data in read_frames(file, path.name):
                features = tf_example.decode(data)
                found[features["image/source_id"][0].decode()] = features
    return found


@pytest.mark.parametrize("converter", CONVERTERS)
def test_every_feature_is_that_of_the_converter(ours, converter):
    kind, found, _ = ours
    recorded = json.loads((HERE / f"{converter}_{kind}.json").read_text())
    assert {r["source_id"] for r in recorded} == found.keys()
    for record in recorded:
        mine = found[record["source_id"]]
        theirs = record["features"]
        extra = mine.keys() - theirs.keys()
        if theirs.get("image/object/area"):
            label_is_ours = (
                {"image/object/class/label"} if converter == "od_api" else set()
            )
            assert extra <= OURS_ALONE | label_is_ours
        for key in theirs.keys() - {"image/format", "image/object/mask"}:
            assert_equal(mine[key], theirs[key])
        assert mine["image/format"] == [b"jpeg"]


def assert_equal(mine, theirs):
    values = theirs["values"]
    if theirs["type"] == "bytes_list":
        if values and isinstance(
            values[0], dict
        ):  # the encoded image: its size and digest
            assert [len(v) for v in mine] == [v["bytes"] for v in values]
        else:
            assert [v.decode() for v in mine] == values
    else:
        dtype = np.float32 if theirs["type"] == "float_list" else np.int64
        np.testing.assert_array_equal(mine, np.array(values, dtype))


def test_masks_have_the_converters_pixels(ours):
    kind, found, _ = ours
    if kind == "nomasks":
        assert not any("image/object/mask" in features for features in found.values())
        return
    recorded = np.load(HERE / "od_api_masks_masks.npz")
    keys = set()
    for source_id, features in found.items():
        for n, png in enumerate(features["image/object/mask"]):
            keys.add(f"{source_id}/mask/{n}")
            with Image.open(io.BytesIO(png)) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(image, recorded[f"{source_id}/mask/{n}"])
    assert keys == set(recorded.files)


@pytest.mark.parametrize("converter", CONVERTERS)
def test_the_converters_records_read_as_ours(ours, converter):
    kind, _, out = ours
    mine = {e.image_id: e for e in open_records(str(out)).examples()}
    pattern = str(HERE / "records" / f"{converter}_{kind}-*")
    theirs = list(open_records(pattern, categories=COCO_CATEGORIES).examples())
    assert len(theirs) == len(mine) == 8
    for example in theirs:
        here = mine[example.image_id]
        assert (example.file_name, example.encoded) == (here.file_name, here.encoded)
        for a, b in zip(example.instances, here.instances, strict=True):
            assert (a.box, a.category_id, a.area) == (b.box, b.category_id, b.area)
            assert (a.is_crowd, a.mask_rle, a.mask_weight) == (
                b.is_crowd,
                b.mask_rle,
                b.mask_weight,
            )


def test_tensorflow_reads_what_we_write(ours):
    """The calls that both reference decoders are made of, on our files."""
    import tensorflow as tf

    _, found, out = ours
    lists = {
        "image/object/bbox/ymin": tf.float32,
        "image/object/area": tf.float32,
        "image/object/class/label": tf.int64,
        "image/object/class/text": tf.string,
        "image/object/is_crowd": tf.int64,
        "image/object/mask": tf.string,
    }
    spec = {name: tf.io.VarLenFeature(dtype) for name, dtype in lists.items()}
    spec |= {
        name: tf.io.FixedLenFeature((), dtype)
        for name, dtype in (
            ("image/encoded", tf.string),
            ("image/source_id", tf.string),
            ("image/height", tf.int64),
            ("image/width", tf.int64),
        )
    }
    num_read = 0
    for raw in tf.data.TFRecordDataset(
        [str(p) for p in sorted(out.glob("*.tfrecord"))]
    ):
        parsed = tf.io.parse_single_example(raw, spec)
        mine = found[parsed["image/source_id"].numpy().decode()]
        for name in lists:
            if name in mine:
                values = tf.sparse.to_dense(parsed[name]).numpy()
                assert values.tolist() == list(mine[name])
        image = tf.io.decode_image(parsed["image/encoded"], channels=3)
        height, width = int(parsed["image/height"]), int(parsed["image/width"])
        assert image.shape == (height, width, 3)
        for png in tf.sparse.to_dense(parsed["image/object/mask"]).numpy():
            mask = tf.io.decode_png(png, channels=1).numpy()
            assert mask.shape == (height, width, 1)
            assert set(np.unique(mask)) <= {0, 1}
        num_read += 1
    assert num_read == 8


def test_our_masks_decode_to_the_recorded_pixels_through_the_library(ours):
    kind, _, out = ours
    recorded = np.load(HERE / "od_api_masks_masks.npz")
    for example in open_records(str(out)).examples():
        for n, instance in enumerate(example.instances):
            if kind == "nomasks":
                assert (instance.mask_rle, instance.mask_weight) == (None, 0)
                continue
            expected = recorded[f"{example.image_id}/mask/{n}"]
            np.testing.assert_array_equal(decode_rle(instance.mask_rle), expected)
