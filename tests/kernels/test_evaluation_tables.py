"""The document as CSV, Markdown and tables for the terminal."""

import csv
import io

import coco_cases
import pytest
from coco_reference import run_ours
from rich.console import Console

from deepmac.evaluation.meanings import meaning_of
from deepmac.evaluation.parameters import AreaRange, Parameters
from deepmac.evaluation.report import metrics
from deepmac.evaluation.summary import main_figure
from deepmac.evaluation.tables import (
    Table,
    as_csv,
    as_markdown,
    groups_csv,
    markdown,
    per_category_csv,
    tables,
    tables_of,
    with_interval,
)

NAMES = {1: 'a "b", c', 2: "x|y *z*\n| --- |"}
GROUPS = {"seen": [1], "unseen": [2]}


@pytest.fixture(scope="module")
def document() -> dict:
    """Twelve images, an object of each category in each; some are not found."""
    scene = coco_cases.Scene(images=range(1, 13), categories=(1, 2))
    for image in range(1, 13):
        for category in (1, 2):
            box = (60 * (category - 1), 0, 20 + image, 20)
            scene.object(box, image, category)
            if image > category:
                given = len(scene.truth["annotations"])
                box = (*box[:3], 8 + image)
                scene.found(box, image / 20, image, category, annotation_id=given)
    case = scene.case()
    for category in case.truth["categories"]:
        category["name"] = NAMES[category["id"]]
    evaluation = run_ours(case)
    ids = [a["id"] for a in case.truth["annotations"]]
    return metrics({"segm": evaluation}, GROUPS, ids, num_draws=40)


def rows(data: bytes) -> list[dict[str, str]]:
    assert b"\r" not in data
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_the_csv_of_categories_says_what_the_document_says(document):
    table = rows(per_category_csv(document, ["segm"]))
    assert [r["name"] for r in table] == list(NAMES.values())
    for row, stored in zip(table, document["segm"]["per_category"], strict=True):
        assert (row["kind"], row["id"]) == ("segm", str(stored["id"]))
        assert row["groups"] == ";".join(stored["groups"])
        assert int(row["annotations"]) == stored["annotations"] == 12
        assert float(row["AP"]) == stored["AP"]
        assert row["APl"] == ""  # not -1
        assert float(row["mean_iou_at_gt_boxes"]) == stored["mean_iou_at_gt_boxes"]
        by_size = stored["mean_iou_at_gt_boxes_by_size"]
        assert float(row["mean_iou_at_gt_boxes_small"]) == by_size["small"]
        assert row["mean_iou_at_gt_boxes_large"] == ""


def test_the_csv_of_groups_has_the_ends_of_the_intervals(document):
    table = rows(groups_csv(document, ["segm"]))
    assert [r["group"] for r in table] == ["all", "seen", "unseen"]
    assert [r["categories"] for r in table] == ["2", "1", "1"]
    figures = document["segm"]
    everything = table[0]
    assert float(everything["AP"]) == figures["stats"]["AP"]
    low, high = figures["intervals"]["AP"]
    assert (float(everything["AP_low"]), float(everything["AP_high"])) == (low, high)
    assert low < figures["stats"]["AP"] < high
    unseen = figures["groups"]["unseen"]
    assert float(table[2]["AR10_high"]) == unseen["intervals"]["AR10"][1]
    assert float(table[2]["ap_at_gt_boxes"]) == unseen["AP"]
    for name in ("ap_at_gt_boxes", "mean_iou_at_gt_boxes_small"):
        ends = [float(table[2][f"{name}_{end}"]) for end in ("low", "high")]
        assert ends == list(unseen["intervals"][name])


def test_markdown_has_as_many_cells_in_each_row(document):
    page = markdown(document, ["segm"])
    assert page.startswith("# Evaluation\n\n## Masks: 12 images, 24 annotations, 21 ")
    lines = [line for line in page.splitlines() if line.startswith("|")]
    widths = [line.replace("\\|", "").count("|") for line in lines]
    assert set(widths) == {6, 11}  # the headline's, the categories'
    assert 'a "b", c' in page
    assert "x\\|y \\*z\\*\\n\\| --- \\|" in page.replace("\\\\n", "\\n")
    assert "## Warnings" in page  # annotations without a prediction


