"""What a metric's values show by themselves."""

import numpy as np
import pandas as pd
import published_logs
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from persodpo.audit import (
    audit_flags,
    in_file_order,
    is_commonest,
    is_length,
    is_tied,
    rank_correlation,
    repeats,
    value_flags,
)

LOGS = ROOT.parent / "shared/focus_logs/metrics"


def test_shares_of_equal_values():
    assert is_commonest([1, 1, 2, 3, 3, 3]).tolist() == [False] * 3 + [True] * 3
    assert is_tied([1, 1, 2, 3]).tolist() == [True, True, False, False]
    assert all(is_commonest([2, 2])) and all(is_tied([2, 2]))


def test_length_in_disguise():
    words = np.random.default_rng(0).integers(5, 60, 100)
    ids = [str(n) for n in range(100)]
    assert is_length(rank_correlation((words**0.5).tolist(), words.tolist(), ids))
    assert is_length(rank_correlation((-words).tolist(), words.tolist(), ids))
    noise = np.random.default_rng(1).random(100).tolist()
    assert not is_length(rank_correlation(noise, words.tolist(), ids))
    assert rank_correlation([1] * 20, list(range(20)), ids[:20]) is None
    assert rank_correlation([1, 2, 3], [1, 2, 3], ids[:3]) is None


def test_answers_of_one_dialogue_are_no_further_evidence():
    rng = np.random.default_rng(0)
    values = rng.random(40)
    other = (values + rng.random(40)).tolist()
    ids = [str(n) for n in range(40)]
    once = rank_correlation(values.tolist(), other, ids)
    ends = stats.pearsonr(stats.rankdata(values), stats.rankdata(other)).confidence_interval(0.95)
    assert (once.low, once.high) == pytest.approx((ends.low, ends.high))
    thrice = rank_correlation(values.tolist() * 3, other * 3, ids * 3)
    assert thrice == pytest.approx(once)
    assert rank_correlation(list(range(20)), list(range(20)), ["a", "b"] * 10) is None


@given(st.integers(60, 400), st.integers(0, 99))
def test_a_lost_loop_step_is_found(n, seed):
    """The published code gives response k the value of response k//8 + k%8."""
    real = np.random.default_rng(seed).random(n)
    found = repeats([real[k // 8 + k % 8] for k in range(n)])
    assert found[0] == 7
    assert found[1] > 0.8
    assert repeats(real.tolist()) is None


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=300), st.randoms())
def test_few_different_values_are_no_repeats(values, random):
    random.shuffle(values)
    assert repeats(values) is None
    assert repeats([0.0] * len(values)) is None


def test_a_share_that_is_hardly_above_chance_is_no_repeat():
    """However sure it is with many values."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, 20_000).astype(float)
    places = rng.choice(np.arange(5, 20_000), 800, replace=False)
    values[places] = values[places - 5]
    assert repeats(values.tolist()) is None


def test_the_order_of_a_published_file():
    assert in_file_order(["valid-10", "valid-2", "valid-1"]).tolist() == [2, 1, 0]
    assert in_file_order(["b", "a"]).tolist() == [0, 1]


def test_an_area_of_one_dialogue_has_no_interval_to_show():
    row = {"metric": "p", "question": "persona", "measure": "auc", "value": 0.5, "low": None,
           "high": None, "n": 4, "clusters": 1, "verdict": "doesn't see it"}  # fmt: skip
    (reason,) = audit_flags(pd.DataFrame([row]))["p"]
    assert reason.endswith("AUC 0.50, where .5 is chance")


def test_flags_of_a_pool():
    repeated = {"distance": 7.0, "share": 0.72, "chance": 0.003}
    flags = value_flags(
        {
            "coh": {"commonest": 0.1, "length": False, "words": 0.1, "repeats": {"gpt": repeated}},
            "ue": {"commonest": 1, "length": False, "words": None, "repeats": {}},
            "long": {"commonest": 0.1, "length": True, "words": 0.97, "repeats": {}},
            "fine": {"commonest": 0.1, "length": False, "words": 0.1, "repeats": {}},
            "empty": {},
        }
    )
    assert (
        "repeats itself in the answers of gpt: 72% of its values are those of 7" in flags["coh"][0]
    )
    assert "same value" in flags["ue"][0]
    assert "rank correlation +0.97" in flags["long"][0]
    assert set(flags) == {"coh", "ue", "long"}


@pytest.mark.skipif(not LOGS.is_dir(), reason="the published values aren't here")
@pytest.mark.parametrize("model", published_logs.MODELS)
def test_the_published_coherence_repeats_itself_and_nothing_else_does(model):
    table = pd.read_csv(LOGS / f"{model}.csv")
    valid = table[table["Coh-UniEval"] > 0]
    assert repeats(valid["Coh-UniEval"].tolist())[0] == 7
    for column in ("C Score", "UE Score", "Persona Distance"):
        assert repeats(valid[column].astype(float).fillna(0).tolist()) is None
