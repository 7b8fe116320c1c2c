"""Streaming JSON: the same values as json.load, and errors that say where."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepmac.data import json_stream
from deepmac.data.json_stream import stream_members
from deepmac.errors import DataError

NUMBERS = st.integers() | st.floats(allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def collect(path):
    """What `stream_members` says, put together again."""
    whole = {}
    for key, index, value in stream_members(str(path)):
        if index is None:
            whole[key] = value
        else:
            assert index == len(whole[key])
            whole[key].append(value)
    return whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    chunk=st.integers(1, 70),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_the_values_are_those_of_json_load(
    tmp_path, monkeypatch, value, chunk, indent, ascii_only
):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "x.json"
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    # json.dumps writes lone surrogates as they are; no file can hold those.
    path.write_text(text, encoding="utf-8", errors="replace")
    assert collect(path) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("chunk", range(1, 12))
def test_numbers_are_whole_wherever_a_chunk_ends(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "x.json"
    text = '{"a": [12, 2.5, -1.25e-7, 3E+2, 40], "b": 1234567, "c": -0.5}'
    path.write_text(text)
    assert collect(path) == json.loads(text)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": [1]}')
    assert collect(path) == {"a": [1]}


ENDS_EARLY = "the file ends too early; is it complete?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds nothing, not a JSON object of images and annotations"),
        ("[1]", "holds a list, not a JSON object of images and annotations"),
        ("7", "holds a value, not a JSON object of images and annotations"),
        ("{", f":1:2: not valid JSON: {ENDS_EARLY}"),
        ('{"a"', f":1:5: not valid JSON: {ENDS_EARLY}"),
        ('{"a": [1, 2', f":1:12: not valid JSON: {ENDS_EARLY}"),
        (
            '{"a": [1\n,\n2 3]}',
            ":3:3: not valid JSON: ',' or ']' belongs here, not '3'",
        ),
        ('{"a" 1}', ":1:6: not valid JSON: ':' belongs here, not '1'"),
        ("{a: 1}", ":1:2: not valid JSON: '\"' belongs here, not 'a'"),
        ('{"a": "x', f":1:7: not valid JSON: {ENDS_EARLY}"),
        ('{"a": {"b', f":1:8: not valid JSON: {ENDS_EARLY}"),
        ('{"a": {"b": ', f":1:13: not valid JSON: {ENDS_EARLY}"),
        ('{"a": [{"b": tru}]}', ":1:14: not valid JSON: Expecting value"),
        ('{"a": [1,]}', ":1:10: not valid JSON: Expecting value"),
        ('{"a": 1} {', ":1:10: not valid JSON: something follows after the end"),
        ('{"a": 1, "a": 2}', ":1:13: not valid JSON: the key 'a' stands there twice"),
        (
            '{"a": ' + "9" * 5000 + "}",
            ":1:7: not valid JSON: a whole number of more digits",
        ),
        ('{"a": ' + "[" * 100_000, "maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_json_is_located(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        collect(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("chunk", [3, 1000])
def test_the_byte_that_is_no_unicode_is_named(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "x.json"
    path.write_bytes('{"a":"é'.encode() + b'gr\xfc"}')
    with pytest.raises(DataError, match="byte 10 is not UTF-8"):
        collect(path)


def test_an_error_far_into_the_file_does_not_read_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK", 100)
    path = tmp_path / "x.json"
    path.write_text('{"a": [x' + " " * 10_000 + "]}")
    reads = []
    read = json_stream._Text._read
    monkeypatch.setattr(
        json_stream._Text, "_read", lambda self, n: (reads.append(n), read(self, n))
    )
    with pytest.raises(DataError, match=":1:8: not valid JSON: Expecting value"):
        collect(path)
    assert len(reads) <= 2


def test_a_packed_file_is_unpacked(tmp_path):
    path = tmp_path / "x.json.gz"
    packed = gzip.compress(b'{"a": [1, 2]}')
    path.write_bytes(packed)
    assert collect(path) == {"a": [1, 2]}
    for damaged in (packed[:-9], b"no gzip", packed[:15] + b"xxxx" + packed[19:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.json\.gz: not a whole gzip file"):
            collect(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nope\.json: cannot be read: No such file"):
        collect(tmp_path / "nope.json")
