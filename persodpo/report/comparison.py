"""Which differences between candidates are more than chance on these prompts.

Intervals are percentile bootstraps of the mean over prompts, of a share Wilson's. Two candidates
are compared on the same prompts, by a permutation test that swaps their values prompt by prompt;
Holm's correction covers all tests of the report. Where a dialogue gives several prompts, they are
drawn and swapped together. What is drawn are prompts, so nothing here tells how another seed of the
training would come out (see `persodpo.experiments`).

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Wilson, JASA
22 (1927); Good, Permutation Tests (2000); Holm, Scandinavian Journal of Statistics 6 (1979).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from persodpo.intervals import RESAMPLES, SEED, batch_size, mean_interval
from persodpo.report.measures import Measure
from persodpo.report.verdicts import detectable_difference, verdict

COLUMNS = [
    "against", "method", "measure", "n", "dialogues", "difference", "low", "high", "detectable",
    "verdict", "d_z", "wins", "ties", "losses", "p", "p_holm",
]  # fmt: skip


def paired_p(
    differences: np.ndarray, resamples: int = RESAMPLES, clusters: Sequence[str] | None = None
) -> float:
    """The two-sided p-value of a paired permutation test of a mean difference of 0.

    Under the null hypothesis either candidate's value could be the other's, dialogue by dialogue,
    so each one's differences could have the other sign. Exact for a few, else by random signs.

    Args:
        differences: One per prompt, of shape (n,).
        resamples: How many signs of all differences are drawn.
        clusters: The dialogue of each; None if each has its own.
    """
    if clusters is not None:
        differences = pd.Series(differences).groupby(list(clusters), sort=False).sum().to_numpy()
    if len(differences) < 2 or not np.any(differences):
        return 1.0
    return float(
        stats.permutation_test(
            (differences,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=resamples,
            batch=batch_size(len(differences)),
            rng=SEED,
        ).pvalue
    )


def effect_size(differences: np.ndarray) -> float | None:
    """Cohen's d of paired samples (d_z): mean difference over its standard deviation (n - 1).

    None if there are fewer than two differences, or all are equal.

    Source: Lakens, Frontiers in Psychology 4:863 (2013), equation (6).
    """
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    return float(np.mean(differences) / np.std(differences, ddof=1))


def compare(
    values: Mapping[str, pd.DataFrame],
    compared: Sequence[tuple[str, str]],
    clusters: Sequence[str],
    measures: Mapping[str, Measure],
    equivalence: float,
) -> pd.DataFrame:
    """Compare methods with other candidates on the same prompts.

    Args:
        values: Per measure, a row per prompt and a column per candidate.
        compared: Candidates and methods; each method is compared with the candidate before it.
        clusters: The dialogue of each prompt.
        measures: What the measures are, by the keys of `values`.
        equivalence: Differences up to this share of a measure's width are of no importance.

    Returns:
        One row per pair and measure: `against`, `method`, `measure`, `n`, `dialogues`, `difference`
        (method minus that candidate, mean over prompts) with `low` and `high`, `detectable` (see
        `persodpo.report.verdicts`), `verdict`, `d_z`, `wins`, `ties`, `losses` (prompts on
        which the method's value is higher, equal, lower), `p`, and `p_holm`, corrected over all
        rows. Ends, `detectable` and d_z are NaN where there are none.
    """
    rows = [
        {"against": against, "method": method, "measure": key}
        | _compare_one(
            paired_differences(
                values[key][method].to_numpy(dtype=float),
                values[key][against].to_numpy(dtype=float),
            ),
            clusters,
            measures[key],
            equivalence,
        )
        for against, method in compared
        for key in values
    ]
    table = pd.DataFrame(rows, columns=COLUMNS[:-1])
    table = table.astype(dict.fromkeys(["low", "high", "detectable", "d_z"], float))
    corrected = multipletests(table["p"], method="holm")[1] if len(table) else []
    return table.assign(p_holm=corrected)


def paired_differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The differences of two candidates' values, prompt by prompt; what is rounding alone is 0."""
    differences = one - other
    # sums in another order leave differences that are none
    return np.where(np.abs(differences) < 1e-9, 0.0, differences)


def _compare_one(
    differences: np.ndarray, clusters: Sequence[str], measure: Measure, equivalence: float
) -> dict[str, Any]:
    interval = mean_interval(differences, clusters=clusters)
    assert interval is not None  # there is at least one prompt
    n_dialogues = len(set(clusters))
    return {
        "n": len(differences),
        "dialogues": n_dialogues,
        "difference": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "detectable": detectable_difference(differences, clusters),
        "verdict": verdict(interval, n_dialogues, measure, equivalence),
        "d_z": effect_size(differences),
        "wins": int((differences > 0).sum()),
        "ties": int((differences == 0).sum()),
        "losses": int((differences < 0).sum()),
        "p": paired_p(differences, clusters=clusters),
    }
