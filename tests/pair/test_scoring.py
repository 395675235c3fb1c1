from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import assume, given
from hypothesis import strategies as st

from persodpo.config.pair import LengthParams, ScoringParams
from persodpo.errors import UserError
from persodpo.pair.pairing import form_pair_sets
from persodpo.pair.scoring import (
    Bounds,
    fit_scale,
    length_score,
    normalise,
    score_table,
    weighted_metrics,
)
from persodpo.score import declared_metrics
from persodpo.workflow.params import load_params

WHOLE = load_params(ROOT / "params.yaml")
METRICS = weighted_metrics(declared_metrics(WHOLE.scorers), WHOLE.scoring.weights)


def settings(normalisation="range", formula="quadratic", target="pool_mean", **changes):
    values = {"normalisation": normalisation, "weights": {"c": 0.25, "ue": 0.25, "p": 0.25,
              "coh": 0.25}, "w1": 0.2, "w2": 0.1,
              "length": {"formula": formula, "target": target}}  # fmt: skip
    return ScoringParams(**(values | changes))


def row(contract="valid", words=10, c=0.0, ue=0.0, p=0.0, coh=0.0):
    answer = None if contract == "none" else "a"
    return {"id": "p", "model": "m", "sample": 0, "raw": "r", "contract": contract,
            "answer": answer, "words": words, "valid": contract == "valid",
            "c": c, "ue": ue, "p": p, "coh": coh}  # fmt: skip


def table(rows):
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(METRICS, float) | {"valid": bool})


def scored(rows, params, limit=110):
    frame = table(rows)
    return score_table(frame, fit_scale(frame, params, METRICS, limit), params, METRICS)


EXAMPLE = [
    row(words=10, c=1.0, ue=2.0, p=0.5, coh=0.8),
    row(words=30),
    row("none", words=20, c=-1.0),
    row("salvaged", words=20, c=-1.0),
]


def test_a_worked_example():
    # target length: the mean of the valid answers, (10 + 30) / 2 = 20
    result = scored(EXAMPLE, settings())
    assert result["s_metric"].tolist() == pytest.approx(
        [(1 + 1 + 0.5 + 0.8) / 4, 0.5 / 4, 0, 0]  # a failed response has nothing of any metric
    )
    assert result["s_length"].tolist() == pytest.approx([1 - 0.25, 1 - 0.25, 0, 0])
    assert result["s_format"].tolist() == [1, 1, 0, 0]
    assert result["s_total"].tolist() == pytest.approx(
        [0.825 + 0.2 * 0.75 + 0.1, 0.125 + 0.2 * 0.75 + 0.1, 0, 0]
    )


@pytest.mark.parametrize(("target", "words"), [("limit", 80), (50, 50), ("pool_mean", 20)])
def test_the_target_of_the_length(target, words):
    assert fit_scale(table(EXAMPLE), settings(target=target), METRICS, 80).target == words


def test_minmax_takes_the_bounds_of_the_pool():
    rows = [row(p=0.2, c=1.0), row(p=0.6, c=1.0), row(p=None, c=1.0)]
    result = scored(rows, settings("minmax"))
    assert result["s_p"].tolist() == pytest.approx([1 / 3, 1, 0])  # none counts as the worst, 0
    assert result["s_c"].tolist() == [0, 0, 0]  # all alike


def test_a_metric_of_equal_values_is_0_whichever_end_is_better():
    frame, params = table([row(p=1.0), row(p=1.0)]), settings("minmax", weights={"p": 1.0})
    for metric in (METRICS["p"], replace(METRICS["p"], worst=1.0, higher_is_better=False)):
        scale = fit_scale(frame, params, {"p": metric}, 110)
        assert score_table(frame, scale, params, {"p": metric})["s_metric"].tolist() == [0, 0]


def test_a_metric_of_the_weight_0_is_an_audit_metric():
    assert list(weighted_metrics(METRICS, {"p": 0.5, "c": 0.0})) == ["p"]
    with_0, without = settings(weights={"p": 0.5, "c": 0.0}), settings(weights={"p": 0.5})
    one, other = (
        score_table(frame, fit_scale(frame, params, metrics, 110), params, metrics)
        for frame in [table(EXAMPLE)]
        for params in (with_0, without)
        for metrics in [weighted_metrics(METRICS, params.weights)]
    )
    pd.testing.assert_frame_equal(one, other)


def test_the_scale_of_the_pool_serves_other_responses():
    params = settings("minmax")
    pool = table([row(p=0.2, words=10), row(p=0.6, words=30)])
    scale = fit_scale(pool, params, METRICS, 110)
    assert (scale.bounds["p"], scale.target) == (Bounds(low=0.2, high=0.6), 20.0)
    others = score_table(table([row(p=0.4, words=20), row(p=0.9), row(p=0.0)]), scale, params,
                         METRICS)  # fmt: skip
    assert others["s_p"].tolist() == pytest.approx([0.5, 1, 0])
    assert others["s_length"][0] == 1


def test_a_metric_whose_lower_values_are_better():
    lower = replace(METRICS["p"], worst=1.0, higher_is_better=False)
    frame, params = table([row(p=0.2), row(p=None)]), settings(weights={"p": 1.0})
    scale = fit_scale(frame, params, {"p": lower}, 110)
    result = score_table(frame, scale, params, {"p": lower})
    assert result["s_p"].tolist() == result["s_metric"].tolist() == pytest.approx([0.8, 0])


