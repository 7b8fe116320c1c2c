"""Cases as files: what the evaluation jobs are given, and what they have written."""

import gzip
import json
from pathlib import Path

from coco_reference import Case

from deepmac.data.manifest import PREDICTIONS
from pipelines.evaluate import Options


def as_options(case: Case, folder: Path, **changes) -> Options:
    """The case as files and options."""
    folder.mkdir(exist_ok=True)
    (folder / "gt.json").write_text(json.dumps(case.truth))
    (folder / "dt.json").write_text(json.dumps(case.results, default=bytes.decode))
    p = case.parameters
    given = {
        "ground_truth": str(folder / "gt.json"),
        "predictions": str(folder / "dt.json"),
        "out": str(folder / "out"),
        "arrays": str(folder / "arrays.npz"),
        "iou_type": ("segm", "bbox"),
        "max_dets": ",".join(map(str, p.max_dets)),
        "iou_thresholds": ",".join(map(repr, p.iou_thresholds)),
        "area_ranges": ",".join(f"{a.label}:{a.low}:{a.high}" for a in p.area_ranges),
        "use_categories": p.use_categories,
        "duplicate_ids": p.duplicate_ids,
        "wrong_size": p.wrong_size,
        "unit_images": 1,
    }
    if case.image_ids is not None:
        given["image_ids"] = ",".join(map(str, case.image_ids))
    if case.category_ids is not None:
        given["categories"] = ",".join(map(str, case.category_ids))
    return Options(**given | changes)


def metrics_of(options: Options) -> dict:
    return json.loads((Path(options.out) / "metrics.json").read_bytes())


def write_predictions(folder: Path, results: list[dict], num_units: int = 3) -> Path:
    """Results as `label` writes them, an image's results in one unit."""
    folder.mkdir(parents=True)
    units = []
    home = {image: n for n, image in enumerate({r["image_id"]: 0 for r in results})}
    for unit in range(num_units):
        rows = [r for r in results if home[r["image_id"]] % num_units == unit]
        data = gzip.compress(b"".join(json.dumps(r).encode() + b"\n" for r in rows))
        name = f"predictions-{unit:05d}-of-{num_units:05d}.jsonl.gz"
        (folder / name).write_bytes(data)
        units.append(PREDICTIONS.entry(name, len(data), "", {}))
    manifest = {**PREDICTIONS.head(), "units": units, "counts": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def with_boxes(case: Case) -> tuple[Case, list[dict]]:
    """The case's results as `label` writes them, and the same as box results."""
    rows = [
        r | {"box_xywh": [1.5, 2.5, 10 + n, 20.25], "annotation_id": n % 30 + 1}
        for n, r in enumerate(case.results)
    ]
    boxes = [
        {k: r[k] for k in ("image_id", "category_id", "score")}
        | {"bbox": r["box_xywh"]}
        for r in rows
    ]
    return Case(truth=case.truth, results=boxes), rows
