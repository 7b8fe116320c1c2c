import pytest

from deepmac.categories import COCO_CATEGORIES, Category
from deepmac.data.splits import parse_groups
from deepmac.errors import OptionError

SMALL = [Category(3, "cat"), Category(8, "dog"), Category(9, "fish, fried")]


def test_coco_has_80_categories_of_which_20_are_in_voc():
    assert len(COCO_CATEGORIES) == 80
    voc = parse_groups("voc", COCO_CATEGORIES)
    non_voc = parse_groups("non_voc", COCO_CATEGORIES)
    assert (len(voc), len(non_voc)) == (20, 60)
    assert voc | non_voc == parse_groups("all", COCO_CATEGORIES)
    assert not voc & non_voc


def test_names_and_ids_may_be_mixed():
    assert parse_groups("dog, 3", SMALL) == {3, 8}


def test_a_file_holds_one_category_a_line_also_with_commas_in_it(tmp_path):
    path = tmp_path / "seen.txt"
    path.write_text("# animals\ncat\n\nfish, fried  # with a comma\n")
    assert parse_groups(f"@{path}", SMALL) == {3, 9}


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("dgo", "no category 'dgo'; did you mean 'dog'"),
        ("dgo,cat,xyz", "no category 'dgo', 'xyz'; did you mean 'dog'"),
        ("DOG", "no category 'DOG'; did you mean 'dog'"),
        ("xyz", "no category 'xyz'; it has cat, dog, fish, fried"),
        ("", "names no category"),
        ("@/no/such/file", r"split @FILE: /no/such/file: cannot be read: No such file"),
    ],
)
def test_what_is_not_a_category_is_named(split, message):
    with pytest.raises(OptionError, match=message):
        parse_groups(split, SMALL)


def test_voc_is_refused_where_no_category_has_a_voc_name():
    with pytest.raises(OptionError, match="no such category, it is not COCO"):
        parse_groups("voc", [Category(1, "widget")])


def test_no_name_has_space_around_it():
    # "toothbrush " once came from the last line of the table.
    assert [c.name for c in COCO_CATEGORIES if c.name != c.name.strip()] == []
