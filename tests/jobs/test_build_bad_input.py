"""Bad input to `build`: each kind is a line of a table here, and ends as a counted dead letter, as
one line on standard error, or as a count of what was mended. The rest of the set is not touched."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_dataset import HEIGHT, WIDTH, SmallDataset, encode, picture, square

from deepmac.data.directory import open_records
from pipelines.build_dataset import main

Change = Callable[[SmallDataset], object]


def first_image(**changes) -> Change:
    return lambda data: data.images[0].update(changes)


def first_file(content: bytes) -> Change:
    return lambda data: data.files.update({data.images[0]["file_name"]: content})


def first_annotation(**changes) -> Change:
    return lambda data: data.annotations[0].update(changes)


def cut_short(data: SmallDataset) -> None:
    name = data.images[0]["file_name"]
    data.files[name] = data.files[name][:-40]


def damaged_inside(data: SmallDataset) -> None:
    name = data.images[2]["file_name"]  # a PNG, whose checksums tell
    content = bytearray(data.files[name])
    content[len(content) // 2] ^= 255
    data.files[name] = bytes(content)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(picture(0, HEIGHT, WIDTH), exif=exif)


RUNS = {"size": [HEIGHT, WIDTH], "counts": [50, 100, HEIGHT * WIDTH - 150]}

IMAGES = {  # an image is lost: change, stage, reason, words of the message
    "file missing": (lambda d: d.files.pop(d.images[0]["file_name"]), "image", "image_missing", "no such file"),
    "file empty": (first_file(b""), "image", "image_empty", "the file is empty"),
    "file is text": (first_file(b"<html>404</html>"), "image", "image_unsupported", "neither JPEG nor PNG"),
    "file is a GIF": (first_file(encode(picture(0), "GIF")), "image", "image_unsupported", "but GIF"),
    "header damaged": (first_file(b"\xff\xd8\xff\xe0\0\x10JF"), "image", "image_malformed", "damaged"),
    "file cut short": (cut_short, "image", "image_truncated", "the file is cut off"),
    "pixels damaged": (damaged_inside, "image", "image_damaged", "not a readable image"),
    "decompression bomb": (
        first_file(encode(Image.new("L", (3000, 3000)), "PNG")),
        "image", "image_too_large", "3000 x 3000 pixels, more than --max_pixels=1000000",
    ),
    "another size": (first_image(height=25), "image", "size_differs", "has 24 x 32 pixels"),
    "size before turning": (
        lambda d: (first_file(turned())(d), first_image(height=WIDTH, width=HEIGHT)(d)),
        "image", "size_differs", "EXIF orientation 6 turns it",
    ),
    "size not a number": (first_image(height="24"), "entry", "size_malformed", "['24', 32]"),
    "size negative": (first_image(width=-32), "entry", "size_malformed", "[24, -32]"),
    "name missing": (lambda d: d.images[0].pop("file_name"), "entry", "file_name_malformed", "None"),
    "name with a null": (first_image(file_name="a\0b"), "image", "image_unreadable", "null"),
    "name of half a pair": (first_image(file_name="a\ud800.jpg"), "entry", "file_name_malformed", "'a\\ud800.jpg'"),
    "id with half a pair": (first_image(id="a\ud800"), "entry", "id_malformed", "not 'a\\ud800'"),
    "name of a folder": (first_image(file_name="."), "image", "image_unreadable", "Is a directory"),
    "id missing": (lambda d: d.images[0].pop("id"), "entry", "id_malformed", "not None"),
    "id a list": (first_image(id=[1]), "entry", "id_malformed", "not [1]"),
    "id twice": (first_image(id=101), "entry", "id_duplicate", "another image has the id 101"),
    "entry a number": (lambda d: d.images.__setitem__(0, 7), "entry", "entry_malformed", "not a JSON object"),
}  # fmt: skip

ANNOTATIONS = {  # an annotation is lost
    "no area": (first_annotation(bbox=[3, 4, 0, 5]), "box", "box_empty", "[3, 4, 0, 5] has no area"),
    "negative size": (first_annotation(bbox=[3, 4, -2, 5]), "box", "box_empty", "has no area"),
    "no bbox": (lambda d: d.annotations[0].pop("bbox"), "box", "box_missing", "has no bbox"),
    "three numbers": (first_annotation(bbox=[1, 2, 3]), "box", "box_malformed", "four finite numbers"),
    "not a number": (first_annotation(bbox=[1, 2, 3, "4"]), "box", "box_malformed", "'4'"),
    "nan": (first_annotation(bbox=[1, 2, 3, float("nan")]), "box", "box_malformed", "nan"),
    "infinite": (first_annotation(bbox=[1, 2, float("inf"), 4]), "box", "box_malformed", "inf"),
    "a huge number": (first_annotation(bbox=[1, 2, 10**400, 4]), "box", "box_malformed", "1000"),
    "outside": (first_annotation(bbox=[40, 2, 5, 5]), "box", "box_outside", "in an image of 24 x 32"),
    "unknown category": (first_annotation(category_id=5), "annotation", "category_unknown", "the id 5"),
    "category a text": (first_annotation(category_id="1"), "annotation", "category_unknown", "'1'"),
    "unknown image": (first_annotation(image_id=5), "entry", "image_unknown", "no image has the id 5"),
    "no image": (lambda d: d.annotations[0].pop("image_id"), "entry", "id_malformed", "not None"),
    "id twice": (lambda d: d.annotations[3].update(id=0), "entry", "id_duplicate", "before it has the id 0"),
    "crowd a text": (first_annotation(iscrowd="no"), "annotation", "crowd_malformed", "'no'"),
    "entry a text": (lambda d: d.annotations.__setitem__(0, "x"), "entry", "entry_malformed", "not a JSON"),
}  # fmt: skip

MASKS = {  # an annotation keeps its box but has no mask
    "of another size": ({"size": [WIDTH, HEIGHT], "counts": RUNS["counts"]}, "in an image of [24, 32]"),
    "runs too long": (RUNS | {"counts": [1, 2, 3000]}, "add up to 3003 pixels"),
    "runs negative": (RUNS | {"counts": [-1, 769]}, "RLE counts"),
    "compressed but broken": (RUNS | {"counts": "!!!"}, "RLE counts"),
    "polygon of two points": ([[1, 2, 3, 4]], "polygon 0 needs an even count of at least 6"),
    "polygon of texts": ([["a"] * 6], "not a finite number"),
    "a text": ("none", "neither a list of polygons nor an RLE"),
}  # fmt: skip

MENDED = {  # nothing is lost: change, what is counted, how often
    "box beyond the border": (first_annotation(**square(28, 20, 10)), "boxes_clipped", 1),
    "no area value": (lambda d: d.annotations[0].pop("area"), "areas_mended", 1),
    "area not finite": (first_annotation(area=float("nan")), "areas_mended", 1),
    "no iscrowd": (lambda d: d.annotations[0].pop("iscrowd"), "crowds", 6),
    "no annotation id": (lambda d: d.annotations[0].pop("id"), "annotations_without_id", 1),
    "id a fraction": (first_annotation(id=1.5), "annotations_without_id", 1),
    "area beyond float32": (first_annotation(area=1e60), "areas_mended", 1),
    "no segmentation": (lambda d: d.annotations[0].pop("segmentation"), "masks_missing", 1),
    "segmentation empty": (first_annotation(segmentation=[]), "masks_missing", 1),
    "mask without pixels": (first_annotation(segmentation=[[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]]), "masks_empty", 1),
    "greyscale": (first_file(encode(picture(0, mode="L"))), "images_greyscale", 1),
    "CMYK": (first_file(encode(picture(0, mode="CMYK"))), "images_cmyk", 1),
    "16 bits": (
        first_file(encode(Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)), "PNG")),
        "images_16_bit", 1,
    ),
    "turned by EXIF": (first_file(turned()), "images_turned", 1),
    "no height": (lambda d: d.images[0].pop("height"), "sizes_mended", 1),
    "no objects": (lambda d: d.images.append(
        {"id": 7, "file_name": d.images[0]["file_name"], "height": HEIGHT, "width": WIDTH}
    ), "images_without_instances", 1),
}  # fmt: skip


@dataclasses.dataclass
class Built:
    status: int
    out: Path
    letters: list[dict]
    counts: dict[str, int]
    printed: str


@pytest.fixture
def build(tmp_path, capsys):
    def run(change: Change, *flags: str) -> Built:
        data = SmallDataset(tmp_path / "data")
        change(data)
        data.write()
        out = tmp_path / "out"
        base = [*data.flags, f"--out={out}", "--num_shards=2", "--max_pixels=1000000"]
        status = main([*base, "--max_failed_fraction=0.5", *flags])
        printed = capsys.readouterr()
        assert printed.err == ""
        letters = (out / "dead_letters.jsonl").read_text().splitlines()
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["counts"] == json.loads(json.dumps(manifest["counts"]))
        check_nothing_is_lost(data, manifest["counts"])
        return Built(
            status,
            out,
            [json.loads(x) for x in letters],
            manifest["counts"],
            printed.out,
        )

    return run


def check_nothing_is_lost(data: SmallDataset, counts: dict[str, int]) -> None:
    def number(name):
        return counts.get(name, 0)

    assert number("images_in") == len(data.images)
    assert number("images_in") == number("images_out") + number("images_failed")
    assert number("annotations_in") == len(data.annotations)
    assert number("annotations_in") == sum(
        map(
            number,
            ("instances_out", "annotations_failed", "annotations_of_failed_images"),
        )
    )
    masks = ("masks_kept", "masks_hidden", "masks_missing", "masks_failed")
    assert number("instances_out") == sum(map(number, masks))


def records(out: Path):
    return {e.image_id: e for e in open_records(str(out)).examples()}


def untouched(out: Path, *but: int):
    return {k: v for k, v in records(out).items() if k not in but}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    data = SmallDataset(folder / "data").write()
    assert main([*data.flags, f"--out={folder / 'out'}", "--num_shards=2"]) == 0
    return records(folder / "out")


@pytest.mark.parametrize("kind", IMAGES)
def test_a_bad_image_is_one_dead_letter(build, clean, kind):
    change, stage, reason, words = IMAGES[kind]
    built = build(change, "--verify_images")
    assert built.status == 0  # 1 of 12 is less than half
    letters = [x for x in built.letters if x["annotation_id"] is None]
    (letter,) = [x for x in letters if x["reason"] == reason]
    assert (letter["job"], letter["stage"]) == ("build", stage)
    assert words in letter["message"]
    assert letter["unit"].startswith("records-0000")
    assert built.counts["images_failed"] == 1
    assert reason in built.printed
    others = untouched(built.out, 100, 101, 102)
    assert others == {k: v for k, v in clean.items() if k in others}
    assert len(others) == 9


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_a_bad_annotation_is_one_dead_letter(build, clean, kind):
    change, stage, reason, words = ANNOTATIONS[kind]
    built = build(change)
    (letter,) = built.letters
    assert (letter["stage"], letter["reason"]) == (stage, reason)
    assert words in letter["message"]
    assert built.counts["annotations_failed"] == 1
    assert built.counts["images_out"] == 12
    assert reason in built.printed
    assert untouched(built.out, 100, 101) == {k: v for k, v in clean.items() if k > 101}


@pytest.mark.parametrize("kind", MASKS)
def test_a_bad_mask_is_one_dead_letter_and_its_box_stays(build, kind):
    segmentation, words = MASKS[kind]
    built = build(first_annotation(segmentation=segmentation))
    (letter,) = built.letters
    assert (letter["stage"], letter["reason"]) == ("mask", "mask_malformed")
    assert (letter["image_id"], letter["annotation_id"]) == (100, 0)
    assert words in letter["message"]
    first = records(built.out)[100].instances[0]
    assert (first.annotation_id, first.mask_rle, first.mask_weight) == (0, None, 0)
    assert built.counts["masks_failed"] == 1


def test_a_bad_mask_that_is_hidden_anyway_does_not_matter(build):
    built = build(first_annotation(segmentation="none"), "--split=dog")
    assert built.letters == []


@pytest.mark.parametrize("kind", MENDED)
def test_what_is_mended_is_counted(build, kind):
    change, name, number = MENDED[kind]
    built = build(change)
    assert built.letters == []
    assert built.counts[name] == number
    assert built.counts["images_failed"] == 0


def test_boxes_beyond_the_border_fail_as_in_the_reference_on_request(build):
    built = build(first_annotation(**square(28, 20, 10)), "--out_of_bounds=drop")
    (letter,) = built.letters
    assert (letter["stage"], letter["reason"]) == ("box", "box_out_of_bounds")


def test_damage_inside_an_image_is_not_looked_for_unless_asked(build):
    assert build(damaged_inside).letters == []


def test_a_file_name_that_is_no_unicode_is_found_and_kept(build, clean):
    name = os.fsdecode(b"gr\xfc\xdfe.jpg")

    def rename(data):
        data.files[name] = data.files.pop(data.images[0]["file_name"])
        data.images[0]["file_name"] = name

    built = build(rename)
    assert built.letters == []
    assert built.counts["names_not_utf8"] == 1
    found = records(built.out)[100]
    assert found.file_name == name
    assert found.encoded == clean[100].encoded


def test_a_missing_file_whose_name_is_no_unicode_is_a_dead_letter(build):
    built = build(first_image(file_name="gr\udcfc.jpg"))
    (letter,) = built.letters
    assert letter["reason"] == "image_missing"
    assert "gr\\xfc.jpg" in letter["message"]


def test_a_folder_of_images_may_have_a_name_that_is_no_unicode(tmp_path):
    data = SmallDataset(tmp_path / "data").write()
    images = tmp_path / os.fsdecode(b"im\xffages")
    (data.folder / "images").rename(images)
    flags = [data.flags[0], f"--images={images}", f"--out={tmp_path}/out"]
    assert main([*flags, "--num_shards=2"]) == 0
    assert main([*flags, "--num_shards=2"]) == 0
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    assert job["inputs"]["images"] == f"{tmp_path}/im\\xffages"
    assert len(records(tmp_path / "out")) == 12


def test_a_name_found_twice_is_a_dead_letter(tmp_path, capsys):
    data = SmallDataset(tmp_path / "data").write()
    more = tmp_path / "data" / "more"
    more.mkdir()
    name = data.images[0]["file_name"]
    (more / name).write_bytes(data.files[name])
    flags = [data.flags[0], f"--images={tmp_path}/data/*", f"--out={tmp_path}/out"]
    assert main([*flags, "--num_shards=2", "--max_failed_fraction=0.5"]) == 0
    assert "image_ambiguous" in capsys.readouterr().out


def test_too_many_failures_are_status_3_and_the_work_is_kept(build):
    built = build(first_file(b""), "--max_failed_fraction=0.05")
    assert built.status == 3
    assert (
        "8.3% of the images failed, more than --max_failed_fraction=0.05"
        in built.printed
    )
    assert len(records(built.out)) == 11


def test_annotations_of_a_lost_image_are_counted(build):
    built = build(first_file(b""))
    assert built.counts["annotations_of_failed_images"] == 2
    assert len(built.letters) == 1


# What is wrong with the whole: one line, or one list, before any work.


def spoil_json(data: SmallDataset) -> None:
    data.write()
    data.path.write_text(data.path.read_text()[:-20])
    data.write = lambda: data


WHOLE = {  # change, flags, words
    "no annotation file": ((), ["--annotations=/no/such.json"], "/no/such.json: cannot be read: No such file"),
    "annotations a folder": ((), ["--annotations=/"], "/: cannot be read: Is a directory"),
    "no images folder": ((), ["--images=/no/such"], "/no/such: no such directory of images"),
    "images a file": ((), ["--images=/etc/hostname"], "/etc/hostname: not a directory of images"),
    "pattern of nothing": ((), ["--images=/no/*"], "nothing matches this pattern of images"),
    "the wrong folder": ((), ["--images=/"], "none of the first 8 images can be used; the first: "),
    "output under a file": ((), ["--out=/etc/hostname/x"], "/etc/hostname is a file"),
    "remote output": ((), ["--out=ftp://b/x"], "ftp://b/x: ftp:// is not available here"),
    "remote images": ((), ["--images=ftp://b/x"], "ftp://b/x: ftp:// is not available here"),
    "no shards": ((), ["--num_shards=0"], "--num_shards must be in 1..99999, got 0"),
    "a path as name": ((), ["--name=a/b"], "--name must be a plain file name, not 'a/b'"),
    "a fraction of 2": ((), ["--max_failed_fraction=2"], "--max_failed_fraction must be in 0..1, got 2"),
    "no pixels": ((), ["--max_pixels=0"], "--max_pixels must be positive, got 0"),
    "unknown split": ((), ["--split=dgo"], "split 'dgo': the data set has no category 'dgo'; did you mean 'dog'?"),
    "no split file": ((), ["--split=@/no/such"], "split @FILE: /no/such: cannot be read: No such file"),
    "split without annotations": (
        [lambda d: d.categories.append({"id": 3, "name": "car"})], ["--split=car"],
        "no annotation has a category of the split 'car'",
    ),
    "cut-off JSON": ([spoil_json], [], "not valid JSON: the file ends too early; is it complete?"),
    "no categories": ([lambda d: d.categories.clear()], [], "the list of categories is empty"),
    "category twice": (
        [lambda d: d.categories.append({"id": 1, "name": "car"})], [], "categories share the id 1",
    ),
    "category without name": (
        [lambda d: d.categories.append({"id": 3})], [], "category 3 of the list: its name is None",
    ),
    "category with half a pair": (
        [lambda d: d.categories.append({"id": 3, "name": "a\ud800"})], [],
        "category 3 of the list: its name is 'a\\ud800', not a text",
    ),
    "no images": ([lambda d: d.images.clear()], [], "the list of images is empty"),
    "ids that do not join": (
        [lambda d: [a.update(image_id=a["image_id"] + 1000) for a in d.annotations]], [],
        "no annotation has the image_id of an image (images have ids such as 10",
    ),
    "unknown option": ((), ["--num_shard=3"], "neither the job nor Apache Beam has an option '--num_shard'"),
    "a runner that lies": ((), ["--runner=DaskRunner"], "--runner=DaskRunner is refused"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_what_is_wrong_at_large_is_told_before_any_work(tmp_path, capsys, kind):
    changes, flags, words = WHOLE[kind]
    data = SmallDataset(tmp_path / "data")
    for change in changes:
        change(data)
    data.write()
    out = tmp_path / "out"
    assert main([*data.flags, f"--out={out}", *flags]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not list(tmp_path.rglob("*.tfrecord"))


def test_all_problems_are_told_at_once(tmp_path, capsys):
    data = SmallDataset(tmp_path / "data")
    data.categories.append({"id": 1, "name": "car"})
    data.write()
    flags = [
        data.flags[0],
        "--images=/no/such",
        f"--out={tmp_path}/out",
        "--num_shards=0",
    ]
    assert main([*flags, "--split=@/no/file"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: 4 problems:"
    for line, words in zip(
        lines[1:],
        (
            "--num_shards must be",
            "split @FILE: /no/file",
            "/no/such: no such",
            "share the id 1",
        ),
        strict=True,
    ):
        assert words in line
