"""The generated `shapes` set: its pictures, its masks and the files it is written to."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO

from deepmac.errors import DataError, OptionError
from deepmac.predictors import open_predictor
from deepmac.samples import write_shapes
from deepmac.samples.catalogue import KINDS
from deepmac.samples.parts import ellipse, extent, limb, move, polygon, spline
from deepmac.samples.scene import compose
from deepmac.samples.tracing import exact_polygons

NUM_IMAGES = 16


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A small set with crowds, as pycocotools reads it, and its paths."""
    paths = write_shapes(
        tmp_path_factory.mktemp("shapes") / "set", NUM_IMAGES, size=128, crowds=0.4
    )
    return COCO(str(paths.annotations)), paths


def digest(folder) -> str:
    """Of every file's name and bytes."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(path.relative_to(folder).as_posix().encode())
        if path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


def test_categories_are_24_without_gaps_half_of_them_seen():
    assert [kind.id for kind in KINDS] == list(range(1, 25))
    assert len({kind.name for kind in KINDS}) == 24
    assert sum(kind.is_seen for kind in KINDS) == 12
    groups = [
        {kind.supercategory for kind in KINDS if kind.is_seen == is_seen}
        for is_seen in (True, False)
    ]
    assert len(groups[0] & groups[1]) >= 4  # neither half is of one sort


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_category_varies_and_fills_its_frame(kind):
    drawings = [kind.draw(np.random.default_rng(seed)) for seed in range(8)]
    points = [np.concatenate([o for p in d for o in p.outlines]) for d in drawings]
    for parts, found in zip(drawings, points, strict=True):
        low, high = extent(parts)
        assert 1.2 < (high - low).max() < 3.2
        assert np.isfinite(found).all()
    assert len({p.tobytes() for p in points}) == 8


def test_no_two_masks_overlap_and_each_is_largely_visible():
    scene = compose(np.random.default_rng(3), 160, 256)
    assert scene.image.shape == (160, 256, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.dtype == bool
    assert len(scene.masks) == len(scene.category_ids) >= 9
    assert scene.masks.sum(axis=0).max() == 1
    assert scene.masks.sum(axis=(1, 2)).min() >= 400 * (160 / 256) ** 2


def test_the_picture_changes_along_the_edges_of_the_masks():
    """Neighbouring pixels differ more across a mask's edge than across the same edge shifted."""
    across, beside = [], []
    for seed in range(4):
        scene = compose(np.random.default_rng(seed), 256, 256)
        step = np.abs(np.diff(scene.image.mean(axis=2), axis=1))
        for mask in scene.masks:
            edge = mask[:, 1:] != mask[:, :-1]
            across.append(step[edge].mean())
            beside.append(step[:, 8:][edge[:, :-8]].mean())
    assert np.mean(across) > 1.4 * np.mean(beside)


def mean_iou(predictor: str, num_images: int) -> float:
    """Of the predictor's masks with the true ones, at the true boxes."""
    found = []
    for index in range(num_images):
        scene = compose(np.random.default_rng([0, index]), 256, 256)
        boxes = np.array([tight_box(mask) for mask in scene.masks], np.float64)
        (result,) = open_predictor(predictor)([scene.image], [boxes])
        overlap = (result.masks & scene.masks).sum(axis=(1, 2))
        found.extend(overlap / (result.masks | scene.masks).sum(axis=(1, 2)))
    return float(np.mean(found))


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def test_boxes_and_ellipses_are_poor_masks():
    # 0.471 and 0.524 over 200 pictures: benchmarks/shapes_baselines.py
    box, ellipse = mean_iou("box", 24), mean_iou("ellipse", 24)
    assert 0.42 < box < 0.52
    assert box + 0.02 < ellipse < 0.58


@pytest.mark.slow
def test_careful_grabcut_is_not_enough():
    # 0.602 over 200 pictures: benchmarks/shapes_baselines.py
    assert 0.52 < mean_iou("grabcut", 4) < 0.70


def test_the_files_are_valid_coco_with_exact_tight_boxes(shapes):
    coco, paths = shapes
    assert len(coco.imgs) == NUM_IMAGES == len(list(paths.images.iterdir()))
    assert {c["id"]: c["name"] for c in coco.dataset["categories"]} == {
        kind.id: kind.name for kind in KINDS
    }
    for image_id in coco.getImgIds():
        total = np.zeros((128, 128), int)
        for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(annotation)
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert annotation["area"] == mask.sum()
            total += mask
        assert total.max() == 1


def test_the_set_has_every_form_of_segmentation(shapes):
    coco, _ = shapes

    def form(annotation) -> str:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, list):
            return "polygons"
        return f"counts as {type(segmentation['counts']).__name__}"

    found = {(form(a), a["iscrowd"]) for a in coco.dataset["annotations"]}
    assert found == {("polygons", 0), ("counts as str", 0), ("counts as list", 1)}


def test_every_category_appears(shapes):
    coco, _ = shapes
    counts = np.bincount(
        [a["category_id"] for a in coco.dataset["annotations"]], minlength=25
    )
    assert (counts[1:] > 0).sum() >= 22  # about 7 of each are expected
    drawn = {
        i
        for seed in range(12)
        for i in compose(np.random.default_rng(seed), 128, 128).category_ids
    }
    assert drawn == set(range(1, 25))


