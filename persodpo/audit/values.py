"""What the values of a metric show by themselves, without asking it anything.

A metric may be constant, have few different values, be another metric or the answer's length in
disguise, or repeat itself from answer to answer, as the published Coh-UniEval does: a lost loop
step gave response k the value of response k//8 + k%8, so that seven of eight values are the one
seven places further on.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from persodpo.intervals import CONFIDENCE, Interval

# A metric whose rank correlation with the number of words is surely beyond this is length in
# disguise.
LENGTH = 0.8
# Of fewer clusters no correlation is computed.
FEWEST = 10
# Repeats are looked for at up to so many places, by tests that together are wrong in one of a
# thousand data sets; a share that chance can't explain counts from this much above it.
DISTANCES = 64
LEVEL = 0.001
REPEATS = 0.1


def is_commonest(values: Sequence[float]) -> np.ndarray:
    """Which values are the commonest one; if all are, the metric is constant."""
    table = pd.Series(values)
    return np.asarray(table == table.value_counts().index[0])


def is_tied(values: Sequence[float]) -> np.ndarray:
    """Which values come more than once."""
    return pd.Series(values).duplicated(keep=False).to_numpy()


def rank_correlation(
    one: Sequence[float], other: Sequence[float], clusters: Sequence[str]
) -> Interval | None:
    """Spearman's correlation, its interval by Fisher's z of the ranks.

    It is that of as many observations as there are clusters, since one dialogue's values are alike.
    None where the correlation isn't defined, because one side is constant, or of too few clusters.
    """
    ranks = [stats.rankdata(side) for side in (one, other)]
    n = len(set(clusters))
    if n < FEWEST or any(np.ptp(side) == 0 for side in ranks):
        return None
    value = float(stats.pearsonr(*ranks).statistic)
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) / np.sqrt(n - 3)
    with np.errstate(divide="ignore"):  # of a perfect one z is infinite
        z = np.arctanh(np.clip(value, -1, 1))
    return Interval(value, float(np.tanh(z - reach)), float(np.tanh(z + reach)))


def is_length(correlation: Interval | None) -> bool:
    """Whether a metric is the answer's length in disguise, the longer or the shorter the better."""
    if correlation is None or correlation.low is None or correlation.high is None:
        return False
    return correlation.low > LENGTH or correlation.high < -LENGTH


def repeats(values: Sequence[float]) -> tuple[int, float, float] | None:
    """Look for values that come again a fixed number of places further on.

    Args:
        values: In the order in which the answers were scored.

    Returns:
        The distance with the largest share of repeats, that share, and the share of equal values
        that chance gives at any distance; None if no distance is beyond chance.
    """
    table = pd.Series(values, dtype=float)
    n = len(table)
    counts = table.value_counts()
    chance = float((counts * (counts - 1)).sum() / max(n * (n - 1), 1))
    best: tuple[int, float, float] | None = None
    for distance in range(1, min(DISTANCES, n // 2) + 1):
        equal = table.to_numpy()[:-distance] == table.to_numpy()[distance:]
        share = float(equal.mean())
        if share < chance + REPEATS or (best is not None and share <= best[1]):
            continue
        test = stats.binomtest(int(equal.sum()), len(equal), chance, alternative="greater")
        if test.pvalue < LEVEL / DISTANCES:
            best = (distance, share, chance)
    return best


def in_file_order(ids: Sequence[str]) -> np.ndarray:
    """The positions of prompts in the order of their numbers, as rows of a published file have.

    Prompts whose ids hold no number stay in their order.
    """
    numbers = [int(found[-1]) if (found := re.findall(r"\d+", id_)) else -1 for id_ in ids]
    return np.argsort(numbers, kind="stable")