def test_the_terminal_shows_intervals_and_the_oracle_by_size(document):
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(tables(document, "segm"))
    text = console.export_text()
    ap = with_interval(
        document["segm"]["stats"]["AP"], document["segm"]["intervals"]["AP"]
    )
    assert any(line.split()[:4] == ["AP", *ap.split()] for line in text.splitlines())
    assert "IoU at boxes" in text
    intervals = document["segm"]["intervals"]
    for key, name in (
        ("mean_iou_at_gt_boxes_small", ["IoU,", "small"]),
        ("ap_at_gt_boxes", ["AP", "at", "boxes"]),
    ):
        (line,) = [
            x.split() for x in text.splitlines() if x.split()[: len(name)] == name
        ]
        low, high = intervals[key]
        assert line[len(name) + 1 : len(name) + 3] == ["±", f"{(high - low) / 2:.3f}"]
    assert "95% of 40 draws" in text
    assert "AP is that of the masks, given the true boxes" in text


def test_many_groups_become_rows(document):
    figures = document["segm"]
    more = figures["groups"] | dict.fromkeys(("p", "q", "r"), figures["groups"]["seen"])
    many = document | {"segm": figures | {"groups": more}}
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(tables(many, "segm"))
    lines = console.export_text().splitlines()
    assert any(line.split() == ["all", "seen", "unseen"] for line in lines)
    for name in ("p", "q", "r"):
        assert sum(line.split()[:2] == [name, "1"] for line in lines) == 1


def test_a_cut_interval_is_told_below(document):
    figures = document["segm"]
    cut = figures | {"intervals": {"AP": (-0.125, 0.5)}}
    text = markdown(document | {"segm": cut}, ["segm"])
    assert "\\[0, 0.500\\]" in text
    assert "In brackets: such an interval, cut at 0 and 1." in text


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ("AP", "average precision, over recall, IoU thresholds and categories"),
        ("AP75", "average precision at IoU 0.75"),
        ("APs", "objects of up to 32² pixels"),
        ("ARm", "objects of 32² to 96² pixels"),
        ("mean_iou_at_gt_boxes_large", "mask IoU, objects of 96² pixels and more"),
        ("AP_mine", "objects of 0.25 to 1,000 pixels"),
        ("AR_tiny", "tiny objects"),
        ("AR_any", "all objects"),
        ("AR1", "average recall, at most 1 detection an image and category"),
        ("AR10", "average recall, at most 10 detections an image and category"),
        ("AP@5", "average precision, at most 5 detections an image and category"),
    ],
)
def test_meanings_in_words(figure, words):
    ranges = {
        "small": (0.0, 1024.0),
        "medium": (1024.0, 9216.0),
        "large": (9216.0, 1e10),
        "mine": (0.25, 1000.0),
        "any": (0.0, None),
    }
    assert meaning_of(figure, ranges) == words


def test_own_ranges_take_the_place_of_what_says_nothing():
    scene = coco_cases.Scene().object((0, 0, 20, 20)).found((0, 0, 20, 20), 0.9)
    case = scene.case(parameters=Parameters(area_ranges=(AreaRange("mine", 0, 900),)))
    evaluation = run_ours(case)
    document = metrics({"segm": evaluation}, {}, [1])
    (warning,) = [w for w in document["warnings"] if "area range" in w]
    assert warning.startswith("no area range is called 'all': as in pycocotools")
    assert warning.endswith("bear its name (mine)")
    assert main_figure(evaluation.parameters) == "AP_mine"
    (_, categories) = tables_of(document, "segm")
    assert categories.columns == ["category", "objects", "AP_mine"]
    assert categories.rows[0][1:] == ["1", "1.000"]


def test_a_cell_that_breaks_the_line_is_quoted():
    assert as_csv([{"a": "x\ny", "b": None}], ("a",)) == b'a,b\n"x\ny",\n'
    assert as_csv([], ("a", "b")) == b"a,b\n"


def test_markdown_by_eye():
    table = Table("T", ["name", "n", ""], [["x", "1", "why"]], notes=True)
    lines = ["### T", "", "| name | n |  |", "| --- | ---: | --- |", "| x | 1 | why |"]
    assert as_markdown(table).splitlines() == lines


def test_figures_as_they_are_shown():
    assert with_interval(0.3521, (0.341, 0.363)) == "0.352 ± 0.011"
    assert with_interval(0.3521, None) == "0.352"
    assert with_interval(None, None) == with_interval(-1, None) == "-"
    assert with_interval(0.052, (-0.1, 0.131)) == "0.052 [0, 0.131]"
    assert with_interval(0.952, (0.9, 1.2)) == "0.952 [0.900, 1]"
    assert with_interval(-0.02, (-0.03, -0.01), sign=True) == "-0.020 ± 0.010"
