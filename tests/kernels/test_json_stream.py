"""Streaming JSON: the same values as json.load, and errors that say where."""

import contextlib
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepmac.data import json_stream
from deepmac.data.json_stream import stream_members, stream_parts
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


OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=3), max_size=6)
CHUNKS = st.integers(1, 70) | st.integers(70, 700)


@contextlib.contextmanager
def pieces_of(num_bytes, window=None):
    """Lets the file be read in small pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", num_bytes)
        patch.setattr(json_stream, "_WINDOW", window or num_bytes)
        yield


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
    value=st.dictionaries(st.text(max_size=4), VALUES | OBJECTS, max_size=4),
    chunk=CHUNKS,
    window=st.integers(1, 70),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_the_values_are_those_of_json_load(
    tmp_path, value, chunk, window, indent, ascii_only
):
    path = tmp_path / "x.json"
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    # json.dumps writes lone surrogates as they are; no file can hold those.
    path.write_text(text, encoding="utf-8", errors="replace")
    whole = json.loads(path.read_text(encoding="utf-8"))
    with pieces_of(chunk, window):
        # As text: 1 == 1.0, and 0.0 == -0.0.
        assert repr(collect(path)) == repr(whole)
        for part in stream_parts(str(path)):
            values = [json.loads(text) for text in part.texts]
            assert repr(values) == repr(part.values)
            assert not any(text != text.strip() for text in part.texts)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.dictionaries(st.text(max_size=2), OBJECTS, max_size=3),
    chunk=CHUNKS,
    ascii_only=st.booleans(),
    spoil=st.tuples(st.integers(0, 999), st.integers(0, 2), st.binary(max_size=2)),
)
def test_what_json_load_refuses_is_refused(tmp_path, value, chunk, ascii_only, spoil):
    """And nothing else, but what is no object, and the same key twice."""
    path = tmp_path / "x.json"
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
    place, cut, more = spoil
    place %= len(text)
    path.write_bytes(text[:place] + more + text[place + cut :])
    whole = None
    with contextlib.suppress(ValueError):
        whole = json.loads(path.read_bytes().decode("utf-8"))
    if not isinstance(whole, dict):
        whole = None
    found, error = None, ""
    with pieces_of(chunk):
        try:
            found = collect(path)
        except DataError as e:
            error = str(e)
    assert repr(found) == repr(whole) or "stands there twice" in error


@pytest.mark.parametrize("chunk", range(1, 12))
def test_numbers_are_whole_wherever_a_chunk_ends(tmp_path, chunk):
    path = tmp_path / "x.json"
    text = '{"a": [12, 2.5, -1.25e-7, 3E+2, 40], "b": 1234567, "c": -0.5}'
    path.write_text(text)
    with pieces_of(chunk):
        assert collect(path) == json.loads(text)


def test_characters_and_escapes_are_whole_wherever_a_chunk_ends(tmp_path):
    path = tmp_path / "x.json"
    entry = r'{"x": "\u20ac\ud83d\ude00\\\"}, {", "€😀": ["\ud83d", "\\\\"]}'
    text = f'{{"a": [{", ".join([entry] * 6)}], "€": "😀"}}'
    path.write_text(text, encoding="utf-8")
    for chunk in range(1, len(text.encode()) + 2):
        with pieces_of(chunk):
            assert collect(path) == json.loads(text)


def test_numbers_beyond_64_bits_are_whole_in_a_list_of_objects(tmp_path):
    path = tmp_path / "x.json"
    text = json.dumps({"a": [{"id": 2**64 + i, "x": -(2**63) - i} for i in range(4)]})
    path.write_text(text)
    assert repr(collect(path)) == repr(json.loads(text))


def test_usual_files_are_read_in_batches(tmp_path):
    entries = [{"id": i, "x": [[1.5, 2]], "text": "größe"} for i in range(10_000)]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": entries, "b": entries}, ensure_ascii=False))
    sizes = [len(part.values) for part in stream_parts(str(path))]
    assert sum(sizes) == 2 + 20_000
    assert len(sizes) < 3000  # the scanner reads one at a time where a list ends


def test_an_error_among_many_entries_is_located(tmp_path):
    lines = [f'{{"id": {i}, "name": "größe"}}' for i in range(10_000)]
    lines[7000] = '{"id": 7000, "name": größe}'
    path = tmp_path / "x.json"
    for between, place in ((",\n", ":7002:22: "), (", ", None)):
        text = '{"a": [\n' + between.join(lines) + "]}"
        path.write_text(text)
        column = text.index(" größe}") + 2 - text.index("\n") - 1
        with pytest.raises(DataError) as caught:
            collect(path)
        assert str(caught.value) == (
            f"{path}{place or f':2:{column}: '}not valid JSON: Expecting value"
        )


def test_a_value_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_MAX_VALUE", 1 << 14)
    path = tmp_path / "x.json"
    path.write_text('{"a": "' + "x" * 100_000 + '"}')
    with pytest.raises(
        DataError, match=":1:7: not valid JSON: a value of more than 16384"
    ):
        collect(path)


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
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_byte_that_is_no_unicode_is_named(tmp_path, chunk, mark):
    path = tmp_path / "x.json"
    path.write_bytes(mark + '{"a":"é'.encode() + b'gr\xfc"}')
    with pieces_of(chunk), pytest.raises(DataError) as caught:
        collect(path)
    assert f": byte {10 + len(mark)} is not UTF-8" in str(caught.value)


def test_an_error_far_into_the_file_does_not_read_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_CHUNK", 100)
    monkeypatch.setattr(json_stream, "_WINDOW", 100)
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
