"""`deepmac benchmark`: the published table, with numbers that pycocotools and `evaluate` confirm."""

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small_dataset import SmallDataset

import deepmac
from deepmac.categories import COCO_CATEGORIES, VOC_NAMES
from deepmac.errors import DataError, DeepmacError, OptionError
from pipelines import benchmark, benchmark_plan, benchmark_tables, build_dataset, infer
from pipelines.benchmark import Options, execute
from pipelines.benchmark_tables import PUBLISHED, Published, markdown

ROOT = Path(__file__).resolve().parents[2]
VOC = {c.id for c in COCO_CATEGORIES if c.name in VOC_NAMES}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Paths of COCO annotations, its images, and results that are nearly right."""
    folder = tmp_path_factory.mktemp("coco")
    data = SmallDataset(folder, num_images=6)
    data.annotate(900, 100, 1, {"bbox": [20, 2, 4, 4]} | _square(20))
    data.write()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(data.path)
    results = []
    for n, annotation in enumerate(truth.dataset["annotations"]):
        rle = truth.annToRLE(annotation)
        results.append(
            {
                "image_id": annotation["image_id"],
                "category_id": annotation["category_id"] if n % 5 else 1,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                "score": 1 - n / 50,
            }
        )
    path = folder / "results.json"
    path.write_text(json.dumps(results))
    return data.path, folder / "images", path


def _square(x):
    return {"segmentation": [[x, 2, x + 4, 2, x + 4, 6, x, 6]], "area": 16}


def run(**options):
    """The document of a benchmark that ends well, and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert execute(Options(**options), []) == 0
    document = json.loads((Path(options["out"]) / "benchmark.json").read_text())
    return document, said.getvalue()


