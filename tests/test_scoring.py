import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.params import MetricWeights, ScoringParams, load_params
from persodpo.records import Score
from persodpo.scorers import declared_metrics
from persodpo.scoring import length_score, normalise, score_table

WHOLE = load_params(ROOT / "params.yaml")
PARAMS, METRICS = WHOLE.scoring, declared_metrics(WHOLE.scorers)


def score(id_="p", model="m", valid=True, words=10, c=0.0, ue=0.0, p=0.0, coh=0.0):
    return Score(id=id_, model=model, raw=f"{id_}{model}", valid=valid, words=words,
                 c=c, ue=ue, p=p, coh=coh)  # fmt: skip


def test_a_worked_example():
    # target length: the mean of the valid answers, (10 + 30) / 2 = 20
    rows = [score("a", words=10, c=1.0, ue=2.0, p=0.5, coh=0.8), score("b", words=30),
            score("c", valid=False, words=500, c=-1.0)]  # fmt: skip
    params = ScoringParams(weights=MetricWeights(c=1, ue=1, p=1, coh=1), w1=0.2, w2=0.1)
    table = score_table(rows, params, METRICS)
    assert table["s_metric"].tolist() == pytest.approx([(1 + 1 + 0.75 + 0.8) / 4, 1 / 4, 0.5 / 4])
    assert table["s_length"].tolist() == pytest.approx([1 - 0.25, 1 - 0.25, 0])
    assert table["s_format"].tolist() == [1, 1, 0]
    assert table["s_total"].tolist() == pytest.approx(
        [0.8875 + 0.2 * 0.75 + 0.1, 0.25 + 0.2 * 0.75 + 0.1, 0.125]
    )


scores = st.builds(
    score,
    valid=st.booleans(),
    words=st.integers(1, 500),
    c=st.sampled_from([-1.0, 0.0, 1.0]),
    ue=st.sampled_from([0.0, 1.0, 2.0]),
    p=st.none() | st.floats(-1, 1),
    coh=st.none() | st.floats(0, 1),
)


@given(rows=st.lists(scores, min_size=1, max_size=8), seed=st.integers(0, 100))
def test_scores_are_in_range_and_do_not_depend_on_the_order(rows, seed):
    table = score_table(rows, PARAMS, METRICS)
    for column in [c for c in table if c.startswith("s_") and c not in ("s_lfc", "s_total")]:
        assert table[column].between(0, 1).all()
    assert table["s_total"].between(0, 1 + PARAMS.w1 + PARAMS.w2).all()
    order = np.random.default_rng(seed).permutation(len(rows))
    permuted = score_table([rows[i] for i in order], PARAMS, METRICS)
    np.testing.assert_allclose(permuted["s_total"], table["s_total"].to_numpy()[order])


@given(low=st.floats(-5, 0), span=st.floats(0.1, 5), share=st.floats(0, 1))
def test_normalise_maps_the_range_to_0_1(low, span, share):
    value = normalise(pd.Series([low, low + span, low + share * span]), low, low + span)
    assert value.tolist() == pytest.approx([0, 1, share], abs=1e-6)


def test_length_score_is_best_at_the_target():
    words = pd.Series([0, 10, 20, 30, 40, 1000])
    assert length_score(words, 20).tolist() == [0, 0.75, 1, 0.75, 0, 0]


def test_no_responses():
    with pytest.raises(UserError, match="no model has a scored response"):
        score_table([], PARAMS, METRICS)
