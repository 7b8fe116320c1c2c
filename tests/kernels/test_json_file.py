"""JSON files read at once."""

import gzip
import math

import pytest

from deepmac.data.json_file import read_json, read_json_lines
from deepmac.errors import DataError


def write(path, data: bytes) -> str:
    packed = path.suffix == ".gz" or path.stem == "packed"
    path.write_bytes(gzip.compress(data) if packed else data)
    return str(path)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "packed.json"])
def test_numbers_come_exactly(tmp_path, name):
    value = read_json(write(tmp_path / name, b"[0.1, 1e22, 9007199254740993, 5e-324]"))
    assert value == [0.1, 1e22, 9007199254740993, 5e-324]


def test_nan_and_infinity_are_read_for_others_to_name(tmp_path):
    nan, infinite = read_json(write(tmp_path / "a.json", b"[NaN, -Infinity]"))
    assert math.isnan(nan)
    assert infinite == -math.inf
    rows = read_json_lines(write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": NaN}\n'))
    assert rows[0] == {"a": 1}
    assert math.isnan(rows[1]["a"])


def test_a_byte_order_mark_is_no_error(tmp_path):
    assert read_json(write(tmp_path / "a.json", b"\xef\xbb\xbf[1]")) == [1]


BAD = {
    "two values": (b"[1, 2]\n]", "a.json:2:1: not valid JSON: Extra data"),
    "broken off": (b'{"a": [1,\n2', r"a.json:2:2: not valid JSON: Expecting ',' delimiter"),
    "nothing": (b" \n", "a.json: is empty, not JSON"),
    "not UTF-8": (b'["\xe4"]', "a.json: byte 2 is not UTF-8"),
    "a number of 5000 digits": (b"[" + b"9" * 5000 + b"]", "a.json: not usable JSON: a whole number of more digits"),
    "too deep": (b"[" * 100_000, "a.json: not usable JSON: nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_json_is_said_with_its_place(tmp_path, name):
    data, sentence = BAD[name]
    with pytest.raises(DataError, match=sentence):
        read_json(write(tmp_path / "a.json", data))


def test_the_line_of_a_bad_line_is_said(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": }\n')
    with pytest.raises(DataError, match=r"a.jsonl:2:7: not valid JSON"):
        read_json_lines(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_json(str(tmp_path / "b.json"))
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_json(str(tmp_path))
    path = tmp_path / "a.json.gz"
    path.write_bytes(b"[1]")
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_json(str(path))
    path.write_bytes(gzip.compress(b"[1, 2, 3]")[:-9])
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_json(str(path))
    with pytest.raises(DataError, match="ftp:// is not available here"):
        read_json("ftp://host/a.json")
