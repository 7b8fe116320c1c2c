"""What a predictor makes of the ground-truth boxes of a test set.

python -m benchmarks.partial_supervision.score --data DIR --predictor grabcut --set stamps --seed 0
"""

import argparse
import dataclasses
import hashlib
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

import deepmac
from benchmarks.partial_supervision import statistics
from benchmarks.partial_supervision.data import Place, seen_ids
from deepmac.errors import DataError, DeepmacError
from deepmac.evaluation.engine import evaluate
from deepmac.evaluation.ground_truth import read_ground_truth, read_scope
from deepmac.evaluation.parameters import Parameters
from deepmac.instances import Example, Instance
from deepmac.label import Settings, label_images
from deepmac.predictors import CLASSICAL, CheckedPredictor, open_predictor

RESULTS = Path(__file__).parent / "results"
GROUPS = ("seen", "unseen")
_DIGITS = 4


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """The N annotations of a test set, in the order of their file.

    Attributes:
        set_name, seed: of the data.
        digest: of the annotations: results of equal digests can be paired.
        category_ids: int [N].
        is_seen: bool [N], whether masks of the category trained.
        clusters: what to draw in a bootstrap: the sprite, or `seed/image` for shapes.
    """

    set_name: str
    seed: int
    digest: str
    category_ids: np.ndarray
    is_seen: np.ndarray
    clusters: Sequence[str]

    def group(self, name: str) -> np.ndarray:
        """bool [N], the instances of a group."""
        return self.is_seen if name == "seen" else ~self.is_seen


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The outcome for one test set.

    Attributes:
        iou: float [N], of each annotation's mask and the one predicted for its box.
        ap: mask AP by group with the ground truth's boxes and categories.
        num_empty: predicted masks without a pixel.
    """

    iou: np.ndarray
    ap: dict[str, float]
    num_empty: int


def read_instances(place: Place, part: str = "test") -> Instances:
    """The annotations that predictors are tested on."""
    content = place.annotations(part).read_bytes()
    annotations = orjson.loads(content)["annotations"]
    categories = np.array([a["category_id"] for a in annotations])
    return Instances(
        set_name=place.name,
        seed=place.seed,
        digest=hashlib.sha256(content).hexdigest()[:16],
        category_ids=categories,
        is_seen=np.isin(categories, seen_ids(place)),
        clusters=[
            a.get("sprite") or f"{place.seed}/{a['image_id']}" for a in annotations
        ],
    )


def score(
    predictor: CheckedPredictor,
    place: Place,
    part: str = "test",
    num_images: int | None = None,
) -> Scores:
    """Asks a predictor for the masks of all boxes of a part, or of its first images.

    Raises:
        DataError: it fails on a picture.
    """
    dataset = orjson.loads(place.annotations(part).read_bytes())
    dataset["images"] = dataset["images"][:num_images]
    kept = {image["id"] for image in dataset["images"]}
    dataset["annotations"] = [
        a for a in dataset["annotations"] if a["image_id"] in kept
    ]
    results, num_empty = [], 0
    asked = examples(dataset, place.images(part))
    for labels in label_images(asked, predictor, Settings()):
        if labels.failure:
            raise DataError(f"{predictor.name}: {place.name}: {labels.failure}")
        results += labels.rows
        num_empty += labels.num_empty
    return judge(dataset, results, seen_ids(place), num_empty)


def judge(
    dataset: Any, results: list[dict[str, Any]], seen: Sequence[int], num_empty: int = 0
) -> Scores:
    """Scores from COCO results that carry `annotation_id`, one for each annotation.

    Args:
        dataset: of COCO.
        results: COCO results; categories are taken from the annotations.
        seen: category ids.
        num_empty: passed on.
    """
    category_of = {a["id"]: a["category_id"] for a in dataset["annotations"]}
    results = [{**r, "category_id": category_of[r["annotation_id"]]} for r in results]
    parameters = Parameters()
    scope = read_scope(dataset, parameters, "test set")
    truths, counts = read_ground_truth(dataset, parameters, "test set")
    units = [(results, lambda i: f"result {i}")]
    evaluation = evaluate(truths, scope, units, "mask", parameters, counts)
    *_, ious = evaluation.given_box_ious()
    iou_of = dict(zip(truths.annotation_ids, np.nan_to_num(ious), strict=True))
    present = set(category_of.values())
    groups = {"seen": present & set(seen), "unseen": present - set(seen)}
    return Scores(
        iou=np.array([iou_of[a["id"]] for a in dataset["annotations"]]),
        ap={name: evaluation.stats_of(ids)["AP"] for name, ids in groups.items()},
        num_empty=num_empty,
    )


def summarise(scores: Scores, instances: Instances) -> dict[str, Any]:
    """What a result file says of one test set; plain values."""
    summary: dict[str, Any] = {
        "set": instances.set_name,
        "seed": instances.seed,
        "instances_digest": instances.digest,
        "num_empty": scores.num_empty,
    }
    for name in GROUPS:
        rows = instances.group(name)
        clusters = np.array(instances.clusters)[rows]
        figures = statistics.estimate(scores.iou[rows], clusters)
        summary[name] = {
            "mean_iou": round(figures.mean, _DIGITS),
            "interval": [round(figures.low, _DIGITS), round(figures.high, _DIGITS)],
            "mask_ap": round(scores.ap[name], _DIGITS),
            "instances": figures.num_instances,
            "clusters": figures.num_clusters,
        }
    summary["iou"] = scores.iou.round(_DIGITS).tolist()
    return summary


def versions() -> dict[str, str]:
    """Of what decides the figures."""
    import cv2

    return {
        "deepmac": deepmac.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def write_json(path: Path, value: Any) -> None:
    """A small file that reads and compares well: one line for each key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{orjson.dumps(key).decode()}: {orjson.dumps(entry).decode()}"
        for key, entry in value.items()
    ]
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    unfinished.replace(path)


