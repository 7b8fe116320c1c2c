"""docs/evaluation_tutorial.md, run as written, and its outputs."""

import pytest
from pages import ROOT, assert_shown, run_page

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
