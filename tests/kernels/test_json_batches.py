"""Batches of JSON objects: what `json.loads` gives, wherever the piece ends, or nothing."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.data.json_batches import has_long_number, take_objects

# Texts that look like borders, escapes, halves of surrogate pairs, characters of 1 to 4 bytes.
TEXTS = st.text(st.sampled_from('{}[], "\\:a\nü€😀\ud83d')) | st.text(max_size=3)
NUMBERS = st.integers() | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=3)
FORMS = st.sampled_from(
    [{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]
)


def bytes_of(value, **form):
    return json.dumps(value, **form).encode("utf-8", "replace")


@given(
    elements=st.lists(OBJECTS, min_size=2, max_size=6) | st.lists(VALUES, min_size=1),
    after=st.sampled_from(["]", ']}, {"a": [{}, {}', "] , {}", ",", "] nonsense, {"]),
    form=FORMS,
    data=st.data(),
)
def test_a_batch_is_a_beginning_of_the_list(elements, after, form, data):
    written = bytes_of(elements, **form)
    elements = json.loads(written)
    body = written[1:-1].strip()
    piece = body + after.encode()
    piece = piece[: data.draw(st.integers(0, len(piece)))]
    batch = take_objects(piece)
    if batch is None:
        return
    taken = len(batch.values)
    assert repr(batch.values) == repr(elements[:taken])
    assert [repr(json.loads(text)) for text in batch.texts()] == [
        *map(repr, batch.values)
    ]
    # What follows is the rest of the list, without the comma.
    assert repr(json.loads(b"[" + body[batch.end :] + b"]")) == repr(elements[taken:])


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**59), 2**59) | st.sampled_from("ab{"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.just("k"), inner, max_size=1)
    ),
)


@given(elements=st.lists(st.dictionaries(st.just("a"), PLAIN), min_size=2), form=FORMS)
def test_all_but_the_last_are_taken_where_nothing_is_in_doubt(elements, form):
    written = bytes_of(elements, **form)
    if len(re.findall(rb"\}\s*,\s*\{", written)) == len(elements) - 1:
        batch = take_objects(written[1:].lstrip())
        assert batch
        assert batch.values == elements[:-1]


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        b'{"a": 1}',
        b'{"a": 1}]',
        b'{"a": NaN}, {"a": 2}, {',
        b'{"a": 1e400}, {"a": 2}, {',
        b'{"a": "\\ud83d"}, {"a": 2}, {',
        b'{"a": "\xed\xa0\x80"}, {"a": 2}, {',
        b'{"a": 18446744073709551616}, {"a": 2}, {',
        b'{"a": -9223372036854775809}, {"a": 2}, {',
        b'{"a": "}, {"}, {"a": 2}, {',  # a border too many
        b'{"a": [{}, {}]}, {"a": 2}, {',
        b'{"a": "}, {"}, 1, {"a": "x"}, {',  # one too many, one too few
        b'1, {"a": 1}, {"a": 2}, {',
        b'{"a": 1}], "b": [{"a": 1}, {',
        b'{"a": 1}} , {"a": 2}, {',
        b'{"a": 1}\x0b, {"a": 2}, {"b": 3}, {',
    ],
)
def test_what_is_in_doubt_is_left_alone(piece):
    assert take_objects(piece) is None


def test_the_texts_are_without_the_white_space_around_them():
    piece = b'{"a": 1}\n ,\t{ "a": [2] } , {"a": "cut'
    batch = take_objects(piece)
    assert batch
    assert batch.values == [{"a": 1}, {"a": [2]}]
    assert batch.texts() == [b'{"a": 1}', b'{ "a": [2] }']
    assert batch.end == piece.index(b'{"a": "cut')


@given(
    parts=st.lists(st.integers(0, 24).map(lambda n: b"7" * n) | st.binary(max_size=3))
)
def test_long_numbers_are_found(parts):
    data = b"".join(parts)
    begins = rb"(?:^|[\[:, \t\r\n-])[0-9]{19}"
    assert has_long_number(data) == bool(re.search(begins, data))


@pytest.mark.parametrize("before", range(8))
@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize("digits", [18, 19, 20])
def test_long_numbers_are_found_wherever_they_stand(before, after, digits):
    data = b"," * before + b"1" * digits + b"}" * after
    assert has_long_number(data) == (digits >= 19)
