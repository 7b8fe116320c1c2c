"""What training refuses before it begins: each names the set or the field, and what to do."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_records import example, record, small_set, write_set, write_shards

from deepmac.config.load import load_config
from deepmac.data.augment import Frame
from deepmac.data.input import training_input
from deepmac.data.mask_targets import whole_mask
from deepmac.errors import ConfigError, DataError
from deepmac.resize import Geometry

HEAD = "model.center_net.deepmac_mask_estimation"
READER = "train_input_reader"
PATH = f"{READER}.tf_record_input_reader.input_path"
RESIZER = "model.center_net.image_resizer"
POINTS = (
    f"{HEAD}.pointly_supervised_keypoint_loss_weight=1",
    f"{READER}.num_keypoints=2",
    f"{READER}.load_keypoint_depth_features=true",
)


def opened(*overrides: str):
    base = [
        "model.center_net.num_classes=3",
        f"{HEAD}.allowed_masked_classes_ids=[1, 2, 3]",
    ]
    config = load_config("center_net_deepmac_tiny", [*base, *overrides])
    return training_input(config, seed=0, batch_size=1)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("records"), num_images=2, num_shards=1)


def foreign(folder, **changes):
    with_masks = changes.pop("with_masks", True)
    data = record(example(0), with_masks=with_masks, **changes)
    write_shards(folder, {"x-00000-of-00001": [data]})
    return f"{PATH}={folder}"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], f"{PATH} is still 'PATH_TO_BE_CONFIGURED/train"),
        ([f"{PATH}=[]"], f"{PATH} is missing"),
        (
            [
                f"{PATH}=x",
                f"{RESIZER}.keep_aspect_ratio_resizer.pad_to_max_dimension=false",
            ],
            f"{RESIZER} gives images of different sizes",
        ),
        (
            [f"{PATH}=x", f"{READER}.load_instance_masks=false"],
            rf"{READER}.load_instance_masks is false, but the mask loss has the weight 5 \({HEAD}",
        ),
        ([f"{PATH}=x", *POINTS[:1]], f"{READER}.num_keypoints is not set"),
        (
            [f"{PATH}=x", *POINTS[:2]],
            f"{READER}.load_keypoint_depth_features is not set",
        ),
        (
            [f"{PATH}=x", f"{READER}.num_additional_channels=1"],
            f"{READER}.num_additional_channels is not available",
        ),
        (
            [f"{PATH}=x", f"{READER}.input_type=TF_SEQUENCE_EXAMPLE"],
            f"{READER}.input_type is not available",
        ),
        (
            [f"{PATH}=x", f"{READER}.label_map_path=nowhere.txt"],
            "nowhere.txt: no such file",
        ),
    ],
)
def test_configurations_that_cannot_work(overrides, says):
    with pytest.raises(ConfigError, match=says):
        opened(*overrides)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            [f"{HEAD}.allowed_masked_classes_ids=[7, 8]"],
            "none of the categories 7, 8 is there",
        ),
        (["model.center_net.num_classes=2"], r"ids are not in 1..2 \(3 car\)"),
        (
            [f"{READER}.mask_type=NUMERICAL_MASKS"],
            f"holds? masks as PNG files, but {READER}.mask_type is NUMERICAL_MASKS; set it to PNG_MASKS",
        ),
        (POINTS, r"no keypoints \(image/object/keypoint/y and x\)"),
    ],
)
def test_sets_that_lack_what_is_asked_for(records, overrides, says):
    with pytest.raises(DataError, match=f"{records}: .*{says}"):
        opened(f"{PATH}={records}", *overrides)


def test_a_set_without_masks(tmp_path):
    records = small_set(tmp_path, num_images=1, num_shards=1, masks=0)
    with pytest.raises(DataError, match=r"no masks \(image/object/mask\)"):
        opened(f"{PATH}={records}")
    with pytest.raises(DataError, match=r"no masks \(image/object/mask\)"):
        opened(foreign(tmp_path / "foreign", with_masks=False))


def test_a_set_split_differently(tmp_path):
    records = small_set(tmp_path, supervised=(1, 2))
    says = f"the split some and hides masks that {HEAD}.allowed_masked_classes_ids trains on: car"
    with pytest.raises(DataError, match=says):
        opened(f"{PATH}={records}")
    assert not opened(
        f"{PATH}={records}", f"{HEAD}.allowed_masked_classes_ids=[1]"
    ).notes


def opened_together(*paths, more=()):
    return opened(f"{PATH}={[str(path) for path in paths]}", *more)


def one_record(folder, number: int, *, with_masks=True, **options):
    data = record(example(number), with_masks=with_masks)
    return write_set(folder, {"x-00000-of-00001.tfrecord": [data]}, **options)


@pytest.mark.parametrize("allowed", [[], [1, 2, 3]])
def test_many_boxes_and_few_masks(records, tmp_path, allowed):
    """A set without masks trains beside one that has them, and is named."""
    boxes = one_record(tmp_path / "boxes", 7, with_masks=False, masks=0)
    more = [f"{HEAD}.allowed_masked_classes_ids={allowed}"]
    source = opened_together(records, boxes, more=more)
    says = "no masks (image/object/mask), which other sets have; it trains without them"
    assert source.notes == (f"{boxes}: {says}",)
    found = {b.image_ids[0]: b for b in map(source.batch_at, range(source.len_epoch))}
    assert set(found) == {0, 1, 7}
    assert found[7].counts == {"images": 1, "instances": 3}
    assert not found[7].batch.mask_weights.any()
    assert found[0].counts["masks"] == 3
    again = one_record(tmp_path / "again", 8, with_masks=False, masks=0)
    with pytest.raises(DataError, match=f"{boxes}, {again}: no masks"):
        opened_together(boxes, again)


def test_records_of_other_programs_without_masks_beside_those_with(records, tmp_path):
    path = tmp_path / "foreign"
    foreign(path, with_masks=False)
    (note,) = opened_together(records, path).notes
    assert note.startswith(f"{path}: no masks")


def test_masks_that_one_set_hides_and_another_shows(records, tmp_path):
    split = small_set(tmp_path / "split", num_images=1, num_shards=1, supervised=(1, 2))
    (note,) = opened_together(split, records).notes
    assert note.startswith(f"{split}: hides masks that {HEAD}.allowed")
    assert note.endswith("and other sets show (split some): car")
    other = small_set(tmp_path / "other", num_images=1, num_shards=1, supervised=(1,))
    with pytest.raises(DataError, match=f"{split}: .* hides masks .* trains on: car;"):
        opened_together(split, other)


def test_a_set_of_other_categories(records, tmp_path):
    person = {"categories": {1: "person"}, "supervised": (1,)}
    other = one_record(tmp_path / "other", 9, **person)
    more = [f"{HEAD}.allowed_masked_classes_ids=[2]"]
    (note,) = opened_together(records, other, more=more).notes
    assert note.startswith(f"{other}: has none of the categories that may train masks")
    more = [f"{HEAD}.allowed_masked_classes_ids=[4]"]
    with pytest.raises(
        DataError, match=rf"{records}, {other}: none .* 4 is there.*1 person"
    ):
        opened_together(records, other, more=more)


def test_keypoints_in_one_set_of_two(records, tmp_path):
    points = np.full(6, 0.5, np.float32)
    path = tmp_path / "x"
    changes = {f"keypoint__{name}": points for name in "yx"}
    foreign(path, **changes, keypoint__z=points)
    source = opened_together(records, path, more=POINTS)
    assert source.notes == (
        f"{records}: no keypoints (image/object/keypoint/y and x), which other sets have; "
        "it trains without them",
    )
    # Where a depth is missing a point would count as background
    foreign(path, **changes)
    with pytest.raises(DataError, match=rf"{path}: the keypoints have no depths"):
        opened_together(records, path, more=POINTS)


def label_map(folder, **items: int) -> str:
    path = folder / "map.txt"
    lines = [f'item {{ id: {n} name: "{name}" }}\n' for name, n in items.items()]
    path.write_text("".join(lines))
    return f"{READER}.label_map_path={path}"


def test_a_label_map_of_another_set(records, tmp_path):
    fits = label_map(tmp_path, person=1, bicycle=2, car=3, boat=9)
    assert opened(f"{PATH}={records}", fits).num_images == 2
    other = label_map(tmp_path, person=1, bicycle=3, car=2)
    with pytest.raises(DataError, match=r"category 2 is 'bicycle', but .* calls it 3"):
        opened(f"{PATH}={records}", other)
    lacking = label_map(tmp_path, person=1)
    with pytest.raises(DataError, match="has no such category; give the label map of"):
        opened(f"{PATH}={records}", lacking)


def test_names_without_ids_need_a_label_map(tmp_path):
    path = foreign(tmp_path / "x", class__label=None)
    says = f"category names but no ids .* give a label map as {READER}.label_map_path"
    with pytest.raises(DataError, match=says):
        opened(path)
    batch = opened(path, label_map(tmp_path, person=3, bicycle=1)).batch_at(0)
    assert batch.batch.classes[0, :3].tolist() == [2, 0, -1]
    assert batch.counts["dropped_unknown_categories"] == 1  # a car


def test_a_label_map_knows_both_names(tmp_path):
    texts = [b"/m/1", b"person", b"/m/2"]
    path = foreign(tmp_path / "x", class__text=texts, class__label=None)
    (tmp_path / "map.txt").write_text(
        'item { id: 1 name: "/m/1" display_name: "person" } item { id: 2 name: "/m/2" }'
    )
    batch = opened(path, f"{READER}.label_map_path={tmp_path / 'map.txt'}").batch_at(0)
    assert batch.batch.classes[0, :3].tolist() == [0, 0, 1]


def test_keypoints_without_depths(tmp_path):
    points = np.full(6, 0.5, np.float32)
    path = foreign(tmp_path / "x", keypoint__y=points, keypoint__x=points)
    with pytest.raises(DataError, match=r"no depths \(image/object/keypoint/z\)"):
        opened(path, *POINTS)


def test_masks_as_numbers(tmp_path):
    numbers = np.zeros((3, 48, 64), np.float32)
    numbers[:, 10:30, 10:30] = 1
    path = foreign(tmp_path / "x", mask=numbers.ravel())
    with pytest.raises(DataError, match=r"masks as numbers.*set it to NUMERICAL_MASKS"):
        opened(path)
    batch = opened(path, f"{READER}.mask_type=NUMERICAL_MASKS").batch_at(0).batch
    assert batch.masks.any()


def test_sets_are_found_and_read(records, tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere: no directory .* no file that matches"
    ):
        opened(f"{PATH}=nowhere")
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(DataError, match="the job that writes this directory has not"):
        opened(f"{PATH}={tmp_path}")
    empty = write_set(tmp_path / "empty", {"x-00000-of-00001.tfrecord": []})
    with pytest.raises(DataError, match="empty: hold no records"):
        opened(f"{PATH}={empty}")
    with pytest.raises(DataError, match="named twice among"):
        opened(f"{PATH}=['{records}', '{records}/*.tfrecord']")


GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "coco_records"


@pytest.mark.parametrize("writer", ["od_api", "model_garden"])
def test_records_of_the_reference_converters(writer, tmp_path):
    coco = json.loads((GOLDEN / "annotations.json").read_text())
    names = {c["name"]: c["id"] for c in coco["categories"]}
    path = tmp_path / "map.txt"
    path.write_text(
        "".join(f'item {{ id: {n} name: "{name}" }}\n' for name, n in names.items())
    )
    source = opened(
        f"{PATH}={GOLDEN}/records/{writer}_masks-*",
        f"{READER}.label_map_path={path}",
        "model.center_net.num_classes=90",
        f"{HEAD}.allowed_masked_classes_ids=[]",
        f"{HEAD}.predict_full_resolution_masks=true",
        f"{READER}.shuffle=false",
        "train_config.data_augmentation_options=[{random_horizontal_flip{probability: 0}}]",
    )
    masks = np.load(
        GOLDEN / "od_api_masks_masks.npz"
    )  # those of the other are the same
    assert source.num_images == len(coco["images"])
    found = [source.batch_at(k) for k in range(source.num_images)]
    assert sum(b.counts.get("instances", 0) for b in found) == len(masks.files)
    for seen in found:
        height, width = seen.batch.true_shapes[0]
        for n in range(seen.counts.get("instances", 0)):
            stored = masks[f"{seen.image_ids[0]}/mask/{n}"]
            size = Geometry(height, width, height, width)
            frame = Frame.of(*stored.shape).resized(size)
            expected = whole_mask(stored, frame)
            np.testing.assert_array_equal(
                seen.batch.masks[0, n, :height, :width], expected
            )
