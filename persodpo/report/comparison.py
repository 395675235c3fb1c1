"""Which differences between candidates are more than chance on these prompts.

Intervals are percentile bootstraps of the mean over prompts, of a share Wilson's. Two candidates
are compared on the same prompts, by a permutation test that swaps their values prompt by prompt;
Holm's correction covers all tests of the report. What is drawn are prompts, so nothing here tells
how another seed of the training would come out.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Wilson, JASA
22 (1927); Good, Permutation Tests (2000); Holm, Scandinavian Journal of Statistics 6 (1979).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from persodpo.intervals import RESAMPLES, SEED, batch_size, mean_interval

COLUMNS = [
    "against", "method", "measure", "n", "difference", "low", "high", "d_z", "wins", "ties",
    "losses", "p", "p_holm",
]  # fmt: skip


def paired_p(differences: np.ndarray, resamples: int = RESAMPLES) -> float:
    """The two-sided p-value of a paired permutation test of a mean difference of 0.

    Under the null hypothesis either candidate's value could be the other's, prompt by prompt, so
    each difference could have the other sign. Exact for a few prompts, else by random signs.

    Args:
        differences: One per prompt, of shape (n,).
        resamples: How many signs of all differences are drawn.
    """
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
    methods: Sequence[str],
    against: Sequence[str],
) -> pd.DataFrame:
    """Compare methods with other candidates on the same prompts.

    Args:
        values: Per measure, a row per prompt and a column per candidate.
        methods: The candidates that are compared; one isn't compared with itself.
        against: Whom each is compared with.

    Returns:
        One row per candidate compared with, method and measure: `against`, `method`, `measure`,
        `n`, `difference` (method minus that candidate, mean over prompts) with `low` and `high`,
        `d_z`, `wins`, `ties`, `losses` (prompts on which the method's value is higher, equal,
        lower), `p`, and `p_holm`, corrected over all rows. Ends and d_z are NaN where there are
        none.
    """
    rows = []
    for candidate in against:
        for method in methods:
            if method == candidate:
                continue
            for measure, table in values.items():
                differences = (table[method] - table[candidate]).to_numpy(dtype=float)
                # sums in another order leave differences that are none
                differences = np.where(np.abs(differences) < 1e-9, 0.0, differences)
                interval = mean_interval(differences)
                assert interval is not None  # there is at least one prompt
                rows.append(
                    {
                        "against": candidate,
                        "method": method,
                        "measure": measure,
                        "n": len(differences),
                        "difference": interval.mean,
                        "low": interval.low,
                        "high": interval.high,
                        "d_z": effect_size(differences),
                        "wins": int((differences > 0).sum()),
                        "ties": int((differences == 0).sum()),
                        "losses": int((differences < 0).sum()),
                        "p": paired_p(differences),
                    }
                )
    table = pd.DataFrame(rows, columns=COLUMNS[:-1])
    table = table.astype(dict.fromkeys(["low", "high", "d_z"], float))
    corrected = multipletests(table["p"], method="holm")[1] if len(table) else []
    return table.assign(p_holm=corrected)
