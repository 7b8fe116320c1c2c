"""docs/evaluation_tutorial.md, run as written, and its outputs."""

import re

import pytest
from pages import ROOT, Block, assert_shown, run_page

PAGE = ROOT / "docs" / "evaluation_tutorial.md"


@pytest.mark.slow
def test_the_tutorial_runs_as_written_and_shows_what_comes(tmp_path):
    shown = 0
    for block, printed in run_page(PAGE, tmp_path):
        assert_shown(block, printed)
        shown += 1
    assert shown >= 12
    assert (tmp_path / "run_b" / "report.html").is_file()


def test_the_conclusion_is_that_of_the_comparison():
    """What the text says in bold is what the output above it says."""
    page = PAGE.read_text()
    assert "B is better on unseen by 0.101 ± 0.022 (IoU at boxes, 95%)" in page
    assert "**Run B is better on unseen categories by 0.101 ± 0.022 mean IoU" in page


def test_every_place_that_the_page_links_to_exists():
    for path, heading in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", PAGE.read_text()):
        linked = PAGE.parent / path
        assert linked.is_file(), path
        if heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert heading in [h.lower().replace(" ", "-") for h in headings]


def test_what_is_not_shown_right_is_noticed():
    printed = "a 1 x\n\nb 0.50 y  \nc\nd\n"
    for notes, shown, is_right in (
        ("", "a 1 x\nb 0.50 y\nc\nd\n", True),
        ("", "a ...\n...\nd\n", True),
        ("", "a 1 x\n...\n", True),
        ("within 0.01", "a 1 x\nb 0.51 y\n...\n", True),
        ("within 0.01", "a 1 x\nb 0.52 y\n...\n", False),
        ("within 0.01", "a 2 x\n...\n", False),  # counts are exact
        ("", "a 1 x\nb 0.51 y\n...\n", False),
        ("", "a 1 x\nc\nd\n", False),  # a line left out without `...`
        ("", "a 1 x\nb 0.50 y\nc\n", False),
        ("", "...\nd\ne\n", False),
    ):
        block = Block("text", notes, shown)
        if is_right:
            assert_shown(block, printed)
        else:
            with pytest.raises(AssertionError):
                assert_shown(block, printed)
