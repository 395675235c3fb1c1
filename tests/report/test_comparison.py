"""Intervals and paired tests: against their definitions, and how often they are right."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.statistics import MEAN, scores
from persodpo.intervals import mean_interval, share_interval
from persodpo.report.comparison import compare, effect_size, paired_p

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
    compared = compare(values, ["dpo", "persodpo"], ["base", "dpo"])
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
    assert (compared["p_holm"] >= compared["p"]).all()


@pytest.mark.slow
@settings(max_examples=12)  # each takes 10,000 permutations per list
@given(st.lists(VALUES.filter(lambda v: len(v) > 2), min_size=2, max_size=5))
def test_the_correction_is_holms(measures):
    """The k-th smallest of m p-values, times m - k + 1, and none smaller than the one before."""
    values = {str(i): table(base=np.zeros(len(v)), dpo=np.array(v)) for i, v in enumerate(measures)}
    compared = compare(values, ["dpo"], ["base"])
    p, m, highest, expected = compared["p"].to_numpy(), len(compared), 0.0, {}
    for k, i in enumerate(np.argsort(p, kind="stable")):
        highest = max(highest, min(1.0, p[i] * (m - k)))
        expected[i] = highest
    assert compared["p_holm"].tolist() == pytest.approx([expected[i] for i in range(m)])


def test_nobody_to_compare_with():
    assert compare({"x": table(dpo=[1.0])}, ["dpo"], ["dpo"]).empty
