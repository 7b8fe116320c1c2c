"""Jobs for Google Cloud Dataflow: what would be handed over, looked at without a cloud."""

import dataclasses
import tarfile
from pathlib import Path

import click
import dataflow_job
import fussy_predictor
import pytest
from apache_beam import Create
from small_dataset import SmallDataset

from deepmac.data import google_storage
from deepmac.data.splits import Split
from deepmac.errors import OptionError
from deepmac.evaluation.parameters import Parameters
from deepmac.evaluation.prediction_units import DirectoryUnits
from pipelines import (
    build_dataset,
    dataflow,
    evaluate,
    evaluation_graph,
    infer,
    label_checks,
    launch,
)
from pipelines.progress import Progress
from pipelines.storage import open_output
from pipelines.unit_task import Task

HOME = Path(launch.__file__).resolve().parents[1]
CLOUD = [
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=europe-west4",
    "--temp_location=gs://bucket/tmp",
]


def label_work(model="center_net_deepmac_512x512_voc_only"):
    options = infer.Options(
        annotations="gs://bucket/boxes.json",
        images="gs://bucket/images",
        out="gs://bucket/out",
        model=model,
    )
    context = {"categories": [[1, "person"]], "repeats": []}
    work = infer.make_work(options, context, "float32")
    return dataclasses.replace(work, images="gs://bucket/images")


def build_work():
    return build_dataset.BuildWork(
        images="gs://bucket/images",
        category_names={1: "person"},
        split=Split("voc", frozenset({1})),
        repeats=frozenset(),
        out_of_bounds="clip",
        masks=True,
        verify_images=False,
        max_pixels=10**8,
    )


def do_units(tmp_path, job, work, num_units, **needs):
    """Describes a job of units when it is given Beam's flags."""

    def describe(flags):
        options = launch.parse_beam_args(flags)
        units = [(f"{job}-{i:05d}-of-{num_units:05d}", 256) for i in range(num_units)]
        machines = {"hold_model": False, "accelerator": None, "min_ram": None} | needs
        with pytest.raises(click.exceptions.Exit) as left:
            launch.run_tasks(
                options,
                Task("gs://bucket/out", job, "0" * 64, work),
                units,
                progress=Progress(open_output(str(tmp_path)), 0, [], {}),
                needs=dataflow.machines(options, **machines),
            )
        assert left.value.exit_code == 0

    return describe


@pytest.fixture(autouse=True)
def _no_client_of_the_store_before():
    """The next test's store has another address."""
    yield
    google_storage.close()


@pytest.fixture
def described(storage, tmp_path):
    def of(describe, *more):
        place = tmp_path / "job.json"
        return dataflow_job.described(storage, place, lambda f: describe([*f, *more]))

    return of


def assert_travels_well(job, tmp_path, given=""):
    """Nothing that is pickled belongs to `__main__` or to this machine, but a path given."""
    # Beam's own functions carry the names of their files, which nobody opens.
    ours = [str(HOME / name) for name in ("deepmac", "pipelines", "tests")]
    for name, pickled in job.pickles().items():
        pickled = pickled.replace(given.encode(), b"")
        assert b"__main__" not in pickled, name
        for place in (*ours, str(tmp_path)):
            assert place.encode() not in pickled, name
    assert job.options["save_main_session"] is False
    assert "pickled_main_session" not in job.packages


def test_a_job_that_labels_asks_for_its_machines_where_it_predicts_alone(
    described, tmp_path
):
    describe = do_units(
        tmp_path,
        "label",
        label_work(),
        3,
        hold_model=True,
        accelerator="nvidia-tesla-t4",
        min_ram="16GB",
    )
    job = described(describe, "--dataflow_service_options=enable_prime")
    hints = job.hints()
    assert hints.pop("Do unit") == {
        "accelerator": "type:nvidia-tesla-t4;count:1;install-nvidia-driver",
        "min_ram_bytes": "16000000000",
    }
    assert len(hints) > 3
    assert not any(hints.values())
    images = job.pool["sdkHarnessContainerImages"]
    assert {image["containerImage"] for image in images} == {dataflow_job.IMAGE}
    # A process for each core would hold a model for each core.
    assert "use_multiple_sdk_containers" not in job.environment["experiments"]
    assert "no_use_multiple_sdk_containers" in job.environment["experiments"]
    assert job.environment["serviceOptions"] == ["enable_prime"]
    assert job.options["number_of_worker_harness_threads"] == 2
    assert_travels_well(job, tmp_path)