def test_a_weight_acts_as_it_stands():
    weights = {"c": 0.0, "ue": 0.0, "p": 0.5, "coh": 0.0}
    assert scored([row(p=1.0)], settings(weights=weights))["s_metric"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("formula", "target", "expected"),
    [
        ("quadratic", 20, [0, 0.75, 1, 0.75, 0, 0]),
        ("quadratic", "limit", [1, 1, 1, 0.75, 0, 0]),
        ("bonus", 20, [1, 1, 1, 0, 0, 0]),
        ("bonus", "limit", [1, 1, 1, 0, 0, 0]),
        ("released", 30, [0, 0.556, 0.889, 1, 0.889, 0]),
    ],
)
def test_the_formulas_of_the_length(formula, target, expected):
    words = pd.Series([0, 10, 20, 30, 40, 1000])
    params = LengthParams(formula=formula, target=target)
    score = length_score(words, 30 if target == 30 else 20, params)
    assert score.tolist() == pytest.approx(expected)


def test_the_released_length_counts_salvaged_answers_and_whole_words():
    rows = [row(words=10), row("salvaged", words=31), row("none", words=900)]
    params = settings(formula="released")
    assert fit_scale(table(rows), params, METRICS, 110).target == 20  # of 20.5
    assert scored(rows, params)["s_length"].tolist() == [0.75, round(1 - 0.55**2, 3), 0]
    assert scored(rows, settings())["s_length"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("formula", ["quadratic", "bonus", "released"])
def test_a_pool_without_a_length(formula):
    result = scored([row("none"), row("none")], settings(formula=formula))
    assert result["s_length"].tolist() == [0, 0]


def test_no_responses():
    with pytest.raises(UserError, match="The pool has no responses"):
        fit_scale(table(EXAMPLE).iloc[:0], settings(), METRICS, 110)


responses = st.builds(
    row,
    contract=st.sampled_from(["valid", "salvaged", "none"]),
    words=st.integers(0, 500),
    c=st.sampled_from([-1.0, 0.0, 1.0]),
    ue=st.sampled_from([0.0, 1.0, 2.0]),
    p=st.none() | st.floats(-1, 1),
    coh=st.none() | st.floats(0, 1),
)
any_settings = st.builds(
    settings,
    st.sampled_from(["range", "minmax"]),
    st.sampled_from(["quadratic", "bonus", "released"]),
    st.sampled_from(["pool_mean", "limit"]) | st.floats(1, 200),
)


@pytest.mark.slow
@given(rows=st.lists(responses, min_size=1, max_size=8), params=any_settings,
       seed=st.integers(0, 100))  # fmt: skip
def test_scores_are_in_range_and_do_not_depend_on_the_order(rows, params, seed):
    result = scored(rows, params)
    for column in [c for c in result if c.startswith("s_") and c not in ("s_lfc", "s_total")]:
        assert result[column].between(0, 1).all()
    assert result["s_total"].between(0, 1 + params.w1 + params.w2).all()
    order = np.random.default_rng(seed).permutation(len(rows))
    permuted = scored([rows[i] for i in order], params)
    np.testing.assert_allclose(permuted["s_total"], result["s_total"].to_numpy()[order])


@pytest.mark.slow
@given(rows=st.lists(responses, min_size=1, max_size=8), place=st.integers(0, 7))
def test_a_better_answer_never_scores_worse(rows, place):
    worse = rows[place % len(rows)]
    assume(worse["contract"] == "valid")
    better = worse | {"c": 1.0, "ue": 2.0, "p": 1.0, "coh": 1.0}
    result = scored([*rows, worse, better], settings())["s_total"].tolist()
    assert result[-1] >= result[-2]


@pytest.mark.slow
@given(pool=st.lists(responses, min_size=2, max_size=12), more=responses,
       strategy=st.sampled_from(["margin", "best_worst", "valid_invalid"]),
       target=st.sampled_from(["limit", 50]))  # fmt: skip
def test_a_response_more_changes_no_other_prompts_pairs_under_range(pool, more, strategy, target):
    """Unless lengths are measured by the pool's mean."""
    rows = [each | {"id": str(i // 4), "model": str(i % 4), "raw": str(i)}
            for i, each in enumerate(pool)]  # fmt: skip
    another = more | {"id": "0", "model": "new", "raw": "new"}
    params = WHOLE.pairing.model_copy(update={"strategy": strategy, "max_per_prompt": 2})

    def others(which):
        result = scored(which, settings(target=target))
        pairs = form_pair_sets(result, params, needed=())["persodpo"]
        ids = result["id"].to_numpy()[pairs["chosen"]]
        sides = zip(ids, result["raw"].to_numpy()[pairs["chosen"]],
                    result["raw"].to_numpy()[pairs["rejected"]], strict=True)  # fmt: skip
        return {side for side in sides if side[0] != "0"}

    assert others([*rows, another]) == others(rows)


@given(low=st.floats(-5, 0), span=st.floats(0.1, 5), share=st.floats(0, 1))
def test_normalise_maps_the_bounds_to_0_1(low, span, share):
    value = normalise(
        pd.Series([low, low + span, low + share * span, low - 1, low + span + 1]),
        Bounds(low=low, high=low + span),
        higher_is_better=True,
    )
    assert value.tolist() == pytest.approx([0, 1, share, 0, 1], abs=1e-6)
