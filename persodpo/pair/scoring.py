"""From raw sub-scores to a response's total score (paper, section 3.1).

    S_total  = S_metric + S_LFC
    S_metric = the sum of weight_m * s_m over the metrics m that have a weight
    S_LFC    = w1 * s_length + w2 * s_format      (length-format compliance)

Each metric is normalised to [0, 1], 1 for the better end; with weights of a quarter for C, UE, P
and Coh S_metric is the paper's mean. A metric without a weight is an audit metric, which no score
and no pair sees. s_format is 1 for a raw text that keeps the JSON contract, else 0. s_length judges
the words of the answer inside it:

    quadratic  max(0, 1 - ((words - target) / target)^2), the paper's code's penalty
    bonus      1 up to the target, 0 above it
    released   quadratic as the paper's code has it: a salvaged answer is scored like a
               valid one, a target that is the pool's mean is cut to whole words, and the
               score is rounded to three digits

By the first two a failed response has no answer whose length could comply, and gets 0.

What depends on the pool (bounds of `minmax`, mean length) is fitted once, on the
training responses, as a `Scale`, which is saved and serves other responses, too.
Everything here works on columns of a table with one row per response.
"""

from collections.abc import Mapping

import pandas as pd

from persodpo.config.pair import LengthParams, ScoringParams
from persodpo.errors import UserError
from persodpo.records import Row
from persodpo.score import Metric


def weighted_metrics(
    metrics: Mapping[str, Metric], weights: Mapping[str, float]
) -> dict[str, Metric]:
    """The metrics that form S_metric, in their order; all others are audit metrics.

    One with the weight 0 is an audit metric, too: no score and no pair sees it.
    """
    return {key: metric for key, metric in metrics.items() if weights.get(key)}


class Bounds(Row):
    """The values of a metric that become 0 and 1."""

    low: float
    high: float


class Scale(Row):
    """What scores refer to, fitted on a pool of responses.

    Attributes:
        bounds: Of each metric.
        target: Target of the length score, in words; None if no answer has a length.
    """

    bounds: dict[str, Bounds]
    target: float | None


def fit_scale(
    table: pd.DataFrame, params: ScoringParams, metrics: Mapping[str, Metric], max_words: int
) -> Scale:
    """Fit what depends on the pool.

    Responses that pairs leave out count, too: a failed one has the worst values, which bound
    every metric's scale, and no length.

    Args:
        table: The pool, one row per response: `valid`, `answer`, `words` and a column
            per metric (see `persodpo.pair.pool`).
        params: How scores are computed.
        metrics: What the values of each metric with a weight mean.
        max_words: The most words an answer may have.

    Raises:
        UserError: The pool is empty.
    """
    if table.empty:
        raise UserError("The pool has no responses to score; run the stages generate and score.")
    if params.normalisation == "range":
        bounds = {key: Bounds(low=metric.low, high=metric.high) for key, metric in metrics.items()}
    else:
        values = {key: table[key].fillna(metric.worst) for key, metric in metrics.items()}
        bounds = {
            key: Bounds(low=float(column.min()), high=float(column.max()))
            for key, column in values.items()
        }
    return Scale(bounds=bounds, target=_target(table, params.length, max_words))


def _target(table: pd.DataFrame, params: LengthParams, max_words: int) -> float | None:
    if params.target == "limit":
        return float(max_words)
    if params.target != "pool_mean":
        return float(params.target)
    words = table.loc[_has_length(table, params), "words"]
    mean = 0.0 if words.empty else float(words.mean())
    return (float(int(mean)) if params.formula == "released" else mean) or None


def _has_length(table: pd.DataFrame, params: LengthParams) -> pd.Series:
    """Whose answers' lengths count."""
    return table["answer"].notna() if params.formula == "released" else table["valid"]


def score_table(
    table: pd.DataFrame, scale: Scale, params: ScoringParams, metrics: Mapping[str, Metric]
) -> pd.DataFrame:
    """Compute the total score of every response.

    Args:
        table: One row per response, as for `fit_scale`; of the pool or of others.
        scale: What was fitted on the pool.
        params: How scores are computed.
        metrics: What the values of each metric with a weight mean.

    Returns:
        The table with the added columns `s_<metric>` of each metric (in [0, 1]), `s_metric`,
        `s_length`, `s_format`, `s_lfc` and `s_total`.
    """
    table = table.copy()
    for key, metric in metrics.items():
        values = table[key].fillna(metric.worst)
        table[f"s_{key}"] = normalise(values, scale.bounds[key], metric.higher_is_better)
    table["s_metric"] = sum((params.weights[key] * table[f"s_{key}"] for key in metrics), 0.0)
    table["s_length"] = length_score(table["words"], scale.target, params.length).where(
        _has_length(table, params.length), 0.0
    )
    table["s_format"] = table["valid"].astype(float)
    table["s_lfc"] = params.w1 * table["s_length"] + params.w2 * table["s_format"]
    table["s_total"] = table["s_metric"] + table["s_lfc"]
    return table


def normalise(values: pd.Series, bounds: Bounds, higher_is_better: bool) -> pd.Series:
    """Map values from the bounds to [0, 1], 1 for the better end; beyond them, they become 0 or 1.

    A metric whose bounds are equal tells nothing apart, and is 0 everywhere.
    """
    if bounds.low == bounds.high:
        return values * 0.0
    share = ((values - bounds.low) / (bounds.high - bounds.low)).clip(0.0, 1.0)
    return share if higher_is_better else 1.0 - share


def length_score(words: pd.Series, target: float | None, params: LengthParams) -> pd.Series:
    """Score lengths, in [0, 1]; higher is better.

    Args:
        words: Lengths in words.
        target: The target in words; None scores all 0.
        params: The formula. Where the target is the contract's limit, shorter answers lose
            nothing.
    """
    if target is None:
        return words * 0.0
    if params.formula == "bonus":
        return (words <= target).astype(float)
    excess = (words - target) / target
    if params.target == "limit":
        excess = excess.clip(lower=0.0)
    score = (1.0 - excess**2).clip(lower=0.0)
    return score.round(3) if params.formula == "released" else score
