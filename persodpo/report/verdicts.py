"""What a difference between two candidates says, and what so many prompts can show at all."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from persodpo.intervals import CONFIDENCE, Interval, share_interval
from persodpo.report.measures import Measure

Verdict = Literal["better", "worse", "equivalent", "undecided"]
# With fewer dialogues than these a bootstrap's interval is too narrow to say anything.
FEWEST = 6
POWER = 0.8


def detectable_difference(differences: np.ndarray, clusters: Sequence[str]) -> float | None:
    """The smallest true difference that a 5 % test would find in 80 of 100 such samples.

    (t_.975 + t_.8) times the standard error of the mean difference, with as many degrees of freedom
    as there are clusters but one. The standard error is the cluster-robust one.

    Sources: Bloom, Evaluation Review 19 (1995), for the multiple; Liang and Zeger, Biometrika 73
    (1986), for the standard error.

    Args:
        differences: One per prompt, of shape (n,).
        clusters: The dialogue of each.

    Returns:
        The difference; None of fewer than two clusters, or if all are equal.
    """
    if len(set(clusters)) < 2 or np.ptp(differences) == 0:
        return None
    residuals = pd.Series(differences - np.mean(differences)).groupby(list(clusters)).sum()
    n = len(residuals)
    error = np.sqrt(np.sum(residuals**2) * n / (n - 1)) / len(differences)
    multiple = sum(stats.t.ppf([(1 + CONFIDENCE) / 2, POWER], n - 1))
    return float(multiple * error)


def verdict(interval: Interval, clusters: int, measure: Measure, equivalence: float) -> Verdict:
    """Say what a difference's 95 % interval tells.

    Where nothing differs on any prompt there is no interval. Then at most a share of all dialogues
    differs, by Wilson's interval of 0 out of so many, and none by more than the width.

    Args:
        interval: Of the mean difference.
        clusters: Of so many dialogues.
        measure: What was measured.
        equivalence: Differences up to this share of its width are of no importance.

    Returns:
        `better` or `worse` if the interval lies on that side of 0, `equivalent` if it lies
        within the margin on both sides, else `undecided`; so is everything of fewer than FEWEST
        dialogues.
    """
    if clusters < FEWEST:
        return "undecided"
    low, high = (interval.mean if end is None else end for end in (interval.low, interval.high))
    if low == high == 0:
        high = measure.width * (share_interval(0, clusters).high or 0.0)
        low = -high
    margin = equivalence * measure.width
    if low > 0 or high < 0:
        return "better" if (low > 0) == measure.higher_is_better else "worse"
    return "equivalent" if -margin <= low and high <= margin else "undecided"
