"""The results as tables: the paper's Table 1, what it leaves out, and the comparison.

Each function gives a table of texts, which Markdown files and the page share.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from persodpo.intervals import Interval, mean_interval, share_interval
from persodpo.report.results import Results
from persodpo.score import Metric

Summaries = Mapping[str, Mapping[str, Any]]

# What stands behind the name of a candidate whose metrics can't be trusted.
WARNING = "⚠"
# Measures of the comparison beside the metrics: their titles.
MEASURES = {"s_total": "S_total ↑", "failed": "Failure ratio ↓"}


def metric_table(
    summaries: Summaries,
    over: str,
    metrics: Mapping[str, Metric],
    warned: Mapping[str, str],
    published: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The metrics, mean ± standard deviation (population) per candidate.

    Args:
        summaries: Per candidate, `persodpo.report.summary.summarise`'s numbers.
        over: `all` responses, or `valid` ones, whose number is in the column n.
        metrics: What the values of each metric mean, in the order of the columns.
        warned: The candidates that are marked.
        published: Rows that follow, as `persodpo.report.published.published_rows` gives them.
    """
    table = pd.DataFrame(
        {key: [_mean_and_sd(each[over][key]) for each in summaries.values()] for key in metrics},
        index=_names(summaries, warned),
    )
    if published is not None:
        table = pd.concat([table, published.reindex(columns=list(metrics), fill_value="")])
    if over == "valid":
        table.insert(0, "n", [str(each["n_valid"]) for each in summaries.values()])
    return table.rename(columns={key: metric_title(metric) for key, metric in metrics.items()})


def metric_title(metric: Metric) -> str:
    """A metric's name with the direction that is better."""
    return f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"


def other_table(summaries: Summaries, warned: Mapping[str, str]) -> pd.DataFrame:
    """Total score, format, length and collapse per candidate."""
    columns = {
        "failure_ratio": "Failure ratio ↓",
        "cut_ratio": "Cut ↓",
        "length_compliance": "Format and length ↑",
        "words": "Words",
        "repeated": "Repeated ↓",
        "distinct_1": "Distinct-1 ↑",
        "distinct_2": "Distinct-2 ↑",
    }
    totals = [_mean_and_sd(each["all"]["s_total"]) for each in summaries.values()]
    texts = {
        title: [_text(each[key]) for each in summaries.values()] for key, title in columns.items()
    }
    return pd.DataFrame({"S_total ↑": totals, **texts}, index=_names(summaries, warned))


def time_table(summaries: Summaries) -> pd.DataFrame:
    """Response time per candidate, in seconds, and how many prompts were answered at once."""
    batches = [each["batch"] for each in summaries.values()]
    return pd.DataFrame(
        {
            "Median": [_text(each["seconds"]) for each in summaries.values()],
            "95th percentile": [_text(each["seconds_p95"]) for each in summaries.values()],
            "Answered at once": [
                "n/a" if batch is None else "-".join(map(str, sorted(set(batch))))
                for batch in batches
            ],
        },
        index=list(summaries),
    )


def interval_table(results: Results, valid_only: bool) -> pd.DataFrame:
    """Means with their 95 % intervals, per candidate.

    Args:
        results: All candidates' answers.
        valid_only: Over valid responses, whose number is in the column n, instead of all.
    """
    rows = {}
    for name in results.candidates():
        valid = results.of(name)["valid"].to_numpy()
        row = {"n": str(int(valid.sum()) if valid_only else len(valid))}
        for key, title in titles(results.metrics).items():
            if key == "failed":
                if not valid_only:
                    row[title] = interval_text(share_interval(int((~valid).sum()), len(valid)))
                continue
            of_candidate = results.of(name)[key] if valid_only else results.values(key)[name]
            values = of_candidate.to_numpy(dtype=float)[valid if valid_only else slice(None)]
            row[title] = interval_text(mean_interval(values[~pd.isna(values)]))
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def titles(metrics: Mapping[str, Metric]) -> dict[str, str]:
    """What is compared, in the order of the columns: keys and titles."""
    return {
        "s_total": MEASURES["s_total"],
        **{key: metric_title(metric) for key, metric in metrics.items()},
        "failed": MEASURES["failed"],
    }


def comparison_table(compared: pd.DataFrame, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Differences of methods from one other candidate as texts.

    Args:
        compared: Rows of `persodpo.report.comparison.compare` of one such candidate.
        metrics: What the values of each metric mean.
    """
    names = titles(metrics)
    ends = compared[["difference", "low", "high"]].to_numpy(dtype=float)
    counts = compared[["wins", "ties", "losses"]].to_numpy()
    table = pd.DataFrame(
        {
            "Measure": [names[measure] for measure in compared["measure"]],
            "Difference": [
                interval_text(Interval(mean, _known(low), _known(high)), "+")
                for mean, low, high in ends
            ],
            "d_z": [_text(_known(value), "+") for value in compared["d_z"]],
            "Higher / equal / lower": [" / ".join(map(str, row)) for row in counts],
            "p": compared["p"].map(p_text),
            "p (Holm)": compared["p_holm"].map(p_text),
        }
    )
    table.index = list(compared["method"])
    return table


def p_text(p: float) -> str:
    """A p-value; one that the test can't tell from 0 is below what is written."""
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def markdown(table: pd.DataFrame, name: str = "Candidate") -> str:
    """A table of texts in Markdown."""
    return table.rename_axis(name).to_markdown(disable_numparse=True)


def _names(summaries: Summaries, warned: Mapping[str, str]) -> list[str]:
    return [f"{name} {WARNING}" if name in warned else name for name in summaries]


def _mean_and_sd(numbers: Mapping[str, float | None]) -> str:
    return f"{_text(numbers['mean'])} ± {_text(numbers['sd'])}"


def interval_text(interval: Interval | None, sign: str = "") -> str:
    """A mean with its interval in square brackets, if it has one."""
    if interval is None:
        return "n/a"
    mean = _text(interval.mean, sign)
    if interval.low is None or interval.high is None:
        return mean
    return f"{mean} [{_text(interval.low, sign)}, {_text(interval.high, sign)}]"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _text(value: float | None, sign: str = "") -> str:
    return "n/a" if value is None else f"{value:{sign}.2f}"
