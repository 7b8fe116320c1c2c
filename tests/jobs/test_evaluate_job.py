"""The evaluate job from files to files, in one process and on Beam."""

import copy
import dataclasses
import gzip
import json

import coco_cases
import numpy as np
import pytest
from coco_reference import Case, read_truth, run_reference
from evaluation_files import as_options, metrics_of, with_boxes, write_predictions

from deepmac.errors import DataError
from deepmac.evaluation.engine import match_results
from pipelines.evaluate import OUTPUTS, execute
from pipelines.preflight import ProblemsFound
from pipelines.storage import open_output
from pipelines.truth_store import open_truths, write_truths

BEAM = ["--runner=FnApiRunner"]


FROM_FILES = [
    name
    for name in coco_cases.CASES
    if name != "own_recall_thresholds"  # which are no option
]


@pytest.mark.parametrize("beam_args", [[], BEAM], ids=["one process", "Beam"])
@pytest.mark.parametrize("name", FROM_FILES)
def test_every_trap_equals_pycocotools(name, beam_args, tmp_path, capsys):
    case = coco_cases.CASES[name]()
    options = as_options(case, tmp_path)
    assert execute(options, beam_args) == 0
    for iou_type in ("segm", "bbox"):
        precision, recall, scores, stats = run_reference(case.of_type(iou_type))
        with np.load(tmp_path / f"arrays-{iou_type}.npz") as arrays:
            np.testing.assert_array_equal(arrays["precision"], precision)
            np.testing.assert_array_equal(arrays["recall"], recall)
            np.testing.assert_array_equal(arrays["scores"], scores)
        written = metrics_of(options)[iou_type]["stats"]
        assert list(written.values())[:12] == stats.tolist()


def test_two_worker_processes_give_the_same(tmp_path, capsys):
    case = coco_cases.mixed()
    for number, result in enumerate(case.results):
        result["annotation_id"] = number % 30 + 1
    one = as_options(case, tmp_path / "one", seen="category 5")
    two = as_options(case, tmp_path / "two", seen="category 5")
    execute(one, [])
    execute(two, ["--direct_num_workers=2"])
    assert metrics_of(one) == metrics_of(two)


def twelve_images() -> Case:
    """Enough for intervals, and for given boxes."""
    scene = coco_cases.Scene(images=range(1, 13), categories=(1, 2))
    for image in range(1, 13):
        for category in (2, 1):
            box = (50 * category, 0, 20 + image, 20)
            scene.object(box, image, category)
            given = len(scene.truth["annotations"])
            box = (*box[:3], 8 + image)
            scene.found(box, image / 20, image, category, annotation_id=given)
    return scene.case()


def test_a_rerun_writes_the_same_and_leaves_nothing_else(tmp_path, capsys):
    case = twelve_images()
    options = as_options(case, tmp_path, arrays=None, seen="1", draws=50)
    execute(options, [])
    out = tmp_path / "out"
    before = {name: (out / name).read_bytes() for name in OUTPUTS}
    execute(options, BEAM)
    assert before == {name: (out / name).read_bytes() for name in OUTPUTS}
    assert {p.name for p in out.iterdir()} == {*OUTPUTS, "report.html", "run.json"}
    assert metrics_of(options)["segm"]["groups"]["unseen"]["intervals"].keys() > {
        "AP",
        "mean_iou_at_gt_boxes",
    }
    runs = json.loads((tmp_path / "out" / "run.json").read_bytes())["runs"]
    assert [run["beam"] for run in runs] == [[], BEAM]


