"""How well a metric answers a question, as rows of a table with intervals and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from persodpo.audit.questions import Case, Question
from persodpo.audit.values import is_commonest, is_length, is_tied, rank_correlation
from persodpo.intervals import Interval, auc_interval, ratio_interval
from persodpo.score import Metric

Verdict = Literal["sees it", "doesn't see it", "wrong way round", "constant", "is length", ""]
COLUMNS = ["metric", "question", "measure", "value", "low", "high", "n", "clusters", "verdict"]
# A row: see COLUMNS.
Finding = tuple[str, str, str, float, float | None, float | None, int, int, Verdict]


def verdict_of(area: Interval) -> Verdict:
    """What an area under the curve says; .5 is chance."""
    if area.low is not None and area.low > 0.5:
        return "sees it"
    if area.high is not None and area.high < 0.5:
        return "wrong way round"
    return "doesn't see it"


def question_findings(
    key: str, metric: Metric, question: Question, higher: Sequence[float], lower: Sequence[float]
) -> list[Finding]:
    """How well a metric tells the two sides of a question apart.

    Args:
        key: The metric's.
        metric: What its values mean.
        question: What it was asked.
        higher: Its values of the question's higher side.
        lower: Of its lower side.

    Returns:
        `auc`; for a metric that says by itself whether an answer uses the persona, `f1` on the
        question sentences; for one that calls answers contradictions, `called` on the question
        opposites, the share of the lower side, and `called falsely`, of the higher side.
    """
    sign = 1 if metric.higher_is_better else -1
    of_higher = [case.cluster for case in question.higher]
    of_lower = [case.cluster for case in question.lower]
    area = auc_interval([sign * v for v in higher], [sign * v for v in lower], of_higher, of_lower)
    assert area is not None  # a question has both sides
    n = len({*of_higher, *of_lower})
    size = len(higher) + len(lower)
    rows: list[Finding] = [(key, question.name, "auc", *area, size, n, verdict_of(area))]
    if question.name == "sentences" and metric.used_above is not None:
        truth = [1] * len(higher) + [0] * len(lower)
        used = [int(value > metric.used_above) for value in [*higher, *lower]]
        found = [2 * (is_used and says) for is_used, says in zip(truth, used, strict=True)]
        marked = [is_used + says for is_used, says in zip(truth, used, strict=True)]
        score = ratio_interval(found, marked, [*of_higher, *of_lower])
        if score is not None:
            rows.append((key, question.name, "f1", *score, size, n, ""))
    if question.name == "opposites" and metric.contradicted_below is not None:
        for measure, cases, values in (
            ("called", question.lower, lower),
            ("called falsely", question.higher, higher),
        ):
            rows.append(contradictions(key, metric, "opposites", measure, cases, values))
    return rows


def contradictions(
    key: str,
    metric: Metric,
    question: str,
    measure: str,
    cases: Sequence[Case],
    values: Sequence[float],
) -> Finding:
    """The share of different cases that a metric calls contradictions of the persona."""
    assert metric.contradicted_below is not None
    below = {
        (*case.prompt.persona, case.answer): (value < metric.contradicted_below, case.cluster)
        for case, value in zip(cases, values, strict=True)
    }
    clusters = [cluster for _, cluster in below.values()]
    share = ratio_interval([called for called, _ in below.values()], [1] * len(below), clusters)
    assert share is not None  # a question has both sides
    return (key, question, measure, *share, len(below), len(set(clusters)), "")


def commonest_finding(key: str, values: Sequence[float], clusters: Sequence[str]) -> Finding:
    """The share of the commonest value among all that a metric gave in the audit."""
    most, n = _share(is_commonest(values), clusters), len(set(clusters))
    verdict: Verdict = "constant" if most.mean == 1 else ""
    return (key, "values", "commonest", *most, len(values), n, verdict)


def value_findings(
    key: str,
    values: Mapping[str, Sequence[float]],
    words: Sequence[int],
    clusters: Sequence[str],
) -> list[Finding]:
    """What the values of a metric of valid answers show by themselves.

    Args:
        key: The metric's.
        values: Of all metrics, by their keys, one per answer.
        words: The answers' lengths.
        clusters: The dialogue of each answer.

    Returns:
        `tied` (the share of values that come more than once), and the rank correlations `words`
        and of every other metric.
    """
    own, n = values[key], (len(values[key]), len(set(clusters)))
    rows: list[Finding] = [(key, "values", "tied", *_share(is_tied(own), clusters), *n, "")]
    for name, other in {"words": words, **values}.items():
        correlation = None if name == key else rank_correlation(own, other, clusters)
        if correlation is not None:
            is_words = name == "words" and is_length(correlation)
            verdict: Verdict = "is length" if is_words else ""
            measure = name if name == "words" else f"with {name}"
            rows.append((key, "values", measure, *correlation, *n, verdict))
    return rows


def _share(true: np.ndarray, clusters: Sequence[str]) -> Interval:
    interval = ratio_interval(true.astype(float).tolist(), [1.0] * len(true), clusters)
    assert interval is not None  # there is at least one value
    return interval
