"""A small COCO data set on disk, to be spoilt by tests in every way."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
CATEGORIES = (
    {"id": 1, "name": "person"},
    {"id": 18, "name": "dog"},
    {"id": 90, "name": "toothbrush"},
)


def picture(
    seed: int, height: int = HEIGHT, width: int = WIDTH, mode: str = "RGB"
) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def square(x: float, y: float, side: float) -> dict[str, Any]:
    """`bbox` and `segmentation` of a square."""
    far, low = x + side, y + side
    return {
        "bbox": [x, y, side, side],
        "segmentation": [[x, y, far, y, far, low, x, low]],
    }


class SmallDataset:
    """`num_images` images, every third a PNG, with two annotations each; ids 100, 101, ...

    Annotation 2k lies in image k, category 1 or 18; annotation 2k + 1 is of category 90, and its
    mask is given as run lengths. Change `images`, `annotations`, `categories` and `files`, then
    `write`.
    """

    def __init__(self, folder: Path, num_images: int = 12):
        self.folder = folder
        self.images: list[Any] = []
        self.annotations: list[Any] = []
        self.categories: list[Any] = list(CATEGORIES)
        self.files: dict[str, bytes] = {}
        for index in range(num_images):
            kind = "PNG" if index % 3 == 2 else "JPEG"
            name = f"größe {index}.{kind.lower()}"
            self.files[name] = encode(picture(index), kind)
            self.images.append(
                {"id": 100 + index, "file_name": name, "height": HEIGHT, "width": WIDTH}
            )
            self.annotate(
                2 * index, 100 + index, (1, 18)[index % 2], square(2, 3, 5 + index % 7)
            )
            runs = {"size": [HEIGHT, WIDTH], "counts": [50, 100, HEIGHT * WIDTH - 150]}
            shape = {"bbox": [2, 0, 5, 24], "segmentation": runs, "iscrowd": index % 2}
            self.annotate(2 * index + 1, 100 + index, 90, shape)

    def annotate(
        self, number: int, image_id: Any, category_id: int, shape: dict[str, Any]
    ) -> None:
        ids = {"id": number, "image_id": image_id, "category_id": category_id}
        self.annotations.append({"area": 25.5, "iscrowd": 0} | ids | shape)

    def write(self) -> "SmallDataset":
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (self.folder / "images" / name).write_bytes(data)
        self.path.write_text(
            json.dumps(
                {
                    "info": {"year": 2017},
                    "images": self.images,
                    "annotations": self.annotations,
                    "categories": self.categories,
                }
            )
        )
        return self

    @property
    def path(self) -> Path:
        return self.folder / "annotations.json"

    @property
    def flags(self) -> list[str]:
        return [f"--annotations={self.path}", f"--images={self.folder / 'images'}"]
