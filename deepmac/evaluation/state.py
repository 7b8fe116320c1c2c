"""What some of the images contribute to an evaluation; merges in any order, fits in a file."""

import collections
import dataclasses
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from deepmac.errors import DataError
from deepmac.evaluation.ground_truth import GroundTruth
from deepmac.evaluation.matching import Matches, ignored_by_range
from deepmac.evaluation.oracle import GivenBoxes
from deepmac.evaluation.parameters import Parameters, Scope, terms_of


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """What some images contribute: at most 16 bytes for a detection, and some for those that match.

    Ground truth and detections are kept apart: each image's ground truth is counted once, by
    whoever has it, and its detections are matched once.

    Attributes:
        terms: parameters, images and categories that it was made with, as JSON text.
        counts: events, summed (see `report.warnings_from`).
        counted_images: int32 [..], ascending positions of the images whose ground truth it counts.
        matched_images: int32 [..], ascending positions of the images whose detections it holds.
        truth_ordinal, truth_image, truth_category: of G annotations, as in `GroundTruth`.
        truth_roles: uint8 [G, (A + 1) / 8], bits: it counts in each range, and has a mask that the
            prediction for its box is to be compared with.
        given_ordinal, given_iou: int32 [..] and float64 [..], IoU of such predictions.
        image, category, score, rank: of D detections, as in `Matches`. The score is float64:
            float32 would make ties.
        outside: uint8 [D, A / 8], bits.
        matched: int32 [N], rows of the detections that have any match.
        hits, ignored: uint8 [N, A * T / 8], bits in order of range, then threshold.
        matched_ordinal, matched_iou: int32 [N] and float32 [N], the annotation that it has in the
            first range at the lowest threshold, and their IoU; -1 and 0 for none.
    """

    terms: str
    counts: collections.Counter[str]
    counted_images: np.ndarray
    matched_images: np.ndarray
    truth_ordinal: np.ndarray
    truth_image: np.ndarray
    truth_category: np.ndarray
    truth_roles: np.ndarray
    given_ordinal: np.ndarray
    given_iou: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    outside: np.ndarray
    matched: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    matched_ordinal: np.ndarray
    matched_iou: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def to_bytes(self) -> bytes:
        """The same as an uncompressed `.npz` file; `from_bytes` reads it. Holds no pickle."""
        header = orjson.dumps({"terms": self.terms, "counts": dict(self.counts)})
        buffer = io.BytesIO()
        np.savez(
            buffer,
            header=np.frombuffer(header, np.uint8),
            **{name: getattr(self, name) for name in ARRAYS},
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Partial":
        """The partial result that `to_bytes` has written.

        Raises:
            DataError: the bytes are something else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                header = orjson.loads(arrays["header"].tobytes())
                return cls(
                    terms=header["terms"],
                    counts=collections.Counter(header["counts"]),
                    **{name: arrays[name] for name in ARRAYS},
                )
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as e:
            raise DataError(f"not a partial evaluation result: {e}") from e


_OF_IMAGES = (
    *("counted_images", "matched_images"),
    *("truth_ordinal", "truth_image", "truth_category", "truth_roles"),
    *("given_ordinal", "given_iou"),
)
OF_DETECTIONS = ("image", "category", "score", "rank", "outside")
OF_MATCHES = ("hits", "ignored", "matched_ordinal", "matched_iou")
ARRAYS = (*_OF_IMAGES, *OF_DETECTIONS, "matched", *OF_MATCHES)


def empty_partial(
    parameters: Parameters, scope: Scope, counts: Mapping[str, int] | None = None
) -> Partial:
    """What no images contribute, but for events: without any, the neutral element of `merge`."""
    num_ranges = len(parameters.area_ranges)
    num_bits = num_ranges * len(parameters.iou_thresholds)
    integers, category = np.zeros(0, np.int32), np.zeros(0, _category_type(scope))
    image = np.zeros(0, np.min_scalar_type(max(len(scope.image_ids) - 1, 0)))
    match_bits = np.zeros((0, _num_bytes(num_bits)), np.uint8)
    return Partial(
        terms=terms_of(parameters, scope),
        counts=collections.Counter(counts or {}),
        counted_images=image,
        matched_images=image,
        truth_ordinal=integers,
        truth_image=image,
        truth_category=category,
        truth_roles=np.zeros((0, _num_bytes(num_ranges + 1)), np.uint8),
        given_ordinal=integers,
        given_iou=np.zeros(0),
        image=image,
        category=category,
        score=np.zeros(0),
        rank=np.zeros(0, np.min_scalar_type(parameters.max_dets[-1] - 1)),
        outside=np.zeros((0, _num_bytes(num_ranges)), np.uint8),
        matched=integers,
        hits=match_bits,
        ignored=match_bits,
        matched_ordinal=integers,
        matched_iou=np.zeros(0, np.float32),
    )


def count_truths(
    ground_truth: GroundTruth,
    images: np.ndarray,
    parameters: Parameters,
    counts: Mapping[str, int],
) -> Partial:
    """The ground truth of some images, counted.

    Args:
        ground_truth: all annotations of these images.
        images: int [..], positions of the images, those without annotations among them.
        parameters: of the evaluation.
        counts: events to keep with it.
    """
    empty = empty_partial(parameters, ground_truth.scope, counts)
    roles = list(~ignored_by_range(ground_truth, parameters))
    roles.append(~ground_truth.is_crowd & (parameters.iou_type == "segm"))
    return dataclasses.replace(
        empty,
        counted_images=np.unique(images).astype(empty.counted_images.dtype),
        truth_ordinal=ground_truth.ordinal,
        truth_image=ground_truth.image.astype(empty.truth_image.dtype),
        truth_category=ground_truth.category.astype(empty.truth_category.dtype),
        truth_roles=np.packbits(np.stack(roles, axis=-1), axis=1),
    )


def keep_matches(
    matches: Matches,
    given: GivenBoxes,
    scope: Scope,
    parameters: Parameters,
) -> Partial:
    """The matched detections of some images, packed.

    Args:
        matches: of all detections of these images.
        given: of the predictions among them that are for given boxes.
        scope, parameters: of the evaluation.
    """
    events = given.counts + collections.Counter(
        matches_lost_to_id_zero=matches.num_lost_to_id_zero
    )
    empty = empty_partial(parameters, scope, events)
    return dataclasses.replace(
        empty,
        matched_images=np.unique(matches.image).astype(empty.image.dtype),
        given_ordinal=given.ordinal,
        given_iou=given.iou,
        image=matches.image.astype(empty.image.dtype),
        category=matches.category.astype(empty.category.dtype),
        score=matches.score,
        rank=matches.rank.astype(empty.rank.dtype),
        outside=np.packbits(matches.is_outside, axis=1),
        matched=matches.matched,
        hits=_pack(matches.hits),
        ignored=_pack(matches.ignored),
        matched_ordinal=matches.matched_ordinal,
        matched_iou=matches.matched_iou,
    )


def merge(
    partials: Iterable[Partial], image_ids: Sequence[Any] | None = None
) -> Partial:
    """One partial result of several, in any order and grouping.

    Args:
        partials: at least one.
        image_ids: of the scope, to name an image in an error.

    Raises:
        DataError: they were made with different parameters, images or categories, or two of them
            hold the same image.
    """
    partials = list(partials)
    first = partials[0]
    for other in partials[1:]:
        check_terms(first.terms, other.terms)
    if len(partials) == 1:
        return first
    arrays = {
        name: np.concatenate([getattr(p, name) for p in partials]) for name in ARRAYS
    }
    for name, what in (
        ("counted_images", "ground truth"),
        ("matched_images", "detections"),
    ):
        arrays[name].sort()
        _check_once(arrays[name], what, image_ids)
    rows_before = np.cumsum([0] + [len(p.score) for p in partials[:-1]])
    arrays["matched"] = np.concatenate(
        [p.matched + n for p, n in zip(partials, rows_before, strict=True)],
        dtype=np.int32,
    )
    return Partial(
        terms=first.terms,
        counts=sum((p.counts for p in partials), collections.Counter()),
        **arrays,
    )


def by_category(partial: Partial) -> Iterator[tuple[int, Partial]]:
    """The same in pieces, each of which is merged with its like; `merge` of all gives the whole.

    Yields:
        (position, detections) of each category that has any, and (-1, the rest): images,
        annotations, events.
    """
    order = np.argsort(partial.category, kind="stable")
    categories, first = np.unique(partial.category[order], return_index=True)
    row_of_match = np.full(len(order), -1)
    row_of_match[partial.matched] = np.arange(len(partial.matched))
    nothing = {name: getattr(partial, name)[:0] for name in ARRAYS}
    for category, rows in zip(
        categories.tolist(), np.split(order, first[1:]), strict=False
    ):
        matched = np.flatnonzero(row_of_match[rows] >= 0)
        some = row_of_match[rows[matched]]
        arrays = nothing | {
            **{name: getattr(partial, name)[rows] for name in OF_DETECTIONS},
            "matched": matched.astype(np.int32),
            **{name: getattr(partial, name)[some] for name in OF_MATCHES},
        }
        yield category, Partial(partial.terms, collections.Counter(), **arrays)
    rest = nothing | {name: getattr(partial, name) for name in _OF_IMAGES}
    yield -1, Partial(partial.terms, partial.counts, **rest)


def check_terms(one: str, other: str) -> None:
    """Raises DataError, naming the first difference, unless two `terms_of` are the same."""
    if one == other:
        return
    a, b = orjson.loads(one), orjson.loads(other)
    name = next(n for n in [*a, *b] if a.get(n) != b.get(n))
    raise DataError(
        f"partial results of different evaluations do not merge: '{name}' is {a.get(name)} in one "
        f"and {b.get(name)} in another"
    )


def _check_once(images: np.ndarray, what: str, image_ids: Sequence[Any] | None) -> None:
    double = images[1:][images[1:] == images[:-1]]
    if not double.size:
        return
    position = int(double[0])
    name = f"number {position}" if image_ids is None else repr(image_ids[position])
    more = f" ({len(set(double.tolist()))} such images)" if double.size > 1 else ""
    raise DataError(f"two partial results hold the {what} of image {name}{more}")


def _category_type(scope: Scope) -> np.dtype:
    return np.min_scalar_type(max(len(scope.category_ids) - 1, 0))


def _num_bytes(num_bits: int) -> int:
    return -(-num_bits // 8)


def _pack(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits.reshape(len(bits), bits.shape[1] * bits.shape[2]), axis=1)


def unpack_bits(packed: np.ndarray, *shape: int) -> np.ndarray:
    """bool [N, *shape] of the bits [N, bytes]."""
    bits = np.unpackbits(packed, axis=1, count=int(np.prod(shape)))
    return bits.reshape(len(packed), *shape).astype(bool)
