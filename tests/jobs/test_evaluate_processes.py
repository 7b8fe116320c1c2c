"""The evaluation in several processes of one machine: the same figures, and errors that arrive."""

import copy
import os
import random
import signal

import coco_cases
import pytest
from evaluation_files import as_options, metrics_of, with_boxes, write_predictions

from deepmac.errors import DataError
from pipelines import evaluation_runs
from pipelines.evaluate import execute
from pipelines.preflight import ProblemsFound


def test_a_directory_of_predictions_gives_the_same(tmp_path, capsys):
    case = coco_cases.mixed()
    _, rows = with_boxes(case)
    folder = str(write_predictions(tmp_path / "predictions", rows))
    one = as_options(case, tmp_path / "one", predictions=folder)
    two = as_options(case, tmp_path / "two", predictions=folder, num_processes=2)
    execute(one, [])
    execute(two, [])
    assert metrics_of(one) == metrics_of(two)
    assert metrics_of(one)["segm"]["mean_iou_at_gt_boxes"] > 0


def test_a_results_file_in_any_order_gives_the_same(tmp_path, capsys):
    case = coco_cases.mixed()
    random.Random(1).shuffle(case.results)
    one = as_options(case, tmp_path / "one")
    two = as_options(case, tmp_path / "two", num_processes=2)
    execute(one, [])
    execute(two, [])
    assert metrics_of(one) == metrics_of(two)


def test_a_mistake_in_a_unit_reaches_the_user(tmp_path):
    case = coco_cases.mixed()
    rows = copy.deepcopy(case.results)
    rows[5]["image_id"] = 12345
    folder = str(write_predictions(tmp_path / "predictions", rows))
    options = as_options(case, tmp_path, predictions=folder, num_processes=2)
    with pytest.raises(
        DataError, match=r"line \d+ \(image 12345\): the ground truth has no image"
    ):
        execute(options, [])


def test_a_process_that_is_killed_is_told(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(evaluation_runs, "match_results", killed)
    options = as_options(coco_cases.mixed(), tmp_path, num_processes=2)
    with pytest.raises(DataError, match=r"ended from outside.*--num_processes"):
        execute(options, [])


def test_options_that_contradict_each_other_are_refused_all_at_once(tmp_path):
    options = as_options(
        coco_cases.mixed(),
        tmp_path,
        num_processes=2,
        max_dets="x",
        iou_thresholds="0.5,y",
        area_ranges="a:1",
    )
    with pytest.raises(ProblemsFound) as found:
        execute(options, ["--direct_num_workers=2"])
    told = str(found.value)
    for sentence in (
        "--num_processes 2 is for an evaluation without Beam",
        "--max_dets: 'x' is not numbers",
        "--iou_thresholds: '0.5,y' is not numbers",
        "--area_ranges: 'a:1' is not name:low:high",
    ):
        assert sentence in told
