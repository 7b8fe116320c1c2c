"""Text that is no Unicode, and paths of it."""

import os

import numpy as np
import pytest

from deepmac.data.paths import can_name_a_file, printable
from deepmac.text import is_unicode, one_line, short


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("größe.jpg", "größe.jpg"),
        (b"gr\xfc.jpg", "gr\\xfc.jpg"),
        (os.fsdecode(b"gr\xfc.jpg"), "gr\\xfc.jpg"),
        ("a\ud800.jpg", "a\\ud800.jpg"),
    ],
)
def test_every_path_can_be_shown(path, shown):
    assert printable(path) == shown


def test_bytes_that_are_no_utf8_can_name_a_file_and_half_a_pair_cannot():
    assert can_name_a_file("größe")
    assert can_name_a_file("gr\udcfc")
    assert not can_name_a_file("\ud800")


def test_halves_of_pairs_are_no_unicode():
    assert is_unicode("größe \U0001f600")
    assert not is_unicode("gr\udcfc")
    assert not is_unicode("\ud800")


def test_long_values_are_cut():
    assert short(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    assert short("a" * 58) == repr("a" * 58)
    assert short(["a" * 100]) == "['" + "a" * 55 + "..."


def test_text_is_shown_in_one_line():
    assert one_line("größe 図") == "größe 図"
    assert one_line("a\nb\x1b\u2028\ud800é") == "a\\nb\\x1b\\u2028\\ud800é"
