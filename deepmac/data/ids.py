"""Ids of images and annotations: whole numbers in COCO, text in many other sets."""

from deepmac.instances import ImageId


def id_from_text(text: str) -> int | str:
    """An id as ids are compared: text that is the decimal form of a number is that number."""
    digits = text.removeprefix("-")
    # Not int() alone: it takes '1_0' and ' 1' too, and refuses more than 4300 digits.
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        return text
    return int(text) if str(int(text)) == text else text


def id_order(image_id: ImageId) -> tuple[bool, ImageId]:
    """Sorts numbers by value, then text by code point."""
    return isinstance(image_id, str), image_id
