"""audit: can a metric see what it is named for?

In: `Prompt` rows with golden answers, the sections `scorers` and `audit`. Out: findings, a row per
metric and question.

    questions.py   golden answers, and what is made from them, on which a metric should differ
    findings.py    how well a metric tells them apart, with intervals and verdicts
    values.py      what the values alone show: constants, ties, repeats, length in disguise
    flags.py       which metrics don't pass, and why
    run.py         all metrics of params.yaml on all questions

No model of the pool is asked. Published values can't be asked for other texts, so of them only
values.py tells something.
"""

from persodpo.audit.flags import audit_flags, value_flags
from persodpo.audit.questions import concerns
from persodpo.audit.run import audit_metrics, audit_numbers
from persodpo.audit.values import (
    in_file_order,
    is_commonest,
    is_length,
    is_tied,
    rank_correlation,
    repeats,
)

__all__ = [
    "audit_flags",
    "audit_metrics",
    "audit_numbers",
    "concerns",
    "in_file_order",
    "is_commonest",
    "is_length",
    "is_tied",
    "rank_correlation",
    "repeats",
    "value_flags",
]
