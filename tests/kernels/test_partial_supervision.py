"""The experiment of benchmarks/partial_supervision: its statistics, its splits, its scores."""

import collections
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from deepmac.masks import encode_rle
from deepmac.predictors import open_predictor
from deepmac.samples.catalogue import KINDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def load():
    """`benchmarks` is no package of ours: it is found in the project's root."""
    sys.path.insert(0, str(ROOT))
    yield lambda name: importlib.import_module(f"benchmarks.partial_supervision.{name}")
    sys.path.remove(str(ROOT))


# Statistics


def test_an_estimate_is_the_mean_and_holds_it(load):
    rng = np.random.default_rng(0)
    values, clusters = rng.random(400), rng.integers(0, 40, 400)
    found = load("statistics").estimate(values, clusters)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.low < found.mean < found.high
    assert (found.num_instances, found.num_clusters) == (400, len(set(clusters)))


def test_independent_instances_give_the_interval_of_the_textbook(load):
    values = np.random.default_rng(1).normal(size=400)
    found = load("statistics").estimate(values, np.arange(400))
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    # 5000 draws know a percentile to some 3 % of the half width
    assert found.high - found.mean == pytest.approx(half, rel=0.08)
    assert found.mean - found.low == pytest.approx(half, rel=0.08)


def test_equal_instances_of_a_cluster_count_once(load):
    statistics = load("statistics")
    per_cluster = np.random.default_rng(2).random(50)
    once = statistics.estimate(per_cluster, np.arange(50))
    nine = statistics.estimate(np.repeat(per_cluster, 9), np.repeat(np.arange(50), 9))
    assert nine[:3] == pytest.approx(once[:3], abs=1e-12)


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says(load):
    """Clusters of unequal size around a mean of 0: 95 % of 200 experiments, give or take."""
    statistics, rng, hits = load("statistics"), np.random.default_rng(3), 0
    for _ in range(200):
        clusters = np.repeat(np.arange(40), rng.integers(5, 16, 40))
        values = rng.normal(size=40)[clusters] + rng.normal(size=len(clusters))
        found = statistics.estimate(values, clusters, draws=400)
        hits += found.low <= 0 <= found.high
    # Binomial (200, 0.95) has a standard deviation of 3; percentile intervals are a little narrow
    assert 178 <= hits <= 198


def test_pairing_takes_away_what_both_have_in_common(load):
    statistics, rng = load("statistics"), np.random.default_rng(4)
    clusters = np.repeat(np.arange(30), 10)
    difficulty = rng.normal(size=30)[clusters]
    theirs = difficulty + rng.normal(scale=0.05, size=300)
    ours = difficulty + 0.03 + rng.normal(scale=0.05, size=300)
    difference = statistics.paired(ours, theirs, clusters)
    alone = statistics.estimate(ours, clusters)
    assert difference.low > 0
    assert difference.high - difference.low < 0.1 * (alone.high - alone.low)


def test_pairing_refuses_other_instances(load):
    with pytest.raises(ValueError, match="3 instances against 2"):
        load("statistics").paired(np.zeros(3), np.zeros(2), [0, 1, 2])


def test_the_design_effect_is_the_size_of_uniform_clusters(load):
    per_cluster = np.random.default_rng(5).normal(size=400)
    values, clusters = np.repeat(per_cluster, 6), np.repeat(np.arange(400), 6)
    effect = load("statistics").design_effect(values, clusters)
    assert effect == pytest.approx(6, rel=0.01)


# Splits


@pytest.fixture(scope="module")
def sprite_categories():
    """Made-up sprites: categories of very different sizes, as the real ones are."""
    sizes = {
        f"category {i}": size for i, size in enumerate([31, 13, 12, 11, 9, 7, 5, 3, 3])
    }
    return {f"{name}/{i}": name for name, size in sizes.items() for i in range(size)}


PHOTOGRAPHS = [f"photograph {i}" for i in range(12)]


@pytest.mark.parametrize("seed", range(7))
def test_no_sprite_and_no_photograph_is_in_two_parts(load, sprite_categories, seed):
    split = load("splits").stamps_split(seed, sprite_categories, PHOTOGRAPHS)
    for parts, everything in (
        (split.sprites, set(sprite_categories)),
        (split.photographs, set(PHOTOGRAPHS)),
    ):
        names = [name for part in parts.values() for name in part]
        assert len(names) == len(set(names))
        assert set(names) == everything
        assert all(parts[part] for part in ("train", "val", "test"))


