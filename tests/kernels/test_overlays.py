"""Overlays: what is drawn where."""

import numpy as np

from deepmac.overlays import colour_of, draw

GREY = np.full((40, 60, 3), 100, np.uint8)


def test_a_mask_tints_its_pixels_and_no_others():
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    picture = draw(GREY, masks=[mask], enlarge=False)
    changed = (picture != GREY).any(axis=-1)
    np.testing.assert_array_equal(changed, mask)
    np.testing.assert_array_equal(picture[10, 30], colour_of(0))  # its outline


def test_a_box_is_drawn_along_the_pixels_that_it_covers():
    picture = draw(GREY, boxes=np.array([[10, 30, 20, 50]]), enlarge=False)
    rows, columns = np.nonzero((picture != GREY).any(axis=-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 30, 49)
    assert (picture[15, 40] == GREY[15, 40]).all()


def test_small_images_are_enlarged_by_a_whole_factor():
    assert draw(GREY).shape == (400, 600, 3)
    np.testing.assert_array_equal(draw(GREY)[::10, ::10], GREY)
    assert draw(np.zeros((700, 900, 3), np.uint8)).shape == (700, 900, 3)


def test_equal_keys_have_equal_colours_and_neighbours_do_not():
    masks = np.zeros((3, 40, 60), bool)
    for n in range(3):
        masks[n, 5:15, 10 * n + 5 : 10 * n + 12] = True
    picture = draw(GREY, masks=masks, colour_keys=[7, 8, 7], enlarge=False)
    first, second, third = (tuple(picture[5, 10 * n + 5]) for n in range(3))
    assert first == third != second


def test_the_image_itself_is_not_touched():
    image = GREY.copy()
    draw(image, boxes=np.array([[1, 1, 9, 9]]), labels=["a"], enlarge=False)
    np.testing.assert_array_equal(image, GREY)


def test_labels_stay_within_the_picture_and_missing_masks_are_skipped():
    boxes = np.array([[0, 0, 4, 4], [36, 56, 40, 60], [-5, -5, 50, 70]])
    picture = draw(
        GREY, boxes=boxes, masks=[None] * 3, labels=["größe", "", "x"], enlarge=False
    )
    assert picture.shape == GREY.shape
    assert (picture[:12, :30] != GREY[:12, :30]).any()
