"""Example <-> tf.Example bytes. The only module that knows feature keys.

What is written, the reader of TensorFlow's Object Detection API and that of the Model Garden both
understand: category names and ids, 0/1 mask PNGs, every list of objects present though it may be
empty. What either of their writers writes can be read.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from deepmac.data import tf_example
from deepmac.data.ids import id_from_text
from deepmac.data.image_header import image_format, read_header
from deepmac.data.mask_png import (
    blank_mask_png,
    decode_mask_png,
    encode_mask_png,
    mask_pixels,
)
from deepmac.errors import DataError, did_you_mean
from deepmac.instances import RLE, AnnotationId, Example, ImageId, Instance
from deepmac.masks import MOST_PIXELS, encode_rle, too_many_pixels
from deepmac.text import one_line

_HEIGHT, _WIDTH = "image/height", "image/width"
_FILE_NAME, _SOURCE_ID = "image/filename", "image/source_id"
_ENCODED, _FORMAT, _SHA256 = "image/encoded", "image/format", "image/key/sha256"
_SIDES = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))
_NAME, _LABEL = "image/object/class/text", "image/object/class/label"
_CROWD, _AREA = "image/object/is_crowd", "image/object/area"
_ANNOTATION_ID = "image/object/annotation_id"
_ANNOTATION_ID_TEXT = "image/object/annotation_id/text"  # ours, where ids are text
_MASK, _MASK_WEIGHT = "image/object/mask", "image/object/mask/weight"
_WEIGHT = "image/object/weight"
_POINT_Y, _POINT_X = "image/object/keypoint/y", "image/object/keypoint/x"
_POINT_DEPTH = "image/object/keypoint/z"
_POINT_VISIBILITY = "image/object/keypoint/visibility"

_NO_ID = -1  # stored for an annotation without an id, or whose id stands in the text


def encode_example(
    example: Example, category_names: Mapping[int, str], *, with_masks: bool = True
) -> bytes:
    """An image with its instances as a tf.Example.

    Args:
        example: with its encoded image. An instance without a mask gets a blank one of weight 0,
            so that masks and boxes stay side by side.
        category_names: of the ids that the instances have.
        with_masks: store masks and their weights at all.

    Raises:
        DataError: the encoded image is neither JPEG nor PNG.
    """
    encoded = example.encoded
    if encoded is None:
        raise DataError(f"image {example.image_id!r} has no encoded bytes to store")
    kind = image_format(encoded)
    if kind is None:
        raise DataError(f"image {example.image_id!r} is neither JPEG nor PNG")
    height, width, instances = example.height, example.width, example.instances
    boxes = np.array([i.box for i in instances], np.float64).reshape(-1, 4)
    fractions = boxes / [height, width, height, width]
    features: dict[str, tf_example.Feature] = {
        _HEIGHT: _integers([height]),
        _WIDTH: _integers([width]),
        _FILE_NAME: [example.file_name.encode("utf-8", "surrogateescape")],
        _SOURCE_ID: [str(example.image_id).encode("utf-8", "surrogateescape")],
        _SHA256: [hashlib.sha256(encoded).hexdigest().encode()],
        _ENCODED: [encoded],
        _FORMAT: [kind.encode()],
        _NAME: [category_names[i.category_id].encode() for i in instances],
        _LABEL: _integers([i.category_id for i in instances]),
        _CROWD: _integers([i.is_crowd for i in instances]),
        _AREA: np.array([i.area for i in instances], np.float32),
        **_id_features([i.annotation_id for i in instances]),
    }
    features.update(zip(_SIDES, fractions.T, strict=True))
    if with_masks:
        features[_MASK] = [
            encode_mask_png(i.mask_rle) if i.mask_rle else blank_mask_png(height, width)
            for i in instances
        ]
        features[_MASK_WEIGHT] = np.array(
            [i.mask_weight if i.mask_rle else 0 for i in instances], np.float32
        )
    return tf_example.encode(features)


def decode_example(
    data: bytes,
    *,
    category_ids: Mapping[str, int] | None = None,
    with_masks: bool = True,
) -> Example:
    """The image and instances of a tf.Example, of ours or one of the reference writers.

    Boxes and areas are what float32 leaves of them. The category is that of `class/label`; where
    that is missing, that of `class/text`. What is missing otherwise: height and width come from
    the image, the area from the box, the id from the file name or the bytes; nothing is a crowd.

    Args:
        data: the record.
        category_ids: name -> id, for records that hold names alone.
        with_masks: decode the masks. Without, `mask_rle` is None but `mask_weight` is as stored.

    Raises:
        DataError: not a tf.Example of an image, or lists of different lengths, or names without
            `category_ids`.
    """
    features = tf_example.decode(data)
    encoded = _first(_texts(features, _ENCODED), b"")
    height = _first(_whole_numbers(features, _HEIGHT), 0)
    width = _first(_whole_numbers(features, _WIDTH), 0)
    if height <= 0 or width <= 0:
        header = read_header(encoded)
        height, width = header.height, header.width
    boxes = _boxes(features) * np.array([height, width, height, width])
    num = len(boxes)
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    file_name = _first(_texts(features, _FILE_NAME), b"")
    categories = _categories(features, num, category_ids)
    areas = _aligned(_numbers(features, _AREA), _AREA, sizes.tolist())
    crowds = _aligned(_whole_numbers(features, _CROWD), _CROWD, [0] * num)
    ids = _annotation_ids(features, num)
    rles, weights = _masks(features, num, height, width, with_masks)
    return Example(
        image_id=_image_id(
            _first(_texts(features, _SOURCE_ID), b""), file_name, encoded
        ),
        file_name=file_name.decode("utf-8", "surrogateescape"),
        height=height,
        width=width,
        encoded=encoded,
        instances=tuple(
            Instance(
                box=tuple(box),
                category_id=categories[n],
                annotation_id=ids[n],
                area=float(areas[n]),
                is_crowd=bool(crowds[n]),
                mask_rle=rles[n],
                mask_weight=float(weights[n]),
            )
            for n, box in enumerate(boxes.tolist())
        ),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A record as training reads it: n objects, nothing decoded that may not be needed.

    Attributes:
        image_id, encoded: as of `Example`.
        height, width: pixels, as the record or else the image says.
        boxes: float32 [n, 4], (ymin, xmin, ymax, xmax) in fractions of the image, as they stand.
        category_ids: int64 [n]; -1 where the name is not among the known ones.
        unknown_names: the names that are not.
        weights: float32 [n], of the objects; 1 where none are stored.
        mask_weights: float32 [n], of their masks; 0 for all where no masks are stored.
        masks: n image files (hidden masks among them), or uint8 [n, H, W] of 0 and 1 where the record holds
            them as numbers; None where none are stored.
        points: float32 [n, P, 2], (y, x) in fractions of the image, NaN where there is none.
        point_depths: float32 [n, P], above 0 for foreground; NaN where none is stored.
    """

    image_id: ImageId
    encoded: bytes
    height: int
    width: int
    boxes: np.ndarray
    category_ids: np.ndarray
    unknown_names: tuple[str, ...]
    weights: np.ndarray
    mask_weights: np.ndarray
    masks: list[bytes] | np.ndarray | None
    points: np.ndarray
    point_depths: np.ndarray

    def mask(self, index: int, num_rows: int) -> np.ndarray:
        """The mask of one object, uint8 [num_rows or more, W], foreground above 0.

        Args:
            index: of the object, where `masks` is not None.
            num_rows: so many from the top are needed.

        Raises:
            DataError: not an image, or one of another size than the picture.
        """
        assert self.masks is not None, "the caller looks"
        stored = self.masks[index]
        if isinstance(stored, np.ndarray):
            return stored
        _check_mask_size(stored, self.height, self.width)
        return mask_pixels(stored, num_rows)


