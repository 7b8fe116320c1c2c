"""A set as large as COCO val2017 with detections as a detector leaves them, the same every time.

5,000 images of 640 x 480 (some upright) with about 36,700 objects of 80 categories, and 100
detections an image as RLE: most objects are met once, some twice, some by a part or under another
category, and the rest lies anywhere. As after non-maximum suppression, about one detection in
twelve matches anything.
"""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pycocotools import mask as coco_mask

from deepmac.data.manifest import MANIFEST, PREDICTIONS

NUM_CATEGORIES = 80
OBJECTS_PER_IMAGE = 7.34
DETECTIONS_PER_IMAGE = 100
SHARDS = 20


def write_set(
    folder: Path,
    num_images: int = 5000,
    seed: int = 0,
    *,
    num_different: int | None = None,
) -> None:
    """Writes `annotations.json`, `results.json`, and the results once more as `predictions/`.

    The last is a directory of predictions, as `deepmac label` makes, of some units. Memory is that
    of the annotations.

    Args:
        folder: to write to.
        num_images: of the set.
        seed: of all that is drawn.
        num_different: images; the rest repeat them, under ids and with scores of their own. All by
            default.
    """
    predictions = folder / "predictions"
    predictions.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images, annotations, entries, kept = [], [], [], []
    starts = np.linspace(0, num_images, SHARDS + 1).astype(int).tolist()
    with open(folder / "results.json", "wb") as file:
        file.write(b"[")
        for shard, stop in enumerate(starts[1:]):
            lines = bytearray()
            while len(images) < stop:
                number = len(images)
                if number < (num_different or num_images):
                    image, truths, results = _image(rng, number, len(annotations))
                    kept.append((image, truths, results) if num_different else None)
                else:
                    image, truths, results = _again(
                        rng, kept[number % num_different], number, len(annotations)
                    )
                images.append(image)
                annotations += truths
                for result in results:
                    text = orjson.dumps(result)
                    file.write(b",\n" * (file.tell() > 1) + text)
                    lines += text + b"\n"
            name = f"predictions-{shard:05d}-of-{SHARDS:05d}.jsonl.gz"
            packed = gzip.compress(lines, 1, mtime=0)
            (predictions / name).write_bytes(packed)
            digest = hashlib.sha256(packed).hexdigest()
            entries.append(PREDICTIONS.entry(name, len(packed), digest, {}))
        file.write(b"]")
    categories = [{"id": k, "name": f"c{k}"} for k in range(1, NUM_CATEGORIES + 1)]
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_bytes(orjson.dumps(dataset))
    manifest = {**PREDICTIONS.head(), PREDICTIONS.files: entries, "counts": {}}
    (predictions / MANIFEST).write_bytes(orjson.dumps(manifest))


def set_in(folder: Path, num_images: int) -> Path:
    """A folder with the set, which is written if it is not there."""
    if not (folder / "results.json").exists():
        write_set(folder, num_images)
    return folder