def test_three_seeds_test_every_sprite_once(load, sprite_categories):
    splits = [
        load("splits").stamps_split(k, sprite_categories, PHOTOGRAPHS) for k in range(3)
    ]
    tested = collections.Counter(n for split in splits for n in split.sprites["test"])
    assert tested == dict.fromkeys(sprite_categories, 1)


@pytest.mark.parametrize("first_seed", [0, 3])
def test_the_halves_of_three_seeds(load, first_seed):
    sizes = {f"category {i}": 1 + i % 5 for i in range(21)}
    first, second, third = (
        load("splits").seen_half(first_seed + k, sizes) for k in range(3)
    )
    assert first | second == set(sizes)
    assert not first & second
    assert third & first
    assert third & second
    for half in (first, second, third):
        objects = sum(sizes[c] for c in half)
        assert 0.4 * sum(sizes.values()) < objects < 0.6 * sum(sizes.values())


def test_the_first_half_of_the_shapes_is_that_of_the_catalogue(load):
    sizes = {kind.name: 1 for kind in KINDS}
    seen = frozenset(kind.name for kind in KINDS if kind.is_seen)
    assert load("splits").seen_half(0, sizes, seen) == seen
    assert load("splits").seen_half(1, sizes, seen) == set(sizes) - seen


def test_the_two_sets_share_no_category(load):
    ours = load("sprites").category_ids()
    assert not set(ours) & {kind.name for kind in KINDS}
    assert not set(ours.values()) & {kind.id for kind in KINDS}
    folders = [f for some in load("sprites").CATEGORIES.values() for f in some]
    assert len(folders) == len(set(folders))


# Sprites and pictures


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("animals/birds/duck", True),
        ("animals/birds/cartoon/tux", False),
        ("seasonal/easter/egg", False),
        ("town/roadsigns/stop", False),
        ("town/uk_post_box", True),
        ("household/tools/measuring_tape_mirror", False),
    ],
)
def test_stamps_are_ruled_out_by_name(load, name, expected):
    assert load("sprites").is_candidate(name) == expected


def cut_out(rng, height, width):
    """A disc of noise, opaque inside: uint8 RGBA."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    alpha = np.where(y**2 + x**2 < 0.9, 255, 0)[..., None]
    colours = rng.integers(0, 256, (height, width, 3))
    return np.concatenate([colours, alpha], axis=2).astype(np.uint8)


def test_photographs_have_many_colours_and_drawings_few(load):
    sprites, rng = load("sprites"), np.random.default_rng(0)
    photograph = cut_out(rng, 150, 200)
    drawing = photograph.copy()
    drawing[..., :3] = [200, 40, 40]
    opaque = photograph.copy()
    opaque[..., 3] = 255
    assert sprites.is_photograph(photograph)
    assert not sprites.is_photograph(drawing)
    assert not sprites.is_photograph(opaque)
    assert not sprites.is_photograph(photograph[:119, :119])
    assert not sprites.is_photograph(None)


@pytest.fixture(scope="module")
def picture(load):
    rng = np.random.default_rng(0)
    cut_outs = {f"disc {i}": cut_out(rng, 120 + 9 * i, 150) for i in range(5)}
    ground = rng.integers(0, 256, (300, 400, 3), np.uint8)
    made = load("compose").compose(
        np.random.default_rng(7), cut_outs, {"noise": ground}
    )
    again = load("compose").compose(
        np.random.default_rng(7), cut_outs, {"noise": ground}
    )
    return made, again


def test_a_picture_depends_on_its_generator_alone(picture):
    made, again = picture
    assert np.array_equal(made.image, again.image)
    assert np.array_equal(made.masks, again.masks)
    assert made.names == again.names


def test_instances_of_a_picture_do_not_overlap_and_are_large_enough(load, picture):
    made, _ = picture
    assert made.image.shape == (256, 256, 3)
    assert made.image.dtype == np.uint8
    assert 3 <= len(made.masks) == len(made.names)
    assert made.masks.sum(axis=0).max() == 1
    assert made.masks.sum(axis=(1, 2)).min() >= load("compose").LEAST_PIXELS


def test_what_counts_as_an_instance(load):
    visible = np.array([449, 450, 399, 400])
    sizes = np.array([1000, 1000, 500, 500])
    counts = load("compose").does_count(visible, sizes)
    assert counts.tolist() == [False, True, False, True]


def test_the_real_packages(load):
    """Where Debian's packages are installed: about 170 photographs, in all the categories."""
    sprites = load("sprites")
    if not Path("/usr/share/tuxpaint/stamps/animals").is_dir():
        pytest.skip("needs Debian's tuxpaint-stamps-default, which is not installed")
    found = sprites.find_sprites(Path("/"))
    assert 150 <= len(found) <= 190
    assert {sprite.category for sprite in found} == set(sprites.CATEGORIES)


