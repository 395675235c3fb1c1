"""The metrics of the paper: one file each, and what stands behind them.

    metrics      coherence.py (Coh), consistency.py (C), entailment.py (UE), distance.py (P)
    judges       nli.py, unieval.py, embeddings.py, word_vectors.py; logged.py for published values
    together     judgements.py (each different input judged once, and kept), run.py (all responses)

A metric says which texts it lays before its judge and turns the judgements into one
value per answer. What its values mean (`Metric`) can be read without any model library.
"""

from collections.abc import Callable

from persodpo.config.scorers import ScorersParams
from persodpo.score.coherence import coherence_metric
from persodpo.score.consistency import consistency_metric
from persodpo.score.distance import distance_metric
from persodpo.score.entailment import entailment_metric
from persodpo.score.metric import Metric

# In the order of the columns of the paper's Table 1.
METRICS: dict[str, Callable[[ScorersParams], Metric]] = {
    "coh": coherence_metric,
    "c": consistency_metric,
    "ue": entailment_metric,
    "p": distance_metric,
}


def declared_metrics(params: ScorersParams) -> dict[str, Metric]:
    """What each metric's values mean under these settings, by its name in rows."""
    return {key: declare(params) for key, declare in METRICS.items()}
