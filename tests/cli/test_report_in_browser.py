"""The report in a real Chromium: it shows, it sorts, and it asks nobody for anything."""

import re

import cv2
import numpy as np
import pytest
from browser import chromium, open_page
from report_case import NASTY, write_case

from pipelines.evaluate import Options, execute


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of masks and boxes, open in a window of a desktop."""
    chromium()
    folder = tmp_path_factory.mktemp("report")
    case = write_case(folder)
    # A category of the seen ones has got another name.
    case["seen"] = "cat,car,fish"
    options = Options(out=str(folder / "out"), iou_type=("segm", "bbox"), **case)
    assert execute(options, []) == 0
    with open_page(folder / "out" / "report.html") as page:
        page.path = folder / "out" / "report.html"
        yield page
        # Whatever the tests have done there.
        assert page.requests == [page.path.as_uri()]
        assert page.errors == []


def rows(page, column: int, table: int = 0) -> list[str]:
    """The cells of a column from top to bottom."""
    return page.value(
        f"[...document.querySelectorAll('table.sortable')[{table}].tBodies[0].rows]"
        f".map(row => row.cells[{column}].textContent)"
    )


def head(column: int) -> str:
    return f"document.querySelector('table.sortable').tHead.rows[0].cells[{column}]"


def test_it_asks_nobody_and_complains_of_nothing(page):
    page.value("document.fonts.ready.then(() => 1)")
    assert page.requests == [page.path.as_uri()]
    assert page.errors == []


def test_pictures_show(page):
    sizes = page.value(
        """Promise.all([...document.querySelectorAll(".views image")].map(async element => {
          const image = new Image(); image.src = element.getAttribute("href");
          await image.decode();
          return [image.naturalWidth, image.naturalHeight];
        }))"""
    )
    # Five galleries of four, of masks and of boxes, unless there is less to choose from.
    assert len(sizes) >= 30
    assert min(min(size) for size in sizes) > 0
    box = page.value(
        """(() => { const view = document.querySelectorAll(".views svg")[1];
          view.scrollIntoView({block: "center"});
          const {x, y, width, height} = view.getBoundingClientRect();
          return [x, y, width, height].map(Math.round); })()"""
    )
    # The second view has no bytes of its own.
    shot = cv2.imdecode(np.frombuffer(page.picture(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shot is not None
    x, y, width, height = box
    assert shot[y : y + height, x : x + width].std() > 10


def test_every_chart_and_view_says_what_it_shows(page):
    labels = page.value(
        "[...document.querySelectorAll('svg')].map(e => [e.getAttribute('role'), "
        "e.getAttribute('aria-label')])"
    )
    assert len(labels) > 50
    assert all(role == "img" and label.strip() for role, label in labels)


def test_a_click_sorts_numbers_as_numbers_and_what_is_missing_last(page):
    names = page.value(
        f"[...{head(0)}.parentElement.cells].map(cell => cell.textContent)"
    )
    column = names.index("AP")
    assert page.value(f"{head(column)}.getAttribute('aria-sort')") == "none"
    for order, reverse in (("descending", True), ("ascending", False)):
        page.value(f"{head(column)}.querySelector('button').click()")
        assert page.value(f"{head(column)}.getAttribute('aria-sort')") == order
        shown = rows(page, column)
        numbers = [float(text) for text in shown if text != "–"]
        assert len(set(numbers)) > 3
        assert numbers == sorted(numbers, reverse=reverse)
        assert shown[len(numbers) :] == ["–"] * (len(shown) - len(numbers))
    objects = names.index("objects")
    page.value(f"{head(objects)}.querySelector('button').click()")
    counts = [int(text) for text in rows(page, objects)]
    assert counts == sorted(counts, reverse=True)
    assert page.value(f"{head(column)}.getAttribute('aria-sort')") == "none"


def test_the_keyboard_sorts_too(page):
    page.value(f"{head(0)}.querySelector('button').focus()")
    page.press("Enter")
    assert page.value(f"{head(0)}.getAttribute('aria-sort')") == "ascending"
    ours = rows(page, 0)
    assert ours == page.value(f"{ours!r}.sort((a, b) => a.localeCompare(b))")
    page.press(" ")
    assert rows(page, 0) == ours[::-1]


def test_each_table_sorts_alone(page):
    before = rows(page, 0, table=1)
    page.value(f"{head(0)}.querySelector('button').click()")
    assert rows(page, 0, table=1) == before


def test_a_category_s_curves_are_drawn_in_every_panel(page):
    options = page.value(
        "[...document.querySelector('select.curve').options].map(o => o.textContent)"
    )
    assert options[:3] == ["nothing", "seen", "unseen"]
    drawn = page.value(
        """(() => { const select = document.querySelector("select.curve");
          select.value = "1"; select.dispatchEvent(new Event("change"));
          return [...select.closest(".part").querySelectorAll(".chosen polyline")]
            .map(line => line.getAttribute("points")); })()"""
    )
    assert len(drawn) == 3
    # The group is drawn already, to more digits.
    static = page.value(
        """[...document.querySelector(".curves").querySelectorAll(
          "polyline[stroke='var(--c2)']")].map(line => line.getAttribute("points"))"""
    )
    for ours, theirs in zip(drawn, static, strict=True):
        a, b = (np.array(re.split("[ ,]", p), float) for p in (ours, theirs))
        np.testing.assert_allclose(a, b, atol=0.6)  # half a step of 1 / 250, in pixels
    assert (
        page.value(
            """(() => { const select = document.querySelector("select.curve");
          select.value = ""; select.dispatchEvent(new Event("change"));
          return document.querySelectorAll(".chosen polyline").length; })()"""
        )
        == 0
    )


def test_text_of_users_stays_text(page):
    assert NASTY in rows(page, 0)
    assert page.value("document.scripts.length") == 1
    assert page.value("document.querySelectorAll('img').length") == 0


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_in_light_and_dark(page, dark):
    with open_page(page.path, width=390, height=844, dark=dark) as phone:
        assert phone.value("document.documentElement.scrollWidth") <= 390
        colour = phone.value("getComputedStyle(document.body).backgroundColor")
        brightness = np.mean([int(n) for n in re.findall(r"\d+", colour)[:3]])
        assert (brightness < 60) == dark
        assert phone.errors == []


def test_the_policy_of_the_page_forbids_what_is_elsewhere(page):
    """Tried for real: a picture, a script, and the handler of an event."""
    with open_page(page.path) as other:
        denied, bad = other.value(
            """new Promise(resolve => {
          const denied = [];
          document.addEventListener("securitypolicyviolation", event => {
            denied.push(event.effectiveDirective);
            if (denied.length === 3) resolve([denied.sort(), typeof window.bad]);
          });
          const image = new Image(); image.src = "picture.png"; document.body.append(image);
          const script = document.createElement("script"); script.textContent = "window.bad = 1";
          document.body.append(script);
          document.body.setAttribute("onclick", "window.bad = 1"); document.body.click();
          document.body.removeAttribute("onclick"); image.remove(); script.remove();
        })"""
        )
    assert denied == ["img-src", "script-src-attr", "script-src-elem"]
    assert bad == "undefined"
