"""JSON lines: whatever Python's JSON reads comes back as it was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.errors import DataError
from deepmac.text import short
from pipelines.json_lines import dump_document, dump_line, load_line

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=VALUES)
def test_values_come_back(value):
    line = dump_line(value)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    # As text, because nan is not itself.
    as_text = [json.dumps(v, sort_keys=True) for v in (load_line(line), value)]
    assert as_text[0] == as_text[1]


@pytest.mark.parametrize(
    "value",
    ["gr\udcfc", float("inf"), float("-inf"), 2**80, None, {"a": [None, "\ud800"]}],
)
def test_what_other_json_cannot_hold_comes_back(value):
    assert load_line(dump_line(value)) == value


@pytest.mark.parametrize("value", ["gr\udcfc", 2**80, None, {"a": [None, "\ud800"]}])
def test_documents_hold_it_too(value):
    assert load_line(dump_document(value)) == value


def test_the_order_of_keys_does_not_matter():
    assert dump_line({"b": 1, "a": None}) == dump_line({"a": None, "b": 1})


def test_nesting_without_end_is_one_sentence():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(DataError, match="nested too deeply to be written as JSON"):
        dump_line(value)
    assert short(value) == "a value nested too deeply to be shown"
