"""The pictures of the quickstart's page: boxes, truth and each predictor's masks, side by side."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson

from deepmac.boxes import from_xywh
from deepmac.data.decode import decode_rgb
from deepmac.gallery import Cell
from deepmac.masks import decode_rle, rle_from_segmentation
from deepmac.overlays import draw
from deepmac.samples import ShapesPaths


def draw_pictures(
    shapes: ShapesPaths,
    predictions: Mapping[str, Path],
    out: Path,
    num_pictures: int,
) -> tuple[list[str], list[list[Cell]]]:
    """Writes PNG files, one for each picture and column.

    Args:
        shapes: the generated set.
        predictions: name of each predictor -> its directory of predictions for the set's boxes.
        out: directory for the files; made if missing. The page lies beside it.
        num_pictures: how many of the set's pictures, the first ones.

    Returns:
        The headings of the columns, and for each picture one cell a column.
    """
    out.mkdir(parents=True, exist_ok=True)
    dataset = orjson.loads(shapes.annotations.read_bytes())
    names = {c["id"]: c["name"] for c in dataset["categories"]}
    seen = frozenset(shapes.seen.read_text(encoding="utf-8").split())
    found = {name: _read_predictions(path) for name, path in predictions.items()}
    rows = []
    for entry in dataset["images"][:num_pictures]:
        size = entry["height"], entry["width"]
        image = decode_rgb((shapes.images / entry["file_name"]).read_bytes())
        objects = [a for a in dataset["annotations"] if a["image_id"] == entry["id"]]
        is_seen = [names[a["category_id"]] in seen for a in objects]
        boxes = from_xywh(np.array([a["bbox"] for a in objects]).reshape(-1, 4))
        truth = _masks([a["segmentation"] for a in objects], size)
        drawn = {
            "boxes": (
                draw(image, boxes=boxes, colour_keys=is_seen),
                f"{sum(is_seen)} seen (blue), {len(is_seen) - sum(is_seen)} unseen (red)",
            ),
            "truth": (draw(image, masks=truth), f"{len(truth)} masks"),
        }
        for name, segmentations in found.items():
            masks = _masks([segmentations.get(a["id"]) for a in objects], size)
            caption = f"mean IoU {_mean_iou(masks, truth):.2f}"
            drawn[name] = draw(image, masks=masks), caption
        stem = Path(entry["file_name"]).stem
        rows.append(
            [
                _write(picture, out / f"{stem}-{name}.png", caption)
                for name, (picture, caption) in drawn.items()
            ]
        )
    return ["boxes", "truth", *found], rows


def _read_predictions(directory: Path) -> dict[int, Any]:
    """Annotation id -> COCO segmentation, of a directory that the `label` job made."""
    found = {}
    for path in sorted(directory.glob("*.jsonl.gz")):
        with gzip.open(path) as lines:
            for result in map(orjson.loads, lines):
                found[result["annotation_id"]] = result["segmentation"]
    return found


def _masks(segmentations: Sequence[Any], size: tuple[int, int]) -> list[np.ndarray]:
    """bool [H, W] each; empty where there is no segmentation."""
    return [
        np.zeros(size, bool)
        if s is None
        else decode_rle(rle_from_segmentation(s, *size))
        for s in segmentations
    ]


def _mean_iou(masks: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """Over the objects of a picture, none of which is empty."""
    pairs = list(zip(masks, truth, strict=True))
    return float(np.mean([(m & t).sum() / (m | t).sum() for m, t in pairs] or [0]))


def _write(picture: np.ndarray, path: Path, caption: str) -> Cell:
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    path.write_bytes(encoded.tobytes())
    return Cell(f"{path.parent.name}/{path.name}", caption)