def _image(
    rng: np.random.Generator, index: int, num_annotations: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """An image, its annotations and its results."""
    height, width = (480, 640) if rng.random() < 0.75 else (640, 480)
    image = {
        "id": _image_id(index),
        "height": height,
        "width": width,
        "file_name": f"{index:06d}.jpg",
    }
    shape = np.array([width, height])
    # Few images hold many objects
    number = min(rng.poisson(rng.gamma(1.2, OBJECTS_PER_IMAGE / 1.2)), 60)
    truths, found = [], []
    for k in range(number):
        radius, outline = _outline(rng, shape)
        category = 1 + int(rng.geometric(0.06)) % NUM_CATEGORIES
        truths.append(
            _annotation(num_annotations + k + 1, image, category, outline, rng)
        )
        found += _detections_of(rng, radius, outline, category)
    found = found[:DETECTIONS_PER_IMAGE]
    while len(found) < DETECTIONS_PER_IMAGE:
        category = int(rng.integers(1, NUM_CATEGORIES + 1))
        found.append((category, float(rng.beta(1, 6)), _outline(rng, shape)[1]))
    return image, truths, [_result(image, *f) for f in found]


def _again(
    rng: np.random.Generator, of: Any, index: int, num_annotations: int
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """An image like one before, with its annotations and results."""
    image, truths, results = of
    image = image | {"id": _image_id(index), "file_name": f"{index:06d}.jpg"}
    ids = {"image_id": image["id"]}
    again = [t | ids | {"id": num_annotations + k} for k, t in enumerate(truths, 1)]
    scores = rng.uniform(0.9, 1, len(results)).tolist()
    found = [
        r | ids | {"score": r["score"] * s}
        for r, s in zip(results, scores, strict=True)
    ]
    return image, again, found


def _image_id(index: int) -> int:
    return index * 113 % 1_000_003 + 1


def _outline(rng: np.random.Generator, shape: np.ndarray) -> tuple[float, np.ndarray]:
    """Radius in pixels and float64 [P, 2] points (x, y) of a shape somewhere in the image."""
    radius = min(float(np.exp(rng.normal(3.6, 0.9))), 220.0)
    number = int(rng.integers(12, 40))
    angle = np.linspace(0, 2 * np.pi, number, endpoint=False)
    reach = radius * (0.6 + 0.4 * rng.random((number, 1)))
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return radius, np.clip(rng.uniform(0, shape) + reach * rays, 0, shape - 1)


def _detections_of(
    rng: np.random.Generator, radius: float, outline: np.ndarray, category: int
) -> Iterator[tuple[int, float, np.ndarray]]:
    """(category, score, outline) of what a detector makes of an object."""

    def near(by: float) -> np.ndarray:
        shift = rng.normal(0, radius * by / 2, 2)
        return outline + shift + rng.normal(0, radius * by / 2, outline.shape)

    if rng.random() < 0.85:
        yield category, float(rng.beta(4, 2)), near(0.1)
    if rng.random() < 0.2:  # once more
        yield category, float(rng.beta(2, 4)), near(0.25)
    for _ in range(int(rng.poisson(1.0))):  # a part, or much more than it
        center = outline.mean(axis=0)
        part = center + (near(0.2) - center) * rng.uniform(0.3, 0.7)
        yield category, float(rng.beta(1, 5)), part
    if rng.random() < 0.3:  # as something else
        other = int(rng.integers(1, NUM_CATEGORIES + 1))
        yield other, float(rng.beta(1, 4)), near(0.1)


def _annotation(
    annotation_id: int,
    image: dict[str, Any],
    category: int,
    outline: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Any]:
    polygon = np.round(outline, 2).ravel().tolist()
    rle = _rle(image, outline)
    is_crowd = rng.random() < 0.012
    return {
        "id": annotation_id,
        "image_id": image["id"],
        "category_id": category,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": float(coco_mask.area(rle)),
        "iscrowd": int(is_crowd),
        "segmentation": _uncompressed(rle) if is_crowd else [polygon],
    }


def _result(
    image: dict[str, Any], category: int, score: float, outline: np.ndarray
) -> dict[str, Any]:
    rle = _rle(image, outline)
    return {
        "image_id": image["id"],
        "category_id": category,
        "score": round(score, 5),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }


def _rle(image: dict[str, Any], outline: np.ndarray) -> Any:
    height, width = image["height"], image["width"]
    inside = np.clip(np.round(outline, 2), 0, [width - 1, height - 1])
    return coco_mask.frPyObjects([inside.ravel().tolist()], height, width)[0]


def _uncompressed(rle: Any) -> dict[str, Any]:
    pixels = coco_mask.decode(rle).ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels, prepend=0))
    runs = np.diff([0, *edges, len(pixels)]).tolist()
    return {"size": rle["size"], "counts": runs}
