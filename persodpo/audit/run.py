"""All metrics on all questions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from persodpo import processes
from persodpo.audit.findings import (
    COLUMNS,
    Finding,
    commonest_finding,
    contradictions,
    question_findings,
    value_findings,
)
from persodpo.audit.questions import (
    Case,
    Question,
    ask,
    concerns,
    golden_cases,
    read_opposites,
)
from persodpo.config.audit import AuditParams
from persodpo.records import Prompt
from persodpo.score import Metric, QuestionName, Scorer, declared_metrics


def audit_metrics(
    prompts: Sequence[Prompt], scorers: dict[str, Scorer], params: AuditParams, batch_tokens: int
) -> pd.DataFrame:
    """Audit each metric that can be asked.

    Args:
        prompts: The validation prompts, with their golden answers.
        scorers: The metrics, by their keys.
        params: What they are asked.
        batch_tokens: So many tokens may be judged at once.

    Returns:
        One row per finding, with `findings.COLUMNS`; `value`, `low` and `high` are missing where
        there are none. A metric that can't be asked has no rows.

    Raises:
        UserError: The file of opposites can't be read, or what stands behind a metric can't be
            found or used.
    """
    opposites = read_opposites(Path(params.opposites)) if params.opposites else []
    questions = ask(prompts, opposites, params.others, params.seed)
    metrics = declared_metrics(scorers)
    of_golden: dict[str, list[float]] = {}
    rows: list[Finding] = []
    for key, scorer in scorers.items():
        if scorer.can_be_asked:
            found, of_golden[key] = _findings(
                key, scorer, metrics[key], questions, golden_cases(prompts), batch_tokens
            )
            rows += found
    words = [len(prompt.golden_answer.split()) for prompt in prompts]
    clusters = [prompt.cluster for prompt in prompts]
    rows += [row for key in of_golden for row in value_findings(key, of_golden, words, clusters)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _findings(
    key: str,
    scorer: Scorer,
    metric: Metric,
    questions: Mapping[QuestionName, Question],
    golden: list[Case],
    batch_tokens: int,
) -> tuple[list[Finding], list[float]]:
    """What one metric says to the questions that concern it, and its values of golden answers."""
    concerned = [questions[name] for name in concerns(metric) if name in questions]
    sides = [golden, *(side for each in concerned for side in (each.higher, each.lower))]
    # all at once, so that what stands behind the metric is loaded once
    every = _values(key, scorer, [case for side in sides for case in side], batch_tokens)
    values = iter(every)
    of_golden, *of_sides = ([next(values) for _ in side] for side in sides)
    # a metric that is asked nothing has seen golden answers alone, which may well be worth the same
    clusters = [case.cluster for side in sides for case in side]
    rows = [commonest_finding(key, every, clusters)] if concerned else []
    for question, higher, lower in zip(concerned, of_sides[::2], of_sides[1::2], strict=True):
        rows += question_findings(key, metric, question, higher, lower)
    if metric.contradicted_below is not None:
        rows.append(contradictions(key, metric, "values", "called falsely", golden, of_golden))
    return rows, of_golden


def _values(key: str, scorer: Scorer, cases: Sequence[Case], batch_tokens: int) -> list[float]:
    """A metric's values of cases, the worst where it has none; every process scores its share."""
    mine = processes.share(cases)
    values = scorer.values(
        f"params.yaml: scorers.{key}",
        [case.prompt for case in mine],
        [case.response() for case in mine],
        batch_tokens,
    )
    worst = scorer.metric().worst
    return processes.join([worst if value is None else value for value in values])


def audit_numbers(findings: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The audit's main numbers, for `dvc metrics`.

    Args:
        findings: What `audit_metrics` gives.

    Returns:
        By metric, the area under the curve of each question, `f1`, `called` and `called_falsely`
        (of the opposites) where it has them, and the share of the `commonest` value.
    """
    numbers: dict[str, dict[str, Any]] = {}
    for row in findings.to_dict("records"):
        of_metric = numbers.setdefault(row["metric"], {})
        if row["measure"] == "auc":
            of_metric[row["question"]] = row["value"]
        elif row["measure"] in ("f1", "commonest") or row["question"] == "opposites":
            of_metric[row["measure"].replace(" ", "_")] = row["value"]
    return numbers
