"""Training input: which images come when, what is made of them, and what is said of bad ones."""

import dataclasses
import multiprocessing
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_records import HEIGHT, WIDTH, example, record, small_set, write_shards

from deepmac.config.load import load_config
from deepmac.data.decode import decode_rgb
from deepmac.data.elements import ElementMaker, decode_image
from deepmac.data.input import training_input
from deepmac.data.mask_targets import Frame, cut_mask
from deepmac.data.records import decode_columns
from deepmac.data.tfrecord import frame
from deepmac.errors import DataError, OptionError
from deepmac.masks import decode_rle

SIDE = 64
HEAD = "model.center_net.deepmac_mask_estimation"
BASE = (
    "model.center_net.num_classes=3",
    "model.center_net.image_resizer.keep_aspect_ratio_resizer.min_dimension=64",
    "model.center_net.image_resizer.keep_aspect_ratio_resizer.max_dimension=64",
    f"{HEAD}.allowed_masked_classes_ids=[1, 2, 3]",
    f"{HEAD}.mask_size=8",
    "train_input_reader.max_number_of_boxes=5",
)


def config(path, *overrides: str, augmented: bool = True):
    where = f"train_input_reader.tf_record_input_reader.input_path={path}"
    loaded = load_config("center_net_deepmac_tiny", [*BASE, where, *overrides])
    if augmented:
        return loaded
    train = dataclasses.replace(loaded.train_config, data_augmentation_options=())
    return dataclasses.replace(loaded, train_config=train)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    return small_set(tmp_path_factory.mktemp("records"))


def opened(records, *overrides, augmented=True, **options):
    options = {"seed": 7, "batch_size": 4, "num_threads": 1} | options
    return training_input(config(records, *overrides, augmented=augmented), **options)


def take(source, start: int, count: int):
    batches = source.iterate(start)
    try:
        return [next(batches) for _ in range(count)]
    finally:
        batches.close()


def assert_same(a, b):
    assert (a.image_ids, a.counts) == (b.image_ids, b.counts)
    for name, x, y in zip(a.batch._fields, a.batch, b.batch, strict=True):
        np.testing.assert_array_equal(x, y, err_msg=name)


def test_a_batch_depends_on_the_seed_and_its_number_alone(records):
    source = opened(records)
    first = take(source, 0, 7)
    for k, again in enumerate(take(opened(records, num_threads=3), 3, 4), start=3):
        assert_same(first[k], again)
    for k in (0, 6):
        assert_same(first[k], source.batch_at(k))
    other = opened(records, seed=8).batch_at(0)
    assert not np.array_equal(first[0].batch.images, other.batch.images)


def test_what_is_made_ahead_does_not_grow_with_the_threads(records, monkeypatch):
    made = []

    def counting(maker, place: int, number: int):
        made.append(place)
        return make(maker, place, number)

    make = ElementMaker.make
    monkeypatch.setattr(ElementMaker, "make", counting)
    expected = take(opened(records), 0, 3)
    made.clear()
    for a, b in zip(expected, take(opened(records, num_threads=64), 0, 3), strict=True):
        assert_same(a, b)
    # One batch waits, one is being handed over, one is in single images
    assert len(made) <= (3 + 3) * 4


