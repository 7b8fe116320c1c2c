"""Beam's flags: what is unknown is refused, and jobs run where they should."""

import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.io import hadoopfilesystem
from apache_beam.options.pipeline_options import DirectOptions, StandardOptions

from deepmac.data.files import exists
from deepmac.errors import DataError, OptionError
from pipelines import beam_files, build_dataset, launch
from pipelines.launch import parse_beam_args, run_pipeline, telling_why


def runner_of(*args):
    return parse_beam_args(args).view_as(StandardOptions).runner


def test_jobs_run_on_the_local_runner_by_name():
    assert runner_of() == "FnApiRunner"
    assert runner_of("--runner=FlinkRunner") == "FlinkRunner"


@pytest.mark.parametrize(
    ("args", "mode"),
    [
        ([], "in_memory"),
        (["--direct_num_workers=1"], "in_memory"),
        (["--direct_num_workers=2"], "multi_processing"),
        (["--direct_num_workers", "0"], "multi_processing"),
        (
            ["--direct_num_workers=2", "--direct_running_mode=multi_threading"],
            "multi_threading",
        ),
        (["--direct_num_workers=2", "--direct_running_mode", "in_memory"], "in_memory"),
    ],
)
def test_several_workers_are_several_processes_unless_told_otherwise(args, mode):
    assert parse_beam_args(args).view_as(DirectOptions).direct_running_mode == mode


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--direct_num_worker=2"],
            "has an option '--direct_num_worker'; did you mean '--direct_num_workers'?",
        ),
        (
            ["--direct_num_workers=two"],
            "Beam option: argument --direct_num_workers: invalid int",
        ),
        (["--direct_running_mode=fast"], "invalid choice: 'fast'"),
        (["--direct_num_workers=-3"], "--direct_num_workers must be positive, or 0"),
        (["stray"], "has an option 'stray'"),
        (
            ["--num_shard=2"],
            "has an option '--num_shard'; did you mean '--num_shards'?",
        ),
        (
            ["--runner=FlinkRuner"],
            "Beam has no runner 'FlinkRuner'; did you mean 'FlinkRunner'?",
        ),
        (["--runner=xyz"], "Beam has no runner 'xyz'; it has "),
        (["--runner=no.such.Runner"], "--runner=no.such.Runner: No module named 'no'"),
    ],
)
def test_wrong_flags_are_refused_before_any_work(args, message):
    with pytest.raises(OptionError) as caught:
        parse_beam_args(args, build_dataset.Options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_stores_of_beams_know_their_options_before_there_is_a_pipeline(monkeypatch):
    asked = []

    class Client:
        def __init__(self, url, user):
            asked.append((url, user))

        def status(self, path, strict):
            return None

    monkeypatch.setattr(
        hadoopfilesystem, "hdfs", SimpleNamespace(InsecureClient=Client)
    )
    monkeypatch.setattr(beam_files.importlib.util, "find_spec", lambda package: package)
    parse_beam_args(["--hdfs_host=h", "--hdfs_port=9870", "--hdfs_user=me"])
    assert not exists("hdfs://folder/file")
    assert asked == [("http://h:9870", "me")]


@pytest.mark.parametrize(
    "name", ["DaskRunner", "dask", "apache_beam.runners.dask.dask_runner.DaskRunner"]
)
def test_the_dask_runner_is_refused_with_the_reason(name):
    with pytest.raises(OptionError, match="ends DONE with wrong results"):
        parse_beam_args([f"--runner={name}"])


def _raise(error):
    with telling_why("unit x"):
        raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            DataError('a "quoted" reason\nin two lines'),
            'unit x: a "quoted" reason\nin two lines',
        ),
        (
            OSError(28, "No space left on device"),
            "unit x: OSError: [Errno 28] No space",
        ),
        (MemoryError(), "unit x: MemoryError"),
    ],
)
def test_what_the_user_can_mend_comes_through_the_runner_as_one_error(error, message):
    def build(pipeline):
        _ = pipeline | beam.Create([error]) | beam.Map(_raise)

    with pytest.raises(DataError) as caught:
        run_pipeline(parse_beam_args([]), build)
    assert message in str(caught.value)


def test_other_errors_come_through_as_they_are():
    def build(pipeline):
        _ = pipeline | beam.Create([ZeroDivisionError("a bug")]) | beam.Map(_raise)

    with pytest.raises(Exception, match="a bug") as caught:
        run_pipeline(parse_beam_args([]), build)
    assert not isinstance(caught.value, DataError)


def test_an_engine_that_cannot_be_used_is_one_line():
    def build(pipeline):
        _ = pipeline | beam.Create([1])

    # The base class of all engines, which runs nothing.
    name = "apache_beam.runners.runner.PipelineRunner"
    with pytest.raises(DataError) as caught:
        run_pipeline(parse_beam_args([f"--runner={name}"]), build)
    assert f"--runner={name} could not run the job: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="workers watch it on Linux alone")
def test_a_worker_whose_launcher_died_while_it_started_ends():
    # Our own parent stands for a launcher that is not the worker's parent any more.
    worker = [sys.executable, "-m", "pipelines.worker", str(os.getppid())]
    done = subprocess.run(worker, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"process {os.getppid()}, which started this one, has gone\n"


def test_who_interrupts_a_job_does_not_wait_for_its_storage(monkeypatch, capsys):
    exits, answers = [], threading.Event()
    monkeypatch.setattr(launch, "_PATIENCE", 0.05)
    monkeypatch.setattr(launch, "_kill_descendants", lambda process_id: None)
    monkeypatch.setattr(launch.os, "_exit", exits.append)
    with launch.stop_at_once(lambda: str(answers.wait())):
        signal.raise_signal(signal.SIGINT)
    answers.set()
    assert (
        capsys.readouterr().err == "interrupted; the same command goes on from there\n"
    )
    assert exits == [130]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--runner=FlinkRunner", "--flink_job_server_jar=no.jar"],
            r"no\.jar: no such file; mvn dependency:get .*beam-runners-flink-2\.2-job-server",
        ),
        (["--runner=flink", "--flink_master=host:8081"], "needs --environment_type"),
        (
            ["--runner=spark", "--spark_master_url=spark://host:7077"],
            "needs --environment_type",
        ),
        (
            [
                *("--runner=FlinkRunner", "--flink_master=http://host:8081"),
                "--environment_type=EXTERNAL",
            ],
            "needs --environment_config",
        ),
        (
            [
                *("--runner=FlinkRunner", "--flink_master=192.0.2.1:8081"),
                "--environment_type=LOOPBACK",
            ],
            "which other hosts cannot reach",
        ),
        (
            ["--runner=FlinkRunner", "--job_server_java_launcher=no-java"],
            "needs Java, and there is no 'no-java'",
        ),
        (
            ["--runner=PrismRunner", "--prism_location=no-prism"],
            "no-prism: no such file; GOBIN=.* go install",
        ),
    ],
)
def test_what_an_engine_lacks_is_said_before_anything_starts(flags, message):
    java = f"--job_server_java_launcher={sys.executable}"  # anything that is there
    with pytest.raises(OptionError, match=message):
        parse_beam_args([java, *flags])
