"""TFRecord framing: what is written is read, and any damage is noticed and located."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.data.tfrecord import frame, read_frame_at, read_frames
from deepmac.errors import DataError


@pytest.mark.parametrize(
    ("data", "file"),
    [
        (b"", "000000000000000029039807d8ea82a2"),
        (b"abc", "0300000000000000b099490e6162636e57f121"),
    ],
)
def test_a_record_has_the_bytes_that_tensorflow_writes(data, file):
    assert frame(data).hex() == file


@given(records=st.lists(st.binary(max_size=40), max_size=6))
def test_records_come_back_with_their_offsets(records):
    file = io.BytesIO(b"".join(map(frame, records)))
    found = list(read_frames(file, "f"))
    assert [data for _, data in found] == records
    for offset, data in found:
        assert read_frame_at(file, offset, "f") == data


@given(records=st.lists(st.binary(max_size=20), min_size=1, max_size=4), data=st.data())
def test_one_changed_byte_is_noticed(records, data):
    whole = bytearray(b"".join(map(frame, records)))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DataError, match=r"f: record \d at byte \d+: "):
        list(read_frames(io.BytesIO(whole), "f"))


def test_a_file_that_ends_within_a_record_is_noticed_wherever_it_ends():
    records = [b"first", b"second"]
    whole = b"".join(map(frame, records))
    borders = {0, len(frame(records[0])), len(whole)}
    for length in range(len(whole) + 1):
        file = io.BytesIO(whole[:length])
        if length in borders:
            assert len(list(read_frames(file, "f"))) == sorted(borders).index(length)
        else:
            with pytest.raises(DataError, match="ends within the record"):
                list(read_frames(file, "f"))


def test_no_record_begins_after_the_end():
    with pytest.raises(DataError, match="no record at byte 19"):
        read_frame_at(io.BytesIO(frame(b"abc")), 19, "f")
