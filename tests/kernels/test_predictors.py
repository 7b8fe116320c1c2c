"""Classical predictors by eye and by law, predictors by name, and the gate behind them."""

import subprocess
import sys
import textwrap

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from own_modules import importable

from deepmac.errors import DeepmacError, OptionError
from deepmac.instances import BoxMasks, ImageMasks
from deepmac.predictors import CLASSICAL, open_predictor
from deepmac.predictors.checked import CheckedPredictor
from deepmac.predictors.grabcut import FALLBACK_SCORE, grabcut_mask
from deepmac.predictors.yardsticks import fill_box, fill_ellipse


def draw(mask):
    return ["".join(map(str, row)) for row in mask.astype(int)]


def picture_of_a_disc(height=60, width=80, centre=(30, 40), radius=14):
    """A red disc on green, with noise; its mask."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:height, :width]
    disc = (y + 0.5 - centre[0]) ** 2 + (x + 0.5 - centre[1]) ** 2 <= radius**2
    image = np.where(disc[..., None], [200, 40, 40], [40, 160, 60])
    noise = rng.integers(-20, 20, (height, width, 3))
    return (image + noise).astype(np.uint8), disc


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


# Box and ellipse.


def test_a_box_covers_the_pixels_whose_centre_it_holds():
    box = np.array([0.4, 1.0, 2.6, 3.5])
    assert draw(fill_box(box, 4, 5)) == ["01100", "01100", "01100", "00000"]


def test_a_box_overhanging_the_image_is_cut():
    assert draw(fill_box(np.array([-3, 2, 1, 9]), 2, 4)) == ["0011", "0000"]


def test_a_box_without_a_pixel_centre_gets_the_pixel_below_its_own():
    box = np.array([1.6, 2.6, 1.9, 2.9])
    assert draw(fill_box(box, 3, 4)) == ["0000", "0010", "0000"]
    assert draw(fill_ellipse(box, 3, 4)) == ["0000", "0010", "0000"]


def test_a_box_outside_the_image_is_empty():
    for fill in (fill_box, fill_ellipse):
        assert not fill(np.array([-5, -5, -1, -1]), 3, 4).any()
        assert not fill(np.array([5, 6, 8, 9]), 3, 4).any()


def test_a_small_ellipse_by_eye():
    assert draw(fill_ellipse(np.array([0, 0, 4, 6]), 4, 6)) == [
        "011110",
        "111111",
        "111111",
        "011110",
    ]


@given(
    centre=st.tuples(st.floats(100, 200), st.floats(100, 200)),
    sides=st.tuples(st.floats(60, 190), st.floats(60, 190)),
)
def test_an_ellipse_covers_pi_fourths_of_its_box(centre, sides):
    centre, sides = np.array(centre), np.array(sides)
    box = np.concatenate([centre - sides / 2, centre + sides / 2])
    area = fill_ellipse(box, 300, 300).sum()
    # a pixel counts as a whole or not at all: an error of the order of the outline's square root
    assert area == pytest.approx(np.pi / 4 * sides.prod(), rel=0.02)


# GrabCut.


def test_grabcut_finds_a_disc_better_than_the_ellipse_does():
    image, disc = picture_of_a_disc()
    box = np.array([14.0, 20.0, 46.0, 60.0])  # loose: 4 to 6 pixels around
    mask, score = grabcut_mask(image, box)
    assert iou(mask, disc) > 0.95 > 0.7 > iou(fill_ellipse(box, 60, 80), disc)
    assert score == 1
    assert not (mask & ~fill_box(box, 60, 80)).any()


def test_grabcut_of_a_large_object_works_on_a_smaller_picture():
    image, disc = picture_of_a_disc(600, 700, (300, 350), 200)
    mask, _ = grabcut_mask(image, np.array([90.0, 140.0, 510.0, 560.0]))
    assert iou(mask, disc) > 0.95


@pytest.mark.parametrize("inside", ["one colour", "noise"])
def test_grabcut_falls_back_to_the_ellipse_where_there_is_nothing_to_cut(inside):
    image, box = np.full((50, 50, 3), 90, np.uint8), np.array([10.0, 10.0, 40.0, 40.0])
    if inside == "noise":
        image += np.random.default_rng(0).integers(0, 9, image.shape, np.uint8)
    mask, score = grabcut_mask(image, box)
    np.testing.assert_array_equal(mask, fill_ellipse(box, 50, 50))
    assert score == FALLBACK_SCORE


def test_grabcut_is_deterministic_whatever_ran_before():
    image, _ = picture_of_a_disc()
    box = np.array([10.0, 20.0, 50.0, 60.0])
    first, _ = grabcut_mask(image, box)
    cv2.setRNGSeed(123)
    np.testing.assert_array_equal(grabcut_mask(image, box)[0], first)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    corners=st.lists(st.floats(-20, 30, allow_subnormal=False), min_size=4, max_size=4),
    grey=st.booleans(),
)
def test_no_box_and_no_image_is_too_odd_for_grabcut(size, corners, grey):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    if grey:
        image[:] = image[..., :1]
    (ymin, ymax), (xmin, xmax) = sorted(corners[:2]), sorted(corners[2:])
    mask, score = grabcut_mask(image, np.array([ymin, xmin, ymax, xmax]))
    assert mask.shape == size
    assert mask.dtype == bool
    assert score in (FALLBACK_SCORE, 1)


# By name.


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_classical_predictor_answers_image_by_image_and_box_by_box(name):
    predictor = open_predictor(name)
    image, disc = picture_of_a_disc()
    boxes = [np.array([[16.0, 26, 44, 54], [0, 0, 8, 8]]), np.zeros((0, 4))]
    first, none = predictor([image, image[:20]], boxes)
    assert isinstance(first, ImageMasks)
    assert isinstance(none, ImageMasks)
    assert first.masks.shape == (2, 60, 80)
    assert none.masks.shape == (0, 20, 80)
    np.testing.assert_array_equal(first.boxes, boxes[0])
    np.testing.assert_array_equal(first.category_ids, [-1, -1])
    assert iou(first.masks[0], disc) > 0.75
    assert not predictor.can_detect
    with pytest.raises(OptionError, match=f"'{name}' has no detector"):
        predictor([image], None)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("grabcutt", {}, "did you mean 'grabcut'"),
        ("elipse", {}, "did you mean 'ellipse'"),
        ("xyz", {}, "no predictor, configuration or file 'xyz'.*grabcut, box, ellipse"),
        ("box", {"checkpoint": "ckpt-1"}, "'box' takes no checkpoint"),
        ("no_such_module:make", {}, "cannot import no_such_module.*PYTHONPATH"),
        ("mine:mak", {}, "mine has no 'mak'; did you mean 'make'"),
        ("mine:NUMBER", {}, "NUMBER is a value of type int, not a function"),
        ("mine:returns_none", {}, "returned a value of type NoneType"),
        ("mine:fails", {}, "the factory failed: RuntimeError: no graphics card"),
        ("mine:make", {"checkpoint": "c"}, "TypeError.*checkpoint"),
        ("broken:make", {}, "cannot import broken: ZeroDivisionError"),
    ],
)
@pytest.mark.usefixtures("users_modules")
def test_a_predictor_that_cannot_be_opened_says_why(spec, options, message):
    with pytest.raises(OptionError, match=message) as error:
        open_predictor(spec, **options)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("users_modules")
def test_a_users_own_predictor_gets_the_options_that_are_set():
    predictor = open_predictor("mine:with_side", side=3, checkpoint=None)
    (result,) = predictor([np.zeros((9, 9, 3), np.uint8)], [np.zeros((2, 4))])
    assert isinstance(result, BoxMasks)
    assert result.mask_probs.shape == (2, 3, 3)
    assert predictor.can_detect
    assert not predictor.in_image_frame
    assert predictor.fingerprint == "mine:with_side"
    other = open_predictor("mine:Described.make")
    assert (other.can_detect, other.fingerprint) == (False, "weights 7")


@pytest.fixture
def users_modules(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        import numpy as np
        from deepmac.instances import BoxMasks

        NUMBER = 3

        def with_side(side):
            def predict(images, boxes):
                return [
                    BoxMasks(
                        np.zeros((len(b), 4), np.float32),
                        np.zeros((len(b), side, side), np.float32),
                        np.zeros(len(b), np.float32),
                        np.zeros(len(b), np.int32),
                    )
                    for b in boxes
                ]
            return predict

        def make():
            return with_side(2)

        def returns_none():
            return None

        def fails():
            raise RuntimeError("no graphics\\n card")

        class Described:
            can_detect = False
            fingerprint = "weights 7"

            @classmethod
            def make(cls):
                return cls()

            def __call__(self, images, boxes):
                return []
        """)
    )
    with importable(tmp_path):
        yield


