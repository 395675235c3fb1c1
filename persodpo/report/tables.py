"""The results as tables: the paper's Table 1, what it leaves out, and the comparison.

Each function gives a table of texts, which Markdown files and the page share.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from persodpo.intervals import Interval, failure_interval, mean_interval
from persodpo.report.measures import Measure, metric_title
from persodpo.report.results import Results
from persodpo.score import Metric

Summaries = Mapping[str, Mapping[str, Any]]

# What stands behind the name of a candidate whose metrics can't be trusted.
WARNING = "⚠"
# What p-values are compared with.
LEVEL = 0.05


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


def other_table(
    summaries: Summaries,
    warned: Mapping[str, str],
    trainings: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    """Total score, format, length, collapse and displacement per candidate."""
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
    for key, title in {"displaced_share": "Displaced ↓", "displaced_fall": "Fall ↓"}.items():
        texts[title] = [_text(trainings.get(name, {}).get(key)) for name in summaries]
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
    dialogues = {prompt.id: prompt.cluster for prompt in results.prompts}
    for name in results.candidates():
        of_candidate = results.of(name)
        valid = of_candidate["valid"].to_numpy(dtype=bool)
        clusters = of_candidate["id"].map(dialogues).to_numpy()
        row = {"n": str(int(valid.sum()) if valid_only else len(valid))}
        for key, measure in results.measures().items():
            if key == "failed":
                if not valid_only:
                    row[measure.title] = interval_text(failure_interval(~valid, clusters.tolist()))
                continue
            if valid_only:
                values = of_candidate[key].to_numpy(dtype=float)
                known = valid & ~pd.isna(values)
            else:
                values = results.values(key)[name].loc[of_candidate["id"]].to_numpy(dtype=float)
                known = np.ones(len(values), dtype=bool)
            interval = mean_interval(values[known], clusters=clusters[known].tolist())
            row[measure.title] = interval_text(interval)
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def verdict_table(
    compared: pd.DataFrame, found: Mapping[str, Measure], audit: Sequence[str]
) -> pd.DataFrame:
    """Each comparison in one row: the total score, and what the audit metrics say.

    Args:
        compared: Rows of `persodpo.report.comparison.compare`.
        found: What the measures are.
        audit: The measures that no pair sees.
    """
    rows = {}
    for (against, method), of_pair in compared.groupby(["against", "method"], sort=False):
        by_measure = {row["measure"]: row for row in of_pair.to_dict("records")}
        total = by_measure["s_total"]
        rows[f"{method} - {against}"] = {
            "S_total": _difference(total),
            "can show": _text(_known(total["detectable"])),
            "verdict": total["verdict"],
            **{found[key].title: by_measure[key]["verdict"] for key in [*audit, "failed"]},
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def comparison_table(compared: pd.DataFrame, found: Mapping[str, Measure]) -> pd.DataFrame:
    """Differences of methods from one other candidate as texts.

    Args:
        compared: Rows of `persodpo.report.comparison.compare` of one such candidate.
        found: What the measures are.
    """
    counts = compared[["wins", "ties", "losses"]].to_numpy()
    table = pd.DataFrame(
        {
            "Measure": [found[measure].title for measure in compared["measure"]],
            "Difference": [_difference(row) for row in compared.to_dict("records")],
            "Can show": [_text(_known(value)) for value in compared["detectable"]],
            "Verdict": compared["verdict"],
            "d_z": [_text(_known(value), "+") for value in compared["d_z"]],
            "Higher / equal / lower": [" / ".join(map(str, row)) for row in counts],
            "p": compared["p"].map(p_text),
            "p (Holm)": compared["p_holm"].map(p_text),
        }
    )
    table.index = list(compared["method"])
    return table


def _difference(row: Mapping[Any, Any]) -> str:
    ends = (_known(row["low"]), _known(row["high"]))
    return interval_text(Interval(row["difference"], *ends), "+")


def p_text(p: float) -> str:
    """A p-value; one that the test can't tell from 0 is below what is written."""
    if p < 0.001:
        return "< .001"
    # so that .0499 isn't shown as .050
    digits = 4 if p != LEVEL and round(p, 3) == LEVEL else 3
    return f"{p:.{digits}f}".removeprefix("0")


def markdown(table: pd.DataFrame, name: str = "Candidate") -> str:
    """A table of texts in Markdown."""
    return table.rename_axis(name).to_markdown(disable_numparse=True)


def _names(summaries: Summaries, warned: Mapping[str, str]) -> list[str]:
    return [f"{name} {WARNING}" if name in warned else name for name in summaries]


def _mean_and_sd(numbers: Mapping[str, float | None]) -> str:
    return f"{_text(numbers['mean'])} ± {_text(numbers['sd'])}"


def interval_text(interval: Interval | None, sign: str = "") -> str:
    """A mean with its interval in square brackets, if it has one.

    Of an end that isn't 0 as many digits are shown as it takes to see that, up to four.
    """
    if interval is None:
        return "n/a"
    if interval.low is None or interval.high is None:
        return _text(interval.mean, sign)
    ends = interval.low, interval.high
    digits = next((n for n in (2, 3) if all(end == 0 or round(end, n) != 0 for end in ends)), 4)
    mean, low, high = (_text(value, sign, digits) for value in (interval.mean, *ends))
    return f"{mean} [{low}, {high}]"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _text(value: float | None, sign: str = "", digits: int = 2) -> str:
    if value is None:
        return "n/a"
    # without a sign where nothing but zeros is left
    return f"{value:{sign}.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"