@pytest.fixture(scope="module")
def small_stamps(load, tmp_path_factory):
    """The set made of made-up sprites, three to five a category, and of noise."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    sprites, data = load("sprites"), load("data")
    stamps = root / "debian/usr/share/tuxpaint/stamps"
    grounds = root / "debian/usr/share/backgrounds/mate/nature"
    grounds.mkdir(parents=True)
    for number, folders in enumerate(sprites.CATEGORIES.values()):
        folder = stamps / folders[0]
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(3 + number % 3):
            rgba = cut_out(rng, 121, 100 + 7 * i)
            assert cv2.imwrite(str(folder / f"{i}.png"), rgba)
    for i in range(12):
        noise = rng.integers(0, 256, (40, 60, 3), np.uint8)
        assert cv2.imwrite(str(grounds / f"{i}.jpg"), noise)
    place = data.Place(root, "stamps", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "NUM_IMAGES", {"train": 4, "val": 2, "test": 3})
        data.write_stamps(root / "debian", place)
    return place


def test_the_parts_of_a_set_share_nothing(load, small_stamps):
    sprites, grounds = [], []
    for part in ("train", "val", "test"):
        dataset = json.loads(small_stamps.annotations(part).read_text())
        sprites.append({a["sprite"] for a in dataset["annotations"]})
        grounds.append({image["photograph"] for image in dataset["images"]})
        files = {path.name for path in small_stamps.images(part).iterdir()}
        assert files == {image["file_name"] for image in dataset["images"]}
    for parts in (sprites, grounds):
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_a_set_is_what_coco_calls_one(load, small_stamps):
    truth = COCO(str(small_stamps.annotations("test")))
    ids = load("sprites").category_ids()
    assert {c["name"]: c["id"] for c in truth.dataset["categories"]} == ids
    assert min(truth.imgs) > load("data").FIRST_STAMP_ID
    for annotation in truth.anns.values():
        rows, columns = np.nonzero(truth.annToMask(annotation))
        left, top, width, height = annotation["bbox"]
        assert (rows.min(), columns.min()) == (top, left)
        assert (rows.max() + 1, columns.max() + 1) == (top + height, left + width)
        assert annotation["area"] == len(rows) >= load("compose").LEAST_PIXELS
        name = annotation["sprite"].rpartition("/")[0]
        category = truth.cats[annotation["category_id"]]["name"]
        assert name in load("sprites").CATEGORIES[category]


def test_instances_know_their_group_and_their_sprite(load, small_stamps):
    instances = load("score").read_instances(small_stamps)
    seen = load("data").seen_ids(small_stamps)
    assert instances.is_seen.tolist() == [i in seen for i in instances.category_ids]
    assert 0 < instances.is_seen.sum() < len(instances.is_seen)
    assert all("/" in sprite for sprite in instances.clusters)


def test_the_filled_box_scores_how_full_boxes_are(load, small_stamps):
    dataset = json.loads(small_stamps.annotations("test").read_text())
    fill = [a["area"] / (a["bbox"][2] * a["bbox"][3]) for a in dataset["annotations"]]
    scores = load("score").score(open_predictor("box"), small_stamps)
    np.testing.assert_allclose(scores.iou, fill, rtol=1e-12)
    assert scores.num_empty == 0
    first = load("score").score(open_predictor("box"), small_stamps, num_images=1)
    assert 0 < len(first.iou) < len(fill)
    np.testing.assert_array_equal(first.iou, scores.iou[: len(first.iou)])


# Scores


@pytest.fixture
def two_squares():
    """A data set of one picture with a square of a seen category and one of an unseen."""
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 2:10, 2:10] = True
    masks[1, 12:18, 12:18] = True
    annotations = [
        {
            "id": 5 - i,
            "image_id": 1,
            "category_id": 7 + i,
            "iscrowd": 0,
            "area": int(mask.sum()),
            "bbox": [0, 0, 20, 20],
            "segmentation": text_rle(mask),
        }
        for i, mask in enumerate(masks)
    ]
    dataset = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 20, "width": 20}],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "seven"}, {"id": 8, "name": "eight"}],
    }
    return masks, dataset


def text_rle(mask):
    rle = encode_rle(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def test_scores_are_those_of_the_annotations_in_their_order(load, two_squares):
    masks, dataset = two_squares
    half = masks[1].copy()
    half[12:15] = False
    results = [
        {"image_id": 1, "category_id": -1, "score": 0.5, "annotation_id": 4, "segmentation": text_rle(half)},
        {"image_id": 1, "category_id": -1, "score": 0.9, "annotation_id": 5, "segmentation": text_rle(masks[0])},
    ]  # fmt: skip
    scores = load("score").judge(dataset, results, seen=[7])
    assert scores.iou.tolist() == [1.0, 0.5]
    # An IoU of 0.5 is a hit at the first of ten thresholds
    assert scores.ap == pytest.approx({"seen": 1.0, "unseen": 0.1})


def result_file(load, folder, method, ious, **facts):
    """A result and its test set: four instances of stamps, two of them seen, of three sprites."""
    score = load("score")
    instances = score.Instances(
        set_name="stamps",
        seed=0,
        digest="abc",
        category_ids=np.array([25, 25, 26, 26]),
        is_seen=np.array([True, True, False, False]),
        clusters=["a", "a", "b", "c"],
    )
    score.write_instances(instances, folder)
    scores = score.Scores(np.array(ious), {"seen": 0.1, "unseen": 0.2}, 0)
    tests = [score.summarise(scores, instances)]
    score.write_json(
        folder / f"{method}.json", {"method": method, **facts, "tests": tests}
    )


def test_results_are_read_back_pooled_and_paired(load, tmp_path):
    analyse = load("analyse")
    result_file(load, tmp_path, "box", [0.4, 0.5, 0.3, 0.5])
    result_file(load, tmp_path, "grabcut", [0.6, 0.5, 0.4, 0.7])
    results, instances = analyse.read_results(tmp_path)
    ours, theirs = ([r for r in results if r.group == g] for g in ("grabcut", "box"))
    pooled = analyse.pool(ours, instances, "stamps", "unseen")
    assert pooled.iou.tolist() == [0.4, 0.7]
    assert list(pooled.clusters) == ["b", "c"]
    difference, num_seeds = analyse.compare(ours, theirs, instances, "stamps", "unseen")
    assert num_seeds == 1
    assert difference.mean == pytest.approx(0.15)
    assert "| grabcut | 1 | 0.550 " in analyse.tables(results, instances)


def test_results_of_other_instances_are_refused(load, tmp_path):
    result_file(load, tmp_path, "box", [0.4, 0.5, 0.3, 0.5])
    path = tmp_path / "instances" / "stamps-0.json"
    path.write_text(path.read_text().replace('"abc"', '"other"'))
    from deepmac.errors import DataError

    with pytest.raises(DataError, match=r"box\.json: was tested on other instances"):
        load("analyse").read_results(tmp_path)


def test_committed_results_can_be_read(load):
    """Every figure of the page comes from files that fit each other."""
    analyse = load("analyse")
    results, instances = analyse.read_results(load("score").RESULTS)
    groups = {result.group for result in results}
    assert {
        *analyse.BASELINES,
        "stamps-seen-hourglass20",
        "stamps-all-hourglass20",
    } <= groups
    for result in results:
        for name, test in result.tests.items():
            assert len(test["iou"]) == len(instances[name, result.seed].clusters)
    for path in load("score").RESULTS.rglob("*.json"):
        assert path.stat().st_size < 100_000, path.name
        json.loads(path.read_text())


def trained_file(load, folder, name, ious, calls):
    run = load("runs").find_run(name)
    facts = {
        "train_set": run.train_set,
        "parameters": {"all": 2000, "mask_head": 1000},
        "steps": run.num_steps,
        "learning_rate": run.rate,
        "cpu_seconds": 60.0,
        "calls": calls,
    }
    result_file(load, folder, run.head, ious, run=name, **facts)


def test_costs_say_in_how_many_calls(load, tmp_path):
    trained_file(load, tmp_path, "stamps-seen-resnet4-0", [0.4, 0.5, 0.3, 0.5], calls=3)
    tables = load("analyse").tables(*load("analyse").read_results(tmp_path))
    assert "| stamps-seen-resnet4 | 2,000 | 1,000 | 1500 | 0.003 | 60 | 3 |" in tables


def test_heads_of_another_width_are_not_joined_with_the_others(load, tmp_path):
    for number, head in enumerate(load("runs").DEPTHS):
        ious = [0.5, 0.5, 0.5, 0.5 + 0.1 * number]
        trained_file(load, tmp_path, f"stamps-seen-{head}-0", ious, calls=1)
    text, drawing = load("analyse").page(*load("analyse").read_results(tmp_path))
    assert "joins heads of width 16" in text
    svg = ElementTree.fromstring(drawing)
    (line,) = svg.iterfind("{*}polyline")
    circles = [(c.get("cx"), c.get("cy")) for c in svg.iterfind("{*}circle")]
    assert line.get("points").split() == [",".join(c) for c in circles[:3]]
    assert len(circles) == 4
    assert [t.text for t in svg.iterfind("{*}text")].count("width 8") == 1


# Runs


def test_the_protocol_lists_each_run_once_with_a_configuration_of_its_own(load):
    runs = load("runs")
    found = runs.all_runs()
    assert all(run.name == name for name, run in found.items())
    assert len(found) == 6 + 12 * 3 + 1
    texts = {
        (run.head, run.rate, run.num_steps): runs.config_text(run)
        for run in found.values()
    }
    assert len(set(texts.values())) == len(texts)


def test_a_configuration_says_what_its_run_is(load, tmp_path):
    from deepmac.config.load import load_config

    runs = load("runs")
    run = runs.find_run("both-seen-hourglass20-2")
    path = tmp_path / "run.config"
    path.write_text(runs.config_text(run, tmp_path))
    config = load_config(path)
    assert config.train_config.num_steps == runs.STEPS
    heads = config.model.center_net.deepmac_mask_estimation
    assert heads.network_type == "hourglass20"
    assert heads.num_init_channels == runs.WIDTHS["hourglass20"]
    (pattern,) = config.train_input_reader.tf_record_input_reader.input_path
    assert pattern == f"{tmp_path}/records/both-2-seen/train-*.tfrecord"


def test_an_unknown_run_names_the_nearest(load):
    from deepmac.errors import OptionError

    with pytest.raises(OptionError, match="did you mean 'stamps-seen-resnet4-1'"):
        load("runs").find_run("stamps-seen-resnet-1")


@pytest.fixture
def training(load, monkeypatch):
    """Trains by a program of one line."""

    def train(program, folder):
        start = subprocess.Popen
        command = [sys.executable, "-c", program]
        monkeypatch.setattr(subprocess, "Popen", lambda *_, env: start(command))
        run = load("runs").find_run("stamps-seen-resnet4-0")
        load("run").train(run, folder, folder / "run", 1)

    return train


def test_after_training_a_signal_is_heard_as_before(load, training, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    training("pass", tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert load("run").read_cost(tmp_path / "run")["calls"] == 1


def test_a_signal_during_training_is_passed_on(load, training, tmp_path):
    from deepmac.errors import OptionError

    ours = os.getpid()
    # Told by the training itself, when it has begun
    program = f"import os, time; time.sleep(0.5); os.kill({ours}, {signal.SIGTERM}); time.sleep(600)"
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("not passed on"))
    try:
        with pytest.raises(OptionError, match="status -15; the same command goes on"):
            training(program, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert load("run").read_cost(tmp_path / "run")["calls"] == 1
