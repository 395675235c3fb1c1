"""score: responses to values of metrics.

In: `Prompt` and `Response` rows, the section `scorers`. Out: `Score` rows, a value per metric.

    metric.py      what a metric is; kinds.py all kinds, and the type of the section `scorers`
    kinds          consistency.py (C), entailment.py (UE), persona_distance.py (P), embedding.py
                   and unieval.py (Coh), overlap.py and persona_use.py (audit metrics), judge.py
                   (a chat model), logged.py (published values)
    run.py         all responses on all metrics
    judges/        the models behind the metrics
    train_nli/     training of NLI classifiers, the judges of C and UE

A kind says which texts it lays before its judge and turns the judgements into one value per
answer. What its values mean (`Metric`) can be read without any model library. docs/new_metric.md
says how to add one.
"""

from persodpo.score.kinds import Scorers, bound_scorers, declared_metrics
from persodpo.score.metric import Metric, QuestionName, Scorer
from persodpo.score.run import score_responses

__all__ = [
    "Metric",
    "QuestionName",
    "Scorer",
    "Scorers",
    "bound_scorers",
    "declared_metrics",
    "score_responses",
]
