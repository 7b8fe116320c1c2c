"""The public archive of the reference, read both ways: for whoever has it.

`DEEPMAC_PUBLIC_ARCHIVE=path/to/deepmac_1024x1024_coco17.tar.gz pytest tests/golden/test_public_archive.py`
(or the directory it was unpacked to) says what it proves. Nobody needs it: the same steps run on a
small archive made here.
"""

import contextlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import saved_models
from public_archive import Findings, examine, find_export, unpack

from deepmac.predictors.deepmac import load_network
from deepmac.samples.scene import compose

GOLDEN = Path(__file__).parent / "full_hg10_roialign"
PUBLIC = os.environ.get("DEEPMAC_PUBLIC_ARCHIVE")
PUBLIC_CONFIG = "center_net_deepmac_1024x1024_coco"


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A generated scene, and boxes of any objects in it."""
    image = compose(np.random.default_rng(3), height, width).image
    corners = np.array([[0.1, 0.1, 0.5, 0.6], [0.3, 0.4, 0.9, 0.8], [0, 0, 1, 1]])
    return image, corners * [height, width, height, width]


@pytest.mark.skipif(
    not PUBLIC, reason="DEEPMAC_PUBLIC_ARCHIVE does not say where the archive is"
)
def test_the_public_archive(tmp_path, capsys):
    assert PUBLIC
    export = find_export(unpack(Path(PUBLIC), tmp_path))
    found = examine(export, PUBLIC_CONFIG, *picture(480, 640))
    with capsys.disabled():
        print(f"\n{PUBLIC}", *found.lines(), sep="\n  ")
    check(found, mask_size=32)


def check(found: Findings, mask_size: int) -> None:
    assert found.misfits == ()
    assert found.kernel in ((1, 3), (3, 3))
    assert not found.checkpoint_differs
    assert found.mask_shape == (mask_size, mask_size)
    assert found.mask_iou > 0.99  # pixels at the threshold may fall to either side
    assert found.mask_distance < 3e-3  # float32, as the recorded masks


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory) -> Path:
    """An archive of that form, of the small recorded network."""
    folder = tmp_path_factory.mktemp("archive")
    model = load_network(GOLDEN / "pipeline.config", checkpoint=GOLDEN / "checkpoint")
    saved_models.save_network(model, folder / "deepmac_small" / "saved_model")
    with tarfile.open(folder / "small.tar.gz", "w:gz") as tar:
        tar.add(folder / "deepmac_small", "deepmac_small")
        tar.add(GOLDEN / "checkpoint", "deepmac_small/checkpoint")
    return folder / "small.tar.gz"


def test_the_same_steps_on_a_small_archive(small_archive, tmp_path):
    export = find_export(unpack(small_archive, tmp_path))
    assert export == tmp_path / "deepmac_small"
    found = examine(export, GOLDEN / "pipeline.config", *picture(60, 90))
    check(found, mask_size=16)
    assert (found.variables, found.parameters, found.kernel) == (242, 648_679, (1, 3))
    assert found.checkpoint_differs is False
    assert found.detection_distance is not None
    assert found.detection_distance < 1e-4
    assert found.same_classes == 1
    text = "\n".join(found.lines())
    assert "embedding heads: 1x3" in text
    assert "boxes: float32 (1, None, 4)" in text
    assert "detection_masks" in text


def test_an_unpacked_archive_is_taken_as_it_is(tmp_path):
    assert unpack(tmp_path, tmp_path / "elsewhere") == tmp_path
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["../outside", "/{}/outside", "link/outside"])
def test_an_archive_writes_nothing_outside(tmp_path, name):
    archive, outside = tmp_path / "bad.tar", tmp_path / "elsewhere"
    outside.mkdir()
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        if name.startswith("link"):
            tar.addfile(link)
        member = tarfile.TarInfo(name.format(str(outside).strip("/")))
        member.size = 3
        tar.addfile(member, io.BytesIO(b"bad"))
    with contextlib.suppress(tarfile.FilterError):  # or put inside: both are safe
        unpack(archive, tmp_path / "in")
    assert not (tmp_path / "outside").exists()
    assert not (outside / "outside").exists()
