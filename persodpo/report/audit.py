"""The audit of the metrics as a table, and as warnings about metrics that form pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from persodpo.audit import audit_flags, concerns, value_flags
from persodpo.intervals import Interval
from persodpo.report.tables import interval_text
from persodpo.score import Metric

NOTE = """\
Questions about golden answers and what is made from them; no model wrote any of it. AUC: the
chance that a metric values the first more than the second; at .5 it can't tell. Persona: a golden
answer under its own persona, and under another dialogue's. Turns: after its own turns, and after
another dialogue's. Sentences: with a persona sentence that it uses, and with one that it doesn't;
F1 by the metric's own threshold. Opposites: with a persona sentence that it uses, and with that
sentence's opposite, written by hand; contradictions called is the share of the second that the
metric calls contradictions, called falsely that of the first; golden answers called: the share of
the sample's golden answers that it calls so under their own persona, falsely, too. Echo: a golden
answer, and the persona itself given back as the answer; below .5 a model can please the metric by
repeating the persona. Commonest: the share of all these with the commonest value. Length: rank
correlation with the number of words. Square brackets: 95 % intervals over dialogues. A metric
passes if it tells what it looks at (persona, turns, and opposites if it calls contradictions),
isn't constant and isn't length."""
# The columns: their titles, and the question and measure of their findings.
COLUMNS = {
    "Persona": ("persona", "auc"),
    "Turns": ("turns", "auc"),
    "Sentences": ("sentences", "auc"),
    "F1": ("sentences", "f1"),
    "Opposites": ("opposites", "auc"),
    "Contradictions called": ("opposites", "called"),
    "called falsely": ("opposites", "called falsely"),
    "Golden answers called": ("values", "called falsely"),
    "Echo": ("echo", "auc"),
    "Commonest": ("values", "commonest"),
    "Length": ("values", "words"),
}


def audit_table(findings: pd.DataFrame, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """One row per metric, a column per question; empty where a question isn't about it.

    A metric that can't be asked, such as published values, has no row.
    """
    cells = {
        (row["metric"], row["question"], row["measure"]): _text(row)
        for row in findings.to_dict("records")
    }
    asked = [key for key in metrics if key in set(findings["metric"])]
    flagged = audit_flags(findings)
    table = pd.DataFrame(
        {
            title: [cells.get((key, *place), "") for key in asked]
            for title, place in COLUMNS.items()
        },
        index=[metrics[key].label for key in asked],
    )
    table = table.loc[:, (table != "").any()]
    questions = findings[findings["measure"] == "auc"].groupby("metric")["question"].agg(set)
    table["Passes"] = [
        _passes(key in flagged, questions.get(key, set()), concerns(metrics[key])) for key in asked
    ]
    return table


def _passes(is_flagged: bool, answered: set[str], concerned: Sequence[str]) -> str:
    """What a metric wasn't asked, as for want of a second dialogue, it can't pass."""
    main = {name for name in concerned if name in ("persona", "turns")}
    if not answered:
        return "not asked"
    if is_flagged:
        return "no"
    return "yes" if main <= answered else "not asked"


def correlation_table(findings: pd.DataFrame, metrics: Mapping[str, Metric]) -> pd.DataFrame:
    """Rank correlations between the metrics over golden answers; empty where there is none."""
    asked = [key for key in metrics if key in set(findings["metric"])]
    values = {
        (row["metric"], row["measure"]): _text(row)
        for row in findings.to_dict("records")
        if row["question"] == "values"
    }
    labels = [metrics[key].label for key in asked]
    return pd.DataFrame(
        [[values.get((key, f"with {other}"), "") for other in asked] for key in asked],
        index=labels,
        columns=labels,
    )


def audit_warnings(
    findings: pd.DataFrame,
    pool: Mapping[str, Any],
    metrics: Mapping[str, Metric],
    weights: Mapping[str, float],
) -> list[str]:
    """One sentence per reason why a metric that forms pairs doesn't pass.

    Args:
        findings: What the stage audit found.
        pool: What the pool's values show (`values` of artifacts/pairs/metrics.json).
        metrics: What the values of each metric mean.
        weights: Of the metrics that form pairs.
    """
    flagged = [audit_flags(findings), value_flags(dict(pool))]
    return [
        f"{metrics[key].label} has the weight {weight:g} and {reason}."
        for key, weight in weights.items()
        if weight
        for flags in flagged
        for reason in flags.get(key, [])
    ]


def _text(row: Mapping[Any, Any]) -> str:
    ends = [None if pd.isna(row[end]) else row[end] for end in ("low", "high")]
    return interval_text(Interval(row["value"], *ends))