def test_a_job_without_a_model_leaves_processes_and_threads_to_dataflow(
    described, tmp_path
):
    job = described(do_units(tmp_path, "build", build_work(), 3))
    assert not any(job.hints().values())
    assert "use_multiple_sdk_containers" in job.environment["experiments"]
    assert "number_of_worker_harness_threads" not in job.options
    assert_travels_well(job, tmp_path)


def test_what_the_user_says_of_processes_and_threads_holds(described, tmp_path):
    job = described(
        do_units(tmp_path, "label", label_work(), 3, hold_model=True),
        "--experiments=use_multiple_sdk_containers",
        "--number_of_worker_harness_threads=5",
    )
    assert "no_use_multiple_sdk_containers" not in job.environment["experiments"]
    assert job.options["number_of_worker_harness_threads"] == 5


def test_a_hundred_thousand_units_are_a_small_description_and_not_one_bundle(
    described, tmp_path
):
    job = described(do_units(tmp_path, "label", label_work(), 100_000))
    # Dataflow takes 20 MB.
    assert len(job.text) + job.graph_bytes < 1_000_000
    # Without it the step that has the names would do all of the units itself.
    kinds = {t.spec.urn for t in job.graph.components.transforms.values()}
    assert "beam:transform:reshuffle:v1" in kinds


def test_an_evaluation_has_no_hints_and_travels_as_well(described, tmp_path):
    reader = DirectoryUnits("gs://bucket/predictions", False, False)
    evaluation = evaluation_graph.EvaluateUnits(
        "gs://bucket/out", "truth", reader, "mask", Parameters()
    )

    def build(pipeline):
        _ = (
            pipeline
            | "Units" >> Create([f"predictions-{i:05d}" for i in range(1000)])
            | "Evaluate" >> evaluation
            | "Write" >> evaluation_graph.WriteStates("gs://bucket/out", "states")
        )

    job = described(lambda f: launch.run_pipeline(launch.parse_beam_args(f), build))
    assert not any(job.hints().values())
    assert "Evaluate/Match" in job.pickles()
    assert_travels_well(job, tmp_path)


@pytest.mark.slow
def test_the_package_is_staged_whole(described, storage, tmp_path):
    job = described(
        do_units(tmp_path, "label", label_work(), 1), f"--setup_file={HOME}/setup.py"
    )
    archive = tmp_path / "workflow.tar.gz"
    archive.write_bytes(storage.get(job.packages["workflow.tar.gz"]))
    with tarfile.open(archive) as tar:
        staged = {name.partition("/")[2] for name in tar.getnames()}
    tracked = {
        str(path.relative_to(HOME))
        for folder in ("deepmac", "pipelines", "configs")
        for path in (HOME / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked <= staged


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--runner=DataflowRunner", "--project=my-project"],
            "--runner=DataflowRunner needs --region, --temp_location too",
        ),
        (
            [*CLOUD[:3], "--temp_location=/tmp/x"],
            "--temp_location must be a folder on gs://, got /tmp/x",
        ),
        (
            ["--no_wait_until_finish"],
            "--no_wait_until_finish is for DataflowRunner: on FnApiRunner the job ends",
        ),
    ],
)
def test_what_dataflow_must_be_told_is_looked_for_before_any_work(flags, message):
    with pytest.raises(OptionError) as caught:
        launch.parse_beam_args(flags)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "needs", "message"),
    [
        (
            [],
            {"accelerator": "nvidia-tesla-t4"},
            "--accelerator: FnApiRunner chooses no machines",
        ),
        ([], {"min_ram": "16GB"}, "--worker_min_ram: FnApiRunner chooses no machines"),
        (CLOUD, {"min_ram": "much"}, "--worker_min_ram is such as 16GB, got 'much'"),
    ],
)
def test_machines_are_asked_for_where_there_is_a_choice(flags, needs, message):
    needs = {"hold_model": True, "accelerator": None, "min_ram": None} | needs
    with pytest.raises(OptionError) as caught:
        dataflow.machines(launch.parse_beam_args(flags), **needs)
    assert message in str(caught.value)