def reference(annotations, results, categories=None, images=None):
    """Mask mAP in percent, of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        done = COCOeval(truth, truth.loadRes(str(results)), "segm")
        if categories is not None:
            done.params.catIds = sorted(categories)
        if images is not None:
            done.params.imgIds = images
        done.evaluate()
        done.accumulate()
        done.summarize()
    return 100 * done.stats[0]


def test_the_published_table_stands_in_the_readme_too():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in PUBLISHED:
        facts = row.facts()
        (line,) = re.findall(rf"^\| `{row.config}` \|.*$", readme, re.MULTILINE)
        cells = [cell.strip() for cell in line.split("|")]
        assert cells[2:4] == [str(facts["resolution"]), facts["mask_head"]]
        assert float(cells[6]) == row.mask_map


def test_without_anything_it_says_what_to_give(tmp_path):
    document, said = run(out=str(tmp_path / "out"))
    assert [row["status"] for row in document["rows"]] == ["not run"] * 4
    assert said.count("| not run |") == 4
    assert "--checkpoint 512x512_voc_only=PATH, or --predictions" in said
    assert (tmp_path / "out" / "benchmark.md").read_text() in said


def test_masks_made_before_are_evaluated_on_the_categories_of_their_row(coco, tmp_path):
    annotations, _, results = coco
    options = {"out": str(tmp_path), "annotations": str(annotations)}
    run(predictions=(f"512x512_voc_only={results}",), **options)
    # A second call adds rows; a name may be that of the configuration.
    given = (
        f"center_net_deepmac_1024x1024_non_voc_only={results}",
        f"1024x1024_coco={results}",
    )
    document, said = run(predictions=given, **options)
    rows = {row["row"]: row for row in document["rows"]}
    present = {1, 18, 90}
    for name, categories in (
        ("512x512_voc_only", present - VOC),
        ("1024x1024_non_voc_only", present & VOC),
        ("1024x1024_coco", None),
    ):
        wanted = reference(annotations, results, categories)
        assert rows[name]["ours"] == wanted
        assert f"| {wanted:.1f} (annotations) |" in re.sub(r" \[[^]]*\]", "", said)
    assert len({row.get("ours") for row in rows.values()}) == 4
    assert rows["1024x1024_voc_only"]["status"] == "not run"


def test_the_first_images_alone_are_flagged(coco, tmp_path):
    annotations, _, results = coco
    document, said = run(
        out=str(tmp_path),
        annotations=str(annotations),
        predictions=(f"1024x1024_coco={results}",),
        limit=2,
    )
    row = document["rows"][3]
    assert row["ours"] == reference(annotations, results, images=[100, 101])
    assert (row["limit"], row["images"]) == (2, 2)
    assert "(annotations, first 2 images)" in said


def test_images_without_annotations_give_a_file_for_the_server(coco, tmp_path):
    annotations, _, results = coco
    dataset = json.loads(annotations.read_text())
    del dataset["annotations"]
    test = tmp_path / "image_info_test-dev2017.json"
    test.write_text(json.dumps(dataset))
    masks = tmp_path / "masks"
    document, said = run(
        out=str(tmp_path / "out"),
        annotations=str(test),
        predictions=(f"1024x1024_coco={results}",),
    )
    assert document["rows"][3]["status"] == "results written"
    assert f"Zip {results} and upload it" in said
    label = infer.Options(
        annotations=str(annotations), images=str(coco[1]), model="box", out=str(masks)
    )
    with contextlib.redirect_stdout(io.StringIO()):
        infer.execute(label, [])
    given = {"annotations": str(test), "predictions": (f"1024x1024_coco={masks}",)}
    with pytest.raises(DataError, match="again with --write_coco_results"):
        run(out=str(tmp_path / "out"), **given)
    (masks / "predictions.json").write_bytes(results.read_bytes())
    run(out=str(tmp_path / "out"), **given)
    name = "detections_test-dev2017_deepmac_results.json"
    assert (
        tmp_path / "out" / "1024x1024_coco" / name
    ).read_bytes() == results.read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"checkpoint": ("512=x",)}, "no row '512'; there are 512x512_voc_only, "),
        ({"checkpoint": ("x",)}, "'x' is not ROW=PATH, such as 512x512_voc_only=path"),
        (
            {"checkpoint": ("1024x1024_coco=nowhere",)},
            "--checkpoint 1024x1024_coco=nowhere: ",
        ),
        (
            {"checkpoint": ("1024x1024_coco={tiny}",)},
            "have the backbone hourglass_10, center_net_deepmac_1024x1024_coco has",
        ),
        (
            {"predictions": ("1024x1024_coco=nowhere.json",)},
            "--predictions 1024x1024_coco=nowhere.json: nowhere.json: cannot be read",
        ),
        (
            {"predictions": ("1024x1024_coco={results}",), "annotations": None},
            "nothing to evaluate on",
        ),
        (
            {"predictions": ("1024x1024_coco={results}",) * 2},
            "the row is given twice",
        ),
        ({"row": ("1024x1024_coco",)}, "needs --checkpoint 1024x1024_coco=PATH"),
        ({"limit": 0}, "--limit must be positive"),
        (
            {"set": "shapes", "annotations": None, "limit": 2},
            "--num_images says how many pictures to generate",
        ),
        ({"records": "nowhere"}, "name one input"),
        ({"annotations": None, "images": "x"}, "go together with --annotations"),
        ({"set": "shapes"}, "needs --images to make masks"),
        ({"set": "shapes", "row": ("elipse",)}, "did you mean 'ellipse'"),
        ({"set": "shapes", "checkpoint": ("tiny=x",)}, "no row 'tiny'"),
        ({"set": "shapes", "predictions": ("../x=y",)}, "cannot name a row"),
        (
            {"set": "shapes", "row": ("box",), "images": "{images}"},
            "no seen.txt beside it",
        ),
    ],
    ids=str,
)
def test_mistakes_are_told_before_any_work(coco, tmp_path, options, sentence):
    annotations, images, results = coco
    names = {
        "results": results,
        "images": images,
        "tiny": ROOT / "configs" / "center_net_deepmac_tiny.weights.h5",
    }

    def filled(value):
        if isinstance(value, tuple):
            return tuple(filled(v) for v in value)
        return value.format(**names) if isinstance(value, str) else value

    given = {"annotations": str(annotations)} | {
        k: filled(v) for k, v in options.items()
    }
    out = tmp_path / "out"
    with pytest.raises(DeepmacError, match=sentence):
        execute(Options(out=str(out), **given), [])
    assert not out.exists()


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / "theirs").write_text("")
    with pytest.raises(OptionError, match="holds theirs and no earlier benchmark"):
        execute(Options(out=str(tmp_path)), [])
    run(out=str(tmp_path / "out"))
    with pytest.raises(OptionError, match="holds a benchmark of another set, coco"):
        execute(Options(out=str(tmp_path / "out"), set="shapes", row=("box",)), [])


def test_a_mistake_on_the_command_line_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "deepmac", "benchmark", "--checkpoint", "1024_coco=x"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: the table has no row '1024_coco'; did you mean '1024x1024_coco'?\n"
    )


# The generated pictures.


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The finished benchmark of two pictures: its directory, document, and what it printed."""
    out = tmp_path_factory.mktemp("shapes") / "out"
    document, said = run(
        out=str(out), set="shapes", num_images=2, seed=3, row=("box", "ellipse")
    )
    return out, document, said


def test_the_table_of_the_pictures_holds_what_evaluate_finds(shapes):
    out, document, said = shapes
    assert [row["row"] for row in document["rows"]] == ["box", "ellipse"]
    for row in document["rows"]:
        stored = json.loads((out / row["row"] / "metrics" / "metrics.json").read_text())
        groups = stored["segm"]["groups"]
        cells = [
            re.escape(f"{groups[group][key]:.3f}")
            for key in ("mean_iou_at_gt_boxes", "AP")
            for group in ("seen", "unseen")
        ]
        pattern = rf"^\| {row['row']} \| " + r"( \[\S+ \S+\])? \| ".join(cells)
        assert re.search(pattern, said, re.MULTILINE), said
    assert "On 2 generated pictures, seed 3." in said


