"""How hard the generated `shapes` set is for predictors that have learned nothing.

Prints mean IoU at the ground-truth boxes for the filled box, the ellipse and careful GrabCut, of
all instances and of the seen and the unseen categories, with 95 % intervals of a bootstrap over
pictures.

    python -m benchmarks.shapes_baselines --num_images 200 --seed 0
"""

import argparse
import concurrent.futures
import functools
import os

import cv2
import numpy as np

from deepmac.predictors import open_predictor
from deepmac.samples.catalogue import KINDS
from deepmac.samples.scene import compose

PREDICTORS = ("box", "ellipse", "grabcut")
JPEG_QUALITY = 80
SEEN = [kind.id for kind in KINDS if kind.is_seen]


def measure(seed: int, size: int, index: int) -> np.ndarray:
    """IoU of every predictor on every instance of one picture: float [N, 1 + P], category first."""
    cv2.setNumThreads(1)
    scene = compose(np.random.default_rng([seed, index]), size, size)
    flags = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", scene.image[..., ::-1], flags)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].copy()
    boxes = np.array([tight_box(mask) for mask in scene.masks], np.float64)
    columns = [np.array(scene.category_ids, np.float64)]
    for name in PREDICTORS:
        (result,) = open_predictor(name)([image], [boxes])
        overlap = (result.masks & scene.masks).sum(axis=(1, 2))
        union = (result.masks | scene.masks).sum(axis=(1, 2))
        columns.append(overlap / union)
    return np.stack(columns, axis=1)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(ymin, xmin, ymax, xmax), pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def interval(pictures: list[np.ndarray], column: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over instances, drawn by picture."""
    sums = np.array([p[:, column].sum() for p in pictures])
    counts = np.array([len(p) for p in pictures])
    draws = np.random.default_rng(0).integers(len(pictures), size=(2000, len(pictures)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    return tuple(np.percentile(means, (2.5, 97.5)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    work = functools.partial(measure, options.seed, options.size)
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(work, range(options.num_images)))
    is_seen = [np.isin(p[:, 0], SEEN) for p in pictures]
    groups = {
        "all": pictures,
        "seen": [p[s] for p, s in zip(pictures, is_seen, strict=True)],
        "unseen": [p[~s] for p, s in zip(pictures, is_seen, strict=True)],
    }
    print(
        f"{options.num_images} pictures of {options.size} pixels, seed {options.seed}"
    )
    print(f"{'':8}" + "".join(f"{group:>24}" for group in groups))
    print(f"{'number':8}" + "".join(f"{sum(map(len, g)):24}" for g in groups.values()))
    for column, name in enumerate(PREDICTORS, start=1):
        cells = []
        for group in groups.values():
            low, high = interval(group, column)
            mean = np.concatenate(group)[:, column].mean()
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
        print(f"{name:8}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
