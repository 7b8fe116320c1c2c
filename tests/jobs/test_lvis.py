"""LVIS files through `build`, `label` and `evaluate`: COCO files of another habit."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from small_dataset import HEIGHT, WIDTH, encode, picture, square

from deepmac.data.coco import read_image_entry
from deepmac.data.directory import open_records
from deepmac.data.failures import Unusable
from pipelines import build_dataset, evaluate, infer

SITE = "http://images.cocodataset.org"
NAMES = {391895: "train2017", 522418: "train2017", 139: "val2017"}  # id -> folder


def category(number: int, name: str, synset: str, frequency: str) -> dict[str, Any]:
    return {
        "image_count": 24,
        "synonyms": [name, "a_thing"],
        "def": "what it is, in words",
        "id": number,
        "synset": synset,
        "name": name,
        "frequency": frequency,
        "instance_count": 40,
    }


class Lvis:
    """Three images in LVIS v1's form, one object of each of two categories in each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.images = [
            {
                "date_captured": "2013-11-14 11:18:45",
                "neg_category_ids": [3, 1203],
                "id": image_id,
                "license": 3,
                "height": HEIGHT,
                "width": WIDTH,
                "flickr_url": "http://farm9.staticflickr.com/8186/x_z.jpg",
                "coco_url": f"{SITE}/{split}/{image_id:012}.jpg",
                "not_exhaustive_category_ids": [1],
            }
            for image_id, split in NAMES.items()
        ]
        self.annotations = [
            {"area": 25.0, "id": 1 + len(NAMES) * k + i, "image_id": image_id}
            | square(2 + 5 * k, 3 + i, 5)
            | {"category_id": (1, 1203)[k]}
            for k in range(2)
            for i, image_id in enumerate(NAMES)
        ]
        self.categories = [
            category(1, "aerosol_can", "aerosol.n.02", "c"),
            category(3, "airplane", "airplane.n.01", "f"),
            category(1203, "zucchini", "zucchini.n.02", "r"),
        ]

    def write(self, *, in_folders: bool = True) -> "Lvis":
        for seed, (image_id, split) in enumerate(NAMES.items()):
            folder = self.folder / "images" / (split if in_folders else "")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{image_id:012}.jpg").write_bytes(encode(picture(seed)))
        self.path.write_text(json.dumps(self.document))
        return self

    @property
    def document(self) -> dict[str, Any]:
        return {
            "info": {"description": "LVIS v1"},
            "annotations": self.annotations,  # before the images, as LVIS has them
            "images": self.images,
            "licenses": [],
            "categories": self.categories,
        }

    @property
    def path(self) -> Path:
        return self.folder / "lvis.json"

    def flags(self, images: str = "images") -> list[str]:
        return [f"--annotations={self.path}", f"--images={self.folder / images}"]


@pytest.fixture
def lvis(tmp_path):
    return Lvis(tmp_path)


def examples(out):
    return {e.image_id: e for e in open_records(str(out)).examples()}


@pytest.mark.parametrize(
    ("images", "in_folders"),
    [("images", True), ("images", False), ("images/*", True), ("images/*/*.jpg", True)],
)
def test_files_are_found_by_their_addresses(lvis, tmp_path, images, in_folders):
    lvis.write(in_folders=in_folders)
    out = tmp_path / "out"
    flags = [*lvis.flags(images), f"--out={out}", "--num_shards=2"]
    assert build_dataset.main(flags) == 0
    found = examples(out)
    assert found.keys() == NAMES.keys()
    for image_id, split in NAMES.items():
        example = found[image_id]
        assert example.file_name == f"{split}/{image_id:012}.jpg"
        assert [i.category_id for i in example.instances] == [1, 1203]
        assert not any(i.is_crowd for i in example.instances)
        assert all(i.mask_rle for i in example.instances)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["categories"][-1] == {"id": 1203, "name": "zucchini"}


def test_a_file_in_both_places_is_that_of_its_folder(lvis, tmp_path):
    lvis.write()
    (lvis.folder / "images" / f"{391895:012}.jpg").write_bytes(encode(picture(99)))
    out = tmp_path / "out"
    assert build_dataset.main([*lvis.flags(), f"--out={out}", "--num_shards=2"]) == 0
    assert examples(out)[391895].encoded == encode(picture(0))


def test_a_split_may_be_the_rare_categories(lvis, tmp_path):
    lvis.write()
    out, rare = tmp_path / "out", tmp_path / "rare.txt"
    ids = [c["id"] for c in lvis.categories if c["frequency"] == "r"]
    rare.write_text("\n".join(map(str, ids)))
    flags = [*lvis.flags(), f"--out={out}", "--num_shards=2", f"--split=@{rare}"]
    assert build_dataset.main(flags) == 0
    assert open_records(str(out)).supervised_ids == {1203}


def test_filling_in_masks_keeps_what_lvis_says(lvis, tmp_path, capsys):
    for annotation in lvis.annotations:
        annotation["segmentation"] = []
    lvis.write()
    out = tmp_path / "out"
    flags = [*lvis.flags(), f"--out={out}", "--model=box", "--write_annotations"]
    assert infer.main(flags) == 0
    assert "6 masks filled in" in capsys.readouterr().out
    written = (out / "annotations.json").read_bytes()
    filled = json.loads(written)
    for entry in lvis.images + lvis.categories:
        assert json.dumps(entry).encode() in written
    for annotation in filled["annotations"]:
        assert annotation.pop("segmentation")["size"] == [HEIGHT, WIDTH]
        assert annotation.pop("iscrowd") == 0
        annotation["segmentation"] = []
    assert filled == lvis.document


