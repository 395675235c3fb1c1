"""From raw sub-scores to a response's total score (paper, section 3.2 and equation 1).

    S_total  = S_metric + S_LFC
    S_metric = weighted mean of the metrics C, UE, P, Coh, each normalised to [0, 1]
    S_LFC    = w1 * s_length + w2 * s_format      (length-format compliance)

s_format is 1 for an answer that keeps the JSON contract, else 0. s_length is
max(0, 1 - ((words - target) / target)^2), the quadratic penalty of the paper's
code, with the mean length of the pool's valid answers as the target; a failed
response has no answer whose length could comply, and gets 0.

Everything here works on columns of a table with one row per response.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from persodpo.errors import UserError
from persodpo.params import ScoringParams
from persodpo.records import Score
from persodpo.scorers.metric import Metric


def score_table(
    scores: Sequence[Score], params: ScoringParams, metrics: Mapping[str, Metric]
) -> pd.DataFrame:
    """Compute the total score of every response of the pool.

    Args:
        scores: Raw sub-scores of all models' responses.
        params: The weights.
        metrics: What the values of each metric mean.

    Returns:
        The rows of `scores` in their order, with the added columns `s_c`, `s_ue`,
        `s_p`, `s_coh` (normalised), `s_metric`, `s_length`, `s_format`, `s_lfc`
        and `s_total`.

    Raises:
        UserError: There are no responses.
    """
    if not scores:
        raise UserError("artifacts/scores: no model has a scored response; run the stage score.")
    table = pd.DataFrame([score.model_dump() for score in scores])
    for key, metric in metrics.items():
        table[f"s_{key}"] = normalise(
            table[key].astype(float).fillna(metric.worst), metric.low, metric.high
        )
    weights = pd.Series(params.weights.model_dump())
    normalised = table[[f"s_{key}" for key in weights.index]].to_numpy()
    table["s_metric"] = normalised @ (weights / weights.sum()).to_numpy()
    table["s_format"] = table["valid"].astype(float)
    target = table.loc[table["valid"], "words"].mean()
    table["s_length"] = length_score(table["words"], target).where(table["valid"], 0.0)
    table["s_lfc"] = params.w1 * table["s_length"] + params.w2 * table["s_format"]
    table["s_total"] = table["s_metric"] + table["s_lfc"]
    return table


def normalise(values: pd.Series, low: float, high: float) -> pd.Series:
    """Map values from [low, high] to [0, 1]."""
    return (values - low) / (high - low)


def length_score(words: pd.Series, target: float) -> pd.Series:
    """Score lengths in words by their relative distance from a target; in [0, 1]."""
    return (1.0 - ((words - target) / target) ** 2).clip(lower=0.0)