def test_an_accelerator_may_be_told_in_full():
    hint = "type:nvidia-l4;count:2;install-nvidia-driver:5xx"
    options = launch.parse_beam_args(CLOUD)
    needs = dataflow.machines(options, hold_model=True, accelerator=hint, min_ram=None)
    assert needs.hints == {"accelerator": hint}


@pytest.mark.parametrize(
    ("main", "flags", "named"),
    [
        (
            build_dataset.main,
            ["--annotations=a.json", "--images=pictures", "--out=records"],
            "--images=pictures, --out=records",
        ),
        (
            infer.main,
            [
                *("--annotations=a.json", "--images=pictures", "--out=gs://b/out"),
                *(
                    "--model=center_net_deepmac_512x512_voc_only",
                    "--checkpoint=/ckpt-1",
                ),
            ],
            "--images=pictures, --checkpoint=/ckpt-1",
        ),
        (
            evaluate.main,
            ["--ground_truth=a.json", "--predictions=dt.json", "--out=results"],
            "--out=results",
        ),
    ],
)
def test_places_that_workers_do_not_see_are_refused(main, flags, named, capsys):
    assert main([*flags, *CLOUD]) == 2
    error = capsys.readouterr().err
    assert (
        f"the workers of DataflowRunner do not see the files of this machine: {named}; name "
        f"places on gs://"
    ) in error


def test_an_evaluation_waits_for_its_figures(storage, capsys):
    flags = [
        "--ground_truth=a.json",
        "--predictions=gs://bucket/dt",
        "--out=gs://bucket/out",
    ]
    assert evaluate.main([*flags, *CLOUD, "--no_wait_until_finish"]) == 2
    assert "makes the figures in the end" in capsys.readouterr().err


def label(dataset, out, *flags):
    return infer.main([*dataset.flags, f"--out={out}", *flags])


def test_a_model_that_workers_alone_have_gives_the_same_directory(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(fussy_predictor.__file__).parent))
    dataset = SmallDataset(tmp_path / "data").write()
    fussy = "--model=fussy_predictor:FussyPredictor"
    assert label(dataset, tmp_path / "here", fussy) == 0
    opened = []
    monkeypatch.setattr(label_checks, "open_shared", lambda *args: opened.append(args))
    assert label(dataset, tmp_path / "there", fussy, "--model_on_workers") == 0
    assert not opened
    for name in ("manifest.json", "predictions-00000-of-00003.jsonl.gz"):
        here, there = (tmp_path / d / name for d in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()


def test_units_of_different_models_make_no_whole(tmp_path, capsys):
    dataset = SmallDataset(tmp_path / "data").write()
    fussy = "--model=fussy_predictor:FussyPredictor"
    out = tmp_path / "out"
    assert label(dataset, out, fussy, "--model_on_workers") == 0
    # As if a container with other weights had done this one.
    record = out / "units" / "predictions-00001-of-00003.json"
    record.write_text(record.read_text().replace('"fussy"', '"fuzzy"'))
    assert label(dataset, out, fussy, "--model_on_workers") == 2
    error = capsys.readouterr().err
    assert "was made with model fingerprint fuzzy, others with fussy" in error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model=/opt/m", "--precision=auto"],
            "--precision=auto is tried out on this",
        ),
        (
            ["--model=opt/m"],
            "--model=opt/m: with --model_on_workers a path begins with /",
        ),
        (
            ["--model=center_net_deepmac_tiny", "--checkpoint=some/ckpt-1"],
            "--checkpoint=some/ckpt-1: with --model_on_workers a path begins with /",
        ),
    ],
)
def test_a_model_on_workers_is_named_as_they_see_it(tmp_path, capsys, flags, message):
    dataset = SmallDataset(tmp_path / "data").write()
    assert label(dataset, tmp_path / "out", "--model_on_workers", *flags) == 2
    assert message in capsys.readouterr().err


