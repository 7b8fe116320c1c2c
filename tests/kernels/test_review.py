"""Which masks a person is shown, and the page on which they are."""

import base64
import json
import math

import cv2
import numpy as np
import pytest
from html_outline import Outline
from hypothesis import given
from hypothesis import strategies as st

from deepmac.errors import DataError
from deepmac.masks import encode_rle
from deepmac.review import choose, draw_picture, num_lowest
from deepmac.review_page import Card, NotShown, render_review


def row(index: int, score: float, *, image_id=None) -> dict:
    """The only mask of an image, or the next of one."""
    return {
        "image_id": index if image_id is None else image_id,
        "annotation_id": 1000 + index,
        "score": score,
    }


scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=40)


@given(scores=scores, num_low=st.integers(0, 9), num_random=st.integers(0, 9))
def test_the_lowest_are_the_lowest_and_the_sample_has_its_size(
    scores, num_low, num_random
):
    rows = [("u", row(i, s)) for i, s in enumerate(scores)]
    chosen = choose(rows, num_low, num_random)
    low = [c.row["score"] for c in chosen if c.is_low]
    assert low == sorted(scores)[:num_low]
    assert sum(c.is_random for c in chosen) == min(num_random, len(scores))
    assert all(c.is_low or c.is_random for c in chosen)
    assert [c.row["score"] for c in chosen] == sorted(c.row["score"] for c in chosen)


@given(scores=scores, seed=st.integers(0, 99))
def test_the_choice_does_not_depend_on_how_masks_lie_in_files(scores, seed):
    rows = [("u", row(i, s)) for i, s in enumerate(scores)]
    other = [("v", r) for _, r in rows]
    np.random.default_rng(seed).shuffle(other)
    one, two = choose(rows, 5, 5), choose(other, 5, 5)
    assert [c.row for c in one] == [c.row for c in two]


def test_masks_of_equal_scores_are_not_taken_in_their_order():
    rows = [("u", row(i, 1.0)) for i in range(1000)]
    first = [c.row["image_id"] for c in choose(rows, 20, 0)]
    assert 300 < np.mean(first) < 700


