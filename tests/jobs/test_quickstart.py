"""The quickstart, end to end on a few pictures."""

import contextlib
import dataclasses
import html
import io
import json
import pathlib
import re
import shlex

import cv2
import pytest
from own_modules import importable

from deepmac import cli
from deepmac.commands import command_line, run
from deepmac.errors import DataError, DeepmacError, OptionError
from deepmac.samples.__main__ import command as samples_command
from pipelines import label_work
from pipelines.quickstart import Options, execute

NUM_IMAGES = 2
OWN = """
from deepmac.predictors.yardsticks import BoxByBox, ellipse_mask

def oval():
    return BoxByBox("oval", ellipse_mask)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished quickstart with a predictor of the user's own: options, directory, and what it printed."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "mine.py").write_text(OWN)
    out = folder / "it's here"
    options = Options(out=str(out), num_images=NUM_IMAGES, model="mine:oval")
    with importable(folder):
        yield options, out, _run(options)


def _run(options: Options) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert execute(options, []) == 0
    return said.getvalue()


def figures(out, name):
    return json.loads((out / "metrics" / name / "metrics.json").read_bytes())["segm"]


def test_one_table_holds_the_figures_of_every_predictor(made):
    _, out, printed = made
    rows = {
        words[0]: words[1:]
        for words in map(str.split, printed.splitlines())
        if len(words) == 7 and words[1].startswith("0.")
    }
    assert list(rows) == ["box", "ellipse", "grabcut", "oval"]
    for name, cells in rows.items():
        segm = figures(out, name)
        groups = segm["groups"]["seen"], segm["groups"]["unseen"]
        wanted = [
            segm["mean_iou_at_gt_boxes"],
            *(group["mean_iou_at_gt_boxes"] for group in groups),
            segm["stats"]["AP"],
            *(group["AP"] for group in groups),
        ]
        assert cells == [f"{value:.3f}" for value in wanted]
    assert rows["oval"] == rows["ellipse"]
    assert "the weights that come with it" not in printed


def test_the_page_shows_each_picture_in_every_column(made):
    _, out, _ = made
    page = (out / "index.html").read_text()
    columns = ["boxes", "truth", "box", "ellipse", "grabcut", "oval"]
    assert re.findall(r"<h3>(.*?)</h3>", page) == columns
    paths = [html.unescape(p) for p in re.findall(r'<img src="(.*?)"', page)]
    assert len(paths) == NUM_IMAGES * len(columns)
    for path in paths:
        assert cv2.imread(str(out / path)).shape == (512, 512, 3)
    assert not re.search(r"https?://|<script", page)


def test_the_page_names_commands_that_do_each_step(made):
    _, out, printed = made
    page = (out / "index.html").read_text()
    commands = [html.unescape(c) for c in re.findall(r"<code>(.*?)</code>", page)]
    assert len(commands) == 2 + 2 * 4
    for command in commands:
        assert command in printed
    before = {path: path.read_bytes() for path in out.glob("metrics/*/metrics.json")}
    first, *rest = map(shlex.split, commands)
    assert first[:3] == ["python", "-m", "deepmac.samples"]
    assert run(samples_command, first[3:]) == 0
    for words in rest:
        assert words[0] == "deepmac"
        assert cli.main(words[1:]) == 0
    assert before == {path: path.read_bytes() for path in before}


def test_a_second_run_computes_nothing_again(made, monkeypatch):
    options, out, printed = made
    data = [*out.glob("predictions/*/*.gz"), *out.glob("records/*.tfrecord")]
    assert len(data) > 8
    before = {path: path.stat().st_mtime_ns for path in data}
    monkeypatch.delattr(label_work.LabelWork, "process")
    again = _run(options)
    assert before == {path: path.stat().st_mtime_ns for path in data}
    assert again.splitlines()[:-1] == printed.splitlines()[:-1]  # the last has the time


def test_the_last_row_is_the_network_that_ships(made):
    options, out, _ = made
    printed = _run(Options(out=options.out, num_images=NUM_IMAGES))
    iou = figures(out, "deepmac")["mean_iou_at_gt_boxes"]
    assert re.search(rf"^ deepmac +{iou:.3f} ", printed, re.MULTILINE)
    assert "deepmac is center_net_deepmac_tiny with the weights" in printed
    assert iou > figures(out, "ellipse")["mean_iou_at_gt_boxes"]  # it has learned
    assert "oval" not in printed


def test_other_weights_take_its_place(tmp_path):
    from deepmac.checkpoint.native import save_weights
    from deepmac.predictors.deepmac import load_network

    tiny, out = "center_net_deepmac_tiny", tmp_path / "out"
    weights = tmp_path / "tiny.weights.h5"
    save_weights(load_network(tiny, random_weights=True), str(weights))
    printed = _run(Options(out=str(out), num_images=1, checkpoint=str(weights)))
    iou = figures(out, "deepmac")["mean_iou_at_gt_boxes"]
    assert re.search(rf"^ deepmac +{iou:.3f} ", printed, re.MULTILINE)
    assert "the weights that come with it" not in printed
    assert "<h3>deepmac</h3>" in (out / "index.html").read_text()


def test_half_of_the_categories_keep_their_masks(made):
    _, out, _ = made
    manifest = json.loads((out / "records" / "manifest.json").read_bytes())
    seen = (out / "shapes" / "seen.txt").read_text().split()
    names = {c["id"]: c["name"] for c in manifest["categories"]}
    assert sorted(names[i] for i in manifest["supervised_category_ids"]) == sorted(seen)


def test_a_directory_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"thesis\.tex and no earlier quickstart"):
        execute(Options(out=str(tmp_path)), [])
    with pytest.raises(DataError, match="not a directory"):
        execute(Options(out=str(tmp_path / "thesis.tex")), [])


def test_other_options_in_the_same_directory_are_refused(made):
    options, _, _ = made
    with pytest.raises(DataError, match=rf"num_images={NUM_IMAGES}, asked for 4"):
        execute(Options(out=options.out, num_images=4), [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": "no/ckpt-1"}, "no/ckpt-1"),
        ({"model": "grabcut"}, "in the table anyway"),
        ({"model": "grabcutt"}, "did you mean 'grabcut'"),
        ({"model": "no.such:predictor"}, "cannot import no.such"),
        ({"model": "center_net_deepmac_small"}, "checkpoint"),
        (
            {"model": "center_net_deepmac_tiny", "checkpoint": "/no/such"},
            "/no/such",
        ),
        ({"num_images": 0}, "num_images"),
        ({"seed": -1}, "seed"),
    ],
)
def test_mistakes_are_told_before_any_work(tmp_path, changes, message):
    options = Options(**{"out": str(tmp_path), "num_images": 1, **changes})
    with pytest.raises(DeepmacError, match=message):
        execute(options, [])
    assert {p.name for p in tmp_path.rglob("*")} <= {"quickstart.json"}


def test_a_misspelt_flag_of_beam_is_told_before_any_work(tmp_path):
    with pytest.raises(OptionError, match="did you mean '--direct_num_workers'"):
        execute(Options(out=str(tmp_path / "out")), ["--direct_num_worker=2"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["quickstart.json", "index.html"])
def test_a_full_disk_is_one_error(made, monkeypatch, name):
    write_text = pathlib.Path.write_text

    def full(self, *args, **kwargs):
        if self.name == name:
            raise OSError(28, "No space left on device")
        return write_text(self, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(DataError, match="No space left on device; put that right"):
        execute(dataclasses.replace(made[0], model=None), [])


def test_a_command_line_leaves_out_defaults_and_quotes_the_rest():
    options = Options(out="my set", num_images=20, seed=7)
    assert command_line("deepmac quickstart", options) == (
        "deepmac quickstart '--out=my set' --seed=7"
    )
    assert command_line("deepmac quickstart", Options(), ["--a=b"]) == (
        "deepmac quickstart -- --a=b"
    )