def write_instances(instances: Instances, folder: Path = RESULTS) -> None:
    """What pairing and the bootstrap need to know of a test set, without the set."""
    names = sorted(set(instances.clusters))
    number = {name: i for i, name in enumerate(names)}
    path = folder / "instances" / f"{instances.set_name}-{instances.seed}.json"
    value = {
        "set": instances.set_name,
        "seed": instances.seed,
        "digest": instances.digest,
        "seen_category_ids": np.unique(
            instances.category_ids[instances.is_seen]
        ).tolist(),
        "category_ids": instances.category_ids.tolist(),
        "cluster_names": names,
        "clusters": [number[name] for name in instances.clusters],
    }
    write_json(path, value)


def examples(dataset: Any, folder: Path) -> Iterator[Example]:
    """What predictors are asked: the boxes of a COCO data set, on its pictures in a folder."""
    found: dict[int, list[Instance]] = {image["id"]: [] for image in dataset["images"]}
    for a in dataset["annotations"]:
        left, top, width, height = a["bbox"]
        found[a["image_id"]].append(
            Instance(
                box=(top, left, top + height, left + width),
                category_id=a["category_id"],
                annotation_id=a["id"],
            )
        )
    for image in dataset["images"]:
        yield Example(
            image_id=image["id"],
            file_name=image["file_name"],
            height=image["height"],
            width=image["width"],
            instances=tuple(found[image["id"]]),
            encoded=(folder / image["file_name"]).read_bytes(),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--predictor", choices=CLASSICAL, required=True)
    parser.add_argument(
        "--set", dest="name", choices=("shapes", "stamps"), required=True
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    options = parser.parse_args()
    try:
        place = Place(options.data.absolute(), options.name, options.seed)
        if not place.annotations("test").exists():
            raise DataError(
                f"{place.annotations('test')}: no such file; make it with "
                f"python -m benchmarks.partial_supervision.data --data {options.data}"
            )
        began = time.process_time()
        scores = score(open_predictor(options.predictor), place)
        instances = read_instances(place)
        write_instances(instances, options.out)
        summary = summarise(scores, instances)
        name = f"{options.predictor}-{options.name}-{options.seed}"
        write_json(
            options.out / f"{name}.json",
            {
                "run": name,
                "method": options.predictor,
                "cpu_seconds": round(time.process_time() - began, 1),
                "versions": versions(),
                "tests": [summary],
            },
        )
    except DeepmacError as e:
        sys.exit(f"error: {e}")
    for group in GROUPS:
        print(name, group, summary[group])


if __name__ == "__main__":
    main()