def test_a_model_that_cannot_do_it_is_found_out_by_the_workers(tmp_path, capsys):
    dataset = SmallDataset(tmp_path / "data").write()
    flags = ["--model=fussy_predictor:FussyPredictor", "--boxes=detect"]
    assert label(dataset, tmp_path / "out", "--model_on_workers", *flags) == 2
    assert "has no detector of its own; use --boxes=given" in capsys.readouterr().err


@pytest.fixture
def data(tmp_path, storage):
    """Flags of a small set whose images are in the bucket."""
    dataset = SmallDataset(tmp_path / "data").write()
    images = storage.upload(tmp_path / "data" / "images", "images")
    return [f"--annotations={dataset.path}", f"--images={images}"]


def test_a_command_describes_its_job_and_leaves_it_to_be_done(
    described, storage, tmp_path, data, capsys
):
    flags = [*data, "--out=gs://bucket/masks", "--model=box"]
    job = described(lambda f: infer.main([*flags, *f]), "--worker_min_ram=8GB")
    assert "the description of the job; nothing was run" in capsys.readouterr().out
    assert job.hints().pop("Do unit") == {"min_ram_bytes": "8000000000"}
    assert_travels_well(job, tmp_path)
    assert "masks/manifest.json" not in storage.names("masks/")
    # Nothing but the plan was made; any other runner goes on from there.
    assert infer.main(flags) == 0
    assert "masks/manifest.json" in storage.names("masks/")


def test_commands_that_build_and_evaluate_describe_theirs_too(
    described, storage, tmp_path, data
):
    build = [*data, "--out=gs://bucket/records", "--split=all", "--num_shards=3"]
    job = described(lambda f: build_dataset.main([*build, *f]))
    assert "Do unit" in job.pickles()
    assert_travels_well(job, tmp_path)
    for name in storage.names("tmp/"):
        storage.remove(name)
    results = tmp_path / "results.json"
    results.write_text(
        '[{"image_id": 100, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}]'
    )
    figures = [
        *(data[0].replace("annotations", "ground_truth", 1), "--iou_type=bbox"),
        *(f"--predictions={results}", "--out=gs://bucket/figures", "--no_report"),
    ]
    job = described(lambda f: evaluate.main([*figures, *f]))
    assert "Evaluate (bbox)/Match" in job.pickles()
    assert_travels_well(job, tmp_path, given=str(results))  # for the errors of its rows


def test_a_launcher_says_where_its_job_is_and_may_leave_it(capsys):
    class Result:
        def job_id(self):
            return "2026-11-27_01"

    waiting = launch.parse_beam_args(CLOUD)
    dataflow.announce(waiting, Result())
    assert (
        "Dataflow job 2026-11-27_01: it goes on when this launcher is stopped; `gcloud dataflow "
        "jobs cancel 2026-11-27_01 --project=my-project --region=europe-west4` stops it"
    ) in capsys.readouterr().err
    dataflow.leave(waiting)
    leaving = launch.parse_beam_args([*CLOUD, "--no_wait_until_finish"])
    assert dataflow.is_left_alone(leaving)
    with pytest.raises(click.exceptions.Exit) as left:
        dataflow.leave(leaving)
    assert left.value.exit_code == 0
    said = "when the job has ended, the same command gathers what it has done\n"
    assert capsys.readouterr().out == said
