"""All kinds of metrics. A new one is a module beside this one and a line in KINDS."""

import functools
import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from persodpo.config.sections import Key
from persodpo.score.consistency import Consistency
from persodpo.score.embedding import Embedding
from persodpo.score.entailment import Entailment
from persodpo.score.judge import Judge
from persodpo.score.logged import Logged
from persodpo.score.metric import AskModel, Metric, Scorer
from persodpo.score.overlap import ChrF, RougeL
from persodpo.score.persona_distance import PersonaDistance
from persodpo.score.persona_use import PersonaUse
from persodpo.score.unieval import UniEval

# By the value of `kind` in a section of `scorers`.
KINDS: dict[str, type[Scorer]] = {
    "chrf": ChrF,
    "consistency": Consistency,
    "embedding": Embedding,
    "entailment": Entailment,
    "judge": Judge,
    "logged": Logged,
    "persona_distance": PersonaDistance,
    "persona_use": PersonaUse,
    "rouge_l": RougeL,
    "unieval": UniEval,
}

if TYPE_CHECKING:
    AnyScorer = Scorer
else:
    AnyScorer = Annotated[
        functools.reduce(operator.or_, KINDS.values()), Field(discriminator="kind")
    ]

# The section `scorers` of params.yaml: metrics by their keys, in the order of the tables.
Scorers = Annotated[dict[Key, AnyScorer], Field(min_length=1)]


def bound_scorers(scorers: dict[str, Scorer], ask: AskModel) -> dict[str, Scorer]:
    """The metrics, each with the means to ask a model of the catalogue if it needs one."""
    return {key: scorer.bound(ask) for key, scorer in scorers.items()}


def declared_metrics(scorers: dict[str, Scorer]) -> dict[str, Metric]:
    """What the values of each metric mean, by its key in `scorers`.

    Metrics with the same label are told apart by their keys.
    """
    metrics = {key: scorer.metric() for key, scorer in scorers.items()}
    labels = [metric.label for metric in metrics.values()]
    return {
        key: replace(metric, label=f"{metric.label} [{key}]")
        if labels.count(metric.label) > 1
        else metric
        for key, metric in metrics.items()
    }
