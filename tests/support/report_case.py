"""A small evaluation with pictures, and with names that would break a page which trusts them."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from deepmac.masks import decode_rle, encode_rle, rle_from_segmentation
from deepmac.samples import write_shapes

NASTY = "</script><script>alert(1)</script>\"'&{}"
NASTY_FILE = '"><img src=x onerror=alert(1)>.jpg'


def write_case(folder: Path, *, for_given_boxes: bool = False) -> dict[str, Any]:
    """Six pictures with truth and results; returns options of `evaluate` that name them.

    Results are the true masks, moved. The first category and the first picture have nasty names.
    Every fifth object has no result; every seventh result is of another category, unless results
    are for given boxes.
    """
    shapes = write_shapes(folder, num_images=6, seed=1, size=96)
    truth = orjson.loads(shapes.annotations.read_bytes())
    first = truth["images"][0]
    (shapes.images / first["file_name"]).rename(shapes.images / NASTY_FILE)
    first["file_name"] = NASTY_FILE
    truth["categories"][0]["name"] = NASTY
    shapes.annotations.write_bytes(orjson.dumps(truth))
    categories = [c["id"] for c in truth["categories"]]
    results = []
    for number, a in enumerate(truth["annotations"]):
        if number % 5 == 4:
            continue
        mask = decode_rle(rle_from_segmentation(a["segmentation"], 96, 96))
        x, y, width, height = a["bbox"]
        result = {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "score": round(0.3 + 0.07 * (number % 10), 2),
            "bbox": [x + number % 4, y, width, height],
            "segmentation": as_json(np.roll(mask, number % 4, axis=1)),
        }
        if for_given_boxes:
            result["annotation_id"] = a["id"]
        elif number % 7 == 6:
            place = (categories.index(a["category_id"]) + 1) % len(categories)
            result["category_id"] = categories[place]
        results.append(result)
    (folder / "results.json").write_bytes(orjson.dumps(results))
    return {
        "ground_truth": str(shapes.annotations),
        "predictions": str(folder / "results.json"),
        "images": str(shapes.images),
        "seen": f"@{shapes.seen}",
        "gallery": 4,
    }


def as_json(mask: np.ndarray) -> dict[str, Any]:
    """A mask as compressed run lengths that JSON holds."""
    rle = encode_rle(mask)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}
