"""95 % intervals of means, shares, and of how well values tell two groups apart.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Wilson, JASA
22 (1927); for the area under the curve of clustered data Obuchowski, Biometrics 53 (1997), whose
estimate it is, with a bootstrap over clusters in the place of her variance.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9_999
SEED = 0
# The values of this many prompts are resampled at once, so that thousands of prompts fit in memory.
_BATCH_VALUES = 10_000_000


class Interval(NamedTuple):
    """A mean with its interval; no ends where the values tell none (fewer than 2, or equal)."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(
    values: np.ndarray, resamples: int = RESAMPLES, clusters: Sequence[str] | None = None
) -> Interval | None:
    """The mean of a sample and its 95 % bootstrap interval.

    Args:
        values: One per prompt, of shape (n,).
        resamples: How many samples are drawn from it.
        clusters: The dialogue of each, whose prompts are drawn together, since they are alike; None
            if each has its own.

    Returns:
        The interval; None of an empty sample.
    """
    if not len(values):
        return None
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return Interval(mean, None, None)
    if clusters is not None and len(set(clusters)) < len(values):
        by_cluster = pd.Series(values).groupby(list(clusters), sort=False)
        sums, counts = by_cluster.sum().to_numpy(), by_cluster.count().to_numpy()
        if len(sums) < 2:
            return Interval(mean, None, None)

        def of_resample(times: np.ndarray) -> np.ndarray:
            return np.asarray((times @ sums) / (times @ counts))

        return Interval(mean, *_cluster_bootstrap(of_resample, len(sums), resamples))
    ends = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=batch_size(len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=SEED,
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high))


def share_interval(successes: int, n: int) -> Interval:
    """A share and its 95 % interval by Wilson, which also tells something of 0 out of n."""
    ends = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(successes / n, float(ends.low), float(ends.high))


def failure_interval(failed: np.ndarray, clusters: Sequence[str]) -> Interval:
    """The share of prompts that failed: Wilson's interval, or over dialogues of several prompts."""
    if len(set(clusters)) == len(failed):
        return share_interval(int(failed.sum()), len(failed))
    interval = ratio_interval(failed.astype(float).tolist(), [1.0] * len(failed), clusters)
    assert interval is not None  # there is at least one prompt
    return interval


def batch_size(n: int) -> int:
    """How many resamples of n values are drawn at once."""
    return max(1, min(RESAMPLES, _BATCH_VALUES // n))


def auc_interval(
    higher: Sequence[float],
    lower: Sequence[float],
    higher_clusters: Sequence[str],
    lower_clusters: Sequence[str],
    resamples: int = RESAMPLES,
) -> Interval | None:
    """The area under the ROC curve and its 95 % interval over clusters.

    The area is the chance that a value that should be higher is, ties counting half. Values of
    one cluster are drawn together, since one dialogue's values are alike. Where all are told
    apart, or none, no resample differs; then the end is Wilson's, of as many successes as there
    are clusters.

    Args:
        higher: The values that should be higher, shape (n,).
        lower: Those that should be lower, shape (m,).
        higher_clusters: The cluster of each of the former.
        lower_clusters: The cluster of each of the latter.
        resamples: How many samples of the clusters are drawn.

    Returns:
        The interval; None if either group is empty.
    """
    if not len(higher) or not len(lower):
        return None
    wins, counts = _wins(higher, lower, higher_clusters, lower_clusters)
    area = float(wins.sum() / counts.sum())
    n = len(wins)
    if n < 2:
        return Interval(area, None, None)
    if area in (0.0, 1.0):
        ends = share_interval(n if area else 0, n)
        return Interval(area, ends.low, ends.high)

    def statistic(times: np.ndarray) -> np.ndarray:
        of_wins, of_counts = (((times @ table) * times).sum(-1) for table in (wins, counts))
        return _divided(of_wins, of_counts, area)

    return Interval(area, *_cluster_bootstrap(statistic, n, resamples))


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    clusters: Sequence[str],
    resamples: int = RESAMPLES,
) -> Interval | None:
    """A ratio of two sums, such as a share, and its 95 % interval over clusters.

    Where the ratio is 0 or 1 no resample differs; then the interval is Wilson's of as many
    observations as there are clusters with a denominator. Else a single cluster tells none.

    Args:
        numerators: Shape (n,), each from 0 to its denominator.
        denominators: Shape (n,).
        clusters: The cluster of each, shape (n,).
        resamples: How many samples of the clusters are drawn.

    Returns:
        The interval; None if the denominators sum to 0.
    """
    sums = pd.DataFrame({"above": numerators, "below": denominators, "cluster": clusters})
    sums = sums.groupby("cluster", sort=False).sum()
    above, below = sums["above"].to_numpy(dtype=float), sums["below"].to_numpy(dtype=float)
    if not below.sum():
        return None
    ratio, n = float(above.sum() / below.sum()), len(sums)
    if ratio in (0.0, 1.0):
        # a cluster without a denominator has observed nothing
        observed = int((below > 0).sum())
        return share_interval(int(ratio) * observed, observed)
    if n < 2:
        return Interval(ratio, None, None)

    def statistic(times: np.ndarray) -> np.ndarray:
        return _divided(times @ above, times @ below, ratio)

    return Interval(ratio, *_cluster_bootstrap(statistic, n, resamples))


def _divided(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    """Ratios of samples; one without anything below the line tells nothing, and has another's."""
    ratios = np.full(above.shape, otherwise)
    np.divide(above, below, out=ratios, where=below > 0)
    return ratios


def _cluster_bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, resamples: int
) -> tuple[float, float]:
    """The percentile interval of a statistic of how often each of n clusters is drawn."""

    def of_positions(drawn: np.ndarray, axis: int) -> np.ndarray:
        times = np.apply_along_axis(np.bincount, axis, drawn, minlength=n)
        return statistic(times.astype(float))

    found = stats.bootstrap(
        (np.arange(n),),
        of_positions,
        n_resamples=resamples,
        batch=batch_size(n),
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=SEED,
    ).confidence_interval
    return float(found.low), float(found.high)


def _wins(
    higher: Sequence[float],
    lower: Sequence[float],
    higher_clusters: Sequence[str],
    lower_clusters: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Of each two clusters, how many comparisons are won, and how many there are; (n, n) each."""
    codes, names = pd.factorize(np.array([*higher_clusters, *lower_clusters], dtype=object))
    n, rows, columns = len(names), codes[: len(higher)], codes[len(higher) :]
    won = (np.sign(np.subtract.outer(np.asarray(higher), np.asarray(lower))) + 1) / 2
    wins = np.zeros((n, n))
    counts = np.zeros((n, n))
    np.add.at(wins, (rows[:, None], columns[None, :]), won)
    np.add.at(counts, (rows[:, None], columns[None, :]), 1.0)
    return wins, counts