@pytest.mark.parametrize("iou_types", [["segm"], ["segm", "bbox"]])
def test_figures_that_are_not_those_of_lvis_say_so_once(lvis, tmp_path, iou_types):
    lvis.write()
    out, metrics = tmp_path / "out", tmp_path / "metrics"
    assert infer.main([*lvis.flags(), f"--out={out}", "--model=box"]) == 0
    flags = [f"--ground_truth={lvis.path}", f"--predictions={out}", f"--out={metrics}"]
    assert evaluate.main([*flags, *(f"--iou_type={t}" for t in iou_types)]) == 0
    figures = json.loads((metrics / "metrics.json").read_text())
    told = [w for w in figures["warnings"] if "not that of LVIS" in w]
    assert len(told) == 1
    assert told[0].endswith(": 3")
    for kind in iou_types:
        assert figures[kind]["stats"]["AP"] == 1  # full boxes, of squares


def test_a_set_of_coco_says_nothing_of_lvis(lvis, tmp_path):
    for image in lvis.images:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    lvis.write()
    out, metrics = tmp_path / "out", tmp_path / "metrics"
    assert infer.main([*lvis.flags(), f"--out={out}", "--model=box"]) == 0
    flags = [f"--ground_truth={lvis.path}", f"--predictions={out}", f"--out={metrics}"]
    assert evaluate.main(flags) == 0
    figures = json.loads((metrics / "metrics.json").read_text())
    assert not any("LVIS" in w for w in figures["warnings"])


NAMED = {  # what an entry says -> the names that its file may have
    "of COCO": ({"file_name": "a.jpg", "coco_url": f"{SITE}/x/b.jpg"}, ["a.jpg"]),
    "folder and name": ({"coco_url": f"{SITE}/x/b.jpg"}, ["x/b.jpg", "b.jpg"]),
    "null": ({"file_name": None, "coco_url": f"{SITE}/x/b.jpg"}, ["x/b.jpg", "b.jpg"]),
    "deep": ({"coco_url": f"https{SITE[4:]}/v/w/x/b.jpg"}, ["x/b.jpg", "b.jpg"]),
    "with a question": ({"coco_url": f"{SITE}/x/b.jpg?v=1#f"}, ["x/b.jpg", "b.jpg"]),
    "without a folder": ({"coco_url": f"{SITE}/b.jpg"}, ["b.jpg"]),
}


@pytest.mark.parametrize("kind", NAMED)
def test_names_of_image_files(kind):
    entry, names = NAMED[kind]
    assert list(read_image_entry(1, entry).names) == names


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "file_name is None"),
        ({"coco_url": None}, "file_name is None"),
        ({"file_name": "", "coco_url": f"{SITE}/x/b.jpg"}, "file_name is ''"),
        ({"file_name": 7, "coco_url": f"{SITE}/x/b.jpg"}, "file_name is 7"),
        *(
            ({"coco_url": url}, f"coco_url {url!r} does not end in one")
            for url in (
                "", 7, "b.jpg", "train2017/b.jpg", "file:///x/b.jpg", SITE, f"{SITE}/",
                f"{SITE}/x/", f"{SITE}/../b.jpg", f"{SITE}/x/..", "http://[x/b.jpg",
            )
        ),
        ({"coco_url": f"{SITE}/x/\ud800.jpg"}, "no file can have the name"),
    ],
)  # fmt: skip
def test_entries_that_name_no_file_are_refused(entry, words):
    with pytest.raises(Unusable) as caught:
        read_image_entry(1, entry)
    assert caught.value.reason == "file_name_malformed"
    assert words in str(caught.value)


def first(**changes):
    return lambda images: images[0].update(changes)


LOST = {
    "no name at all": (lambda images: images[0].pop("coco_url"), "file_name is None"),
    "no address": (first(coco_url="000000391895.jpg"), "does not end in one"),
    "no such file": (
        first(coco_url=f"{SITE}/train2017/7.jpg"),
        "train2017/7.jpg or 7.jpg: no such file",
    ),
}


@pytest.mark.parametrize("kind", LOST)
def test_an_image_without_a_usable_address_is_a_dead_letter(lvis, tmp_path, kind):
    change, words = LOST[kind]
    change(lvis.images)
    lvis.write()
    out = tmp_path / "out"
    flags = [*lvis.flags(), f"--out={out}", "--num_shards=2"]
    assert build_dataset.main([*flags, "--max_failed_fraction=0.5"]) == 0
    (letter,) = map(json.loads, (out / "dead_letters.jsonl").read_text().splitlines())
    assert letter["image_id"] == 391895
    assert words in letter["message"]
    assert len(examples(out)) == 2


def test_two_images_of_one_file_are_two_images(lvis, tmp_path):
    lvis.images[1]["coco_url"] = lvis.images[0]["coco_url"]
    lvis.write()
    out = tmp_path / "out"
    assert build_dataset.main([*lvis.flags(), f"--out={out}", "--num_shards=2"]) == 0
    found = examples(out)
    assert found[391895].encoded == found[522418].encoded
    assert [i.annotation_id for i in found[522418].instances] == [2, 5]


def test_a_name_in_two_folders_is_a_dead_letter(lvis, tmp_path):
    lvis.write()
    name = f"{391895:012}.jpg"
    os.link(
        lvis.folder / "images/train2017" / name, lvis.folder / "images/val2017" / name
    )
    out = tmp_path / "out"
    flags = [*lvis.flags("images/*"), f"--out={out}", "--num_shards=2"]
    assert build_dataset.main([*flags, "--max_failed_fraction=0.5"]) == 0
    (letter,) = map(json.loads, (out / "dead_letters.jsonl").read_text().splitlines())
    assert letter["reason"] == "image_ambiguous"
    assert f"train2017/{name} and val2017/{name}" in letter["message"]
