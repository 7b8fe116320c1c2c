"""build, label and evaluate on every engine: the same bytes as on one process of one machine."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from deepmac.samples import ShapesPaths, write_shapes
from pipelines import build_dataset, evaluate, infer

pytestmark = [
    pytest.mark.engines,
    # Beam leaves it to the collector to close the pipes of its job servers.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ENGINES = ("two processes", "prism", "flink", "spark")
# Times, hosts and Beam's flags; the page names the command that made it.
OF_THE_RUN = ("run.json", "report.html")
TINY = "center_net_deepmac_tiny"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> ShapesPaths:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes", 12, size=96)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where every engine works in its turn: reports name the paths of what they are about."""
    return tmp_path_factory.mktemp("place") / "out"


@pytest.fixture(scope="module")
def local(shapes, place) -> dict[str, bytes]:
    """What one process makes of them."""
    return chain(shapes, place, "ellipse", [])


@pytest.mark.parametrize("flags", ENGINES, indirect=True)
def test_every_engine_writes_the_same_bytes(shapes, place, local, flags, capsys):
    assert_equal(chain(shapes, place, "ellipse", flags), local)


def test_the_whole_chain_with_a_network_on_flink(shapes, place, flink, capsys):
    there = chain(shapes, place, TINY, flink.flags_of_job_server)
    # A worker of a task manager with one slot computes as one process here does.
    assert_equal(there, chain(shapes, place, TINY, []))


def chain(
    shapes: ShapesPaths, folder: Path, model: str, flags: Sequence[str]
) -> dict[str, bytes]:
    """Records, predictions and figures; returns their files, but for those of the run.

    Args:
        shapes: the input.
        folder: to write to; is empty again afterwards.
        model: of `label`.
        flags: of Beam.
    """
    source = [f"--annotations={shapes.annotations}", f"--images={shapes.images}"]
    records, labels, figures = (folder / n for n in ("records", "labels", "figures"))
    split = ["--split=all", "--num_shards=3"]
    assert build_dataset.main([*source, f"--out={records}", *split, *flags]) == 0
    labelled = [f"--records={records}", f"--out={labels}", f"--model={model}"]
    assert infer.main([*labelled, *flags]) == 0
    compared = [f"--ground_truth={shapes.annotations}", f"--predictions={labels}"]
    both = ["--iou_type=segm", "--iou_type=bbox"]
    assert evaluate.main([*compared, *both, f"--out={figures}", *flags]) == 0
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in OF_THE_RUN
    }
    shutil.rmtree(folder)
    return files


def assert_equal(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert list(found) == list(expected)
    assert "figures/metrics.json" in found
    assert [n for n in found if found[n] != expected[n]] == []