def decode_columns(
    data: bytes,
    *,
    category_ids: Mapping[str, int] | None = None,
    num_points: int = 0,
) -> Columns:
    """What a tf.Example says of its image, as arrays.

    Categories are looked up as the reference does: by `class/text` if there is a mapping and the
    record has names, else those of `class/label`.

    Args:
        data: the record.
        category_ids: name -> id.
        num_points: P, keypoints of an object; 0 leaves them out.

    Raises:
        DataError: not a tf.Example of an image, or lists of different lengths.
    """
    features = tf_example.decode(data)
    encoded = _first(_texts(features, _ENCODED), b"")
    height = _first(_whole_numbers(features, _HEIGHT), 0)
    width = _first(_whole_numbers(features, _WIDTH), 0)
    if height <= 0 or width <= 0:
        header = read_header(encoded)
        height, width = header.height, header.width
    boxes = _boxes(features).astype(np.float32)
    num = len(boxes)
    names: list[str] = []
    if category_ids is not None:
        names = [text.decode("utf-8", "replace") for text in _texts(features, _NAME)]
    known = category_ids or {}
    ids = (
        [known.get(name, -1) for name in _aligned(names, _NAME, [""] * num)]
        if names
        else _aligned(_whole_numbers(features, _LABEL), _LABEL, [-1] * num)
    )
    masks, mask_weights = _encoded_masks(features, num, height, width)
    points, depths = _points(features, num, num_points)
    ones = [1.0] * num
    return Columns(
        image_id=_image_id(
            _first(_texts(features, _SOURCE_ID), b""),
            _first(_texts(features, _FILE_NAME), b""),
            encoded,
        ),
        encoded=encoded,
        height=height,
        width=width,
        boxes=boxes,
        category_ids=np.array(ids, np.int64),
        unknown_names=tuple(name for name in names if name not in known),
        weights=np.array(
            _aligned(_numbers(features, _WEIGHT), _WEIGHT, ones), np.float32
        ),
        mask_weights=mask_weights,
        masks=masks,
        points=points,
        point_depths=depths,
    )


