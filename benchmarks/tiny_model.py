"""How good the shipped tiny network is, and how well its scores predict that: `docs/tiny_model.md`.

Masks are predicted for the ground-truth boxes of 100 generated pictures that nothing was trained on
or chosen by, and compared with those of predictors that have learned nothing.

    python -m benchmarks.tiny_model --data DIR --write

DIR gets the pictures (a few minutes) and is read again the next time.
"""

import argparse
import concurrent.futures
import json
from pathlib import Path

import numpy as np
import orjson

from benchmarks.partial_supervision.score import examples, judge
from benchmarks.partial_supervision.statistics import Estimate, estimate, paired
from deepmac import charts
from deepmac.data.decode import decode_rgb
from deepmac.label import Settings, label_images
from deepmac.precision import compare
from deepmac.predictors import open_predictor
from deepmac.predictors.deepmac import open_deepmac
from deepmac.samples import write_shapes
from deepmac.samples.catalogue import KINDS

MODEL = "center_net_deepmac_tiny"
NUM_IMAGES, SEED = 100, 1002  # trained on: 1000 pictures of seed 1000
YARDSTICKS = ("box", "ellipse", "grabcut")
BINS = 10
ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "tiny_model.json"
PICTURE = ROOT / "docs" / "images" / "tiny_calibration.svg"


def rows_of(spec: str, folder: Path) -> list[dict]:
    """COCO results for the boxes of all pictures."""
    predictor = open_predictor(spec)
    dataset = orjson.loads((folder / "annotations.json").read_bytes())
    rows: list[dict] = []
    asked = examples(dataset, folder / "images")
    for labels in label_images(asked, predictor, Settings()):
        assert labels.failure is None, labels.failure
        rows += labels.rows
    return rows


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, of values without ties of note."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def half_precision(dataset: dict, folder: Path) -> dict:
    """How masks in bfloat16 differ from those in float32."""
    exact, fast = (
        open_deepmac(MODEL, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    images, boxes = [], []
    for example in examples(dataset, folder / "images"):
        images.append(decode_rgb(example.encoded))
        boxes.append(np.array([instance.box for instance in example.instances]))
    return compare(exact, fast, images, boxes).as_json()


def measure(folder: Path) -> dict:
    """Everything the page says."""
    write_shapes(folder, NUM_IMAGES, seed=SEED)
    dataset = orjson.loads((folder / "annotations.json").read_bytes())
    annotations = dataset["annotations"]
    seen = [kind.id for kind in KINDS if kind.is_seen]
    is_seen = np.isin([a["category_id"] for a in annotations], seen)
    clusters = np.array([a["image_id"] for a in annotations])
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        yardsticks = dict(
            zip(YARDSTICKS, pool.map(rows_of, YARDSTICKS, [folder] * 3), strict=True)
        )
    rows = {MODEL: rows_of(MODEL, folder), **yardsticks}
    iou = {name: judge(dataset, r, seen).iou for name, r in rows.items()}
    score_of = {r["annotation_id"]: r["score"] for r in rows[MODEL]}
    scores = np.array([score_of[a["id"]] for a in annotations])
    groups = {"seen": is_seen, "unseen": ~is_seen}
    return {
        "pictures": NUM_IMAGES,
        "seed": SEED,
        "mean_iou_at_gt_boxes": {
            group: {
                name: _rounded(estimate(iou[name][rows_], clusters[rows_]))
                for name in iou
            }
            for group, rows_ in groups.items()
        },
        "less_grabcut": {
            group: _rounded(
                paired(iou[MODEL][rows_], iou["grabcut"][rows_], clusters[rows_])
            )
            for group, rows_ in groups.items()
        },
        "bfloat16": half_precision(dataset, folder),
        "score": {
            group: {
                "rank_correlation_with_iou": round(
                    rank_correlation(scores[rows_], iou[MODEL][rows_]), 3
                ),
                "bins": calibration(scores[rows_], iou[MODEL][rows_]),
            }
            for group, rows_ in groups.items()
        },
    }


def calibration(scores: np.ndarray, iou: np.ndarray) -> list[list[float]]:
    """Mean score and mean IoU of equally many instances each, by rising score."""
    order = np.argsort(scores)
    return [
        [round(float(scores[part].mean()), 4), round(float(iou[part].mean()), 4)]
        for part in np.array_split(order, BINS)
    ]


def _rounded(e: Estimate) -> dict:
    return {
        "mean": round(e.mean, 4),
        "interval": [round(e.low, 4), round(e.high, 4)],
        "instances": e.num_instances,
    }


def draw(score: dict) -> str:
    """An SVG: mean IoU against mean score, seen and unseen; on the line both are the same."""
    size, margin, low = 400, 48, 0.3
    sides = {"left": margin, "right": margin, "top": margin, "bottom": margin}
    axes = charts.Axes(x=(low, 1), y=(low, 1), width=size, height=size, **sides)
    ticks = charts.even_ticks(low, 1, 0.1, ".1f")
    parts = [
        *charts.grid(axes, ticks, ticks, "mean score", "mean IoU"),
        charts.line(axes.left, axes.floor, axes.end, axes.top, "#bbb"),
    ]
    for number, (group, colour) in enumerate((("seen", "#888"), ("unseen", "#1f5fa8"))):
        points = [(a, max(b, low)) for a, b in score[group]["bins"]]
        parts.append(charts.curve(axes, *zip(*points, strict=True), colour))
        parts += [charts.dot(axes, a, b, colour) for a, b in points]
        correlation = score[group]["rank_correlation_with_iou"]
        words = f"{group}: rank correlation {correlation:.2f}"
        parts.append(
            charts.text(margin + 12, margin + 16 * (number + 1), words, fill=colour)
        )
    return charts.document(parts, size, size, font_size=12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--write", action="store_true", help=f"{RESULT}, {PICTURE}")
    options = parser.parse_args()
    found = measure(options.data)
    text = json.dumps(found, indent=1)
    print(text)
    if options.write:
        RESULT.write_text(f"{text}\n")
        PICTURE.write_text(draw(found["score"]))


if __name__ == "__main__":
    main()