def test_group_files_name_the_halves(shapes):
    _, paths = shapes
    seen, unseen = (p.read_text().split() for p in (paths.seen, paths.unseen))
    assert sorted(seen + unseen) == sorted(kind.name for kind in KINDS)
    assert set(seen) == {kind.name for kind in KINDS if kind.is_seen}


def test_equal_options_give_equal_bytes_in_any_process(tmp_path):
    write_shapes(tmp_path / "here", 5, size=96, seed=4, crowds=0.5)
    write_shapes(tmp_path / "workers", 5, size=96, seed=4, crowds=0.5, num_workers=2)
    code = (
        "import sys, cv2; cv2.setNumThreads(1)\n"
        "from deepmac.samples import write_shapes\n"
        "write_shapes(sys.argv[1], 5, size=96, seed=4, crowds=0.5)"
    )
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-c", code, str(other)], check=True)
    digests = {digest(tmp_path / name) for name in ("here", "workers", "other")}
    assert len(digests) == 1


def test_a_longer_set_begins_with_a_shorter_one(tmp_path):
    short, long = (write_shapes(tmp_path / str(n), n, size=96, seed=1) for n in (2, 3))
    for path in short.images.iterdir():
        assert path.read_bytes() == (long.images / path.name).read_bytes()


def test_another_seed_gives_other_pictures(tmp_path):
    a, b = (write_shapes(tmp_path / str(s), 1, size=96, seed=s) for s in (0, 1))
    name = "000001.jpg"
    assert (a.images / name).read_bytes() != (b.images / name).read_bytes()


def test_a_complete_set_is_left_alone_and_an_unfinished_one_finished(tmp_path):
    paths = write_shapes(tmp_path, 2, size=96)
    whole = digest(tmp_path)
    calls = []
    write_shapes(tmp_path, 2, size=96, on_image=calls.append)
    assert calls == []
    paths.annotations.unlink()
    (paths.images / "000002.jpg").write_bytes(b"half")
    write_shapes(tmp_path, 2, size=96, on_image=calls.append)
    assert calls == [1, 2]
    assert digest(tmp_path) == whole


def test_a_directory_with_something_else_is_refused(tmp_path):
    write_shapes(tmp_path / "set", 2, size=96)
    with pytest.raises(DataError, match=r"num_images=2, asked for 3"):
        write_shapes(tmp_path / "set", 3, size=96)
    with pytest.raises(DataError, match=r"seed=0, asked for 1"):
        write_shapes(tmp_path / "set", 2, size=96, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"thesis\.tex"):
        write_shapes(tmp_path / "mine", 2)
    with pytest.raises(DataError, match="cannot write there"):
        write_shapes(tmp_path / "mine" / "thesis.tex", 2)
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "annotations.json").write_text(json.dumps({"info": {}}))
    with pytest.raises(DataError, match="not of a generated set"):
        write_shapes(tmp_path / "coco", 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 0}, "num_images"),
        ({"size": 32}, "64 pixels"),
        ({"size": (256, 20)}, "256 x 20"),
        ({"seed": -1}, "seed"),
        ({"crowds": 1.5}, "crowds"),
    ],
)
def test_senseless_options_are_refused(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        write_shapes(tmp_path, **{"num_images": 1, **options})


def test_an_l_becomes_the_polygon_of_its_edges():
    mask = np.array([[1, 0, 0], [1, 1, 1], [0, 0, 0]], bool)
    assert exact_polygons(mask) == [[0, 0, 1, 0, 1, 1, 3, 1, 3, 2, 0, 2]]


def test_a_ring_has_no_polygons_and_two_islands_have_two():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert exact_polygons(ring) is None
    assert exact_polygons(np.zeros((3, 3), bool)) is None
    islands = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], bool)
    assert exact_polygons(islands) == [
        [0, 0, 1, 0, 1, 1, 0, 1],
        [1, 1, 2, 1, 2, 2, 1, 2],
    ]


def test_a_spline_passes_its_points_and_keeps_its_corners():
    curve = spline((0, 0), (1, 0), (1, 1), (1, 1), (0, 1))
    for point in ((0, 0), (1, 0), (1, 1), (0, 1)):
        assert (curve == point).all(axis=1).sum() == 1
    assert np.isfinite(curve).all()


def test_limbs_and_moves_keep_their_sizes():
    low, high = extent_of(limb([(0, 0), (4, 0)], 2))
    np.testing.assert_allclose((*low, *high), (-1, -1, 5, 1), atol=0.02)  # 28-gons
    turned = move(polygon((1, 0)), turn=np.pi / 2, to=(0, 3), size=2)
    np.testing.assert_allclose(turned, [[0, 5]], atol=1e-12)  # clockwise as seen
    np.testing.assert_allclose(ellipse(1, 2, 3, 4).max(axis=0), (4, 6), atol=0.05)


def extent_of(outlines):
    points = np.concatenate(outlines)
    return points.min(axis=0), points.max(axis=0)
