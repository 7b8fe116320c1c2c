"""A set as large as COCO's val2017: 5,000 images, 500,000 detections, every bit as pycocotools has it."""

import json

import numpy as np
import pytest

from benchmarks.evaluation_speed import ARRAYS, KINDS, PYCOCOTOOLS, run
from benchmarks.val_like import write_set
from pipelines.evaluate import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("val")
    write_set(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_set_as_large_as_val2017_equals_pycocotools(kind, folder, capsys):
    truth, results = folder / "annotations.json", folder / "results.json"
    theirs, ours = folder / f"theirs-{kind}.npz", folder / f"ours-{kind}.npz"
    run(PYCOCOTOOLS, truth, results, kind, theirs)
    flags = {
        "ground_truth": truth,
        # The same, as a file and as a directory of units
        "predictions": results if kind == "bbox" else folder / "predictions",
        "iou_type": kind,
        "out": folder / kind,
        "arrays": ours,
        "draws": 0,
    }
    if kind == "segm":
        flags["num_processes"] = 2
    assert main([f"--{name}={value}" for name, value in flags.items()]) == 0
    stats = json.loads((folder / kind / "metrics.json").read_text())[kind]["stats"]
    with np.load(theirs) as a, np.load(ours) as b:
        for name in ARRAYS:
            np.testing.assert_array_equal(a[name], b[name])
        assert list(stats.values())[:12] == a["stats"].tolist()
        assert 0.1 < stats["AP"] < 0.9
