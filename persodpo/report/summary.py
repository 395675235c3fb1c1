"""The numbers of each candidate: quality, validity, length, collapse and time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from persodpo.report.collapse import distinct, repeated_share
from persodpo.report.results import Results
from persodpo.score import Metric

# A method is said to collapse if it gives at least so many of its answers to more than one prompt,
REPEATED = 0.25
# or if its different bigrams, as a share of all, fall below so much of those of its start.
DISTINCT = 0.5
BASE = "base"


def summarise_all(results: Results, max_words: int) -> dict[str, dict[str, Any]]:
    """`summarise` each candidate, in their order."""
    return {name: summarise(results, name, max_words) for name in results.candidates()}


def summarise(results: Results, candidate: str, max_words: int) -> dict[str, Any]:
    """Summary numbers of one candidate.

    Args:
        results: All candidates' answers.
        candidate: Which.
        max_words: The most words an answer may have.

    Returns:
        `n`; `n_valid`; `failure_ratio`, share of answers outside the JSON contract; `cut_ratio`,
        share of answers that were cut at the most tokens;
        `length_compliance`, share of all answers that are valid and short enough;
        `words`, mean of the valid answers; `repeated`, `distinct_1` and `distinct_2` (see
        `persodpo.report.collapse`) over all answers, of a failed one its raw text;
        `seconds` and `seconds_p95`, median and 95th percentile per response; `batch`, the smallest
        and largest number of prompts that were answered together; `missing_values`; and under
        `all` and `valid`, each metric's and the total score's mean and standard
        deviation (population) over all and over valid answers. A value that couldn't be computed
        counts as the worst over all, as it does in the total score, is left out over
        valid ones, and is counted in `missing_values`. A number that no answer gives is None.
    """
    rows = results.of(candidate)
    answers: list[str] = rows["answer"].where(rows["answer"].notna(), rows["raw"]).tolist()
    valid = rows[rows["valid"]]
    measures = [*results.metrics, "s_total"]
    over_all = pd.DataFrame({key: results.values(key)[candidate] for key in measures})
    return {
        "n": len(rows),
        "n_valid": len(valid),
        "failure_ratio": float(1 - rows["valid"].mean()),
        "cut_ratio": float(rows["cut"].mean()),
        "length_compliance": float((rows["valid"] & (rows["words"] <= max_words)).mean()),
        "words": _number(float(valid["words"].mean())),
        "repeated": repeated_share(answers),
        "distinct_1": distinct(answers, 1),
        "distinct_2": distinct(answers, 2),
        "seconds": _number(float(rows["seconds"].median())),
        "seconds_p95": _number(float(rows["seconds"].quantile(0.95))),
        "batch": _batch(rows["batch_size"]),
        "missing_values": {
            key: int(missing)
            for key, missing in valid[list(results.metrics)].isna().sum().items()
            if missing
        },
        "all": _mean_and_sd(over_all),
        "valid": _mean_and_sd(valid[measures].astype(float)),
    }


def _mean_and_sd(values: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    return {
        str(key): {"mean": _number(column.mean()), "sd": _number(column.std(ddof=0))}
        for key, column in values.items()
    }


def _batch(sizes: pd.Series) -> list[int] | None:
    known = sizes.dropna()
    return None if known.empty else [int(known.min()), int(known.max())]


def _number(value: float) -> float | None:
    return None if pd.isna(value) or np.isinf(value) else float(value)


def headline(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """The main numbers of a candidate, flat, for `dvc metrics` and `dvc exp show`.

    They are the total score, all metrics, failures and repeated answers; the rest stands in the
    tables. Means are over all responses. A number that there isn't is left
    out, since DVC can't compare it.
    """
    numbers = {
        "s_total": summary["all"]["s_total"]["mean"],
        **{key: value["mean"] for key, value in summary["all"].items() if key != "s_total"},
        **{key: summary[key] for key in ("failure_ratio", "repeated")},
    }
    return {key: value for key, value in numbers.items() if value is not None}


def collapses(
    summaries: Mapping[str, Mapping[str, Any]], starts: Mapping[str, str]
) -> dict[str, str]:
    """The methods whose metrics can't be trusted, because they collapse.

    Args:
        summaries: Each candidate's numbers.
        starts: What each method started from; any other candidate is compared with the base.

    Returns:
        By the method's name, one sentence: it has a higher total score than what it started from,
        and gives the same answer to many prompts or says far less different things.
    """
    found = {}
    for name, summary in summaries.items():
        start = starts.get(name, BASE)
        base = summaries.get(start)
        if base is None:
            continue
        mean, base_mean = (each["all"]["s_total"]["mean"] for each in (summary, base))
        if name == start or mean <= base_mean:
            continue
        signs = []
        if summary["repeated"] >= REPEATED and summary["repeated"] > base["repeated"]:
            signs.append(
                f"gives {summary['repeated']:.2f} of its answers to more than one prompt "
                f"({start}: {base['repeated']:.2f})"
            )
        if _falls(summary["distinct_2"], base["distinct_2"]):
            signs.append(
                f"has a distinct-2 of {summary['distinct_2']:.2f} "
                f"({start}: {base['distinct_2']:.2f})"
            )
        if signs:
            found[name] = (
                f"{name} has a higher S_total than {start} ({mean:.2f} and {base_mean:.2f}) "
                f"and collapses: it {' and '.join(signs)}."
            )
    return found


def _falls(value: float | None, base: float | None) -> bool:
    return value is not None and base is not None and value < DISTINCT * base


def missing_values(
    summaries: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Metric]
) -> list[str]:
    """A sentence per metric about valid answers that it has no value of.

    Args:
        summaries: Each candidate's numbers.
        metrics: What the values of each metric mean.
    """
    sentences = []
    for key, metric in metrics.items():
        counts = {
            name: each["missing_values"][key]
            for name, each in summaries.items()
            if key in each["missing_values"]
        }
        if counts:
            of_whom = ", ".join(f"{count} of {name}" for name, count in counts.items())
            sentences.append(
                f"{metric.label} has no value of some valid answers ({of_whom}): over all "
                "responses they count as the worst, over valid ones they are left out."
            )
    return sentences
