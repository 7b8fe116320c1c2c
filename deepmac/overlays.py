"""Pictures of what was found: masks, boxes and names drawn over an image."""

from collections.abc import Sequence

import cv2
import numpy as np

_GOLDEN = 0.618034  # of the colour circle: neighbours in a list look different
_FILL = 0.45  # share of the mask's colour in its pixels
# Pixels: smaller images are enlarged towards this, so that names can be read
_READABLE = 640


def draw(
    image: np.ndarray,
    *,
    masks: Sequence[np.ndarray | None] | np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    colour_keys: Sequence[int] | None = None,
    enlarge: bool = True,
) -> np.ndarray:
    """An image with instances drawn over it.

    Args:
        image: uint8 [H, W, 3], RGB.
        masks: bool [H, W] for each of N instances, or None where one has no mask.
        boxes: float [N, 4], (ymin, xmin, ymax, xmax), pixels of the image.
        labels: N short texts.
        colour_keys: N numbers, such as category ids; equal ones get equal colours. Default: every
            instance has its own.
        enlarge: small images come back larger by a whole factor.

    Returns:
        uint8 [k H, k W, 3], RGB; a copy.
    """
    factor = max(1, _READABLE // max(image.shape[:2])) if enlarge else 1
    picture = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    num = max(len(x) for x in (masks, boxes, labels, ()) if x is not None)
    keys = list(colour_keys) if colour_keys is not None else list(range(num))
    for n in range(num):
        mask = None if masks is None else masks[n]
        if mask is not None:
            _draw_mask(picture, np.asarray(mask, bool), factor, colour_of(keys[n]))
    # Lines and names after all masks, so that none is covered.
    for n in range(num):
        corner = (2, 2)
        if boxes is not None:
            scaled = np.asarray(boxes[n]) * factor
            corner = _draw_box(picture, scaled, factor, colour_of(keys[n]))
        if labels is not None and labels[n]:
            _draw_label(picture, labels[n], corner, colour_of(keys[n]))
    return picture


def colour_of(key: int) -> tuple[int, int, int]:
    """A bright colour for a number, always the same; R, G, B in 0..255."""
    hue = int(key * _GOLDEN * 180) % 180  # OpenCV counts half degrees
    pixel = np.array([[[hue, 200, 255]]], np.uint8)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)


def _draw_mask(
    picture: np.ndarray, mask: np.ndarray, factor: int, colour: tuple[int, int, int]
) -> None:
    large = np.repeat(np.repeat(mask, factor, axis=0), factor, axis=1)
    tinted = (1 - _FILL) * picture[large] + _FILL * np.array(colour)
    picture[large] = tinted.astype(np.uint8)
    outlines, _ = cv2.findContours(
        large.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, outlines, -1, colour, 1)


def _draw_box(
    picture: np.ndarray, box: np.ndarray, factor: int, colour: tuple[int, int, int]
) -> tuple[int, int]:
    """Draws the outermost image pixels that the box covers; returns its corner, x and y."""
    top, left = np.floor(box[:2]).astype(int).tolist()
    bottom, right = (np.ceil(box[2:]).astype(int) - 1).tolist()
    for inset in range(factor):
        corners = (left + inset, top + inset), (right - inset, bottom - inset)
        cv2.rectangle(picture, *corners, colour, 1)
    return left, top


def _draw_label(
    picture: np.ndarray,
    text: str,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
) -> None:
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    # OpenCV's fonts know ASCII alone and draw question marks for the rest.
    text = text.encode("ascii", "replace").decode()
    (width, height), below = cv2.getTextSize(text, font, size, 1)
    limit_y, limit_x = picture.shape[0] - below - 1, picture.shape[1] - width - 2
    left = max(0, min(corner[0], limit_x))
    base = max(height + 1, min(corner[1] - 2, limit_y))
    background = (left, base - height - 1), (left + width + 1, base + below - 1)
    cv2.rectangle(picture, *background, colour, cv2.FILLED)
    cv2.putText(picture, text, (left + 1, base), font, size, (0, 0, 0), 1, cv2.LINE_AA)
