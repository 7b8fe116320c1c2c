"""The Model Garden's decoder reads our records as we do."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("official", reason="the Model Garden: `make test-garden` has it")

import tensorflow as tf
from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

from deepmac.data.assemble import Assembler, Assembly
from deepmac.data.coco import InstanceReader
from deepmac.data.image_source import ImageSource
from deepmac.data.records import decode_example, encode_example
from deepmac.data.splits import Split
from deepmac.data.tfrecord import frame, read_frames
from deepmac.masks import decode_rle

GOLDEN = Path(__file__).parents[1] / "golden" / "coco_records"
SUPERVISED = frozenset({1, 3, 18})  # and others, whose masks are hidden


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Path of our records of a small data set with everything that is odd."""
    lists = json.loads((GOLDEN / "annotations.json").read_text())
    names = {c["id"]: c["name"] for c in lists["categories"]}
    items = [{"image": image} for image in lists["images"]]
    items += [
        {"annotation": annotation, "position": position}
        for position, annotation in enumerate(lists["annotations"])
    ]
    reader = InstanceReader(frozenset(names), Split("some", SUPERVISED))
    source = ImageSource(str(GOLDEN / "images"))
    examples = Assembler(source.read_each, reader, frozenset()).examples(
        items, Assembly()
    )
    path = tmp_path_factory.mktemp("garden") / "records.tfrecord"
    path.write_bytes(b"".join(frame(encode_example(e, names)) for e in examples))
    return path


@pytest.fixture(scope="module")
def both(shard):
    """[(what their decoder makes of a record, what ours does)]."""
    decoder = TfExampleDecoder(include_mask=True)
    theirs = map(decoder.decode, tf.data.TFRecordDataset([str(shard)]))
    with shard.open("rb") as file:
        ours = [decode_example(data) for _, data in read_frames(file, shard.name)]
    return list(zip(theirs, ours, strict=True))


def test_every_field_is_ours(both):
    assert len(both) == 8
    for theirs, ours in both:
        size = np.array([ours.height, ours.width, ours.height, ours.width])
        assert theirs["source_id"].numpy().decode() == str(ours.image_id)
        assert (int(theirs["height"]), int(theirs["width"])) == tuple(size[:2])
        assert theirs["image"].shape == (*size[:2], 3)
        boxes = np.array([i.box for i in ours.instances]).reshape(-1, 4)
        theirs_norm = theirs["groundtruth_boxes"].numpy().astype(np.float64)
        np.testing.assert_array_equal(theirs_norm * size, boxes)
        for key, values in (
            ("classes", [i.category_id for i in ours.instances]),
            ("is_crowd", [i.is_crowd for i in ours.instances]),
            ("area", [i.area for i in ours.instances]),
        ):
            assert theirs[f"groundtruth_{key}"].numpy().tolist() == values


def test_every_mask_is_ours_and_a_hidden_one_is_empty(both):
    num_shown = num_hidden = 0
    for theirs, ours in both:
        masks = theirs["groundtruth_instance_masks"].numpy()
        assert masks.shape == (len(ours.instances), ours.height, ours.width)
        for mask, instance in zip(masks, ours.instances, strict=True):
            if instance.mask_rle is None:
                num_hidden += 1
                assert not mask.any()
            else:
                num_shown += 1
                np.testing.assert_array_equal(mask, decode_rle(instance.mask_rle))
    assert num_shown > 5
    assert num_hidden > 5
