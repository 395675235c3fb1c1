"""The results as tables: the paper's Table 1, and the numbers it leaves out.

Reads the summaries of `persodpo.evaluation.summarise` and needs no model library.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from persodpo.pair_params import ScoringParams
from persodpo.pool import evaluated_table
from persodpo.records import Evaluated
from persodpo.scorers.metric import Metric
from persodpo.scoring import Scale, score_table

Summaries = Mapping[str, Mapping[str, Any]]

SCORERS_NOTE = """\
What stands behind each metric is set in the section scorers of params.yaml and described in
docs/metrics.md; only values of the same scorers compare with each other."""
COLUMNS_NOTE = """\
S_total: what the pairs are formed by, on the scale that was fitted on the training responses.
Repeated: share of the answers that were given to more than one prompt. Distinct-2: different word
bigrams over all bigrams of the answers. Both count what a failed response says, too. Words: mean
of the valid answers. Seconds: median per response, each response's share of its batch."""


def total_score(
    evaluated: Sequence[Evaluated],
    scale: Scale,
    params: ScoringParams,
    metrics: Mapping[str, Metric],
) -> dict[str, float]:
    """Mean and standard deviation (population) of a candidate's S_total.

    Args:
        evaluated: Its answers with their scores, at least one.
        scale: What was fitted on the training responses.
        params: How scores are computed.
        metrics: What the values of each metric mean.
    """
    total = score_table(evaluated_table(evaluated), scale, params, metrics)["s_total"]
    return {"mean": float(total.mean()), "sd": float(total.std(ddof=0))}


def table_1(
    summaries: Summaries,
    pairs: Mapping[str, Mapping[str, Any]],
    metrics: Mapping[str, Metric],
) -> str:
    """Write the results as Markdown.

    Args:
        summaries: Per candidate, in the order of the rows: `persodpo.evaluation.summarise`'s
            and, under `s_total`, `total_score`'s.
        pairs: Per pair set, the numbers of `persodpo.pair_numbers.pair_metrics`.
        metrics: What the values of each metric mean, in the order of the columns.

    Returns:
        Three tables: the metrics over all and over valid responses, and total score,
        format, length, collapse and time.
    """
    n = next(iter(summaries.values()))["n"]
    sets = "; ".join(
        f"{name}: {numbers['pairs']} pairs over {numbers['prompts']} prompts"
        for name, numbers in pairs.items()
        if "pairs" in numbers
    )
    versions = ", ".join(f"{metric.label} {metric.version}" for metric in metrics.values())
    parts = [
        "# Results on the validation prompts",
        f"{n} prompts per candidate. Training pairs: {sets}.",
        f"{SCORERS_NOTE} Versions: {versions}.",
        "## Metrics over all responses (mean ± sd; a failed response has the worst values)",
        _markdown(_metric_columns(summaries, "all", metrics)),
        "## Metrics over valid responses (mean ± sd)",
        _markdown(_metric_columns(summaries, "valid", metrics)),
        "## Total score, format, length, collapse, time",
        COLUMNS_NOTE,
        _markdown(_other_columns(summaries)),
    ]
    return "\n\n".join(parts) + "\n"


def _metric_columns(summaries: Summaries, over: str, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            f"{metric.label} {'↑' if metric.higher_is_better else '↓'}": [
                _mean_and_sd(summary[over][key]) for summary in summaries.values()
            ]
            for key, metric in metrics.items()
        },
        index=list(summaries),
    )


def _other_columns(summaries: Summaries) -> pd.DataFrame:
    columns = {
        "failure_ratio": "Failure ratio ↓",
        "format_compliance": "Format ↑",
        "length_compliance": "Format and length ↑",
        "words": "Words",
        "repeated": "Repeated ↓",
        "distinct_2": "Distinct-2 ↑",
        "seconds": "Seconds",
    }
    table = pd.DataFrame(
        {
            title: [_text(summary[key]) for summary in summaries.values()]
            for key, title in columns.items()
        },
        index=list(summaries),
    )
    totals = [_mean_and_sd(summary["s_total"]) for summary in summaries.values()]
    table.insert(0, "S_total ↑", totals)
    return table


def _mean_and_sd(numbers: Mapping[str, float | None]) -> str:
    return f"{_text(numbers['mean'])} ± {_text(numbers['sd'])}"


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _markdown(table: pd.DataFrame) -> str:
    table.index.name = "Candidate"
    return table.to_markdown(disable_numparse=True)


def candidates_table(summaries: Summaries) -> pd.DataFrame:
    """What Figure 2 (c) of the paper shows: `candidate`, `failure_ratio`, `seconds`."""
    return pd.DataFrame(
        {
            "candidate": list(summaries),
            "failure_ratio": [summary["failure_ratio"] for summary in summaries.values()],
            "seconds": [summary["seconds"] for summary in summaries.values()],
        }
    )
