"""Runs that differ in the seed of their training alone, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from persodpo.experiments.runs import COLLAPSE, Run, by_settings
from persodpo.experiments.seeds import OverSeeds, over_seeds
from persodpo.report import (
    count_prompts,
    interval_text,
    markdown,
    paired_differences,
    verdict,
)

NOTE = """\
Mean ± standard deviation over seeds [95 % interval over seeds and prompts together: both are drawn,
the prompts of one dialogue together]. With few seeds the interval is too narrow; docs/evaluation.md
has its measured coverage."""
ONE_SEED = """\
No two runs differ in train.seed alone, so there is nothing to average; \
make seeds makes such runs (docs/experiments.md)."""


def seed_tables(runs: Sequence[Run]) -> str:
    """All groups of runs that differ in the seed alone, as Markdown.

    Args:
        runs: Finished runs.

    Returns:
        Per group of at least two seeds its settings, the mean of every candidate, and the
        differences of the methods, compared seed by seed; or a sentence that there is none.
    """
    groups = [group for group in by_settings(runs) if len(group) > 1]
    if not groups:
        return ONE_SEED
    parts = []
    for group, label in zip(groups, _labels(groups), strict=True):
        seeds = ", ".join(str(run.seed) for run in group)
        parts += [
            f"## {label}",
            f"{len(group)} seeds ({seeds}), {count_prompts(group[0].scores.clusters())}. {NOTE}",
            markdown(_means(group)),
            "Differences, seed by seed; the verdict is that of docs/evaluation.md.",
            markdown(_differences(group), "Difference"),
        ]
    return "\n\n".join(parts)


def brief_table(runs: Sequence[Run]) -> str:
    """Per group the mean total score of every candidate; see `seed_tables`."""
    groups = [group for group in by_settings(runs) if len(group) > 1]
    if not groups:
        return ONE_SEED
    rows = {}
    for group, label in zip(groups, _labels(groups), strict=True):
        totals = {
            name: _text(over_seeds(_values(group, "s_total", name), _clusters(group)))
            for name in group[0].scores.candidates()
        }
        rows[label] = {"seeds": str(len(group)), **totals}
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    return f"S_total. {NOTE}\n\n{markdown(table, 'Settings')}"


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """What tells each group from the first."""
    first, prompts = groups[0][0].settings, groups[0][0].prompts
    labels = []
    for group in groups:
        settings = group[0].settings
        differ = [
            f"{key}={settings.get(key)}"
            for key in dict.fromkeys([*first, *settings])
            if settings.get(key) != first.get(key)
        ]
        if group[0].prompts != prompts:
            differ.append(f"validation prompts of {group[0].name}")
        labels.append(", ".join(differ) or f"as in {group[0].name}")
    return labels


def _clusters(group: Sequence[Run]) -> list[str]:
    return group[0].scores.clusters()


def _values(group: Sequence[Run], measure: str, candidate: str) -> np.ndarray:
    """Shape (seeds, prompts), the prompts in the order of the first run."""
    ids = group[0].scores.ids()
    return np.stack([run.scores.values(measure)[candidate].loc[ids].to_numpy() for run in group])


def _means(group: Sequence[Run]) -> pd.DataFrame:
    rows: dict[str, dict[str, str]] = {}
    for name in group[0].scores.candidates():
        rows[name] = {
            measure.title: _text(over_seeds(_values(group, key, name), _clusters(group)))
            for key, measure in group[0].measures().items()
        }
        for key, title in COLLAPSE.items():
            rows[name][title] = _mean_and_sd([run.numbers[key] for run in group], name)
    return pd.DataFrame.from_dict(rows, orient="index")


def _mean_and_sd(of_seeds: Sequence[pd.Series], candidate: str) -> str:
    known = pd.Series([float(of_seed[candidate]) for of_seed in of_seeds]).dropna()
    return f"{known.mean():.2f} ± {known.std(ddof=1):.2f}" if len(known) > 1 else "n/a"


def _differences(group: Sequence[Run]) -> pd.DataFrame:
    """A row per comparison and measure."""
    rows: dict[str, Mapping[str, Any]] = {}
    clusters = _clusters(group)
    for against, method in group[0].compared():
        for key, measure in group[0].measures().items():
            differences = paired_differences(
                _values(group, key, method), _values(group, key, against)
            )
            found = over_seeds(differences, clusters)
            rows[f"{method} - {against}: {measure.title}"] = {
                "mean": _text(found, "+"),
                "above 0": f"{found.positive} of {len(group)} seeds",
                "verdict": verdict(
                    found.interval,
                    len(set(clusters)),
                    measure,
                    group[0].params.evaluate.equivalence,
                ),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _text(found: OverSeeds, sign: str = "") -> str:
    """Mean ± sd [interval]."""
    mean, *interval = interval_text(found.interval, sign).split(" ", 1)
    return " ".join([mean, "±", f"{found.sd:.2f}", *interval])
