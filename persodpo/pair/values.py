"""What the metrics' values of the pool show by themselves: the part of the audit for all metrics.

Published values can't be asked for other texts, but constants, ties, repeats and length in disguise
show in them, too.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from persodpo.audit import (
    in_file_order,
    is_commonest,
    is_length,
    is_tied,
    rank_correlation,
    repeats,
)
from persodpo.intervals import Interval
from persodpo.score import Metric


def value_numbers(table: pd.DataFrame, metrics: Mapping[str, Metric]) -> dict[str, dict[str, Any]]:
    """What the values of each metric show.

    Args:
        table: One row per response of the pool: `id`, `model`, `sample`, `words`, `valid`, and a
            column per metric.
        metrics: What the values of each metric mean.

    Returns:
        By metric: over valid responses that have a value `commonest`, the share of the commonest
        value, `tied`, the share of values that another response has, too, and the rank
        correlations `words` and `with` each other metric; over all responses `format`, that with
        S_format. None where there is none. `repeats` says of each model whose values come again a
        fixed number of prompts further on the `distance`, their `share` and that by `chance`.
    """
    valid = table[table["valid"]]
    return {key: _numbers(key, table, valid, metrics) for key in metrics}


def _numbers(
    key: str, table: pd.DataFrame, valid: pd.DataFrame, metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    own = valid[valid[key].notna()]
    if own.empty:
        return {}
    length = _correlation(own[key], own["words"], own["id"])
    everywhere = table[key].fillna(metrics[key].worst)
    return {
        "commonest": float(is_commonest(own[key].tolist()).mean()),
        "tied": float(is_tied(own[key].tolist()).mean()),
        "words": _mean(length),
        "length": is_length(length),
        "format": _mean(_correlation(everywhere, table["valid"].astype(float), table["id"])),
        "with": {
            other: _mean(_correlation(own[key], own[other].fillna(metrics[other].worst), own["id"]))
            for other in metrics
            if other != key
        },
        "repeats": _repeats(own, key),
    }


def _correlation(one: pd.Series, other: pd.Series, ids: pd.Series) -> Interval | None:
    return rank_correlation(one.tolist(), other.tolist(), ids.tolist())


def _mean(interval: Interval | None) -> float | None:
    return None if interval is None else interval.mean


def _repeats(valid: pd.DataFrame, key: str) -> dict[str, dict[str, float]]:
    """Repeats are looked for in each model's answers, in the order of the published files."""
    found = {}
    for name, rows in valid[valid["sample"] == 0].groupby("model", sort=False):
        ordered = rows[key].to_numpy()[in_file_order(rows["id"].tolist())]
        repeated = repeats(ordered.tolist())
        if repeated is not None:
            found[str(name)] = dict(zip(("distance", "share", "chance"), repeated, strict=True))
    return found
