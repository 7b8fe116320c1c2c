"""A COCO results file of any size, of which a piece at a time is held."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from deepmac.data.json_batches import decode_objects
from deepmac.data.json_stream import NotAList, stream_list, stream_members
from deepmac.errors import DataError
from deepmac.evaluation.columns import Place
from deepmac.evaluation.engine import Results
from deepmac.evaluation.typed_results import TypedResult, as_dicts, decoder_like
from deepmac.text import short


class Scattered(Exception):
    """The results of an image do not stand together in their file."""


@dataclasses.dataclass(frozen=True, slots=True)
class ResultsFile:
    """A COCO results file (`.gz` too), of which a piece at a time is held.

    Attributes:
        path: of the file.
    """

    path: str

    def first(self) -> tuple[Any, str] | None:
        """The first result and what names it in an error; None if there is none.

        Raises:
            DataError: the file cannot be read, is not valid JSON, or holds something else.
        """
        for _, values in self.parts():
            results, place = self.some(0, values)
            return results[0], place(0)
        return None

    def in_order(self, num_results: int = 20_000) -> Iterator[Results]:
        """The results of whole images, of so many images together as have about `num_results`.

        They are typed where they can be, see `typed_results`.

        Raises:
            DataError: the file cannot be read or is not valid JSON.
            Scattered: an image comes back after it was given out.
        """
        done, start, held, whole = set(), 0, [], 0
        first, _ = self.first() or (None, "")
        for _, values in self.parts(decoder_like(first)):
            held += values
            whole = _before_last_image(held, len(held) - len(values), whole)
            if whole and len(held) >= num_results:
                _note_images(held[:whole], done)
                yield self.some(start, held[:whole])
                start, held, whole = start + whole, held[whole:], 0
        _note_images(held, done)
        yield self.some(start, held)

    def parts(
        self, decode: Callable[[bytes], list[Any] | None] = decode_objects
    ) -> Iterator[tuple[int, list[Any]]]:
        """The results as they stand there, some at a time: position of the first, and results.

        Args:
            decode: makes values of a list of objects, see `json_stream.stream_list`.

        Raises:
            DataError: the file cannot be read, is not valid JSON, or holds something else.
        """
        try:
            yield from stream_list(self.path, decode)
        except NotAList as e:
            raise DataError(
                f"{self._kind(e)}, not a list of results with image_id, category_id, score and "
                f"segmentation or bbox"
            ) from None

    def _kind(self, error: NotAList) -> str:
        """What the file holds."""
        what = str(error).removesuffix(", not a JSON list")
        if what.endswith("an object"):
            keys = set()
            for key, *_ in stream_members(self.path):
                if key in ("images", "categories"):
                    return f"{self.path}: holds a ground truth"
                keys.add(key)
            if "annotations" in keys:
                return (
                    f"{self.path}: holds an object with a list under 'annotations' (give that "
                    f"list alone)"
                )
        return what

    def some(self, start: int, results: list[Any]) -> Results:
        """Some neighbouring results of the file, and what names them."""
        return results, place_of(results, lambda i: f"{self.path}: result {start + i}")


def place_of(results: Sequence[Any], name: Callable[[int], str]) -> Place:
    """Names result i by its place and, where it has one, its image."""

    def place(row: int) -> str:
        (result,) = as_dicts(results[row : row + 1])
        if isinstance(result, Mapping) and "image_id" in result:
            return f"{name(row)} (image {short(result['image_id'])})"
        return name(row)

    return place


def _before_last_image(results: Sequence[Any], num_known: int, before: int) -> int:
    """How many results come before those of the last image.

    Args:
        results: of which the last ones are new.
        num_known: how many are not.
        before: the answer for these alone.
    """
    last = _image_of(results[-1])
    whole = len(results)
    while whole > num_known and _image_of(results[whole - 1]) == last:
        whole -= 1
    if whole == num_known and whole and _image_of(results[whole - 1]) == last:
        return before
    return whole


def _note_images(results: Sequence[Any], done: set[Any]) -> None:
    """Adds the images of some results to those that are done."""
    images = set(map(_image_of, results))
    if images & done:
        raise Scattered
    done |= images


def _image_of(result: Any) -> Any:
    """The id of a result's image; None where it has none that could be one."""
    if isinstance(result, TypedResult):
        return result.image_id
    image_id = result.get("image_id") if isinstance(result, dict) else None
    return image_id if isinstance(image_id, int | float | str) else None
