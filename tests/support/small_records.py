"""A small set of records as `deepmac build` leaves it, or as other programs do, without running either."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from small_dataset import encode, picture

from deepmac.data import tf_example
from deepmac.data.manifest import MANIFEST, RECORDS
from deepmac.data.records import encode_example
from deepmac.data.tfrecord import frame
from deepmac.instances import Example, Instance
from deepmac.masks import encode_rle

HEIGHT, WIDTH = 48, 64
CATEGORIES = {1: "person", 2: "bicycle", 3: "car"}


def example(number: int, *, num_instances: int = 3, supervised=(1, 2, 3)) -> Example:
    """Image `number`, noise, with some filled boxes of the three categories in turn."""
    rng = np.random.default_rng(number)
    instances = []
    for n in range(num_instances):
        top, left = int(rng.integers(0, HEIGHT - 20)), int(rng.integers(0, WIDTH - 20))
        height, width = (int(v) for v in rng.integers(5, 20, 2))
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[top : top + height, left : left + width] = True
        category = n % 3 + 1
        is_known = category in supervised
        instances.append(
            Instance(
                box=(top, left, top + height, left + width),
                category_id=category,
                annotation_id=100 * number + n,
                mask_rle=encode_rle(mask) if is_known else None,
                mask_weight=float(is_known),
            )
        )
    return Example(
        image_id=number,
        file_name=f"{number}.jpg",
        height=HEIGHT,
        width=WIDTH,
        instances=tuple(instances),
        encoded=encode(picture(number, HEIGHT, WIDTH)),
    )


def record(image: Example, *, with_masks: bool = True, **changes: Any) -> bytes:
    """The tf.Example of an image; `changes` replace features (`__` for `/`), None removes them."""
    data = encode_example(image, CATEGORIES, with_masks=with_masks)
    features: dict[str, Any] = dict(tf_example.decode(data))
    for name, value in changes.items():
        key = "image/object/" + name.replace("__", "/")
        if value is None:
            features.pop(key, None)
        else:
            features[key] = value
    return tf_example.encode(features)


def write_shards(folder: Path, shards: Mapping[str, list[bytes]]) -> None:
    """Files of records, as any program leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in shards.items():
        (folder / name).write_bytes(b"".join(map(frame, records)))


def write_set(
    folder: Path,
    shards: Mapping[str, list[bytes]],
    *,
    supervised=(1, 2, 3),
    categories: Mapping[int, str] = CATEGORIES,
    with_offsets: bool = True,
    masks: int = 1,
) -> Path:
    """Shards with a manifest and commit records."""
    write_shards(folder, shards)
    (folder / "units").mkdir(exist_ok=True)
    entries = []
    for name, records in shards.items():
        data = (folder / name).read_bytes()
        lengths = [len(frame(r)) for r in records]
        counts = {"images_out": len(records), "instances_out": 1, "masks_kept": masks}
        digest = hashlib.sha256(data).hexdigest()
        entries.append(RECORDS.entry(name, len(data), digest, counts))
        stem = name.removesuffix(".tfrecord")
        commit = {
            "fingerprint": "",
            "data": {"name": name, "bytes": len(data), "sha256": digest},
            "counts": counts,
            "dead_letters": [],
            "details": {"offsets": [0, *np.cumsum(lengths)[:-1].tolist()]},
        }
        if with_offsets:
            (folder / "units" / f"{stem}.json").write_text(json.dumps(commit))
    manifest = RECORDS.head() | {
        "split": "some",
        "supervised_category_ids": sorted(supervised),
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
        "counts": {},
        RECORDS.files: entries,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def small_set(
    folder: Path, num_images: int = 10, num_shards: int = 3, **options
) -> Path:
    """`num_images` images spread over shards, ids from 0."""
    supervised = options.get("supervised", (1, 2, 3))
    shards: dict[str, list[bytes]] = {
        f"records-{s:05}-of-{num_shards:05}.tfrecord": [] for s in range(num_shards)
    }
    names = list(shards)
    for number in range(num_images):
        image = example(number, supervised=supervised)
        shards[names[number % num_shards]].append(record(image))
    return write_set(folder, shards, **options)
