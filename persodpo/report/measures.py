"""What candidates are compared by: the total score, all metrics, and failures."""

from typing import NamedTuple

from persodpo.report.results import Results
from persodpo.score import Metric


class Measure(NamedTuple):
    """A measure of the comparison.

    Attributes:
        title: Its name in tables, with the direction that is better.
        width: From its lowest to its highest value.
        higher_is_better: Which end is the good one.
    """

    title: str
    width: float
    higher_is_better: bool


def all_measures(results: Results) -> dict[str, Measure]:
    """All measures by their keys, in the order of the columns."""
    return {
        "s_total": Measure("S_total ↑", results.total_width, True),
        **{
            key: Measure(metric_title(metric), metric.high - metric.low, metric.higher_is_better)
            for key, metric in results.metrics.items()
        },
        "failed": Measure("Failure ratio ↓", 1.0, False),
    }


def metric_title(metric: Metric) -> str:
    """A metric's name with the direction that is better."""
    return f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"


def audit_keys(results: Results) -> list[str]:
    """The metrics that no pair sees."""
    return [key for key in results.metrics if key not in results.weights]
