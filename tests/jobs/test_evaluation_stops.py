"""An evaluation on Beam whose worker dies ends, as Beam by itself would not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_dataset import SmallDataset

from deepmac.cli import main


def _workers(launcher):
    folders = Path("/proc").glob("[0-9]*")
    words = ["-m", "pipelines.worker", str(launcher)]
    for folder in folders:
        try:
            command = (folder / "cmdline").read_text().split("\0")
        except OSError:  # it has ended
            continue
        if command[1:4] == words:
            yield int(folder.name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_that_dies_ends_the_evaluation(tmp_path, capsys):
    data = SmallDataset(tmp_path / "data", 6).write()
    flags = [*data.flags, "--model=ellipse", f"--out={tmp_path / 'predictions'}"]
    assert main(["label", *flags]) == 0
    command = [
        *(sys.executable, "-m", "deepmac", "evaluate", f"--ground_truth={data.path}"),
        *(f"--predictions={tmp_path / 'predictions'}", f"--out={tmp_path / 'figures'}"),
        *("--", "--direct_num_workers=2"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as launcher:
        try:
            while not (found := list(_workers(launcher.pid))):
                assert launcher.poll() is None
                time.sleep(0.05)
            os.kill(found[0], signal.SIGKILL)
            _, said = launcher.communicate(timeout=60)
        finally:
            launcher.kill()
    assert launcher.returncode == 1
    assert "a worker process died" in said
