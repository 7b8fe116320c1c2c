"""What a predictor asks of images and boxes, said before anything is computed."""

from collections.abc import Sequence

import numpy as np

from deepmac.errors import DataError


def check_image(image: np.ndarray, where: str = "image") -> None:
    """Raises DataError unless an image is uint8 [H, W, 3] with at least one pixel."""
    if not isinstance(image, np.ndarray):
        raise DataError(f"{where}: must be a NumPy array, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(
            f"{where}: must be RGB, [height, width, 3], got an array of {image.shape}"
        )
    if image.dtype != np.uint8:
        raise DataError(f"{where}: must be uint8, 0 to 255, got {image.dtype}")


def check_boxes(
    boxes: np.ndarray | Sequence, height: int, width: int, where: str = "boxes"
) -> np.ndarray:
    """The boxes of an image, if a mask can be asked for each.

    A box may overhang the image; it is then used as it is given, and nothing is seen of what lies
    outside.

    Args:
        boxes: numbers [N, 4], (ymin, xmin, ymax, xmax) in pixels of the image.
        height, width: of the image in pixels.
        where: what errors call the boxes.

    Returns:
        float64 [N, 4].

    Raises:
        DataError: another shape; or a box (the first such one, with its number) that is not
            finite, has no area, or lies outside the image altogether.
    """
    try:
        array = np.asarray(boxes, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: must be numbers [N, 4], got {boxes!r:.60}") from None
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise DataError(f"{where}: must be [N, 4], got an array of {array.shape}")
    ymin, xmin, ymax, xmax = array.T
    complaints = [
        (~np.isfinite(array).all(axis=1), "holds a number that is not finite"),
        (ymax <= ymin, "ymax must be above ymin (order: ymin, xmin, ymax, xmax)"),
        (xmax <= xmin, "xmax must be above xmin (order: ymin, xmin, ymax, xmax)"),
        (
            (ymax <= 0) | (xmax <= 0) | (ymin >= height) | (xmin >= width),
            f"lies outside the image of {height} x {width} pixels (height x width)",
        ),
    ]
    for is_wrong, complaint in complaints:
        if is_wrong.any():
            index = int(np.argmax(is_wrong))
            box = ", ".join(f"{value:g}" for value in array[index])
            raise DataError(f"{where}[{index}] = ({box}): {complaint}")
    return array
