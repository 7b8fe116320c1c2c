"""The page of pictures."""

from urllib.parse import unquote

from html_outline import Outline

from deepmac.gallery import Cell, Step, Table, render_page

TABLE = Table(
    groups=(("", 1), ("scores", 2)),
    columns=("who", "a", "b"),
    rows=(("x < y", "1", "2"), ("z", "3", "4")),
    notes=("A & B.",),
)


def parsed(**changes) -> Outline:
    given = {
        "title": "<title>",
        "introduction": "It's {about} this & that.",
        "table": TABLE,
        "columns": ("left", "right"),
        "pictures": [[Cell("p/1 a.png", "one"), Cell('p/"2".png', "two > one")]],
        "steps": [Step("Do", "deepmac build --out 'a b' && echo <done>")],
    }
    outline = Outline()
    outline.feed(render_page(**{**given, **changes}))
    assert outline.open == []
    return outline


def test_text_arrives_as_it_is_given():
    texts = parsed().texts
    assert ("h1", "<title>") in texts
    assert ("p", "It's {about} this & that.") in texts
    assert ("p", "A & B.") in texts
    assert ("code", "deepmac build --out 'a b' && echo <done>") in texts
    assert ("figcaption", "two > one") in texts


def test_the_table_has_all_of_its_cells_in_order():
    texts = parsed().texts
    cells = [text for tag, text in texts if tag in ("td", "th")]
    assert cells == ["scores", "who", "a", "b", "x < y", "1", "2", "z", "3", "4"]


def test_pictures_come_row_by_row_with_their_captions():
    cell = Cell("a.png", "a")
    images = parsed(pictures=[[cell, cell], [cell, Cell("b.png", "b")]]).images
    assert [i["src"] for i in images] == ["a.png"] * 3 + ["b.png"]
    paths = [unquote(i["src"]) for i in parsed().images]
    assert paths == ["p/1 a.png", 'p/"2".png']


def test_nothing_is_fetched_from_elsewhere():
    page = render_page("t", "i", TABLE, ("c",), [[Cell("a.png", "a")]], [])
    for sign in ("http:", "https:", "<script", "@import", "url("):
        assert sign not in page