def test_masks_of_ones_own_make_a_row(shapes, tmp_path):
    out, document, _ = shapes
    annotations = out / "shapes" / "annotations.json"
    masks = out / "box" / "predictions"
    more, said = run(
        out=str(tmp_path),
        set="shapes",
        annotations=str(annotations),
        predictions=(f"mine={masks}",),
        row=("mine",),
    )
    (row,) = more["rows"]
    first = document["rows"][0]
    assert row["iou_at_boxes"] == first["iou_at_boxes"]
    assert row["AP"] == first["AP"]
    assert "| mine | " in said


def test_python_reads_the_directories_of_the_jobs(shapes, tmp_path):
    out, document, _ = shapes
    folder = out / "shapes"
    masks = out / "ellipse" / "predictions"
    seen = f"@{folder / 'seen.txt'}"
    done = deepmac.evaluate(folder / "annotations.json", masks, seen=seen, draws=0)
    row = document["rows"][1]
    assert done.mean_iou_at_gt_boxes == row["iou_at_boxes"]["all"]
    assert done.groups["seen"]["AP"] == row["AP"]["seen"]
    boxes = deepmac.evaluate(
        folder / "annotations.json", masks, iou_type="bbox", draws=0
    )
    assert boxes.stats["AP50"] > 0.9
    records = tmp_path / "records"
    options = build_dataset.Options(
        annotations=str(folder / "annotations.json"),
        images=str(folder / "images"),
        out=str(records),
        split="all",
        num_shards=1,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        build_dataset.execute(options, [])
    again = deepmac.evaluate(records, masks, seen=seen, draws=0)
    assert again.mean_iou_at_gt_boxes == done.mean_iou_at_gt_boxes
    # Areas in records are float32, which moves no object to another range here.
    assert again.stats == done.stats


@pytest.mark.slow
def test_a_checkpoint_detects_and_segments(shapes, tmp_path, monkeypatch):
    """The tiny network in the place of a published one."""
    row = Published("tiny", "seen", "all", None, 12.3, "val2017")
    for module in (benchmark, benchmark_plan, benchmark_tables):
        monkeypatch.setattr(module, "PUBLISHED", (row,))
    folder = shapes[0] / "shapes"
    options = {
        "out": str(tmp_path / "out"),
        "checkpoint": (f"tiny={ROOT}/configs/center_net_deepmac_tiny.weights.h5",),
        "annotations": str(folder / "annotations.json"),
        "images": str(folder / "images"),
    }
    document, said = run(**options)
    (result,) = document["rows"]
    masks = tmp_path / "out" / "tiny" / "predictions"
    assert (
        result["ours"]
        == 100
        * deepmac.evaluate(folder / "annotations.json", masks, draws=0).stats["AP"]
    )
    assert result["ours"] > 5
    assert "--boxes=detect" in said
    written = {p: p.stat().st_mtime_ns for p in masks.glob("*.jsonl.gz")}
    assert run(**options)[0] == document
    assert written == {p: p.stat().st_mtime_ns for p in masks.glob("*.jsonl.gz")}


def test_cells_of_the_table():
    row = PUBLISHED[3].facts() | {
        "status": "evaluated", "ours": 39.26, "interval": [38.91, 39.6],
        "data": "instances_val2017", "limit": None, "notes": ["one", "one"],
    }  # fmt: skip
    document = {"set": "coco", "rows": [row, row], "notes": []}
    table = markdown(document)
    assert (
        table.count("| 39.4 (test-dev) | 39.3 [38.9, 39.6] (instances_val2017) |") == 2
    )
    assert table.count("one") == 1
    assert np.all([line.count("|") == 7 for line in table.splitlines()[:4]])


def test_rows_of_the_pictures_say_what_they_are_of_where_that_differs():
    def row(name, **changes):
        figures = dict.fromkeys(("seen", "unseen"), 0.5)
        intervals = {g: [-0.25, 0.75] for g in figures}
        return {
            "row": name, "status": "evaluated", "data": "4 pictures", "limit": None,
            "iou_at_boxes": figures, "AP": figures, "notes": [],
            "intervals": {"iou_at_boxes": intervals, "AP": intervals},
        } | changes  # fmt: skip

    def names(*rows):
        table = markdown({"set": "shapes", "rows": rows, "notes": []})
        return [line.split(" | ")[0] for line in table.splitlines()[2:]]

    not_run = {"row": "grabcut", "status": "not run", "notes": []}
    assert names(row("box"), row("mine"), not_run) == ["| box", "| mine", "| grabcut"]
    assert names(row("box"), row("mine", data="annotations", limit=2), not_run) == [
        "| box (4 pictures)",
        "| mine (annotations, first 2 images)",
        "| grabcut",
    ]
    table = markdown({"set": "shapes", "rows": [row("box")], "notes": []})
    assert table.count("0.500 [0.000, 0.750]") == 4
