"""`deepmac evaluate` as a user types it: a real process, and one line for every mistake."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import coco_cases
import pytest
from coco_reference import run_reference

NAN = float("nan")


def deepmac(*args, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "deepmac", "evaluate", *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.fixture
def files(tmp_path) -> Path:
    write(tmp_path, coco_cases.mixed().truth, coco_cases.mixed().results)
    return tmp_path


def write(folder: Path, truth, results) -> None:
    (folder / "gt.json").write_text(json.dumps(truth))
    (folder / "dt.json").write_text(json.dumps(results))


INPUTS = ("--ground_truth", "gt.json", "--predictions", "dt.json")


def test_a_user_gets_figures(files):
    done = deepmac(*INPUTS, "--out", "out", "--seen", "category 5", cwd=files)
    assert (done.returncode, done.stderr) == (0, "")
    *_, stats = run_reference(coco_cases.mixed())
    written = json.loads((files / "out" / "metrics.json").read_bytes())
    assert list(written["segm"]["stats"].values()) == stats.tolist()
    assert done.stdout.rstrip().endswith("out/metrics.json")


def test_the_form_that_dataflow_users_start_takes_beam_flags_mixed_in(files):
    command = [sys.executable, "-m", "pipelines.evaluate", "--runner=FnApiRunner"]
    command += [*INPUTS, "--out", "out", "--unit_images", "2"]
    done = subprocess.run(
        command, cwd=files, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    *_, stats = run_reference(coco_cases.mixed())
    written = json.loads((files / "out" / "metrics.json").read_bytes())
    assert list(written["segm"]["stats"].values()) == stats.tolist()


def change(part: str, index: int, **changes):
    def apply(truth, results):
        entries = results if part == "results" else truth[part]
        entries[index].update(changes)

    return apply


def remove(part: str, index: int, key: str):
    return lambda truth, results: truth[part][index].pop(key)


def nothing(truth, results) -> None: ...


MISTAKES = {
    "score that is not a number": (change("results", 3, score=NAN), (), "dt.json: result 3 (image 4): score is nan"),
    "image that does not exist": (change("results", 3, image_id=99), (), "dt.json: result 3 (image 99): the ground truth has no image 99; "),
    "image id as text": (change("results", 3, image_id="4"), (), "the ground truth has no image '4'; ids there are numbers, as 1"),
    "annotation ids given twice": (change("annotations", 1, id=1), (), "gt.json: annotations share ids: 1; give each its own, or say"),
    "mask of another size": (change("results", 3, segmentation=coco_cases.rle((0, 0, 5, 5), 50)), (), "result 3 (image 4): mask of [50, 50] pixels (height, width) in an image of [120, 120]"),
    "polygon of four numbers": (change("annotations", 2, segmentation=[[1, 2, 3, 4]]), (), "gt.json: annotation 3: a polygon needs at least 6 numbers"),
    "broken run lengths": (change("results", 3, segmentation={"size": [120, 120], "counts": "54"}), (), "RLE counts add up to 9 pixels, its size is 120 x 120 = 14400"),
    "annotation without mask": (remove("annotations", 2, "segmentation"), (), "so 'segm' cannot be evaluated on: category"),
    "annotation without category": (remove("annotations", 2, "category_id"), (), "annotation 3 has no 'category_id'"),
    "truth and results swapped": (nothing, ("--ground_truth", "dt.json", "--predictions", "gt.json"), "2 problems:"),
    "file that is not there": (nothing, ("--predictions", "dt2.json"), "dt2.json: cannot be read: No such file or directory"),
    "remote file": (nothing, ("--predictions", "ftp://host/dt.json"), "ftp:// is not available here"),
    "unknown category to show": (nothing, ("--seen", "category 55"), "has no category 'category 55'; did you mean 'category 5'"),
    "threshold out of range": (nothing, ("--iou_thresholds", "50"), "iou_thresholds lie above 0 and up to 1, got 50.0"),
    "limits that are words": (nothing, ("--max_dets", "1,ten"), "--max_dets: '1,ten' is not numbers with commas"),
    "range without end": (nothing, ("--area_ranges", "small:0"), "--area_ranges: 'small:0' is not name:low:high"),
    "boundary IoU": (nothing, ("--iou_type", "boundary"), "--iou_type boundary is not available yet"),
    "unknown kind": (nothing, ("--iou_type", "mask"), "'mask' is not one of"),
    "misspelt option": (nothing, ("--prediction", "x"), "no such option: --prediction; did you mean '--predictions'"),
    "misspelt Beam option": (nothing, ("--", "--direct_num_worker=2"), "did you mean '--direct_num_workers'"),
    "output is a file": (nothing, ("--out", "gt.json"), "gt.json: cannot be the output directory"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_costs_one_line_and_status_2(files, name):
    spoil, args, sentence = MISTAKES[name]
    case = copy.deepcopy(coco_cases.mixed())
    spoil(case.truth, case.results)
    write(files, case.truth, case.results)
    done = deepmac(*INPUTS, "--out", "out", *args, cwd=files)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence.rstrip("; ") in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    num_lines = 3 if "problems" in sentence else 1
    assert len(done.stderr.splitlines()) == num_lines
    assert not (files / "out" / "metrics.json").exists()


def test_files_that_are_no_json(files):
    (files / "dt.json").write_text('[{"image_id": 1,\n')
    done = deepmac(*INPUTS, "--out", "out", cwd=files)
    assert done.returncode == 2
    assert "dt.json:2:1: not valid JSON" in done.stderr


def test_evaluation_needs_neither_tensorflow_nor_beam(files):
    code = (
        "import sys; from deepmac.cli import main; status = main(sys.argv[1:]); "
        "print([m for m in ('tensorflow', 'keras', 'jax', 'apache_beam') if m in sys.modules]); "
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "evaluate", *INPUTS, "--out", "out"]
    done = subprocess.run(
        command, cwd=files, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "[]"
