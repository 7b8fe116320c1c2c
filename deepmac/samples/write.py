"""The `shapes` set on disk: pictures, COCO annotations, and the names of its two groups."""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import orjson

from deepmac.errors import DataError, OptionError, one_of
from deepmac.masks import encode_rle
from deepmac.samples.catalogue import KINDS
from deepmac.samples.scene import Scene, compose
from deepmac.samples.tracing import exact_polygons

_ENTRIES = {
    "images",
    "annotations.json",
    "annotations.tmp",
    "seen.txt",
    "unseen.txt",
}
_VERSION = 1
"""Raised when the same options give other pictures than before."""


class ShapesPaths(NamedTuple):
    """Where a set lies. `seen` and `unseen` hold category names, one a line (`--split @FILE`)."""

    annotations: Path
    images: Path
    seen: Path
    unseen: Path


@dataclasses.dataclass(frozen=True, slots=True)
class _Recipe:
    """All that decides the bytes of a set."""

    num_images: int
    height: int
    width: int
    seed: int
    crowds: float
    version: int = _VERSION

    def __post_init__(self):
        if self.num_images < 1:
            raise OptionError(f"num_images must be at least 1, got {self.num_images}")
        if min(self.height, self.width) < 64:
            raise OptionError(
                f"size must be at least 64 pixels a side, got {self.height} x {self.width}"
            )
        if self.seed < 0:
            raise OptionError(f"seed must not be negative, got {self.seed}")
        if not 0 <= self.crowds <= 1:
            raise OptionError(f"crowds must lie in 0..1, got {self.crowds}")


def write_shapes(
    out_dir: str | os.PathLike,
    num_images: int,
    *,
    size: int | tuple[int, int] = 256,
    seed: int = 0,
    crowds: float = 0.0,
    num_workers: int = 1,
    on_image: Callable[[int], None] = lambda num_done: None,
) -> ShapesPaths:
    """Generates a set, or finds it already there.

    Picture k depends on the seed, the size and k alone: a longer set begins with the pictures of
    a shorter one. Equal options give equal bytes, whatever `num_workers` is, for one version of
    NumPy and OpenCV and one type of processor.

    Instances without a hole have polygons, those with holes compressed run lengths, crowds
    uncompressed ones; all three say exactly which pixels show the object.

    Args:
        out_dir: made if missing. A complete set of the same options is left as it is.
        num_images: pictures.
        size: pixels: the side, or (height, width).
        seed: decides everything.
        crowds: the fraction of pictures that hold a crowd.
        num_workers: processes.
        on_image: called with the number of pictures done, after each.

    Raises:
        OptionError: a value makes no sense.
        DataError: `out_dir` holds a set made with other options, or something else.
    """
    height, width = (size, size) if isinstance(size, int) else size
    recipe = _Recipe(num_images, height, width, seed, crowds)
    out = Path(out_dir)
    paths = ShapesPaths(
        out / "annotations.json", out / "images", out / "seen.txt", out / "unseen.txt"
    )
    if _is_complete(out, recipe):
        return paths
    try:
        paths.images.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"{out}: cannot write there: {e.strerror}") from None
    for path, is_seen in ((paths.seen, True), (paths.unseen, False)):
        names = [kind.name for kind in KINDS if kind.is_seen == is_seen]
        path.write_text("".join(f"{name}\n" for name in names))
    images, annotations = [], []
    for index, found in enumerate(_pictures(recipe, paths.images, num_workers)):
        images.append(_image_entry(recipe, index))
        for entry in found:
            annotations.append({"id": len(annotations) + 1, **entry})
        on_image(index + 1)
    dataset = {
        "info": _info(recipe),
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": kind.id, "name": kind.name, "supercategory": kind.supercategory}
            for kind in KINDS
        ],
    }
    # Last, and whole: its presence says that the set is complete.
    unfinished = paths.annotations.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(dataset))
    unfinished.replace(paths.annotations)
    return paths


def _is_complete(out: Path, recipe: _Recipe) -> bool:
    if not out.is_dir():
        return False
    strange = sorted(e.name for e in out.iterdir() if e.name not in _ENTRIES)
    if strange:
        raise DataError(
            f"{out}: holds {one_of(strange, limit=3)}, which a generated set does not; "
            f"name another directory"
        )
    if not (out / "annotations.json").exists():
        return False
    try:
        found = orjson.loads((out / "annotations.json").read_bytes())["info"]["recipe"]
        differs = {k: v for k, v in dataclasses.asdict(recipe).items() if found[k] != v}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise DataError(
            f"{out / 'annotations.json'}: is not of a generated set; name another directory"
        ) from None
    if differs:
        name, value = next(iter(differs.items()))
        raise DataError(
            f"{out}: holds a set with {name}={found[name]}, asked for {value}; name another "
            f"directory, or remove this one"
        )
    return True


def _pictures(
    recipe: _Recipe, folder: Path, num_workers: int
) -> Iterator[list[dict[str, Any]]]:
    """Writes the pictures; yields the annotations of each, in order."""
    work = functools.partial(_write_picture, recipe, folder)
    if num_workers == 1:
        yield from map(work, range(recipe.num_images))
        return
    # Spawned, not forked: the caller may have threads, and forked ones deadlock.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(num_workers, context) as pool:
        yield from pool.map(work, range(recipe.num_images), chunksize=4)


def _write_picture(recipe: _Recipe, folder: Path, index: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng([recipe.seed, index])
    has_crowd = rng.random() < recipe.crowds
    scene = compose(rng, recipe.height, recipe.width, has_crowd=has_crowd)
    flags = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 91))]
    _, encoded = cv2.imencode(".jpg", scene.image[..., ::-1], flags)
    (folder / _file_name(index)).write_bytes(encoded.tobytes())
    return list(_annotations(scene, index + 1))


def _annotations(scene: Scene, image_id: int) -> Iterator[dict[str, Any]]:
    for category_id, is_crowd, mask in zip(
        scene.category_ids, scene.is_crowd, scene.masks, strict=True
    ):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left = int(rows[0]), int(columns[0])
        yield {
            "image_id": image_id,
            "category_id": category_id,
            "iscrowd": int(is_crowd),
            "area": int(mask.sum()),
            "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
            "segmentation": _segmentation(mask, is_crowd),
        }


def _segmentation(mask: np.ndarray, is_crowd: bool) -> Any:
    if is_crowd:
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(np.diff(flat, prepend=False, append=~flat[-1]))
        counts = np.diff(changes, prepend=0).tolist()
        return {"size": list(mask.shape), "counts": counts}
    polygons = exact_polygons(mask)
    if polygons is not None:
        return polygons
    rle = encode_rle(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _image_entry(recipe: _Recipe, index: int) -> dict[str, Any]:
    return {
        "id": index + 1,
        "file_name": _file_name(index),
        "height": recipe.height,
        "width": recipe.width,
    }


def _file_name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _info(recipe: _Recipe) -> dict[str, Any]:
    return {"description": "deepmac shapes", "recipe": dataclasses.asdict(recipe)}
