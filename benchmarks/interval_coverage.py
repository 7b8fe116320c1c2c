"""How often the 95 % intervals hold what they should, and how far ties take the draws off.

    python -m benchmarks.interval_coverage [--folder DIR] [--num_images 5000] [--trials 100]

Writes the set of `val_like` into the folder (a temporary one by default; what is there is used
again) and matches it once. Each trial takes a tenth of the images at random, evaluates them and gives
intervals, as `deepmac evaluate` does; the figures' true values are taken to be their means over all
trials. For the IoU at given boxes, an object's match stands for the prediction that was made for its
box, 0 for none.

Then draws of one such part are compared with evaluations of data sets in which the images stand as
often, with scores as they are and with scores that tie. Prints Markdown.
"""

import argparse
import collections
import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.val_like import write_set
from deepmac import evaluate
from deepmac.evaluation.accumulate import finalize
from deepmac.evaluation.bootstrap import draw_images, intervals, resample
from deepmac.evaluation.meanings import label
from deepmac.evaluation.parameters import terms_of
from deepmac.evaluation.state import Partial, unpack_bits
from deepmac.evaluation.summary import Evaluation

PARTS = 10
NUM_DRAWS = 1000
RARE = 60  # place of the rare category, by number of objects
SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as they are": lambda score: score,
    "of two digits": lambda score: score.round(2),
    "of one digit": lambda score: score.round(1),
    "all equal": np.ones_like,
}


def of_images(evaluation: Evaluation, images: np.ndarray) -> Evaluation:
    """An evaluation of some images, some of which may stand several times.

    Args:
        evaluation: of all.
        images: int [..], positions.
    """
    partial, parameters = evaluation.partial, evaluation.parameters
    scope = dataclasses.replace(
        evaluation.scope,
        image_ids=tuple(range(len(images))),
        image_sizes=evaluation.scope.image_sizes[images],
        image_names=(),
    )
    truths, truth_image = _rows_of(partial.truth_image, images)
    rows, image = _rows_of(partial.image, images)
    row_of_match = np.full(len(partial.score), -1)
    row_of_match[partial.matched] = np.arange(len(partial.matched))
    matched = np.flatnonzero(row_of_match[rows] >= 0)
    matches = row_of_match[rows[matched]]
    iou = _iou_of_matches(evaluation)[truths]
    given = np.flatnonzero(~np.isnan(iou))
    part = Partial(
        terms=terms_of(parameters, scope),
        counts=collections.Counter(
            predictions=len(rows), predictions_for_given_boxes=len(given)
        ),
        counted_images=np.arange(len(images)),
        matched_images=np.unique(image),
        truth_ordinal=np.arange(len(truths)),
        truth_image=truth_image,
        truth_category=partial.truth_category[truths],
        truth_roles=partial.truth_roles[truths],
        given_ordinal=given,
        given_iou=iou[given],
        image=image,
        category=partial.category[rows],
        score=partial.score[rows],
        rank=partial.rank[rows],
        outside=partial.outside[rows],
        matched=matched,
        hits=partial.hits[matches],
        ignored=partial.ignored[matches],
        matched_ordinal=partial.matched_ordinal[matches],
        matched_iou=partial.matched_iou[matches],
    )
    return Evaluation(parameters, scope, finalize(part, parameters, scope), part)


def _rows_of(image: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 [..], rows of each image in turn, and its new position."""
    order = np.argsort(image, kind="stable")
    first, last = (np.searchsorted(image[order], images, s) for s in ("left", "right"))
    rows = [order[i:j] for i, j in zip(first, last, strict=True)]
    return np.concatenate(rows), np.repeat(np.arange(len(images)), last - first)


def _iou_of_matches(evaluation: Evaluation) -> np.ndarray:
    """float64 [G], IoU of the annotations that a mask is to be compared with, with their matches."""
    partial = evaluation.partial
    num_ranges = len(evaluation.parameters.area_ranges)
    is_compared = unpack_bits(partial.truth_roles, num_ranges + 1)[:, -1]
    by_ordinal = np.full(partial.truth_ordinal.max() + 1, np.nan)
    some = partial.matched_ordinal >= 0
    by_ordinal[partial.matched_ordinal[some]] = partial.matched_iou[some]
    return np.where(is_compared, by_ordinal[partial.truth_ordinal], np.nan)


def coverage(
    whole: Evaluation, groups: dict[str, list[int] | None], num_trials: int
) -> dict[str, dict[str, tuple[int, int]]]:
    """Name of a group -> figure -> in how many trials its interval held the mean, and of how many."""
    num_images = len(whole.scope.image_ids)
    found = {group: collections.defaultdict(list) for group in groups}
    for trial in range(num_trials):
        rng = np.random.default_rng([0, trial])
        images = rng.choice(num_images, num_images // PARTS, replace=False)
        part = of_images(whole, np.sort(images))
        resampled = resample(part, draw_images(len(images), NUM_DRAWS, trial))
        for group, ids in groups.items():
            figures = part.figures(ids)
            bounds = intervals(figures, resampled.deviations(ids))
            for name, value in figures.items():
                if value is not None:
                    found[group][name].append((value, bounds.get(name)))
    return {
        group: {name: _held(values) for name, values in figures.items()}
        for group, figures in found.items()
    }


def _held(
    values: list[tuple[float, tuple[float, float] | None]],
) -> tuple[int, int]:
    mean = float(np.mean([value for value, _ in values]))
    bounds = [ends for _, ends in values if ends is not None]
    return sum(low <= mean <= high for low, high in bounds), len(bounds)


def effect_of_ties(
    whole: Evaluation, num_draws: int = 20
) -> Iterator[tuple[str, float]]:
    """(which scores, by how much at most a draw's AP is off)."""
    number = len(whole.scope.image_ids) // PARTS
    part = of_images(whole, np.arange(number))
    weights = draw_images(number, num_draws)
    for name, change in SCORES.items():
        partial = dataclasses.replace(part.partial, score=change(part.partial.score))
        tied = dataclasses.replace(part, partial=partial)
        drawn = resample(tied, weights).of()["AP"]
        repeated = [
            of_images(tied, np.repeat(np.arange(number), times)).stats["AP"]
            for times in weights
        ]
        yield name, float(np.abs(drawn - repeated).max())


def report(folder: Path, num_trials: int) -> None:
    """Measures and prints."""
    truth, results = folder / "annotations.json", folder / "results.json"
    whole = evaluate(truth, results, draws=0).evaluation
    order = np.argsort(-whole.num_truths[:, 0], kind="stable")
    three = [
        whole.scope.category_ids[order[place]] for place in (0, len(order) // 2, RARE)
    ]
    per_part = whole.num_truths[order[RARE], 0] / PARTS
    groups = {"all categories": None, f"three, one of {per_part:.0f} objects": three}
    found = coverage(whole, groups, num_trials)
    print(f"intervals that held the mean, of {num_trials}\n")
    print(f"| | {' | '.join(groups)} |\n|---|{'---:|' * len(groups)}")
    for name in found["all categories"]:
        cells = ["{} of {}".format(*found[group].get(name, (0, 0))) for group in groups]
        print(f"| {label(name)} | {' | '.join(cells)} |")
    print("\n| scores | AP of a draw, off by up to |\n|---|---:|")
    for name, off in effect_of_ties(whole):
        print(f"| {name} | {off:.1e} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--num_images", type=int, default=5000)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "results.json").exists():
            write_set(folder, options.num_images)
        report(folder, options.trials)
    return 0


if __name__ == "__main__":
    sys.exit(main())
