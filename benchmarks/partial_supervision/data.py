"""Builds the data of the experiment: pictures, annotations and records, below one folder.

    python -m benchmarks.partial_supervision.data --data DIR [--seeds 0 1 2]

Needs `apt-get download` (Debian or Ubuntu) for the two packages that the stamps are made from, or
the packages themselves in DIR. Parts that are there are left as they are.

    DIR/debian/                          the two packages, unpacked
    DIR/SET-K/PART/annotations.json      SET: shapes, stamps; PART: train, val, test
    DIR/SET-K/PART/images/
    DIR/SET-K/seen.txt                   categories whose masks may train; of `both` too
    DIR/both-K/train/annotations.json    the pictures of the other two, in turn
    DIR/records/SET-K-{seen,all}/        for training: masks of the seen categories, or all
"""

import argparse
import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson

from benchmarks.partial_supervision import compose, splits, sprites
from deepmac.errors import DataError, DeepmacError, OptionError
from deepmac.masks import encode_rle
from deepmac.samples import write_shapes
from deepmac.samples.catalogue import KINDS

SETS = ("shapes", "stamps", "both")
NUM_IMAGES = {"train": 1000, "val": 60, "test": 100}
FIRST_STAMP_ID = 1_000_000
"""Ids of pictures and annotations of the stamps begin above it; `both` holds those of two sets."""
_NUM_SHARDS = 4
NUM_CLASSES = sprites.FIRST_CATEGORY_ID - 1 + len(sprites.CATEGORIES)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where the data of a set and a seed lie.

    Attributes:
        root: the folder of all data.
        name: of the set, one of `SETS`.
        seed: number of the split.
    """

    root: Path
    name: str
    seed: int

    @property
    def folder(self) -> Path:
        return self.root / f"{self.name}-{self.seed}"

    @property
    def seen(self) -> Path:
        """Names of the seen categories, one a line."""
        return self.folder / "seen.txt"

    def annotations(self, part: str) -> Path:
        return self.folder / part / "annotations.json"

    def images(self, part: str) -> Path:
        """The folder that the file names of the annotations start at."""
        return self.root if self.name == "both" else self.folder / part / "images"

    def records(self, supervision: str) -> Path:
        """For training with masks of the `seen` categories, or of `all`."""
        return self.root / "records" / f"{self.name}-{self.seed}-{supervision}"


def seen_ids(place: Place) -> list[int]:
    """Category ids whose masks may train."""
    names = place.seen.read_text().splitlines()
    ids = {kind.name: kind.id for kind in KINDS} | sprites.category_ids()
    return sorted(ids[name] for name in names)


def build(root: Path, seeds: Sequence[int]) -> None:
    """Builds what is missing.

    Raises:
        DataError: a package cannot be had.
    """
    unpacked = unpack_packages(root)
    cv2.setNumThreads(1)
    for seed in seeds:
        write_stamps(unpacked, Place(root, "stamps", seed))
        write_shapes_parts(Place(root, "shapes", seed))
        join(root, seed)
        for name, supervision in (
            ("stamps", "seen"),
            ("stamps", "all"),
            ("shapes", "seen"),
            ("shapes", "all"),
            ("both", "seen"),
        ):
            write_records(Place(root, name, seed), supervision)


def unpack_packages(root: Path) -> Path:
    """The folder that holds both packages, fetched and unpacked if they are not there yet."""
    unpacked = root / "debian"
    if (unpacked / "complete").exists():
        return unpacked
    unpacked.mkdir(parents=True, exist_ok=True)
    for package in sprites.PACKAGES:
        found = sorted(root.glob(f"{package}_*.deb"))
        if not found:
            _run("apt-get", "download", package, cwd=root)
            found = sorted(root.glob(f"{package}_*.deb"))
        _run("dpkg-deb", "--extract", str(found[-1]), str(unpacked))
    (unpacked / "complete").touch()
    return unpacked


def _run(*command: str, cwd: Path | None = None) -> None:
    if shutil.which(command[0]) is None:
        raise DataError(
            f"{command[0]}: no such command; the stamps are made on Debian or Ubuntu, or from "
            f"a data folder that was made there"
        )
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise DataError(f"{' '.join(command)}: failed: {reason}")


def write_stamps(unpacked: Path, place: Place) -> None:
    """All parts of the stamps of one seed."""
    if all(place.annotations(part).exists() for part in splits.PARTS):
        return
    found = sprites.find_sprites(unpacked)
    category_of = {sprite.name: sprite.category for sprite in found}
    grounds = sprites.find_photographs(unpacked)
    split = splits.stamps_split(place.seed, category_of, grounds)
    _write_names(place.seen, split.seen)
    for number, part in enumerate(splits.PARTS):
        if place.annotations(part).exists():
            continue
        cut_outs = {
            s.name: sprites.load_sprite(unpacked, s)
            for s in found
            if s.name in split.sprites[part]
        }
        photographs = {
            name: sprites.load_photograph(unpacked, name)
            for name in split.photographs[part]
        }
        place.images(part).mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for index in range(NUM_IMAGES[part]):
            rng = np.random.default_rng([place.seed, number, index])
            picture = compose.compose(rng, cut_outs, photographs)
            image_id = FIRST_STAMP_ID + index + 1
            name = f"{image_id}.jpg"
            (place.images(part) / name).write_bytes(compose.encode_jpeg(picture.image))
            images.append(_image_entry(image_id, name) | {"photograph": picture.ground})
            for entry in _annotations(picture, category_of):
                annotation_id = FIRST_STAMP_ID + len(annotations) + 1
                annotations.append({"id": annotation_id, "image_id": image_id, **entry})
        categories = [{"id": i, "name": n} for n, i in sprites.category_ids().items()]
        _write_dataset(place.annotations(part), images, annotations, categories)


def _annotations(
    picture: compose.Picture, category_of: dict[str, str]
) -> Iterator[dict[str, Any]]:
    ids = sprites.category_ids()
    for name, mask in zip(picture.names, picture.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left = int(rows[0]), int(columns[0])
        rle = encode_rle(mask)
        yield {
            "category_id": ids[category_of[name]],
            "sprite": name,
            "iscrowd": 0,
            "area": int(mask.sum()),
            "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
            "segmentation": {
                "size": rle["size"],
                "counts": rle["counts"].decode("ascii"),
            },
        }


def write_shapes_parts(place: Place) -> None:
    """All parts of the shapes of one seed."""
    sizes = {kind.name: 1 for kind in KINDS}
    first = frozenset(kind.name for kind in KINDS if kind.is_seen)
    place.folder.mkdir(parents=True, exist_ok=True)
    _write_names(place.seen, splits.seen_half(place.seed, sizes, first))
    for number, part in enumerate(splits.PARTS):
        if not place.annotations(part).exists():
            seed = 1000 + len(splits.PARTS) * place.seed + number
            write_shapes(place.folder / part, NUM_IMAGES[part], seed=seed)


def join(root: Path, seed: int) -> None:
    """The training pictures of both sets, in turn, and the seen categories of both."""
    shapes, stamps = Place(root, "shapes", seed), Place(root, "stamps", seed)
    both = Place(root, "both", seed)
    if both.annotations("train").exists():
        return
    both.annotations("train").parent.mkdir(parents=True, exist_ok=True)
    both.seen.write_text(shapes.seen.read_text() + stamps.seen.read_text())
    joined: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    for place in (shapes, stamps):
        dataset = orjson.loads(place.annotations("train").read_bytes())
        folder = place.images("train").relative_to(root)
        for image in dataset["images"]:
            image["file_name"] = f"{folder}/{image['file_name']}"
        for key, values in joined.items():
            values += dataset[key]
    _write_dataset(both.annotations("train"), **joined)


def write_records(place: Place, supervision: str) -> None:
    """The training part of a set as records."""
    out = place.records(supervision)
    if (out / "manifest.json").exists():
        return  # the job writes it last
    split = f"@{place.seen}" if supervision == "seen" else "all"
    command = [sys.executable, "-m", "deepmac", "build"]
    command += ["--annotations", str(place.annotations("train"))]
    command += ["--images", str(place.images("train")), "--out", str(out)]
    command += ["--split", split, "--num_shards", str(_NUM_SHARDS), "--name", "train"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"{out}: {done.stderr.strip().splitlines()[-1]}")


def _image_entry(image_id: int, file_name: str) -> dict[str, Any]:
    side = compose.SIDE
    return {"id": image_id, "file_name": file_name, "height": side, "width": side}


def _write_names(path: Path, names: Sequence[str] | frozenset[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in sorted(names)))


def _write_dataset(
    path: Path, images: list[Any], annotations: list[Any], categories: list[Any]
) -> None:
    """Last, and whole: the file's presence says that the part is complete."""
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(dataset))
    unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    try:
        if min(options.seeds) < 0:
            raise OptionError(f"seeds must not be negative, got {min(options.seeds)}")
        build(options.data.absolute(), options.seeds)
    except DeepmacError as e:
        sys.exit(f"error: {e}")


if __name__ == "__main__":
    main()
