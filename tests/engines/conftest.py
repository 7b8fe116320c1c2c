"""The engines, each started once for all of its tests. `make test-engines` fetches them before."""

import os
from collections.abc import Iterator
from pathlib import Path

import engine_files
import pytest
from flink_cluster import FlinkCluster, flink_cluster
from spark_cluster import SparkCluster, spark_cluster


@pytest.fixture(scope="session")
def flink(tmp_path_factory) -> Iterator[FlinkCluster]:
    """One job manager and two hosts, each a task manager of one slot with workers of its own."""
    _need("flink")
    folder = tmp_path_factory.mktemp("flink")
    support = str(Path(engine_files.__file__).parent)  # for steps of tests
    with flink_cluster(folder, environment={"PYTHONPATH": support}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def spark(tmp_path_factory) -> Iterator[SparkCluster]:
    """A master, and a worker of two cores."""
    _need("spark")
    with spark_cluster(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def prism() -> Path:
    """The program."""
    _need("prism")
    return engine_files.prism()


@pytest.fixture
def flags(request) -> list[str]:
    """Beam's flags for the engine that the test's parameter names."""
    match request.param:
        case "two processes":
            return ["--runner=FnApiRunner", "--direct_num_workers=2"]
        case "prism":
            program = request.getfixturevalue("prism")
            return ["--runner=PrismRunner", f"--prism_location={program}"]
        case name:
            cluster = request.getfixturevalue(name)
            hasty = "--job_server_jvm_properties=-XX:TieredStopAtLevel=1"
            return [*cluster.flags, hasty]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Shows what the cluster said when a test on it fails."""
    report = yield
    cluster = item.funcargs.get("flink") if report.failed else None
    if cluster:
        report.sections.append(("Flink's logs", cluster.logs()))
    return report


def _need(name: str) -> None:
    if reason := engine_files.missing(name):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
