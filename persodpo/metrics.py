"""The four metrics of the paper: their ranges, and which value is worst.

Kept apart from the scorers that compute them, so that weighing scores and
reading tables needs no model library.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What the values of a metric mean; of all four, higher is better.

    Attributes:
        key: Its name in rows and in `params.yaml`.
        label: Its name in tables.
        low: The lowest value it can have.
        high: The highest value it can have.
        worst: What a failed response gets (paper, section 4.1).
    """

    key: str
    label: str
    low: float
    high: float
    worst: float


# In the order of the paper's Table 1. Coh is the embedding-based stand-in for Coh-UniEval,
# and bears another name in tables.
METRICS = {
    metric.key: metric
    for metric in (
        Metric("coh", "Coh-MiniLM", low=0.0, high=1.0, worst=0.0),
        Metric("c", "C", low=-1.0, high=1.0, worst=-1.0),
        Metric("ue", "UE", low=0.0, high=2.0, worst=0.0),
        Metric("p", "P", low=-1.0, high=1.0, worst=0.0),
    )
}
