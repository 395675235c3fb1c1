"""Intervals and paired tests: against their definitions, and how often they are right."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.statistics import MEAN, clustered_differences, scores
from persodpo.intervals import Interval, failure_interval, mean_interval, share_interval
from persodpo.report.comparison import compare, effect_size, paired_p
from persodpo.report.measures import Measure
from persodpo.report.verdicts import detectable_difference, verdict

DIALOGUES = [f"d{number}" for number in range(1000)]
MEASURES = {"x": Measure("X ↑", 1.0, True), "y": Measure("Y ↓", 1.0, False)}
VALUES = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=1, max_size=10)


@pytest.mark.slow
def test_intervals_cover_the_true_mean():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(scores(rng, 100), 999) for _ in range(1000)]
    assert 0.93 <= np.mean([i.low <= MEAN <= i.high for i in intervals]) <= 0.97


@pytest.mark.slow
def test_shares_are_covered_even_near_0():
    rng = np.random.default_rng(0)
    drawn = [share_interval(int(rng.binomial(100, 0.03)), 100) for _ in range(1000)]
    assert 0.93 <= np.mean([i.low <= 0.03 <= i.high for i in drawn]) <= 0.98
    assert share_interval(0, 12).high > 0.2


@pytest.mark.slow
def test_the_paired_test_rejects_what_is_equal_in_5_of_100_cases():
    rng = np.random.default_rng(1)
    p = [paired_p(scores(rng, 30) - scores(rng, 30), 999) for _ in range(1000)]
    assert 0.04 <= np.mean(np.array(p) <= 0.05) <= 0.06


def test_the_paired_test_finds_a_difference():
    rng = np.random.default_rng(2)
    p = [paired_p(rng.normal(0.5, 1, 50), 999) for _ in range(50)]
    assert np.mean(np.array(p) <= 0.05) > 0.8


@pytest.mark.slow
@given(VALUES)
def test_the_paired_test_by_its_definition(differences):
    """Of all ways to swap the two values of prompts, the share at least as far from 0."""
    observed = abs(np.mean(differences))
    means = [
        abs(np.mean(np.multiply(signs, differences)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = np.mean(np.array(means) >= observed - 1e-9)
    assert paired_p(np.array(differences)) == pytest.approx(expected)


@given(VALUES)
def test_an_interval_holds_its_mean(values):
    interval = mean_interval(np.array(values), 199)
    assert interval.mean == pytest.approx(np.mean(values))
    if len(set(values)) == 1:
        assert interval.low is interval.high is None
    else:
        assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_no_values_no_interval():
    assert mean_interval(np.array([])) is None
    assert effect_size(np.array([1.0])) is None
    assert effect_size(np.array([2.0, 2.0])) is None
    assert effect_size(np.array([1.0, 3.0])) == pytest.approx(2 / 2**0.5)


def table(**candidates):
    return pd.DataFrame(candidates)


@pytest.mark.slow
def test_a_comparison():
    rng = np.random.default_rng(0)
    base = rng.normal(size=40)
    values = {
        "x": table(base=base, dpo=base + 1 + rng.normal(size=40) / 10, persodpo=base),
        "y": table(base=base, dpo=base + rng.normal(size=40), persodpo=base + 1e-12),
    }
    pairs = [("base", "dpo"), ("base", "persodpo"), ("dpo", "persodpo")]
    compared = compare(values, pairs, DIALOGUES[:40], MEASURES, 0.05)
    keys = list(zip(compared["against"], compared["method"], compared["measure"], strict=True))
    assert keys == [
        ("base", "dpo", "x"), ("base", "dpo", "y"), ("base", "persodpo", "x"),
        ("base", "persodpo", "y"), ("dpo", "persodpo", "x"), ("dpo", "persodpo", "y"),
    ]  # fmt: skip
    first, same = compared.iloc[0], compared.iloc[3]
    assert first["difference"] == pytest.approx(1, abs=0.1)
    assert first["low"] < first["difference"] < first["high"]
    assert (first["n"], first["wins"], first["losses"]) == (40, 40, 0)
    assert first["p"] == pytest.approx(2 / 10_000)
    assert first["p_holm"] == pytest.approx(6 * 2 / 10_000)
    assert (same["ties"], same["p"], same["p_holm"]) == (40, 1.0, 1.0)
    assert (first["verdict"], same["verdict"]) == ("better", "undecided")
    assert first["detectable"] == pytest.approx(2.88 * first["difference"] / first["d_z"] / 40**0.5,
                                                rel=0.01)  # fmt: skip
    assert (compared["p_holm"] >= compared["p"]).all()


@pytest.mark.slow
@settings(max_examples=12)  # each takes 10,000 permutations per list
@given(st.lists(VALUES.filter(lambda v: len(v) > 2), min_size=2, max_size=5))
def test_the_correction_is_holms(measures):
    """The k-th smallest of m p-values, times m - k + 1, and none smaller than the one before."""
    # of as many prompts each, since all measures are of the same prompts
    n = min(map(len, measures))
    values = {str(i): table(base=np.zeros(n), dpo=np.array(v[:n])) for i, v in enumerate(measures)}
    kinds = dict.fromkeys(values, MEASURES["x"])
    compared = compare(values, [("base", "dpo")], DIALOGUES[:n], kinds, 0.05)
    p, m, highest, expected = compared["p"].to_numpy(), len(compared), 0.0, {}
    for k, i in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, p[i] * (m - k)))
        expected[i] = highest
    assert compared["p_holm"].tolist() == pytest.approx([expected[i] for i in range(m)])


def test_nobody_to_compare_with():
    assert compare({"x": table(dpo=[1.0])}, [], DIALOGUES[:1], MEASURES, 0.05).empty


@pytest.mark.slow
def test_intervals_of_prompts_of_the_same_dialogues_cover_the_true_mean():
    rng = np.random.default_rng(0)
    drawn = [clustered_differences(rng, 100, 175) for _ in range(1000)]
    together = [mean_interval(v[0], 999, clusters) for v, clusters in drawn]
    assert 0.93 <= np.mean([i.low <= 0 <= i.high for i in together]) <= 0.97
    # as if each were a dialogue of its own they are too narrow
    alone = [mean_interval(v[0], 999) for v, _ in drawn]
    assert np.mean([i.low <= 0 <= i.high for i in alone]) < 0.93


@pytest.mark.slow
def test_the_paired_test_of_dialogues_rejects_what_is_equal_in_5_of_100_cases():
    rng = np.random.default_rng(1)
    drawn = [clustered_differences(rng, 30, 52) for _ in range(1000)]
    p = [paired_p(values[0], 999, clusters) for values, clusters in drawn]
    assert 0.04 <= np.mean(np.array(p) <= 0.05) <= 0.065


@given(VALUES)
def test_a_dialogue_of_one_prompt_is_no_cluster(values):
    values = np.array(values)
    clusters = DIALOGUES[: len(values)]
    assert mean_interval(values, 199, clusters) == mean_interval(values, 199)
    assert paired_p(values, 199, clusters) == paired_p(values, 199)
    failed = values > 0
    assert failure_interval(failed, clusters) == share_interval(int(failed.sum()), len(failed))


def test_the_failures_of_a_dialogue_are_drawn_together():
    failed = np.array([True, True, True, True, False, False, False, False] * 6)
    clusters = [f"d{n // 4}" for n in range(48)]
    together, apart = failure_interval(failed, clusters), share_interval(24, 48)
    assert together.mean == apart.mean == 0.5
    assert together.high - together.low > apart.high - apart.low
    none = failure_interval(np.zeros(48, dtype=bool), clusters)
    assert (none.mean, none.high) == (0.0, share_interval(0, 12).high)


@pytest.mark.slow
def test_the_detectable_difference_is_found_in_80_of_100_cases():
    rng = np.random.default_rng(3)
    (values,), clusters = clustered_differences(rng, 2000, 3500)
    # of a large sample, so that its standard error is known well
    n, names = 30, [str(each % 30) for each in range(52)]
    error = np.mean([detectable_difference(clustered_differences(rng, 30, 52)[0][0], names)
                     for _ in range(300)])  # fmt: skip
    found = [
        paired_p(clustered_differences(rng, n, 52)[0][0] + error, 499, names) <= 0.05
        for _ in range(600)
    ]
    assert 0.74 <= np.mean(found) <= 0.86
    assert detectable_difference(values, clusters) < error / 5
    assert detectable_difference(np.array([1.0, 2.0]), ["a", "a"]) is None


@pytest.mark.parametrize(
    ("ends", "higher_is_better", "expected"),
    [
        ((0.01, 0.3), True, "better"),
        ((0.01, 0.3), False, "worse"),
        ((-0.3, -0.01), True, "worse"),
        ((-0.3, -0.01), False, "better"),
        ((-0.05, 0.05), True, "equivalent"),
        ((-0.04, 0.06), True, "undecided"),
        ((-0.06, 0.04), False, "undecided"),
    ],
)
def test_verdicts(ends, higher_is_better, expected):
    interval = Interval(sum(ends) / 2, *ends)
    measure = Measure("X", 1.0, higher_is_better)
    assert verdict(interval, 6, measure, 0.05) == expected
    assert verdict(interval, 6, measure._replace(width=2.0), 0.025) == expected
    assert verdict(interval, 5, measure, 0.05) == "undecided"


def test_verdicts_where_all_differences_are_equal():
    """Of 72 dialogues none differs: up to 5.07 % of all may, by Wilson; of 73 up to 5.00 %."""
    none, measure = Interval(0.0, None, None), MEASURES["x"]
    assert verdict(none, 72, measure, 0.05) == "undecided"
    assert verdict(none, 73, measure._replace(width=2.0), 0.05) == "equivalent"
    assert verdict(Interval(0.2, None, None), 9, measure, 0.05) == "better"
    assert detectable_difference(np.zeros(9), DIALOGUES[:9]) is None
