"""Means over prompts and seeds together, with intervals for both.

Each seed of the training answers the same prompts, so prompts and seeds are crossed. The bootstrap
draws seeds, and dialogues with all their prompts, each with replacement (Owen, Annals of Applied
Statistics 1 (2007), the pigeonhole bootstrap). Two methods are compared seed by seed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from persodpo.intervals import CONFIDENCE, RESAMPLES, SEED, Interval, batch_size, mean_interval


class OverSeeds(NamedTuple):
    """A mean over seeds and prompts.

    Attributes:
        interval: The mean, with its 95 % interval over both.
        sd: Standard deviation (n - 1) of the seeds' means.
        positive: Seeds whose mean is above 0.
    """

    interval: Interval
    sd: float
    positive: int


def over_seeds(
    values: np.ndarray, clusters: Sequence[str], resamples: int = RESAMPLES
) -> OverSeeds:
    """The mean of values of several seeds on the same prompts.

    Args:
        values: Shape (seeds, prompts), at least two seeds.
        clusters: The dialogue of each prompt.
        resamples: How many samples of both are drawn.
    """
    means = values.mean(axis=1)
    return OverSeeds(
        crossed_interval(values, clusters, resamples),
        float(np.std(means, ddof=1)),
        int((means > 0).sum()),
    )


def crossed_interval(
    values: np.ndarray, clusters: Sequence[str], resamples: int = RESAMPLES
) -> Interval:
    """The 95 % interval of a mean over seeds and prompts; see `over_seeds`."""
    sums = pd.DataFrame(values.T).groupby(list(clusters), sort=False).sum().to_numpy().T
    counts = pd.Series(clusters).groupby(list(clusters), sort=False).count().to_numpy()
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return Interval(mean, None, None)
    if sums.shape[1] < 2:
        over_means = mean_interval(values.mean(axis=1), resamples)
        assert over_means is not None  # there are seeds
        return over_means

    def of_resample(seeds: np.ndarray, dialogues: np.ndarray, axis: int) -> np.ndarray:
        of_seeds, of_dialogues = (
            np.apply_along_axis(np.bincount, axis, drawn, minlength=n)
            for drawn, n in zip((seeds, dialogues), sums.shape, strict=True)
        )
        total = ((of_seeds @ sums) * of_dialogues).sum(-1)
        return np.asarray(total / (len(values) * (of_dialogues @ counts)))

    ends = stats.bootstrap(
        tuple(np.arange(n) for n in sums.shape),
        of_resample,
        n_resamples=resamples,
        batch=batch_size(sums.size),
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        rng=SEED,
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high))
