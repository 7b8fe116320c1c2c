"""A generated data set of the size and shape of COCO's: 640 x 480, 127 kB an image, 7 polygons.

Pictures are noise over a gradient, which compresses as badly as photographs do; what matters here
is how many bytes there are. Polygons are blobs of 20 to 60 points whose sizes are spread as COCO's
are. The same seed gives the same annotation file.
"""

import json
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 480, 640
POLYGONS = 7
IMAGE_BYTES = 127_000
_QUALITY = 90
_NOISE = 14.7  # standard deviation that gives about IMAGE_BYTES
_NUM_PICTURES = 500  # that differ; the others are links to them
_CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


def write_set(folder: Path, num_images: int, seed: int = 0) -> None:
    """Writes `folder/images/*.jpg` and `folder/annotations.json`."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    names = [f"{index:012}.jpg" for index in range(num_images)]
    for index, name in enumerate(names):
        path = folder / "images" / name
        if index < _NUM_PICTURES:
            path.write_bytes(_picture(rng))
        else:
            path.hardlink_to(folder / "images" / names[index % _NUM_PICTURES])
    sizes = {"height": HEIGHT, "width": WIDTH}
    images = [{"id": i, "file_name": n, **sizes} for i, n in enumerate(names)]
    annotations = [
        {
            "id": n,
            "image_id": n // POLYGONS,
            "category_id": (1, 18)[n % 2],
            **_blob(rng),
        }
        for n in range(num_images * POLYGONS)
    ]
    lists = {"images": images, "annotations": annotations, "categories": _CATEGORIES}
    (folder / "annotations.json").write_text(json.dumps(lists))


def _picture(rng: np.random.Generator) -> bytes:
    ramp = np.linspace(60, 190, WIDTH)[None, :, None] + rng.uniform(-30, 30, 3)
    pixels = ramp + rng.normal(0, _NOISE, (HEIGHT, WIDTH, 3))
    flags = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    return cv2.imencode(".jpg", pixels.clip(0, 255).astype(np.uint8), flags)[
        1
    ].tobytes()


def _blob(rng: np.random.Generator) -> dict:
    """Polygon, box and area of an object inside the image, 12 to 400 pixels across."""
    num_points = rng.integers(20, 61)
    height, width = np.exp(rng.uniform(np.log(12), np.log(400), 1)) * rng.uniform(
        0.6, 1, 2
    )
    centre = rng.uniform(
        (width / 2, height / 2), (WIDTH - width / 2, HEIGHT - height / 2)
    )
    angles = np.sort(rng.uniform(0, 2 * np.pi, num_points))
    radii = rng.uniform(0.7, 1, num_points)
    x = (centre[0] + width / 2 * radii * np.cos(angles)).round(2)
    y = (centre[1] + height / 2 * radii * np.sin(angles)).round(2)
    area = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    left, top = float(x.min()), float(y.min())
    bbox = [left, top, round(float(x.max()) - left, 2), round(float(y.max()) - top, 2)]
    return {
        "segmentation": [np.stack([x, y], axis=1).ravel().tolist()],
        "bbox": bbox,
        "area": round(float(area), 2),
        "iscrowd": 0,
    }
