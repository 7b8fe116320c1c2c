"""Label maps: ids and names of categories."""

import pytest

from deepmac.categories import Category
from deepmac.config.label_map import load_label_map
from deepmac.errors import ConfigError

COCO_STYLE = """
# As the reference has it.
item {
  name: "/m/01g317"
  id: 1
  display_name: "person"
}
item: { name: 'traffic light', id: 10; keypoints { id: 3 label: "top" } }
"""


def load(tmp_path, text):
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    return load_label_map(path)


def test_the_display_name_wins_and_the_order_is_kept(tmp_path):
    assert load(tmp_path, COCO_STYLE) == (
        Category(1, "person"),
        Category(10, "traffic light"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item { id: 0 name: 'a' }", ":1:12: item[0].id: ids count from 1, got 0"),
        ("item { id: -4 name: 'a' }", ":1:12: item[0].id: ids count from 1, got -4"),
        ("item { name: 'a' }", ":1:1: item[0].id: is missing"),
        ("item { id: 3 }", ":1:1: item[0].name: is missing, and so is display_name"),
        ("item { id: 3 name: '' }", ":1:20: item[0].name: is missing, and so is display_name"),
        ("item { id: 1 name: 'a' }\nitem { id: 1 name: 'b' }", ":2:12: item[1].id: '1' is there twice, first in item[0]"),
        ("item { id: 1 name: 'a' }\nitem { id: 2 name: 'a' }", ":2:20: item[1].name: 'a' is there twice, first in item[0]"),
        ("item { id: 1 naem: 'a' }", ":1:14: item[0].naem: no such field; did you mean 'name'?"),
        ("item { id: one }", ":1:12: item[0].id: must be a whole number, got 'one'"),
        ("item { id: 1 name: a }", ":1:20: item[0].name: must be text in quotes, got 'a'"),
        ("items { id: 1 }", ":1:1: items: no such field; did you mean 'item'?"),
        ("item { id: 1", ":1:12: the text ends without the closing '}'"),
        ("", ":1:1: item: is missing: there is no category"),
    ],
)  # fmt: skip
def test_mistakes_are_shown_with_their_place(tmp_path, text, expected):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == f"{tmp_path}/map.pbtxt{expected}"


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pbtxt: no such file"):
        load_label_map(tmp_path / "none.pbtxt")
