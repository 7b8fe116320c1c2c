"""How often the 95 % intervals hold what they should, what ties change, what they cost.

    python -m benchmarks.interval_coverage [--folder DIR] [--num_images 5000] [--trials 100]

Writes the set of `val_like` into the folder (a temporary one by default; what is there is used
again) and matches it once. Each trial takes a tenth of the images at random, evaluates them and gives
intervals, as `deepmac evaluate` does; the figures' true values are taken to be their means over all
trials. For the IoU at given boxes, an object's match stands for the prediction that was made for its
box, 0 for none. Two usual intervals of AP stand beside ours: from quantile to quantile of the draws,
and the same mirrored about the figure.

Then draws of one such part are compared with evaluations of data sets in which the images stand as
often, with scores as they are and with scores that tie; and draws of all images are timed. Prints
Markdown.
"""

import argparse
import collections
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.val_like import set_in
from deepmac import evaluate
from deepmac.evaluation.accumulate import finalize
from deepmac.evaluation.bootstrap import draw_images, intervals, resample
from deepmac.evaluation.meanings import label
from deepmac.evaluation.parameters import terms_of
from deepmac.evaluation.state import Partial, unpack_bits
from deepmac.evaluation.summary import Evaluation

PARTS = 10
NUM_DRAWS = 1000
COMMON = 20  # categories
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


Figures = dict[tuple[str, str], list[tuple[float, tuple[float, float] | None]]]
"""(name of a group, figure) -> its value and interval in each trial."""


def trials(
    whole: Evaluation, groups: dict[str, list[int] | None], num_trials: int
) -> tuple[Figures, np.ndarray]:
    """Figures with intervals of random parts, and what becomes of AP over all categories.

    Returns:
        The figures; float64 [N, B + 1], AP of each part and of its draws.
    """
    num_images = len(whole.scope.image_ids)
    found, ap = collections.defaultdict(list), []
    for trial in range(num_trials):
        rng = np.random.default_rng([0, trial])
        images = rng.choice(num_images, num_images // PARTS, replace=False)
        part = of_images(whole, np.sort(images))
        resampled = resample(part, draw_images(len(images), NUM_DRAWS, trial))
        ap.append([part.stats["AP"], *resampled.of()["AP"]])
        for group, ids in groups.items():
            figures = part.figures(ids)
            bounds = intervals(figures, resampled.deviations(ids))
            for name, value in figures.items():
                if value is not None:
                    found[group, name].append((value, bounds.get(name)))
    return found, np.array(ap)


def share_held(values: list[tuple[float, tuple[float, float] | None]]) -> str:
    """How many of the intervals hold the mean of all values."""
    mean = float(np.mean([value for value, _ in values]))
    bounds = [ends for _, ends in values if ends is not None]
    return f"{sum(low <= mean <= high for low, high in bounds)} of {len(bounds)}"


def usual_intervals(ap: np.ndarray) -> str:
    """What intervals do that are not about the figure.

    Args:
        ap: float64 [N, B + 1], from `trials`.
    """
    value, draws = ap[:, 0], ap[:, 1:]
    low, high = np.quantile(draws, [0.025, 0.975], axis=1)
    mean = value.mean()
    plain = np.count_nonzero((low <= mean) & (mean <= high))
    mirrored = np.count_nonzero((2 * value - high <= mean) & (mean <= 2 * value - low))
    return (
        f"AP of all categories: draws lie {(draws.mean(axis=1) - value).mean():.4f} above the "
        f"figure, with a standard deviation of {draws.std(axis=1).mean():.4f} "
        f"({value.std(ddof=1):.4f} over parts); from quantile to quantile {plain} of {len(ap)} hold "
        f"the mean, mirrored {mirrored}"
    )


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
    number = whole.num_truths[:, 0]
    order = np.argsort(-number, kind="stable")
    ids = [whole.scope.category_ids[k] for k in order]
    common, rare = number[order[[COMMON - 1, RARE]]] / PARTS
    groups = {
        "all categories": None,
        f"the {COMMON} of {common:.0f} objects or more": ids[:COMMON],
        f"three, one of {rare:.0f} objects": [ids[0], ids[len(ids) // 2], ids[RARE]],
    }
    found, ap = trials(whole, groups, num_trials)
    print("intervals that held the mean of all trials\n")
    print(f"| | {' | '.join(groups)} |\n|---|{'---:|' * len(groups)}")
    for name in whole.figures():
        some = [found.get((group, name), []) for group in groups]
        if all(some):
            print(f"| {label(name)} | {' | '.join(map(share_held, some))} |")
    print(f"\n{usual_intervals(ap)}")
    print("\n| scores | AP of a draw, off by up to |\n|---|---:|")
    for name, off in effect_of_ties(whole):
        print(f"| {name} | {off:.1e} |")
    started = time.process_time()
    resample(whole, draw_images(len(whole.scope.image_ids), NUM_DRAWS))
    print(
        f"\n{NUM_DRAWS} draws of {len(whole.scope.image_ids)} images with "
        f"{len(whole.partial.score)} detections: {time.process_time() - started:.1f} s of a core"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--num_images", type=int, default=5000)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = set_in(options.folder or Path(temporary), options.num_images)
        report(folder, options.trials)
    return 0


if __name__ == "__main__":
    sys.exit(main())
