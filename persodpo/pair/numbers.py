"""Numbers and plot data about pairs: how many, how far apart, who wins, and what biases show."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from persodpo.config.pair import PairSet

PairSets = Mapping[PairSet, pd.DataFrame]
SUMMARY = {"min": "min", "25%": "q25", "50%": "median", "75%": "q75", "max": "max", "mean": "mean"}


def pool_metrics(table: pd.DataFrame, metrics: Iterable[str]) -> dict[str, int]:
    """What the pairs are made of, for `dvc metrics`.

    Args:
        table: One row per response, with the column `valid` and one per metric.
        metrics: The metrics' names.

    Returns:
        The number of `responses`, of `valid` ones, and of `missing_values`: metrics
        that couldn't be computed for a valid response and count as the worst value.
    """
    missing = table.loc[table["valid"], list(metrics)].isna()
    return {
        "responses": len(table),
        "valid": int(table["valid"].sum()),
        "missing_values": int(missing.to_numpy().sum()),
    }


def pair_metrics(pairs: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Headline numbers of a pair set, for `dvc metrics`.

    Args:
        pairs: `chosen`, `rejected` (positions in the table) and `margin`.
        table: One row per scored response.

    Returns:
        `pairs`; `prompts` they cover, and `prompt_share` of the pool's prompts;
        `chosen_models` and `rejected_models`, how many different ones; `words_chosen` and
        `words_rejected`, mean lengths; `chosen_longer`, share of pairs whose chosen answer has
        more words; `chosen_invalid` and `rejected_invalid`, shares whose answer is outside the
        JSON contract; and smallest, quartiles, largest and mean of `margin`.
        Shares and means of an empty set are None.
    """
    chosen, rejected = table.iloc[pairs["chosen"]], table.iloc[pairs["rejected"]]
    longer = chosen["words"].to_numpy() > rejected["words"].to_numpy()
    return {
        "pairs": len(pairs),
        "prompts": int(chosen["id"].nunique()),
        "prompt_share": float(chosen["id"].nunique() / table["id"].nunique()),
        "chosen_models": int(chosen["model"].nunique()),
        "rejected_models": int(rejected["model"].nunique()),
        "words_chosen": _mean(chosen["words"]),
        "words_rejected": _mean(rejected["words"]),
        "chosen_longer": _mean(pd.Series(longer)),
        "chosen_invalid": _mean(~chosen["valid"].astype(bool)),
        "rejected_invalid": _mean(~rejected["valid"].astype(bool)),
        "margin": _summary(pairs["margin"]),
    }


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None


def _summary(values: pd.Series) -> dict[str, float | None]:
    described = values.astype(float).describe()
    return {name: float(described[key]) if len(values) else None for key, name in SUMMARY.items()}


def plot_data(sets: PairSets, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What the plots of the pairs show.

    Args:
        sets: The pairs of each set.
        table: One row per scored response.

    Returns:
        `wins`, see there, and histograms: `scores` and `lengths` (in words) of all responses
        and of both sides of the set persodpo, where a response counts once per pair that it
        is in; `margins` of each set.
    """
    pairs = sets["persodpo"]
    margins: dict[str, np.ndarray] = {
        name: each["margin"].to_numpy(dtype=float) for name, each in sets.items()
    }
    return {
        "wins": wins(sets, table),
        "scores": histogram("s_total", _sides(table["s_total"], pairs)),
        "lengths": histogram("words", _sides(table["words"], pairs)),
        "margins": histogram("margin", margins),
    }


def _sides(values: pd.Series, pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    of_all = values.to_numpy(dtype=float)
    return {
        "responses": of_all,
        "chosen": of_all[pairs["chosen"]],
        "rejected": of_all[pairs["rejected"]],
    }


def wins(sets: PairSets, table: pd.DataFrame) -> pd.DataFrame:
    """Who wins against whom.

    Returns:
        One row per pair set and two models: `set`, `winner`, `loser` and `pairs`, how often
        the winner's answer was chosen over the loser's.
    """
    model = table["model"].to_numpy()
    rows = [
        pd.DataFrame({"winner": model[pairs["chosen"]], "loser": model[pairs["rejected"]]})
        .value_counts()
        .rename("pairs")
        .reset_index()
        .sort_values(["winner", "loser"])
        .assign(set=name)
        for name, pairs in sets.items()
    ]
    return pd.concat(rows, ignore_index=True)[["set", "winner", "loser", "pairs"]]


def histogram(
    name: str,
    columns: Mapping[str, np.ndarray],
    limits: tuple[float, float] | None = None,
    n_bins: int = 20,
) -> pd.DataFrame:
    """Histograms over the same bins of equal width.

    Args:
        name: What is counted.
        columns: Values per group.
        limits: Where the bins begin and end; None takes the lowest and highest value.
        n_bins: How many.

    Returns:
        One row per bin: its middle, in a column of that name, and each group's share, which
        sum to 1 in a group that has values, and are 0 in one that has none.
    """
    values = np.concatenate(list(columns.values()))
    if limits is None and len(values) and np.ptp(values) < 1e-9 * max(1.0, abs(values[0])):
        limits = (values[0] - 0.5, values[0] + 0.5)  # numpy would make bins too narrow for floats
    edges = np.histogram_bin_edges(values, n_bins, limits)
    shares = {
        group: np.histogram(values, bins=edges)[0] / max(len(values), 1)
        for group, values in columns.items()
    }
    return pd.DataFrame({name: (edges[:-1] + edges[1:]) / 2, **shares})