def _encoded_masks(
    features: "_Features", num: int, height: int, width: int
) -> tuple[list[bytes] | np.ndarray | None, np.ndarray]:
    stored = features.get(_MASK, ())
    if not len(stored):
        return None, np.zeros(num, np.float32)
    weights = _aligned(_numbers(features, _MASK_WEIGHT), _MASK_WEIGHT, [1.0] * num)
    if isinstance(stored, np.ndarray):
        masks = _mask_numbers(stored, num, height, width).astype(np.uint8)
    else:
        masks = _aligned(list(stored), _MASK, [b""] * num)
    return masks, np.array(weights, np.float32)


def _points(
    features: "_Features", num: int, num_points: int
) -> tuple[np.ndarray, np.ndarray]:
    """`points` and `point_depths` of `Columns`."""
    shape = (num, num_points)
    if not num_points:
        return np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)

    def column(key: str, default: float) -> np.ndarray:
        values = _numbers(features, key) or [default] * (num * num_points)
        if len(values) != num * num_points:
            raise DataError(
                f"'{key}' has {len(values)} values for {num} boxes with {num_points} keypoints each"
            )
        return np.array(values, np.float32).reshape(shape)

    points = np.stack([column(_POINT_Y, np.nan), column(_POINT_X, np.nan)], axis=-1)
    points[column(_POINT_VISIBILITY, 1) == 0] = np.nan
    return points, column(_POINT_DEPTH, np.nan)


def stored_categories(data: bytes) -> set[tuple[int | None, str]]:
    """The categories of a record's objects, as they stand there.

    Returns:
        (id, name): the id None where only names are stored, the name '' where only ids are.

    Raises:
        DataError: not a tf.Example, or as many ids as names are not there.
    """
    features = tf_example.decode(data)
    ids: list[int | None] = [*_whole_numbers(features, _LABEL)]
    texts = _texts(features, _NAME)
    names = [text.decode("utf-8", "replace") for text in texts]
    num = max(len(ids), len(names))
    return set(
        zip(
            _aligned(ids, _LABEL, [None] * num),
            _aligned(names, _NAME, [""] * num),
            strict=True,
        )
    )


_Features = Mapping[str, tf_example.Feature]


def _boxes(features: _Features) -> np.ndarray:
    """float64 [n, 4], fractions of the image."""
    sides = [_numbers(features, side) for side in _SIDES]
    if len({len(side) for side in sides}) > 1:
        lengths = ", ".join(str(len(side)) for side in sides)
        raise DataError(f"the four sides of the boxes are {lengths} in number")
    return np.array(sides, np.float64).T.reshape(-1, 4)


def _categories(
    features: _Features, num: int, category_ids: Mapping[str, int] | None
) -> list[int]:
    if labels := _whole_numbers(features, _LABEL):
        return _aligned(labels, _LABEL, [0] * num)
    texts = _aligned(_texts(features, _NAME), _NAME, [b""] * num)
    names = [text.decode("utf-8", "replace") for text in texts]
    if names and category_ids is None:
        raise DataError(
            f"the record holds category names (such as '{one_line(names[0])}') but no ids, as the Object "
            f"Detection API writes it; a label map must give the ids"
        )
    known = {} if category_ids is None else category_ids
    for name in names:
        if name not in known:
            raise DataError(
                f"unknown category '{one_line(name)}'{did_you_mean(name, known)}"
            )
    return [known[name] for name in names]


