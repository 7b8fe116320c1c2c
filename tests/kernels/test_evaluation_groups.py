"""Groups of categories as they are named on the command line."""

import json

import pytest

from deepmac.categories import COCO_CATEGORIES, VOC_NAMES, Category
from deepmac.errors import DataError, OptionError
from deepmac.evaluation.groups import named_groups

KINDS = [Category(1, "cat"), Category(2, "dog"), Category(7, "fir, tree")]
ABOVE = {1: "animal", 2: "animal", 7: "plant"}


def groups(*texts, taken=()):
    return named_groups(texts, KINDS, ABOVE, taken)


def test_names_and_ids_with_commas():
    assert groups("pets=cat, 2", "a b=7") == {"pets": {1, 2}, "a b": {7}}
    assert list(groups("z=cat", "a=cat")) == ["z", "a"]


def test_a_list_may_stand_in_a_file(tmp_path):
    (tmp_path / "pets.txt").write_text("cat\n# none of these: dog\n")
    assert groups(f"pets=@{tmp_path / 'pets.txt'}") == {"pets": {1}}


def test_voc_and_the_others():
    found = named_groups(["voc", "non_voc", "mine=voc"], COCO_CATEGORIES, {})
    names = {c.name for c in COCO_CATEGORIES if c.id in found["voc"]}
    assert names == VOC_NAMES
    assert found["mine"] == found["voc"]
    assert (len(found["voc"]), len(found["non_voc"])) == (20, 60)


def test_supercategories():
    assert groups("supercategories") == {"animal": {1, 2}, "plant": {7}}


def test_many_groups_in_a_file(tmp_path):
    file = tmp_path / "groups.json"
    file.write_text(json.dumps({"x": ["cat", 7], "y": ["fir, tree", "2"]}))
    assert groups(f"@{file}") == {"x": {1, 7}, "y": {2, 7}}


MISTAKES = {
    "vocc": "no such group; did you mean 'voc'?",
    "cat": "no such group; a group is voc, non_voc, supercategories, NAME=CATEGORIES or @FILE.json",
    "=cat": "there is no name before the =",
    "pets=catt": "--group pets: split 'catt': the data set has no category 'catt'; did you mean 'cat'",
    "pets=": "names no category",
    "voc": "the data set has no such category, it is not COCO",
    "all=cat": "there is a group 'all' already",
    "seen=cat": "there is a group 'seen' already",
    "@none.json": "none.json: cannot be read",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told(text):
    kinds = [k for k in KINDS if text != "voc" or k.id == 7]
    with pytest.raises((OptionError, DataError)) as caught:
        named_groups([text], kinds, ABOVE, taken=["seen"])
    assert MISTAKES[text] in str(caught.value)


def test_two_groups_of_one_name():
    with pytest.raises(OptionError, match="a group 'animal' already"):
        groups("animal=cat", "supercategories")


def test_without_supercategories():
    with pytest.raises(OptionError, match="have no 'supercategory'"):
        named_groups(["supercategories"], KINDS, {})


BAD_FILES = {
    '["cat"]': "not an object with a list of categories",
    "{}": "not an object with a list of categories",
    '{"x": "cat"}': "group 'x' is 'cat', not a list of categories",
    '{"x": []}': "group 'x' is [], not a list of categories",
    '{"x": ["catt"]}': "group 'x': the data set has no category 'catt'; did you mean 'cat'?",
    '{"x": [true]}': "group 'x': the data set has no category True",
    '{"x": [[1]]}': "group 'x': the data set has no category [1]",
    '{"x"': "not valid JSON",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_mistake_in_a_file_is_told(text, tmp_path):
    (tmp_path / "groups.json").write_text(text)
    with pytest.raises((OptionError, DataError)) as caught:
        groups(f"@{tmp_path / 'groups.json'}")
    assert BAD_FILES[text] in str(caught.value)
    assert "groups.json" in str(caught.value)