# The gate.


def answer(**changes):
    values = {
        "boxes": np.zeros((2, 4), np.float32),
        "mask_probs": np.full((2, 4, 4), 0.5, np.float32),
        "scores": np.ones(2, np.float32),
        "category_ids": np.zeros(2, np.int32),
    }
    return BoxMasks(**(values | changes))


IN_FRAME = ImageMasks(
    np.zeros((2, 4), np.float32),
    np.zeros((2, 5, 7), bool),
    np.ones(2, np.float32),
    np.zeros(2, np.int32),
)


@pytest.mark.parametrize("result", [answer(), IN_FRAME])
def test_the_gate_lets_a_right_answer_through(result):
    image = np.zeros((5, 7, 3), np.uint8)
    predictor = CheckedPredictor("right", lambda images, boxes: [result])
    assert predictor([image], [np.zeros((2, 4))]) == [result]
    assert predictor([image], None) == [result]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "list of 1 results, one for each image, got a list of 0"),
        (None, "got a value of type NoneType"),
        ([np.ones(3)], "neither BoxMasks nor ImageMasks, but an array of float64"),
        ([answer(mask_probs=np.ones((1, 4, 4)))], "mask_probs of shape .1, 4, 4."),
        ([answer(mask_probs=np.ones((2, 1, 1)))], "S at least 2"),
        ([answer(mask_probs=np.ones((2, 4, 4), int))], "must be an array of float"),
        ([answer(mask_probs=np.full((2, 4, 4), np.nan))], "mask_probs holds numbers"),
        ([answer(mask_probs=np.full((2, 4, 4), 3.0))], "must lie in 0..1, got 3 to 3"),
        ([answer(scores=np.ones(3))], "scores of shape .3,., expected .2,."),
        ([answer(scores=np.array([0.5, -1]))], "scores must lie in 0..1"),
        ([answer(category_ids=np.ones(2))], "category_ids must be an array of integer"),
        ([answer(boxes=[[0, 0, 1, 1]] * 2)], "boxes must be an array of float"),
        ([ImageMasks(*[np.zeros((2, 4))] * 4)], "masks of shape .2, 4., expected"),
    ],
)
def test_the_gate_names_predictor_image_and_fault(results, message):
    predictor = CheckedPredictor("mine:make", lambda images, boxes: results)
    image = np.zeros((5, 7, 3), np.uint8)
    with pytest.raises(DeepmacError, match=message) as error:
        predictor([image], [np.zeros((2, 4))])
    assert "'mine:make'" in str(error.value)


def test_classical_predictors_need_no_tensorflow():
    script = (
        "import sys; from deepmac.predictors import open_predictor; open_predictor('grabcut');"
        "print(sorted({'tensorflow', 'keras', 'apache_beam'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