def test_metrics_hold_no_path_time_or_host(tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        execute(as_options(coco_cases.mixed(), folder), [])
    a, b = ((f / "out" / "metrics.json").read_bytes() for f in (here, there))
    assert a == b
    assert str(tmp_path).encode() not in a


def test_the_table_names_groups_categories_and_warnings(tmp_path, capsys):
    case = coco_cases.mixed()
    case.results.append(case.results[0] | {"category_id": 99})
    execute(as_options(case, tmp_path, seen="category 5, category 9"), [])
    printed = capsys.readouterr().out
    stats = metrics_of(as_options(case, tmp_path))["segm"]
    assert "masks: 4 images, 30 annotations, 71 predictions" in printed
    assert "\x1b" not in printed
    row = next(line for line in printed.splitlines() if line.split()[:1] == ["AP50"])
    shown = [stats["stats"], stats["groups"]["seen"], stats["groups"]["unseen"]]
    assert row.split()[1:4] == [f"{figures['AP50']:.3f}" for figures in shown]
    assert any(
        line.split()[:3] == ["category", "2", "unseen"] for line in printed.splitlines()
    )
    assert "warning: predictions left out, of categories" in printed


def test_packed_files(tmp_path, capsys):
    options = as_options(coco_cases.mixed(), tmp_path)
    for name in ("gt.json", "dt.json"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
    execute(options, [])
    plain = metrics_of(options)
    packed = as_options(
        coco_cases.mixed(),
        tmp_path,
        ground_truth=str(tmp_path / "gt.json.gz"),
        predictions=str(tmp_path / "dt.json.gz"),
    )
    execute(packed, [])
    assert metrics_of(packed) == plain


def test_no_predictions_at_all(tmp_path, capsys):
    scene = coco_cases.Scene().object((0, 0, 20, 20))
    for beam_args in ([], BEAM):
        options = as_options(scene.case(), tmp_path)
        assert execute(options, beam_args) == 0
        assert metrics_of(options)["segm"]["stats"]["AP"] == 0
    assert "there are no predictions" in capsys.readouterr().out


# Directories of predictions.


@pytest.mark.parametrize("beam_args", [[], BEAM], ids=["one process", "Beam"])
def test_a_directory_of_predictions_equals_its_results_as_a_file(
    tmp_path, beam_args, capsys
):
    case = coco_cases.mixed()
    as_boxes, rows = with_boxes(case)
    folder = write_predictions(tmp_path / "predictions", rows)
    options = as_options(case, tmp_path, predictions=str(folder))
    execute(options, beam_args)
    written = metrics_of(options)
    for kind, same in (("segm", case), ("bbox", as_boxes.of_type("bbox"))):
        *_, stats = run_reference(same)
        assert list(written[kind]["stats"].values()) == stats.tolist()
    assert written["segm"]["mean_iou_at_gt_boxes"] > 0


def test_text_ids_that_a_job_has_turned_into_numbers_still_join(tmp_path, capsys):
    case = coco_cases.text_ids()
    rows = [
        r
        | {"image_id": int(r["image_id"]) if r["image_id"].isdigit() else r["image_id"]}
        for r in case.results
    ]
    folder = write_predictions(tmp_path / "predictions", rows)
    options = as_options(case, tmp_path, predictions=str(folder), iou_type=("segm",))
    execute(options, [])
    *_, stats = run_reference(case)
    assert list(metrics_of(options)["segm"]["stats"].values()) == stats.tolist()


@pytest.mark.parametrize("beam_args", [[], BEAM], ids=["one process", "Beam"])
def test_an_image_in_two_units_is_refused(tmp_path, beam_args):
    case = coco_cases.mixed()
    folder = write_predictions(tmp_path / "predictions", case.results)
    first, second, _ = sorted(folder.glob("*.gz"))
    manifest = json.loads((folder / "manifest.json").read_text())
    doubled = second.read_bytes() + first.read_bytes()
    second.write_bytes(doubled)
    manifest["units"][1]["bytes"] = len(doubled)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    options = as_options(case, tmp_path, predictions=str(folder), iou_type=("segm",))
    with pytest.raises(
        DataError, match="two partial results hold the detections of image 3"
    ):
        execute(options, beam_args)


def test_a_mistake_in_a_unit_reaches_the_user_from_a_worker(tmp_path):
    case = coco_cases.mixed()
    rows = copy.deepcopy(case.results)
    rows[5]["image_id"] = 12345
    folder = write_predictions(tmp_path / "predictions", rows)
    options = as_options(case, tmp_path, predictions=str(folder), iou_type=("segm",))
    with pytest.raises(
        DataError, match=r"line \d+ \(image 12345\): the ground truth has no image"
    ):
        execute(options, BEAM)


# Preflight.


def test_all_problems_are_told_at_once(tmp_path):
    case = coco_cases.mixed()
    case.truth["annotations"][3]["area"] = float("nan")
    case.results[7]["score"] = float("nan")
    (tmp_path / "a file").write_text("")
    options = as_options(
        case,
        tmp_path,
        out=str(tmp_path / "a file" / "out"),
        arrays="figures.txt",
        iou_type=("segm", "boundary"),
        seen="categry 5",
        unit_images=0,
    )
    with pytest.raises(ProblemsFound) as caught:
        execute(options, ["--rnner=FnApiRunner"])
    text = "\n".join(caught.value.messages)
    for expected in (
        "--iou_type boundary is not available yet",
        "cannot be the output directory",
        "figures.txt must end in .npz",
        "--unit_images must be positive",
        "has no category 'categry 5'; did you mean 'category 5'",
        "annotation 4: area is nan",
        "result 7 (image",
        "neither the job nor Apache Beam has an option '--rnner'",
    ):
        assert expected in text
    assert len(caught.value.messages) == 8


def test_a_mistyped_beam_flag_is_refused(tmp_path):
    options = as_options(coco_cases.mixed(), tmp_path)
    with pytest.raises(DataError, match="did you mean '--direct_num_workers'"):
        execute(options, ["--direct_num_worker=2"])


def test_groups_need_categories(tmp_path):
    case = coco_cases.without_categories()
    with pytest.raises(DataError, match="--seen needs categories"):
        execute(as_options(case, tmp_path, seen="category 5"), [])
    with pytest.raises(DataError, match="--group needs categories"):
        execute(as_options(case, tmp_path, group=("a=category 5",)), [])


def test_a_group_of_everything_leaves_no_other(tmp_path, capsys):
    options = as_options(coco_cases.mixed(), tmp_path, seen="all")
    execute(options, [])
    assert list(metrics_of(options)["segm"]["groups"]) == ["seen"]


def test_named_groups_may_overlap_and_say_what_pycocotools_says(tmp_path, capsys):
    case = coco_cases.mixed()
    for category in case.truth["categories"]:
        category["supercategory"] = "odd" if category["id"] % 2 else "even"
    (tmp_path / "groups.json").write_text('{"from a file": [2, "category 9"]}')
    named = ("supercategories", "mine=category 5,9", f"@{tmp_path / 'groups.json'}")
    options = as_options(case, tmp_path, group=named, seen="2", iou_type=("segm",))
    execute(options, [])
    written = metrics_of(options)["segm"]
    expected = {
        "seen": [2],
        "unseen": [5, 9],
        "odd": [5, 9],  # in the order of the file
        "even": [2],
        "mine": [5, 9],
        "from a file": [2, 9],
    }
    assert list(written["groups"]) == list(expected)
    for name, ids in expected.items():
        *_, stats = run_reference(dataclasses.replace(case, category_ids=ids))
        group = written["groups"][name]
        assert [group[n] for n in written["stats"]] == stats.tolist()
        assert group["categories"] == len(ids)
        inside = [c["id"] for c in written["per_category"] if name in c["groups"]]
        assert inside == ids


def test_a_group_without_categories_to_evaluate_is_named(tmp_path, capsys):
    case = coco_cases.mixed()
    groups = ("some=2,5", "none=5,9")
    options = as_options(case, tmp_path, group=groups, categories="2")
    execute(options, [])
    written = metrics_of(options)
    assert list(written["segm"]["groups"]) == ["some"]
    assert (
        "groups left out, of which no category is evaluated: none"
        in written["warnings"]
    )


def test_a_failure_leaves_nothing_of_an_earlier_run(tmp_path, capsys):
    case = coco_cases.mixed()
    execute(as_options(case, tmp_path), [])
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {*OUTPUTS, "report.html", "run.json"}
    case.results[3]["score"] = float("nan")
    options = as_options(case, tmp_path)
    # What preflight does not see: the results are read while the job runs.
    with pytest.raises(DataError, match="score is nan"):
        execute(options, [])
    assert {p.name for p in out.iterdir()} == {"run.json"}


def test_intervals_can_be_turned_off(tmp_path, capsys):
    options = as_options(coco_cases.mixed(), tmp_path, draws=0)
    execute(options, [])
    written = metrics_of(options)
    assert written["segm"]["intervals"] == {}
    assert written["bootstrap"] == {"draws": 0, "seed": 0, "interval": 0.95}
    with pytest.raises(DataError, match="--draws must not be negative, got -1"):
        execute(as_options(coco_cases.mixed(), tmp_path, draws=-1), [])


# The ground truth on disk.


def test_stored_truth_comes_back_as_it_was(tmp_path):
    for name in ("some_images", "polygons", "text_ids", "uncompressed_run_lengths"):
        for iou_type in ("segm", "bbox"):
            case = coco_cases.CASES[name]().of_type(iou_type)
            parameters = case.parameters
            truth, known, _ = read_truth(case)
            output = open_output(str(tmp_path))
            write_truths(output, "truth", truth, known)
            store = open_truths(output, "truth")
            unit = (case.results, "result {}".format)
            direct = match_results(unit, "mask", truth, known, parameters, name="a")
            stored = match_results(
                unit, "mask", store, store.known, parameters, name="a"
            )
            assert direct.to_bytes() == stored.to_bytes()
