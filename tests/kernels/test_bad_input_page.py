"""docs/bad_input.md names a test for every kind, and that test is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"\| .* \| `([\w/]+\.py)`: `(.+)` \|")


def test_every_kind_of_bad_input_names_a_test_that_is_there():
    lines = (ROOT / "docs" / "bad_input.md").read_text().splitlines()
    rows = [
        x for x in lines if x.startswith("| ") and not x.startswith(("| kind", "|---"))
    ]
    assert len(rows) >= 40
    for row in rows:
        match = ROW.fullmatch(row)
        assert match, row
        path, case = match.groups()
        assert case in (ROOT / "tests" / path).read_text(), row