def test_a_mask_knows_its_place_in_its_image():
    rows = [("u", row(i, 0.5, image_id=i // 3)) for i in range(6)]
    ranks = {c.row["annotation_id"]: c.rank for c in choose(rows, 6, 0)}
    assert ranks == {1000: 1, 1001: 2, 1002: 3, 1003: 1, 1004: 2, 1005: 3}


def test_a_score_that_is_no_number_is_the_lowest():
    rows = [("u", row(i, s)) for i, s in enumerate([0.0, math.nan, 1.0])]
    assert [c.row["image_id"] for c in choose(rows, 1, 0)] == [1]


@pytest.mark.parametrize(
    ("num_masks", "limit", "expected"),
    [(0, 9, 0), (1, 9, 1), (20, 9, 1), (21, 9, 2), (10_000, 9, 9)],
)
def test_a_twentieth_is_shown_at_most(num_masks, limit, expected):
    assert num_lowest(num_masks, limit) == expected


def result(mask: np.ndarray, box_xywh) -> dict:
    rle = encode_rle(mask)
    counts = rle["counts"].decode()
    return {
        "segmentation": {"size": rle["size"], "counts": counts},
        "box_xywh": box_xywh,
    }


def mask_of(height, width, rows, cols) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[rows, cols] = True
    return mask


def drawn(picture) -> np.ndarray:
    """The outline, filled: bool of the picture's size."""
    loops = [
        np.array([[float(v) for v in point.split(",")] for point in loop.split()])
        for loop in picture.outline.replace("M", "").rstrip("Z").split("Z")
    ]
    canvas = np.zeros((picture.height, picture.width), np.uint8)
    cv2.fillPoly(canvas, [np.floor(loop).astype(np.int32) for loop in loops], 1)
    return canvas.astype(bool)


@pytest.mark.parametrize("size", [(60, 90), (600, 900)])
def test_a_picture_shows_mask_and_box_where_they_are(size):
    """Once enlarged, once reduced: the outline encloses what is bright in the image."""
    height, width = size
    mask = mask_of(
        height,
        width,
        slice(height // 3, height // 2),
        slice(width // 4, width * 3 // 4),
    )
    image = np.repeat(mask[..., None], 3, axis=-1).astype(np.uint8) * 255
    x, y = width // 4, height // 3
    box = [x, y, width * 3 // 4 - x, height // 2 - y]
    picture = draw_picture(image, result(mask, box))
    jpeg = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert jpeg is not None
    assert jpeg.shape == (picture.height, picture.width)
    assert max(jpeg.shape) == 360
    bright = jpeg > 127
    overlap = (bright & drawn(picture)).sum() / (bright | drawn(picture)).sum()
    assert overlap > 0.97
    left, top, wide, high = picture.box
    rows, cols = np.nonzero(bright)
    edges = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
    np.testing.assert_allclose([left, top, left + wide, top + high], edges, atol=2)


def test_a_hole_is_drawn():
    mask = mask_of(50, 50, slice(10, 40), slice(10, 40))
    mask[20:30, 20:30] = False
    picture = draw_picture(
        np.zeros((50, 50, 3), np.uint8), result(mask, [10, 10, 30, 30])
    )
    assert picture.outline.count("Z") == 2


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (mask_of(20, 30, slice(0, 0), slice(0, 0)), [1, 2, 3, 4]),  # no pixel
        (mask_of(1, 1, 0, 0), [0, 0, 1, 1]),
        (mask_of(3000, 4, slice(None), 1), [0, 0, 4, 3000]),  # thinner than a pixel
        (mask_of(20, 30, slice(None), slice(None)), [25.5, 15.5, 4.5, 4.5]),
        (mask_of(20, 30, 0, 0), [29.9, 19.9, 0.1, 0.1]),  # far from its box
    ],
)
def test_odd_masks_have_pictures(mask, box):
    picture = draw_picture(np.zeros((*mask.shape, 3), np.uint8), result(mask, box))
    assert min(picture.width, picture.height) >= 1
    assert bool(picture.outline) == bool(mask.any())


def test_a_mask_of_another_image_is_refused():
    mask = mask_of(20, 30, 1, 1)
    with pytest.raises(DataError, match="in an image of"):
        draw_picture(np.zeros((30, 20, 3), np.uint8), result(mask, [1, 1, 1, 1]))


# The page.

PICTURE = draw_picture(
    np.zeros((50, 50, 3), np.uint8),
    result(mask_of(50, 50, slice(10, 40), slice(10, 40)), [10, 10, 30, 30]),
)


def card(**changes) -> Card:
    given = {
        "picture": PICTURE,
        "image_id": 7,
        "annotation_id": 70,
        "rank": 2,
        "file_name": "a.jpg",
        "category": "cat",
        "score": 0.25,
        "is_low": True,
        "is_random": False,
    }
    return Card(**{**given, **changes})


class Page(Outline):
    """The page's tags, texts and cards."""

    def __init__(self, cards, not_shown=(), num_masks=100, num_low_of_all=5):
        super().__init__()
        self.figures = []
        self.html = render_review(
            cards, not_shown, num_masks=num_masks, num_low_of_all=num_low_of_all
        )
        self.feed(self.html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "figure":
            self.figures.append(dict(attrs))
        if tag not in ("input", "br"):
            super().handle_starttag(tag, attrs)

    def handle_startendtag(self, tag, attrs):
        pass  # path, rect


def test_a_card_has_its_ids_its_reason_and_its_picture():
    page = Page([card(), card(annotation_id=None, is_random=True)])
    first, second = page.figures
    assert json.loads(first["data-ids"]) == {"image_id": 7, "annotation_id": 70}
    assert json.loads(second["data-ids"]) == {"image_id": 7, "rank": 2}
    assert first["data-groups"] == "low"
    assert second["data-groups"] == "low random"
    assert float(first["data-score"]) == 0.25
    assert ("figcaption", "image 7, annotation 70, lowest scores") in page.texts
    second_caption = "image 7, mask 2 of the image, lowest scores, random sample"
    assert ("figcaption", second_caption) in page.texts
    head, _, data = page.images[0]["src"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert base64.b64decode(data) == PICTURE.jpeg


def test_text_of_users_stays_text():
    nasty = "</script><script>alert(1)</script>\"'&"
    page = Page(
        [card(category=nasty, file_name=nasty, image_id=nasty, annotation_id=nasty)],
        [NotShown(nasty, 1, nasty)],
    )
    assert page.html.count("<script>") == 1
    assert ("b", nasty) in page.texts
    assert ("option", nasty) in page.texts
    assert page.figures[0]["data-category"] == nasty
    assert json.loads(page.figures[0]["data-ids"])["image_id"] == nasty


def test_ids_beyond_what_scripts_count_stay_exact():
    page = Page([card(annotation_id=2**60 + 1)])
    assert page.figures[0]["data-ids"].endswith(f" {2**60 + 1}}}")


@pytest.mark.parametrize(
    ("cards", "num_masks", "num_low", "text"),
    [
        ([], 0, 0, "There are no masks."),
        ([card()], 1, 1, "The 1 lowest-scored of 1 mask, and 0 of all at random."),
        (
            [card(), card(score=0.5)],
            100_000,
            5000,
            "The 2 lowest-scored of 100,000 masks (a twentieth would be 5,000), and 0 of all at random.",
        ),
        (
            [card(), card()],
            40,
            2,
            "The 2 lowest-scored of 40 masks, and 0 of all at random. "
            "All have the same score: the lowest are a random sample too.",
        ),
    ],
)
def test_the_page_says_how_many_of_how_many(cards, num_masks, num_low, text):
    page = Page(cards, num_masks=num_masks, num_low_of_all=num_low)
    assert ("p", text) in page.texts


def test_what_could_not_be_shown_is_named():
    page = Page([], [NotShown(3, 2, "x.jpg: no such file"), NotShown("b", 1, "cut")])
    assert (
        "h2",
        "Not shown: 3 chosen masks of 2 images that could not be read",
    ) in page.texts
    assert ("li", "image 3 (2): x.jpg: no such file") in page.texts


def test_nothing_is_fetched_from_elsewhere():
    page = Page([card()])
    for sign in ("http:", "https:", "@import", "url(", "fetch(", "src=//"):
        assert sign not in page.html
