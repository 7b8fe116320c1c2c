"""The report as text: what is on it, that it needs nothing else, and that it trusts no name."""

import base64
import hashlib
import re
from xml.etree import ElementTree

import coco_cases
import numpy as np
import pytest
from coco_reference import run_ours
from html_outline import Outline

from deepmac.evaluation.distributions import reliability
from deepmac.evaluation.parameters import AreaRange, Parameters
from deepmac.evaluation.report import metrics
from deepmac.evaluation_page.cards import Card, DrawnGallery, NotShown
from deepmac.evaluation_page.page import Produced, render_report
from deepmac.match_picture import draw_match

NASTY = "</script><script>alert(1)</script>\"'&{}"
PRODUCED = Produced(
    "gt.json", "b/dt.json", "deepmac evaluate", [("deepmac", "1")], [("seen", "cat")]
)


def mask_of(rows, cols, size=60) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[rows, cols] = True
    return mask


LEFT, RIGHT = (
    mask_of(slice(20, 40), slice(10, 30)),
    mask_of(slice(20, 40), slice(20, 40)),
)
PICTURE = draw_match(np.zeros((60, 60, 3), np.uint8), LEFT, RIGHT)


class Page(Outline):
    """The tags of a report, balanced, and its texts."""

    def __init__(self, html: str):
        super().__init__()
        self.html = html
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in ("br",):
            super().handle_starttag(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        pass  # marks of charts


def render(evaluations, groups=None, change=None, **more) -> Page:
    groups = groups or {}
    document = metrics(evaluations, groups, range(1000))
    if change:
        change(document)
    given = {"galleries": {}} | more
    return Page(render_report(document, evaluations, groups, PRODUCED, **given))


def mixed(*kinds, for_given_boxes=False):
    case = coco_cases.mixed()
    for number, result in enumerate(case.results if for_given_boxes else ()):
        result["annotation_id"] = number % 30 + 1
    return {kind: run_ours(case.of_type(kind)) for kind in kinds or ("segm",)}


def ids(evaluations):
    return next(iter(evaluations.values())).scope.category_ids


@pytest.mark.parametrize("name", coco_cases.CASES)
def test_every_case_has_a_page(name):
    case = coco_cases.CASES[name]()
    kinds = {kind: run_ours(case.of_type(kind)) for kind in ("segm", "bbox")}
    page = render(kinds)
    assert ("h2", "Masks") in page.texts
    assert ("h2", "Boxes") in page.texts
    assert "nan" not in page.html


def test_figures_stand_as_they_are():
    evaluations = mixed()
    page = render(evaluations, {"seen": ids(evaluations)[:1]})
    stats = evaluations["segm"].stats
    assert ("td", f"{stats['AP50']:.3f}") in page.texts
    names = [text for tag, text in page.texts if tag == "button"]
    assert names[:3] == ["category", "groups", "objects"]


def test_intervals_stand_beside_their_figures_and_as_whiskers():
    def change(document):
        document["bootstrap"] = {"draws": 1000, "seed": 7, "interval": 0.95}
        document["segm"]["intervals"] = {"AP": [0.25, 0.375]}

    page = render(mixed(), change=change)
    assert ("small", "[0.250, 0.375]") in page.texts
    assert page.html.count("<small>") == 1
    assert len(re.findall('<line class="axis"', page.html)) == 3
    assert ("td", "1,000 bootstrap draws of the images, seed 7") in page.texts
    assert "95% intervals" in page.html


def test_intervals_are_shown_cut_at_0_and_1():
    def change(document):
        document["bootstrap"] = {"draws": 1000, "seed": 7, "interval": 0.95}
        document["segm"]["intervals"] = {"AP": [-0.125, 1.25]}

    page = render(mixed(), change=change)
    assert ("small", "[0.000, 1.000]") in page.texts
    assert "cut at 0 and 1" in page.html
    ends = re.findall(
        '<line class="axis" x1="([^"]*)" y1="[^"]*" x2="([^"]*)"', page.html
    )
    # From the first tick of the axis to its last.
    assert ends[0] == ("86.0", "308.0")


def test_the_page_says_what_it_is_of():
    page = render(mixed())
    assert ("title", "b/dt.json on gt.json: evaluation") in page.texts
    assert "<b>b/dt.json</b> against <b>gt.json</b>" in page.html


def test_bins_of_few_detections_have_no_point():
    scene = coco_cases.Scene()
    for number in range(9):
        box = (30 * (number % 3), 30 * (number // 3), 20, 20)
        scene.object(box).found(box, 0.9 if number < 5 else 0.1)
    evaluations = {"segm": run_ours(scene.case())}
    assert reliability(evaluations["segm"]).number[[1, 9]].tolist() == [4, 5]
    page = render(evaluations)
    assert page.html.count("<circle") == 1
    assert "Bins of fewer than 5 detections have no point." in page.html


def test_four_charts_stand_by_two():
    page = render(mixed(for_given_boxes=True))
    assert page.html.count("<div class='charts by-two'>") == 2  # bars, IoU
    assert "by-two'>" not in render(mixed()).html


def test_figures_at_given_boxes_by_size_have_a_chart_and_columns():
    def change(document):
        sizes = {"small": 0.25, "medium": 0.5, "large": None}
        document["segm"]["mean_iou_at_gt_boxes_by_size"] = sizes
        document["segm"]["intervals"] = {"mean_iou_at_gt_boxes_small": [0.125, 0.375]}
        document["segm"]["ap_at_gt_boxes"] = 0.625
        for row in document["segm"]["per_category"]:
            row["mean_iou_at_gt_boxes_by_size"] = sizes

    page = render(mixed(for_given_boxes=True), change=change)
    assert "all, small: 0.250; all, medium: 0.500" in page.html
    assert ("text", "none") in page.texts  # of the large ones
    assert ("th", "IoU, medium") in page.texts
    assert ("td", "objects of 32² to 96² pixels") in page.texts
    assert ("button", "IoU large") in page.texts
    assert ("td", "0.625") in page.texts
    assert ("small", "[0.125, 0.375]") in page.texts


def test_nothing_is_fetched_and_only_what_is_there_runs():
    page = render(mixed("segm", "bbox"))
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page.html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        inner = re.findall(f"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)
        assert len(inner) == 1
        digest = base64.b64encode(hashlib.sha256(inner[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert " style=" not in page.html
    addresses = set(re.findall(r"https?://[^\"' ]+", page.html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, in the script


def test_charts_are_well_formed_and_say_what_they_show():
    page = render(
        mixed(), {"a&b": [1]} if 1 in ids(mixed()) else {"a&b": ids(mixed())[:1]}
    )
    charts = re.findall("<svg.*?</svg>", page.html, re.DOTALL)
    assert len(charts) >= 9
    for chart in charts:
        assert ElementTree.fromstring(chart).get("aria-label")


def test_more_groups_than_colours_are_all_in_the_tables_and_the_bars():
    evaluations = mixed()
    one = ids(evaluations)[:1]
    page = render(evaluations, {f"group {i}": one for i in range(20)})
    assert ("th", "group 19") in page.texts
    assert ("span", "and 13 more groups, in the tables and as bars") in page.texts
    assert "var(--c7)" in page.html
    assert "var(--c8)" not in page.html
    figures = sum(
        f"<b>{key}</b> average" in page.html for key in ("AP", "AP50", "AP75")
    )
    assert page.html.count('fill="var(--others)"') == 13 * figures > 0
    # As many rows as groups, not as many columns.
    table = page.html.partition("<table class='headline groups'>")[2]
    table = table.partition("</table>")[0]
    assert table.count("<tr>") == 1 + 1 + 20
    assert "Lines: the first 4 groups." in page.html


def test_an_evaluation_without_categories_has_no_table_of_them():
    case = coco_cases.CASES["without_categories"]()
    page = render({"segm": run_ours(case)})
    assert "<table class=sortable" not in page.html
    assert "<select" not in page.html


# Pictures.


def card(**changes) -> Card:
    given = {
        "picture": PICTURE,
        "image_id": 7,
        "file_name": "a.jpg",
        "annotation_id": 70,
        "category": "cat",
        "predicted": "cat",
        "score": 0.25,
        "iou": 0.5,
    }
    return Card(**given | changes)


def gallery(*cards, name="worst"):
    return {"segm": [DrawnGallery(name, 1000, cards)]}


def test_a_card_has_its_figures_ids_and_three_views_of_one_picture():
    page = render(mixed(), galleries=gallery(card()))
    assert ("b", "cat") in page.texts
    assert ("span", "IoU 0.50, score 0.25") in page.texts
    assert ("span", "image 7, annotation 70") in page.texts
    assert ("span", "1 of 1,000 matches") in page.texts
    data = base64.b64encode(PICTURE.jpeg).decode()
    assert page.html.count(data) == 1
    assert page.html.count('<use href="#segm-worst-0"/>') == 2
    assert 'aria-label="difference: cat in image 7"' in page.html


def test_what_is_missing_or_mistaken_is_said():
    cards = [
        card(predicted=None, score=None, iou=None, remark="missed"),
        card(predicted="dog"),
        card(category=None, annotation_id=None, iou=None, remark="nothing there"),
    ]
    page = render(mixed(), galleries=gallery(*cards))
    titles = [text for tag, text in page.texts if tag == "b"]
    assert titles[-3:] == [
        "cat (missed)",
        "cat, predicted as dog",
        "cat (nothing there)",
    ]


def test_text_of_users_stays_text():
    evaluations = mixed()
    first = ids(evaluations)[0]
    evaluations["segm"].scope.category_names[first] = NASTY

    def change(document):
        document["warnings"] = [NASTY]

    nasty = card(
        category=NASTY,
        predicted="x" + NASTY,
        file_name=NASTY,
        image_id=NASTY,
        annotation_id=NASTY,
    )
    page = render(
        evaluations,
        {NASTY: [first]},
        change,
        galleries=gallery(nasty),
        not_shown=[NotShown(NASTY, 1, NASTY)],
        note=NASTY,
    )
    assert page.html.count("<script>") == 1
    for tag in ("th", "option", "li"):
        assert (tag, NASTY) in page.texts
    assert ("b", f"{NASTY}, predicted as x{NASTY}") in page.texts
    assert ("li", f"image {NASTY} (1): {NASTY}") in page.texts


def test_what_cannot_be_shown_is_named_with_its_image_and_why():
    lost = [
        NotShown(7, 2, "b.jpg: no such file"),
        NotShown(8, 1, "?"),
        NotShown(8, 3, "!"),
    ]
    page = render(mixed(), not_shown=lost)
    assert ("h3", "Not shown: 6 that were chosen, of 2 images") in page.texts
    assert ("li", "image 7 (2): b.jpg: no such file") in page.texts


def test_without_pictures_the_page_says_why():
    page = render(mixed(), note="give --images DIR")
    assert ("p", "give --images DIR") in page.texts


def areas(*paths: str) -> list[float]:
    """Of the outlines of SVG paths, by the shoelace formula; holes not counted apart."""
    found = []
    for path in paths:
        total = 0.0
        for loop in filter(None, path.replace("M", "").split("Z")):
            x, y = np.array([p.split(",") for p in loop.split()], float).T
            total += abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
        found.append(total)
    return found


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        (LEFT, RIGHT),
        (np.array([20.0, 10, 40, 30]), np.array([20.0, 20, 40, 40])),  # as boxes
    ],
)
def test_the_three_parts_of_a_match_are_where_they_belong(predicted, truth):
    """Two squares of side 20 share a half: each part is a third of their union."""
    picture = draw_match(np.zeros((60, 60, 3), np.uint8), predicted, truth)
    scale = picture.width / 52  # 10 to 40 with a margin of 12, cut at the left edge
    assert (picture.width, picture.height) == (240, pytest.approx(44 * scale, abs=2))
    parts = areas(picture.both, picture.extra, picture.missed)
    np.testing.assert_allclose(parts, 200 * scale**2, rtol=0.15)  # outlines run inside
    whole = areas(picture.predicted, picture.truth)
    np.testing.assert_allclose(whole, 400 * scale**2, rtol=0.12)


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        (None, None),
        (None, LEFT),
        (mask_of(0, slice(0, 0)), None),
        (np.array([-1e300, -5, 1e300, 20]), LEFT),
        (np.array([70.0, 70, 80, 90]), np.array([0.0, 0, 0, 0])),
    ],
)
def test_odd_shapes_have_pictures(predicted, truth):
    picture = draw_match(np.zeros((60, 60, 3), np.uint8), predicted, truth)
    assert min(picture.width, picture.height) >= 1
    if predicted is None:
        assert picture.predicted == picture.both == picture.extra == ""


def test_the_page_of_5000_images_is_below_15_mb():
    """80 categories in 12 groups, and five galleries of noise, which no JPEG makes small."""
    categories = range(1, 81)
    scene = coco_cases.Scene(images=range(1, 5001), categories=categories, size=32)
    for image in scene.truth["images"]:
        category = image["id"] % 80 + 1
        box = (0, 0, 20, 8 + image["id"] % 12)
        scene.object(box, image["id"], category)
        found = (0, 0, 20, 12)
        scene.found(found, image["id"] % 97 / 97, image["id"], category)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (240, 240, 3), dtype=np.uint8)
    masks = [np.kron(rng.random((15, 15)) < 0.5, np.ones((16, 16), bool)) for _ in "ab"]
    cards = [card(picture=draw_match(pixels, *masks), file_name="x" * 200)] * 12
    names = ("worst", "best", "random", "false", "missed")
    page = render(
        {"segm": run_ours(scene.case())},
        {f"group {g}": [c for c in categories if c % 12 == g] for g in range(12)},
        galleries={"segm": [DrawnGallery(name, 99_999, cards) for name in names]},
        not_shown=[NotShown(i, 1, "y" * 200) for i in range(60)],
    )
    assert page.html.count("<image ") == 60
    assert 3e6 < len(page.html.encode()) < 15e6
    without = re.sub("(?s)<figure class=match>.*?</figure>", "", page.html)
    assert len(without) < 5e5  # nothing else grows with the images


def test_without_a_range_of_all_sizes_the_first_one_is_shown():
    parameters = Parameters(area_ranges=(AreaRange("mine", 0, 900),))
    scene = coco_cases.Scene().object((0, 0, 20, 20)).found((0, 0, 20, 20), 0.9)
    page = render({"segm": run_ours(scene.case(parameters=parameters))})
    assert page.html.count("<b>AP_mine</b> objects of up to 30² pixels") == 1
    assert ("button", "AP_mine") in page.texts