def _id_features(ids: Sequence[AnnotationId | None]) -> dict[str, tf_example.Feature]:
    """Numbers as numbers, which other readers know. Text, and -1 itself, beside them as text."""
    numbers = [i if isinstance(i, int) else _NO_ID for i in ids]
    features: dict[str, tf_example.Feature] = {_ANNOTATION_ID: _integers(numbers)}
    texts = [
        str(i).encode() if number == _NO_ID and i is not None else b""
        for i, number in zip(ids, numbers, strict=True)
    ]
    if any(texts):
        features[_ANNOTATION_ID_TEXT] = texts
    return features


def _annotation_ids(features: _Features, num: int) -> list[AnnotationId | None]:
    numbers = _aligned(
        _whole_numbers(features, _ANNOTATION_ID), _ANNOTATION_ID, [_NO_ID] * num
    )
    texts = _aligned(
        _texts(features, _ANNOTATION_ID_TEXT), _ANNOTATION_ID_TEXT, [b""] * num
    )
    ids: list[AnnotationId | None] = []
    for number, text in zip(numbers, texts, strict=True):
        if text:
            ids.append(id_from_text(text.decode("utf-8", "replace")))
        else:
            ids.append(None if number == _NO_ID else number)
    return ids


def _masks(
    features: _Features, num: int, height: int, width: int, with_masks: bool
) -> tuple[list[RLE | None], list[float]]:
    stored = features.get(_MASK, ())
    if not len(stored):
        return [None] * num, [0.0] * num
    weights = _aligned(_numbers(features, _MASK_WEIGHT), _MASK_WEIGHT, [1.0] * num)
    if not with_masks:
        return [None] * num, weights
    rles: list[RLE | None] = [None] * num
    if isinstance(
        stored, np.ndarray
    ):  # numbers: the older of the reference's two forms
        pixels = _mask_numbers(stored, num, height, width)
        rles = [
            encode_rle(p) if w > 0 else None
            for p, w in zip(pixels, weights, strict=True)
        ]
    else:
        pngs = _aligned(list(stored), _MASK, [b""] * num)
        rles = [
            _mask_of_png(p, height, width) if w > 0 else None
            for p, w in zip(pngs, weights, strict=True)
        ]
    return rles, weights


def _mask_numbers(stored: np.ndarray, num: int, height: int, width: int) -> np.ndarray:
    """bool [num, height, width], of masks that a record holds as numbers."""
    if stored.size != num * height * width:
        raise DataError(
            f"{stored.size} mask numbers for {num} boxes of {height} x {width} pixels"
        )
    return stored.reshape(num, height, width) > 0


def _mask_of_png(data: bytes, height: int, width: int) -> RLE:
    """The mask of an image of this size; a file of another size is not decoded."""
    _check_mask_size(data, height, width)
    if height * width > MOST_PIXELS:
        raise DataError(too_many_pixels(height, width))
    return decode_mask_png(data)


def _check_mask_size(data: bytes, height: int, width: int) -> None:
    try:
        header = read_header(data)
    except DataError as e:
        raise DataError(f"a mask is not a readable image: {e}") from None
    if (header.height, header.width) != (height, width):
        raise DataError(
            f"a mask of {[header.height, header.width]} pixels in an image of {height} x {width}"
        )


def _image_id(source_id: bytes, file_name: bytes, encoded: bytes) -> ImageId:
    text = (source_id or file_name).decode("utf-8", "surrogateescape")
    return id_from_text(text) if text else hashlib.sha256(encoded).hexdigest()


def _integers(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int64)


def _numbers(features: _Features, key: str) -> list[Any]:
    values = features.get(key, ())
    if isinstance(values, np.ndarray):
        return values.tolist()
    if len(values):
        raise DataError(f"'{key}' holds bytes where numbers belong")
    return []


def _whole_numbers(features: _Features, key: str) -> list[int]:
    values = features.get(key, ())
    if isinstance(values, np.ndarray) and values.dtype.kind == "f" and len(values):
        raise DataError(f"'{key}' holds fractions where whole numbers belong")
    return _numbers(features, key)


def _texts(features: _Features, key: str) -> list[bytes]:
    values = features.get(key, ())
    if not isinstance(values, np.ndarray):
        return list(values)
    if len(values):
        raise DataError(f"'{key}' holds numbers where bytes belong")
    return []


_T = TypeVar("_T")


def _first(values: list[_T], default: _T) -> _T:
    return values[0] if values else default


def _aligned(values: list[_T], key: str, default: list[_T]) -> list[_T]:
    """The values of all objects; where the feature is missing, the default."""
    if not values:
        return default
    if len(values) != len(default):
        raise DataError(f"'{key}' has {len(values)} values for {len(default)} boxes")
    return values
