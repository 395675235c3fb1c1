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

from persodpo.intervals import CONFIDENCE, Interval, share_interval

# A metric whose rank correlation with the number of words is surely beyond this is length in
# disguise.
LENGTH = 0.8
# Of fewer values no correlation is computed.
FEWEST = 10
# Repeats are looked for at up to so many places, by tests that together are wrong in one of a
# thousand data sets; a share that chance can't explain counts from this much above it.
DISTANCES = 64
LEVEL = 0.001
REPEATS = 0.1


def commonest(values: Sequence[float]) -> Interval:
    """The share of answers that have the commonest value; 1 is a constant metric."""
    return share_interval(int(pd.Series(values).value_counts().iloc[0]), len(values))


def tied(values: Sequence[float]) -> Interval:
    """The share of answers whose value another answer has, too."""
    return share_interval(int(pd.Series(values).duplicated(keep=False).sum()), len(values))


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> Interval | None:
    """Spearman's correlation, its interval by Fisher's z of the ranks.

    None where it isn't defined, because one side is constant, or where there are too few values.
    """
    ranks = [stats.rankdata(side) for side in (one, other)]
    if len(one) < FEWEST or any(np.ptp(side) == 0 for side in ranks):
        return None
    found = stats.pearsonr(*ranks)
    ends = found.confidence_interval(CONFIDENCE)
    return Interval(float(found.statistic), float(ends.low), float(ends.high))


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
