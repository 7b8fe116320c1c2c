"""Exactness of `evaluate` through Flink's shuffle, and what a user sees of what goes wrong there."""

import socket
from pathlib import Path

import apache_beam as beam
import coco_cases
import pytest
from coco_reference import Case, assert_equal, run_reference
from evaluation_files import as_options, metrics_of, with_boxes, write_predictions
from failing_steps import fill_disk

from deepmac.errors import DataError
from deepmac.evaluation.engine import conclude
from deepmac.evaluation.summary import Evaluation
from pipelines.evaluate import execute
from pipelines.evaluation_graph import EvaluateUnits, WriteStates, read_states
from pipelines.evaluation_inputs import prepare
from pipelines.evaluation_units import SpilledUnits, spill
from pipelines.launch import parse_beam_args, run_pipeline
from pipelines.storage import open_output
from pipelines.truth_store import write_truths

pytestmark = [
    pytest.mark.engines,
    # Beam leaves it to the collector to close the pipes of its job servers.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TRAPS = [name for name in coco_cases.CASES if name != "own_recall_thresholds"]
PARTS = (
    4  # a task manager has network buffers and memory for so many shuffles at a time
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


@pytest.mark.parametrize("part", range(PARTS))
def test_every_trap_equals_pycocotools(flink, part, tmp_path):
    """Masks and boxes of many traps, side by side in one graph."""
    prepared = {name: coco_cases.CASES[name]() for name in TRAPS[part::PARTS]}
    found = evaluated_together(prepared, tmp_path, flink.flags_of_job_server)
    assert len(found) == 2 * len(prepared)
    for (name, iou_type), evaluation in found.items():
        assert_equal(evaluation, run_reference(prepared[name].of_type(iou_type)))


def evaluated_together(
    cases: dict[str, Case], folder: Path, flags: list[str]
) -> dict[tuple[str, str], Evaluation]:
    """Evaluations of many cases by one job of Beam, where `evaluate` takes a job for each."""
    output, works = open_output(str(folder)), {}
    for name, case in cases.items():
        options = as_options(case, folder / name, arrays=None)
        for task in prepare(options, []):
            place = f"{name}-{task.parameters.iou_type}"
            write_truths(output, f"truth-{place}", task.ground_truth, task.known)
            units = spill(task.source, output, f"{place}-", task.known, 1)
            reader = SpilledUnits(task.source.path, output)
            works[name, task.parameters.iou_type] = (place, task, reader, units)

    def build(pipeline: beam.Pipeline) -> None:
        for place, task, reader, units in works.values():
            evaluation = EvaluateUnits(
                output.root, f"truth-{place}", reader, task.form, task.parameters
            )
            _ = (
                pipeline
                | f"Units of {place}" >> beam.Create(units)
                | f"Evaluate {place}" >> evaluation
                | f"Write {place}" >> WriteStates(output.root, f"states-{place}")
            )

    run_pipeline(parse_beam_args(flags), build)
    return {
        key: conclude(
            task.ground_truth,
            read_states(output, f"states-{place}"),
            task.parameters,
            task.counts,
            units,
        )
        for key, (place, task, _, units) in works.items()
    }


@pytest.mark.parametrize("name", ["mixed", "text_ids"])
def test_the_command_equals_one_process(flink, name, tmp_path, capsys):
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
