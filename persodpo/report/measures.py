"""What candidates are compared by: the total score, all metrics, and failures."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from persodpo.config.pair import ScoringParams
from persodpo.pair import weighted_metrics
from persodpo.score import Metric, declared_metrics
from persodpo.workflow import Params


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


def declared_measures(params: Params) -> dict[str, Measure]:
    """All measures by their keys, in the order of the report's columns."""
    return all_measures(report_metrics(params), total_width(params.scoring))


def all_measures(metrics: Mapping[str, Metric], width: float) -> dict[str, Measure]:
    """The total score of a width, some metrics, and failures."""
    return {
        "s_total": Measure("S_total ↑", width, True),
        **{
            key: Measure(metric_title(metric), metric.high - metric.low, metric.higher_is_better)
            for key, metric in metrics.items()
        },
        "failed": Measure("Failure ratio ↓", 1.0, False),
    }


def report_metrics(params: Params) -> dict[str, Metric]:
    """The metrics by their keys, in the order of `scorers`; audit metrics are marked as such."""
    metrics = declared_metrics(params.scorers)
    weighted = weighted_metrics(metrics, params.scoring.weights)
    return {
        key: metric if key in weighted else replace(metric, label=f"{metric.label} (audit)")
        for key, metric in metrics.items()
    }


def total_width(scoring: ScoringParams) -> float:
    """The largest total score that there can be; the lowest is 0."""
    return sum(scoring.weights.values()) + scoring.w1 + scoring.w2


def metric_title(metric: Metric) -> str:
    """A metric's name with the direction that is better."""
    return f"{metric.label} {'↑' if metric.higher_is_better else '↓'}"
