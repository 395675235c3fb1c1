"""Intervals over clusters: against their definitions, and how often they are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from benchmarks.statistics import clustered_answers, clustered_area
from persodpo.intervals import auc_interval, ratio_interval, share_interval

VALUES = st.lists(st.floats(-2, 2).map(lambda x: round(x, 1)), min_size=1, max_size=12)


@given(VALUES, VALUES)
@settings(deadline=None)
def test_the_area_is_the_chance_that_the_higher_is_higher(higher, lower):
    found = auc_interval(higher, lower, ["a"] * len(higher), ["b"] * len(lower), resamples=9)
    expected = roc_auc_score([1] * len(higher) + [0] * len(lower), higher + lower)
    assert found.mean == pytest.approx(expected)


@given(VALUES, VALUES, st.randoms())
@settings(deadline=None)
def test_an_interval_holds_the_area_and_the_order_is_irrelevant(higher, lower, random):
    clusters = [str(place % 3) for place in range(12)]
    found = auc_interval(higher, lower, clusters[: len(higher)], clusters[: len(lower)], 99)
    if found.low is not None:
        assert 0 <= found.low <= found.mean + 1e-9
        assert found.mean - 1e-9 <= found.high <= 1
    order = list(range(len(higher)))
    random.shuffle(order)
    again = auc_interval(
        [higher[place] for place in order], lower,
        [clusters[place] for place in order], clusters[: len(lower)], 99,
    )  # fmt: skip
    assert again.mean == pytest.approx(found.mean)


def test_what_is_told_apart_without_an_error_still_has_an_interval():
    n = 12
    clusters = [str(place) for place in range(n)]
    found = auc_interval([1.0] * n, [0.0] * n, clusters, clusters)
    assert found == (1.0, *share_interval(n, n)[1:])
    assert found.low < 0.8
    assert auc_interval([0.0] * n, [1.0] * n, clusters, clusters).high > 0.2
    assert auc_interval([], [1.0], [], ["a"]) is None
    assert auc_interval([1.0], [0.0], ["a"], ["a"]) == (1.0, None, None)


def test_a_ratio_of_sums_by_cluster():
    found = ratio_interval([1, 0, 2], [2, 2, 2], ["a", "a", "b"])
    assert found.mean == 0.5
    assert (found.low, found.high) == (0.25, 1.0)  # a alone, b alone
    assert ratio_interval([0, 0], [0, 0], ["a", "b"]) is None
    assert ratio_interval([0, 0], [1, 1], ["a", "b"]) == share_interval(0, 2)
    # a cluster of which nothing was counted has observed nothing
    assert ratio_interval([0, 0, 0], [1, 0, 0], ["a", "b", "c"]) == share_interval(0, 1)
    assert ratio_interval([1, 0], [1, 1], ["a", "a"]) == (0.5, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100])
def test_areas_of_clustered_answers_are_covered(n):
    rng = np.random.default_rng(0)
    found = [auc_interval(*clustered_answers(rng, n), 499) for _ in range(400)]
    assert 0.91 <= np.mean([i.low <= clustered_area() <= i.high for i in found]) <= 0.98
