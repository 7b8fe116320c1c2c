"""GrabCut, started with care: what can be had from a box without learning anything.

Rother, Kolmogorov, Blake, "GrabCut": interactive foreground extraction using iterated graph
cuts, SIGGRAPH 2004, in OpenCV's implementation. Started from the plain box, as it is usually
run, it returns an empty mask for half of the small objects and proves nothing as a baseline.
"""

import math

import cv2
import numpy as np

from deepmac.predictors.yardsticks import fill_box, fill_ellipse

BOX_SIDE = 200
"""Pixels of the longer box side in the picture that is cut; also bounds the time of a box."""

MARGIN = 0.25
"""Surroundings seen on each side of the box, in longer box sides."""

ITERATIONS = 5
LEAST_FILL = 0.1
"""A result that covers less of its box than this counts as failed."""

FALLBACK_SCORE = 0.5


def grabcut_mask(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, float]:
    """The object in a box, by colour.

    The surroundings of the box are scaled so that its longer side is `BOX_SIDE` pixels. There,
    the ellipse inscribed in the box starts as probable foreground, the rest of the box as
    probable background, and what is outside is background for good. Where the result covers less
    than a tenth of the box, or the box is of one colour, the ellipse takes its place.

    Args:
        image: uint8 [H, W, 3].
        box: [4], (ymin, xmin, ymax, xmax) in pixels of the image. May overhang it.

    Returns:
        bool [H, W], empty where the box is outside of the image, and a score: 1, or 0.5 where it
        is the ellipse. GrabCut knows no probability; the score tells only that it gave up.
        Equal input gives an equal mask.
    """
    height, width = image.shape[:2]
    box = np.clip(box, 0, [height, width, height, width])
    rows, cols = _window(box, height, width)
    cut = _cut(image[rows, cols], box - [rows.start, cols.start] * 2)
    if cut is None:
        return fill_ellipse(box, height, width), FALLBACK_SCORE
    mask = np.zeros((height, width), bool)
    mask[rows, cols] = cut
    return mask, 1.0


def _window(box: np.ndarray, height: int, width: int) -> tuple[slice, slice]:
    """The box with its surroundings, in whole pixels inside the image."""
    margin = MARGIN * _longer_side(box)
    top, left = (max(math.floor(v - margin), 0) for v in box[:2])
    bottom = min(math.ceil(box[2] + margin), height)
    right = min(math.ceil(box[3] + margin), width)
    return slice(top, bottom), slice(left, right)


def _longer_side(box: np.ndarray) -> float:
    return max(box[2] - box[0], box[3] - box[1], 1.0)


def _cut(crop: np.ndarray, box: np.ndarray) -> np.ndarray | None:
    """GrabCut on a crop uint8 [h, w, 3] with a box in its pixels.

    Returns:
        bool [h, w], or None where nothing usable came out.
    """
    h, w = crop.shape[:2]
    in_crop = fill_box(box, h, w)
    colours = crop[in_crop]
    if (colours == colours[:1]).all():
        # One colour, nothing to cut. With equal models on both sides OpenCV takes half a minute.
        return None
    scale = BOX_SIDE / _longer_side(box)
    size = max(round(h * scale), 1), max(round(w * scale), 1)
    there, back = (
        (cv2.INTER_CUBIC, cv2.INTER_AREA)
        if scale > 1
        else (cv2.INTER_AREA, cv2.INTER_LINEAR)
    )
    picture = cv2.resize(crop, size[::-1], interpolation=there)
    box_there = box * (np.array(size) / (h, w))[[0, 1, 0, 1]]
    in_box, seed = fill_box(box_there, *size), fill_ellipse(box_there, *size)
    if not seed.any() or seed.all():
        return None  # one of the two colour models would have nothing to learn from
    labels = np.where(in_box, cv2.GC_PR_BGD, cv2.GC_BGD).astype(np.uint8)
    labels[seed] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)  # the colour clusters start at random
    cv2.grabCut(  # pyright: ignore[reportCallIssue]
        picture,
        labels,
        None,  # pyright: ignore[reportArgumentType]
        None,  # pyright: ignore[reportArgumentType]
        None,  # pyright: ignore[reportArgumentType]
        ITERATIONS,
        cv2.GC_INIT_WITH_MASK,
    )
    is_object = labels == cv2.GC_PR_FGD
    if is_object.sum() < LEAST_FILL * in_box.sum():
        return None
    kept = cv2.resize(is_object.astype(np.float32), (w, h), interpolation=back)
    mask = (kept >= 0.5) & in_crop
    return mask if mask.any() else None
