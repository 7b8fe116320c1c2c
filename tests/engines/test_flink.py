"""Exactness of `evaluate` through Flink's shuffle, and what a user sees of what goes wrong there."""

import socket
from pathlib import Path

import apache_beam as beam
import coco_cases
import pytest
from evaluation_files import as_options, metrics_of, with_boxes, write_predictions
from failing_steps import fill_disk

from deepmac.errors import DataError
from pipelines.evaluate import execute
from pipelines.launch import parse_beam_args, run_pipeline

pytestmark = [
    pytest.mark.engines,
    # Beam leaves it to the collector to close the pipes of its job servers.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NAMES = (
    "mixed",
    "more_than_100_detections_tied_at_the_limit",
    "scores_that_float32_would_tie",
    "text_ids",
)


def one_hot_category() -> coco_cases.Case:
    """Nearly everything in one category, whose cell one task must merge."""
    scene = coco_cases.Scene(images=range(1, 25), categories=(1, 2, 3))
    for image in range(1, 25):
        scene.object((0, 0, 20 + image, 20), image).object((40, 40, 30, image), image)
        for n in range(20):
            box = (n, n % 3, 20 + image - n % 5, 20)
            scene.found(box, 1 - (n * image % 37) / 40, image)
    return scene.object((0, 0, 9, 9), 3, 2).found((0, 0, 9, 8), 0.5, 3, 2).case()


def bytes_of(options) -> bytes:
    return (Path(options.out) / "metrics.json").read_bytes()


@pytest.mark.parametrize("unit_images", [1, 3])
def test_a_hot_category_cut_in_any_way(flink, unit_images, tmp_path, capsys):
    case = one_hot_category()
    here = as_options(case, tmp_path / "here", unit_images=unit_images)
    there = as_options(case, tmp_path / "there", unit_images=unit_images)
    execute(here, [])
    execute(there, flink.flags_of_job_server)
    assert bytes_of(there) == bytes_of(here)
    assert metrics_of(here)["segm"]["stats"]["AP"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_traps_equal_one_process(flink, name, tmp_path, capsys):
    here = as_options(getattr(coco_cases, name)(), tmp_path / "here")
    there = as_options(getattr(coco_cases, name)(), tmp_path / "there")
    execute(here, [])
    execute(there, flink.flags_of_job_server)
    assert bytes_of(there) == bytes_of(here)


def test_a_directory_of_predictions_equals_one_process(flink, tmp_path, capsys):
    case = coco_cases.mixed()
    _, rows = with_boxes(case)
    folder = str(write_predictions(tmp_path / "predictions", rows))
    here = as_options(case, tmp_path / "here", predictions=folder)
    there = as_options(case, tmp_path / "there", predictions=folder)
    execute(here, [])
    execute(there, flink.flags_of_job_server)
    assert bytes_of(there) == bytes_of(here)


def test_what_the_user_can_mend_comes_through_as_one_line(flink):
    flags = [*flink.flags_of_job_server, "--number_of_execution_retries=0"]
    with pytest.raises(DataError) as caught:
        run_pipeline(
            parse_beam_args(flags),
            lambda pipeline: pipeline | beam.Create([1]) | beam.Map(fill_disk),
        )
    message = "unit x: OSError: [Errno 28] No space left on device"
    assert str(caught.value) == message


def test_a_master_that_does_not_answer(flink):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        flags = [f"--flink_master={url}" if "master" in f else f for f in flink.flags]
        with pytest.raises(DataError, match=r"--flink_master=\S+ does not answer"):
            run_pipeline(parse_beam_args(flags), lambda pipeline: None)


def test_a_pool_that_is_not_there(flink):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pool = f"--environment_config=localhost:{taken.getsockname()[1]}"
        flags = [pool if "environment_config" in f else f for f in flink.flags]
        with pytest.raises(DataError, match=r"start the workers: python -m pipelines"):
            run_pipeline(parse_beam_args(flags), lambda pipeline: None)
