"""Means over instances that are not independent of each other, with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 5000
LEVEL = 95  # per cent

Clusters = Sequence | np.ndarray
"""What each of N instances belongs to: N values that can be sorted."""


class Estimate(NamedTuple):
    """A mean over instances and its 95 % bootstrap interval, which is drawn by cluster."""

    mean: float
    low: float
    high: float
    num_instances: int
    num_clusters: int


def estimate(
    values: np.ndarray, clusters: Clusters, *, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """The mean over instances, with the uncertainty of which clusters happened to be there.

    Clusters are drawn whole and with replacement, as many as there are. The instances of a
    sprite, or of a picture, are alike; drawing them one by one would make intervals too narrow.

    Args:
        values: float [N], N > 0.
        clusters: what each instance belongs to, N values that can be sorted.
        seed: of the draws.
        draws: of as many clusters as there are.
    """
    values = np.asarray(values, np.float64)
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, values)
    counts = np.bincount(index)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=draws)
    means = (times @ sums) / (times @ counts)
    low, high = np.percentile(means, (50 - LEVEL / 2, 50 + LEVEL / 2))
    return Estimate(
        float(values.mean()), float(low), float(high), len(values), len(sums)
    )


def paired(
    ours: np.ndarray, theirs: np.ndarray, clusters: Clusters, *, seed: int = 0
) -> Estimate:
    """The mean difference of two methods on the same instances, as `estimate`.

    Args:
        ours, theirs: float [N], of the same instances in the same order.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} instances against {len(theirs)}")
    return estimate(np.asarray(ours) - np.asarray(theirs), clusters, seed=seed)


def design_effect(values: np.ndarray, clusters: Clusters) -> float:
    """How many times larger the variance of the mean is than for independent instances."""
    values = np.asarray(values, np.float64)
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    residuals = np.bincount(index, values - values.mean())
    num, many = len(residuals), len(values)
    of_clusters = (residuals**2).sum() / many**2 * num / (num - 1)
    return float(of_clusters / (values.var(ddof=1) / many))
