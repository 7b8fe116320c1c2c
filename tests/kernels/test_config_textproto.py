"""The text format: what a file may look like, and that printing keeps what was read."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmac.config.load import config_names, load_config
from deepmac.config.message import Message, OneOf, fields_of, message
from deepmac.config.printing import lines_of, to_text
from deepmac.config.schema import PipelineConfig
from deepmac.config.textproto import read
from deepmac.errors import ConfigError


class Colour(enum.IntEnum):
    RED = 0
    GREEN = 4


@message
class Leaf(Message):
    number: int = 7
    text: str = "x"


@message
class Fork(Message):
    left: OneOf[Leaf] = None
    right: OneOf[Leaf] = None


@message
class Tree(Message):
    whole: int = 3
    real: float = 0.5
    flag: bool = True
    text: str = "a b"
    colour: Colour = Colour.RED
    wholes: tuple[int, ...] = ()
    reals: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    leaf: Leaf = Leaf()
    maybe: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    fork: Fork | None = None
    table: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    renamed: int = 1

    aliases: ClassVar = {"newer": "renamed"}


def tree(text: str) -> Tree:
    return read(text, Tree, "tree.txt").build()


def set_paths(value: Message) -> list[str]:
    """Every set field of a message and of the messages in it, as spelled."""
    found = sorted(value.set_fields)
    for field in fields_of(type(value)):
        content = getattr(value, field.name)
        elements = content if field.shape == "repeated" else (content,)
        for element in elements if field.shape != "map" else ():
            if isinstance(element, Message):
                found += [f"{field.name}.{path}" for path in set_paths(element)]
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("whole: 1 # a comment\n# another", {"whole": 1}),
        ("leaf { number: 1 }", {"leaf": Leaf(number=1)}),
        ("leaf: { number: 1 }", {"leaf": Leaf(number=1)}),
        ("leaf < number: 1 >", {"leaf": Leaf(number=1)}),
        ("maybe {}", {"maybe": Leaf()}),
        ("wholes: [1, 2,\n  # inside\n  3] ", {"wholes": (1, 2, 3)}),
        ("wholes: 1 wholes: 2 wholes: [3]", {"wholes": (1, 2, 3)}),
        ("wholes: []", {}),
        ('text: "abc," "def"\n  "g"', {"text": "abc,defg"}),
        ("text: 'single \"quotes\"'", {"text": 'single "quotes"'}),
        (r'text: "\303\274\n\"\\"', {"text": 'ü\n"\\'}),
        ("whole: 1; real: 2, flag: false;", {"whole": 1, "real": 2.0, "flag": False}),
        ("colour: GREEN", {"colour": Colour.GREEN}),
        ("colours: [RED, GREEN]", {"colours": (Colour.RED, Colour.GREEN)}),
        ("real: 1e-3", {"real": 0.001}),
        ("real: 104.01362025", {"real": 104.01362025}),
        ("real: 5f", {"real": 5.0}),
        ("whole: -0x10", {"whole": -16}),
        ("flag: True", {"flag": True}),
        (
            'table { key: "b" value: "x,y" } table: { value: "" key: "a" }',
            {"table": {"b": "x,y", "a": ""}},
        ),
        ("leaves { number: 2 } leaves {}", {"leaves": (Leaf(number=2), Leaf())}),
        ("leaves: [{ number: 2 }, {}]", {"leaves": (Leaf(number=2), Leaf())}),
        ("fork { right {} }", {"fork": Fork(right=Leaf())}),
        ("newer: 5", {"renamed": 5}),
        ("", {}),
        ("\r\nwhole: 1\r\nreal: 2\r\n", {"whole": 1, "real": 2.0}),
    ],
)
def test_everything_the_format_allows_is_read(text, expected):
    assert tree(text) == Tree(**expected)


def test_a_value_equal_to_its_default_is_told_from_one_that_was_not_set():
    read_tree = tree("whole: 3 leaf { text: 'x' }")
    assert read_tree == Tree()
    assert read_tree.set_fields == {"whole", "leaf"}
    assert read_tree.leaf.set_fields == {"text"}


def test_the_order_of_a_map_is_kept():
    text = "".join(f'table {{ key: "{k}" value: "1" }}' for k in "zaqm")
    assert list(tree(text).table) == list("zaqm")


def test_the_member_of_a_oneof_is_found():
    assert Fork(right=Leaf(number=5)).chosen == Leaf(number=5)


def test_only_what_was_set_or_differs_is_printed():
    assert to_text(tree("whole: 3 newer: 2")) == "whole: 3\nnewer: 2\n"
    assert to_text(Tree(real=0.1, leaf=Leaf(number=2))) == (
        "real: 0.1\nleaf {\n  number: 2\n}\n"
    )


def test_with_defaults_every_field_that_has_a_value_is_printed_and_marked():
    lines = list(lines_of(tree("whole: 3"), with_defaults=True))
    marked = {line.text.split(":")[0].split(" {")[0]: line.is_default for line in lines}
    assert not marked["whole"]
    assert marked["real"]
    assert marked["leaf"]
    assert "maybe" not in marked
    assert "fork" not in marked


def test_a_long_list_is_wrapped_and_read_again():
    wide = Tree(leaf=Leaf(), wholes=tuple(range(1000, 1100)))
    text = to_text(wide)
    assert max(map(len, text.splitlines())) <= 88
    assert tree(text) == wide


leaves = st.builds(Leaf, number=st.integers(-(2**31), 2**31 - 1), text=st.text())
forks = st.builds(Fork, left=leaves) | st.builds(Fork, right=leaves)
reals = st.floats(allow_nan=False, allow_infinity=False)
trees = st.builds(
    Tree,
    whole=st.integers(-(2**31), 2**31 - 1),
    real=reals,
    flag=st.booleans(),
    text=st.text(),
    colour=st.sampled_from(Colour),
    wholes=st.lists(st.integers(-9, 99999), max_size=40).map(tuple),
    reals=st.lists(reals, max_size=3).map(tuple),
    texts=st.lists(st.text(), max_size=3).map(tuple),
    colours=st.lists(st.sampled_from(Colour), max_size=3).map(tuple),
    leaf=leaves,
    maybe=st.none() | leaves,
    leaves=st.lists(leaves, max_size=3).map(tuple),
    fork=st.none() | forks,
    table=st.dictionaries(st.text(), st.text(), max_size=3),
    renamed=st.integers(0, 9),
    set_fields=st.sets(
        st.sampled_from(["whole", "flag", "leaf", "newer"]), max_size=3
    ).map(frozenset),
)


@given(value=trees)
def test_what_is_printed_reads_back_as_the_same_value(value):
    once = tree(to_text(value))
    assert once == value
    assert value.set_fields <= once.set_fields
    twice = tree(to_text(once))
    assert twice == once
    assert set_paths(twice) == set_paths(once)


@given(value=trees)
def test_with_defaults_too(value):
    text = "\n".join(line.text for line in lines_of(value, with_defaults=True))
    assert tree(text) == value


@pytest.mark.parametrize("name", config_names())
def test_the_shipped_configurations_survive_printing(name):
    config = load_config(name)
    again = read(to_text(config), PipelineConfig, "printed").build()
    assert again == config
    assert set_paths(again) == set_paths(config)


def test_lenient_reading_skips_what_it_does_not_know_and_says_so():
    text = 'whole: 5\nwholee: 6\nleaf { nmuber: [1, 2] deep { a: "b" } text: "t" }'
    with pytest.raises(ConfigError, match=r"tree.txt:2:1: wholee: no such field"):
        tree(text)
    document = read(text, Tree, "tree.txt", lenient=True)
    assert document.build() == Tree(whole=5, leaf=Leaf(text="t"))
    assert document.ignored == [
        "tree.txt:2:1: wholee",
        "tree.txt:3:8: leaf.nmuber",
        "tree.txt:3:23: leaf.deep",
    ]