@pytest.mark.parametrize("num_workers", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_worker_processes_change_nothing(records, num_workers):
    expected = take(opened(records), 1, 3)
    with opened(records, num_workers=num_workers) as source:
        for a, b in zip(expected, take(source, 1, 3), strict=True):
            assert_same(a, b)


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own(records):
    source = opened(records, batch_size=5, augmented=False)
    assert (source.num_images, source.len_epoch) == (10, 2)
    epochs = [
        [i for b in take(source, start, 2) for i in b.image_ids] for start in (0, 2, 4)
    ]
    assert all(sorted(ids) == list(range(10)) for ids in epochs)
    assert len({tuple(ids) for ids in epochs}) == 3


def test_batches_run_on_from_one_epoch_into_the_next(records):
    source = opened(records, batch_size=4, augmented=False)
    assert source.len_epoch == 3
    ids = [i for b in take(source, 0, 5) for i in b.image_ids]
    assert sorted(ids[:10]) == sorted(ids[10:]) == list(range(10))


def test_an_image_looks_different_in_every_epoch(records):
    source = opened(records, batch_size=10)
    first, second = take(source, 0, 2)
    same = [
        np.array_equal(
            first.batch.images[first.image_ids.index(i)],
            second.batch.images[second.image_ids.index(i)],
        )
        for i in range(10)
    ]
    assert not any(same)


def test_the_fingerprint_says_whether_a_run_can_go_on(records, tmp_path):
    expected = opened(records).fingerprint
    moved = small_set(tmp_path)
    assert opened(moved, num_threads=2, augmented=False).fingerprint == expected
    assert opened(records, host=1, num_hosts=2).fingerprint == expected
    assert opened(f"{records}/*-of-*").fingerprint == expected
    unshuffled = "train_input_reader.shuffle=false"
    others = opened(records, seed=8), opened(records, batch_size=2)
    for other in (*others, opened(records, unshuffled)):
        assert other.fingerprint != expected


def test_hosts_share_every_batch(records):
    whole = take(opened(records), 2, 2)
    parts = [take(opened(records, host=h, num_hosts=2), 2, 2) for h in (0, 1)]
    for k in (0, 1):
        ids = [None] * 4
        ids[::2], ids[1::2] = parts[0][k].image_ids, parts[1][k].image_ids
        assert ids == whole[k].image_ids
        np.testing.assert_array_equal(
            parts[1][k].batch.masks, whole[k].batch.masks[1::2]
        )


def test_without_shuffling_images_come_as_they_are_stored(records):
    source = opened(records, "train_input_reader.shuffle=false", augmented=False)
    assert source.batch_at(0).image_ids == [0, 3, 6, 9]


def test_so_many_epochs_and_one_image_of_so_many(records):
    source = opened(
        records,
        "train_input_reader.num_epochs=2",
        "train_input_reader.sample_1_of_n_examples=2",
    )
    assert (source.num_images, source.num_batches) == (5, 2)
    assert [len(b.image_ids) for b in source.iterate()] == [4, 4]
    assert opened(records).num_batches is None


def test_epochs_of_less_than_a_batch(records):
    says = r"2 epochs \(train_input_reader.num_epochs\) of 10 images are less than a batch of 24"
    with pytest.raises(DataError, match=says):
        opened(records, "train_input_reader.num_epochs=2", batch_size=24)


def test_a_worker_that_is_killed_ends_the_run_with_one_line(records):
    with opened(records, num_workers=1) as source:
        batches = source.iterate()
        next(batches)
        for child in multiprocessing.active_children():
            child.kill()
        says = "was ended from outside, perhaps for want of memory"
        with pytest.raises(DataError, match=says):
            list(batches)


def test_what_an_image_becomes(records):
    found = opened(records, augmented=False, batch_size=10).batch_at(0)
    batch = found.batch
    assert batch.images.shape == (10, SIDE, SIDE, 3)
    assert batch.images.dtype == batch.boxes.dtype == batch.masks.dtype == np.float32
    assert (batch.true_shapes == [48, 64]).all()
    k = found.image_ids.index(4)
    image = example(4)
    pixels = decode_rgb(image.encoded or b"")
    np.testing.assert_array_equal(batch.images[k, :48], pixels)
    assert not batch.images[k, 48:].any()
    boxes = np.array([i.box for i in image.instances])
    np.testing.assert_allclose(batch.boxes[k, :3] * SIDE, boxes, atol=1e-4)
    assert batch.classes[k].tolist() == [0, 1, 2, -1, -1]
    assert (
        batch.weights[k].tolist() == batch.mask_weights[k].tolist() == [1, 1, 1, 0, 0]
    )
    assert not batch.boxes[k, 3:].any()
    frame = Frame(np.pad(np.arange(48), (0, 16), constant_values=-1), np.arange(64))
    for n, instance in enumerate(image.instances):
        mask = decode_rle(instance.mask_rle)
        expected = cut_mask(mask, frame, batch.boxes[k, n], 8)
        np.testing.assert_allclose(batch.masks[k, n], expected)
        assert expected.mean() > 0.7
    for name in ("roi_boxes", "target_boxes"):
        np.testing.assert_array_equal(getattr(batch, name), batch.boxes)
    assert batch.view.shape == (10, 5)
    assert batch.keypoints is None
    assert found.counts == {"images": 10, "instances": 30, "masks": 30}


def test_hidden_masks_have_no_weight(tmp_path):
    records = small_set(tmp_path, supervised=(1, 2))
    source = opened(records, f"{HEAD}.allowed_masked_classes_ids=[]", augmented=False)
    assert "hides the masks of 1 of 3 categories" in source.notes[0]
    batch = source.batch_at(0).batch
    assert batch.weights[0, :3].tolist() == [1, 1, 1]
    assert batch.mask_weights[0, :3].tolist() == [1, 1, 0]
    assert not batch.masks[0, 2].any()


def test_full_resolution_masks(records):
    source = opened(
        records, f"{HEAD}.predict_full_resolution_masks=true", augmented=False
    )
    found = source.batch_at(0)
    assert found.batch.masks.shape == (4, 5, SIDE, SIDE)
    assert found.batch.masks.dtype == np.uint8
    mask = decode_rle(example(found.image_ids[0]).instances[1].mask_rle)
    np.testing.assert_array_equal(found.batch.masks[0, 1, :48], mask)
    assert not found.batch.masks[0, 1, 48:].any()


def test_no_masks_are_read_where_none_are_trained_on(records):
    source = opened(
        records,
        f"{HEAD}.task_loss_weight=0",
        "train_input_reader.load_instance_masks=false",
    )
    batch = source.batch_at(0).batch
    assert not batch.mask_weights.any()
    assert batch.weights.any()


def test_jitter_moves_the_boxes_of_features_and_targets(records):
    jitter = f"{HEAD}.max_roi_jitter_ratio=0.2"
    batch = opened(records, jitter).batch_at(0).batch
    np.testing.assert_array_equal(batch.roi_boxes, batch.target_boxes)
    is_filled = batch.weights > 0
    assert (batch.roi_boxes != batch.boxes).any(axis=-1)[is_filled].all()
    assert not batch.roi_boxes[~is_filled].any()
    quirky = opened(records, jitter, reference_quirks=True).batch_at(0).batch
    np.testing.assert_array_equal(quirky.roi_boxes, batch.boxes)
    np.testing.assert_array_equal(quirky.target_boxes, batch.target_boxes)
    np.testing.assert_array_equal(quirky.masks, batch.masks)
    plain = opened(records).batch_at(0).batch  # jitter draws from a stream of its own
    np.testing.assert_array_equal(plain.images, batch.images)


def test_some_instances_are_drawn_for_the_masks(records):
    batch = opened(records, f"{HEAD}.mask_num_subsamples=2", augmented=False)
    batch = batch.batch_at(0).batch
    assert batch.boxes.shape == (4, 5, 4)
    assert batch.roi_boxes.shape == (4, 2, 4)
    assert batch.masks.shape == (4, 2, 8, 8)
    assert (batch.roi_weights == 1).all()
    for boxes, chosen in zip(batch.boxes, batch.roi_boxes, strict=True):
        assert all((boxes[:3] == box).all(axis=1).any() for box in chosen)
    few = opened(records, f"{HEAD}.mask_num_subsamples=4", augmented=False)
    few = few.batch_at(0).batch
    np.testing.assert_array_equal(few.roi_boxes, few.boxes[:, :4])
    assert few.roi_weights.tolist() == [[1, 1, 1, 0]] * 4


def test_the_first_instances_are_kept(records):
    source = opened(
        records, "train_input_reader.max_number_of_boxes=2", augmented=False
    )
    found = source.batch_at(0)
    assert found.batch.classes.tolist() == [[0, 1]] * 4
    assert found.counts["dropped_beyond_limit"] == 4


def write_one(folder: Path, *data: bytes) -> Path:
    write_shards(folder, {"x-00000-of-00001": list(data)})
    return folder


def test_what_cannot_be_used_is_dropped_and_counted(tmp_path):
    boxes = {
        "bbox__ymin": [np.nan, 0.5, 0.1, 0.1],
        "bbox__ymax": [0.5, 0.2, 0.4, 0.6],
        "bbox__xmin": [0.1] * 4,
        "bbox__xmax": [0.9] * 4,
    }
    changes = {name: np.array(v, np.float32) for name, v in boxes.items()}
    changes["class__label"] = np.array([1, 1, -1, 3])
    data = record(example(0, num_instances=4), **changes)
    found = opened(write_one(tmp_path, data), augmented=False, batch_size=1).batch_at(0)
    assert found.batch.classes[0].tolist() == [2, -1, -1, -1, -1]
    assert found.batch.mask_weights[0].tolist() == [1, 0, 0, 0, 0]
    assert found.counts == {
        "images": 1,
        "instances": 1,
        "masks": 1,
        "dropped_nan_boxes": 1,
        "dropped_inverted_boxes": 1,
        "dropped_unknown_categories": 1,
    }


def test_weights_of_instances_are_honoured(tmp_path):
    weights = np.array([0.5, 0, 2], np.float32)
    masks = np.array([1, 0.25, 0], np.float32)
    data = record(example(0), weight=weights, mask__weight=masks)
    batch = opened(write_one(tmp_path, data), augmented=False, batch_size=1).batch_at(0)
    assert batch.batch.weights[0, :3].tolist() == weights.tolist()
    assert batch.batch.mask_weights[0, :3].tolist() == masks.tolist()


def test_keypoints_go_along(tmp_path):
    y, x = np.linspace(0.1, 0.6, 6, dtype=np.float32), np.full(6, 0.25, np.float32)
    depths = np.array([1, -1, 1, -1, 1, -1], np.float32)
    visible = np.array([1, 1, 0, 1, 1, 1])
    data = record(
        example(0),
        keypoint__y=y,
        keypoint__x=x,
        keypoint__z=depths,
        keypoint__visibility=visible,
    )
    source = opened(
        write_one(tmp_path, data),
        f"{HEAD}.pointly_supervised_keypoint_loss_weight=1",
        "train_input_reader.num_keypoints=2",
        "train_input_reader.load_keypoint_depth_features=true",
        augmented=False,
        batch_size=1,
    )
    batch = source.batch_at(0).batch
    points = np.stack([y * 48 / 64, x], axis=-1).reshape(3, 2, 2)
    points[1, 0] = np.nan
    np.testing.assert_allclose(batch.keypoints[0, :3], points, rtol=1e-6)
    assert np.isnan(batch.keypoints[0, 3:]).all()
    assert batch.point_depths[0, :3].ravel().tolist() == depths.tolist()


BAD = {
    "checksum": "the checksum of its data differs",
    "no image": "image 3: not a readable image",
    "cut off": "image 3: not a readable image",
    "size": "image 3: the image has 48 x 64 pixels, the record says 47 x 64",
    "mask size": r"image 3: a mask of \[2, 2\] pixels in an image of 48 x 64",
    "mask": "image 3: a mask is not a readable image",
    "pixels": "image 3: a box reaches to 31; boxes are stored in fractions",
    "category": "image 3: category 4, but ids go from 1 to 3",
    "lengths": "'image/object/class/label' has 2 values for 3 boxes",
}


def spoilt(kind: str) -> bytes:
    """The framed record of image 3, with something wrong."""
    image = example(3)
    encoded = image.encoded or b""
    broken_mask = blank(48, 64)
    match kind:
        case "no image":
            image = dataclasses.replace(image, encoded=encoded[:2] + b"nothing")
        case "cut off":
            image = dataclasses.replace(image, encoded=encoded[: len(encoded) // 2])
        case "size":
            image = dataclasses.replace(image, height=47, instances=())
    changes = {
        "mask size": {"mask": [blank(2, 2)] * 3},
        "mask": {"mask": [broken_mask[:40]] * 3},
        "pixels": {"bbox__ymax": np.array([31, 1, 1], np.float32)},
        "category": {"class__label": np.array([1, 4, 1])},
        "lengths": {"class__label": np.array([1, 2])},
    }
    data = bytearray(frame(record(image, **changes.get(kind, {}))))
    if kind == "checksum":
        data[len(data) // 2] ^= 1
    return bytes(data)


def blank(height: int, width: int) -> bytes:
    from deepmac.data.mask_png import blank_mask_png

    return blank_mask_png(height, width)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_stops_the_run_or_is_skipped(tmp_path, kind):
    good = [frame(record(example(n))) for n in (0, 1, 2)]
    path = tmp_path / "x-00000-of-00001"
    path.write_bytes(b"".join([*good, spoilt(kind), frame(record(example(4)))]))
    unshuffled = "train_input_reader.shuffle=false"
    place = f"{path}: record at byte {sum(map(len, good))}: .*{BAD[kind]}"
    source = opened(path, unshuffled, batch_size=2)
    batches = source.iterate()
    assert next(batches).image_ids == [0, 1]  # what comes before is not lost
    with pytest.raises(DataError, match=place):
        next(batches)
    lenient = opened(path, unshuffled, batch_size=5, on_bad_record="skip")
    found = lenient.batch_at(0)
    assert found.image_ids == [0, 1, 2, 4, 4]
    assert found.counts["skipped_records"] == 1
    assert len(found.skipped) == 1
    assert_same(found, lenient.batch_at(0))


def test_nothing_but_bad_records(tmp_path):
    path = tmp_path / "x-00000-of-00001"
    path.write_bytes(spoilt("cut off") * 2)
    with pytest.raises(DataError, match="bad records, one after the other; the first"):
        opened(path, on_bad_record="skip").batch_at(0)


def test_a_file_that_goes_away_is_not_a_bad_record(tmp_path):
    records = small_set(tmp_path, num_shards=1)
    source = opened(records, on_bad_record="skip")
    (shard,) = records.glob("*.tfrecord")
    shard.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        source.batch_at(0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": -1}, "seed must not be negative"),
        ({"batch_size": 0}, "positive multiple"),
        ({"batch_size": 3, "num_hosts": 2}, r"batch_size \(3\).*multiple.*hosts \(2\)"),
        ({"host": 2, "num_hosts": 2}, "host must be in 0..1, got 2"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ({"on_bad_record": "drop"}, "must be stop or skip, not 'drop'"),
    ],
)
def test_arguments_that_make_no_sense(records, options, says):
    with pytest.raises(OptionError, match=says):
        opened(records, **options)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_those_of_the_house_decoder(mode):
    from small_dataset import encode, picture

    for kind in ("JPEG", "PNG") if mode != "CMYK" else ("JPEG",):
        image = example(1)
        encoded = encode(picture(5, HEIGHT, WIDTH, mode), kind)
        columns = decode_columns(record(dataclasses.replace(image, encoded=encoded)))
        np.testing.assert_array_equal(decode_image(columns), decode_rgb(encoded))


def test_it_loads_without_tensorflow_and_keras():
    code = (
        "import sys, deepmac.data.input\n"
        "print([m for m in ('tensorflow', 'keras', 'apache_beam') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.strip() == "[]"
