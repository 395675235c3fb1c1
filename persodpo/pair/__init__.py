"""pair: sub-scores to total scores to preference pairs.

In: `Response` and `Score` rows of all models of the pool. Out: `Pair` rows and their numbers, and
each prompt's best answer as a `Demonstration` row.

    pool.py       all responses with their scores, joined and checked
    scoring.py    from sub-scores to S_total
    pairing.py    which responses are paired
    lengths.py    Cohen's d of the lengths of both sides, and pairs that keep a bound of it
    checks.py     what a model could learn from the pairs besides what it should
    numbers.py    numbers and plots of the pairs
    values.py     what the metrics' values of the pool show by themselves
"""

from persodpo.pair.checks import check_numbers, report_excess, valid_overlap
from persodpo.pair.numbers import pair_metrics, plot_data, pool_metrics
from persodpo.pair.pairing import best_answers, form_pair_sets, pair_rows, pair_texts
from persodpo.pair.pool import evaluated_table, read_pool, write_table
from persodpo.pair.scoring import Scale, fit_scale, score_table, weighted_metrics
from persodpo.pair.values import value_numbers

__all__ = [
    "Scale",
    "best_answers",
    "check_numbers",
    "evaluated_table",
    "fit_scale",
    "form_pair_sets",
    "pair_metrics",
    "pair_rows",
    "pair_texts",
    "plot_data",
    "pool_metrics",
    "read_pool",
    "report_excess",
    "score_table",
    "valid_overlap",
    "value_numbers",
    "weighted_metrics",
    "write_table",
]
