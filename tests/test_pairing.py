import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trl.data_utils import is_conversational

from persodpo.errors import UserError
from persodpo.pairing import make_pairs, pair_metrics, response_metrics, score_distribution
from persodpo.params import PairingParams
from persodpo.records import Prompt

PROMPTS = [Prompt(id=i, persona=["p"], turns=["t"], reference="r", text=f"ask {i}") for i in "abc"]


def params(margin=0.1, cap=None, seed=0):
    return PairingParams(margin=margin, max_per_prompt=cap, seed=seed)


def table(rows):
    return pd.DataFrame(rows, columns=["id", "model", "raw", "valid", "s_total"])


def keys(pairs):
    return {(p.prompt_id, p.model_chosen, p.model_rejected) for p in pairs}


EXAMPLE = table(
    [
        ("a", "m1", "x", True, 0.9),
        ("a", "m2", "y", True, 0.85),
        ("a", "m3", "z", False, 0.2),
        ("b", "m1", "x", True, 0.5),
        ("b", "m2", "x", True, 0.1),
        ("c", "m3", "w", False, 0.4),
    ]
)


def test_a_worked_example():
    # m1 and m2 are too near in a; b's texts are the same; c has one response
    expected = {("a", "m1", "m3"), ("a", "m2", "m3")}
    assert keys(make_pairs("persodpo", EXAMPLE, PROMPTS, params())) == expected
    pairs = make_pairs("persodpo", EXAMPLE, PROMPTS, params(margin=0.0))
    assert keys(pairs) == expected | {("a", "m1", "m2")}
    assert keys(make_pairs("dpo", EXAMPLE, PROMPTS, params())) == expected
    assert pair_metrics(pairs) == pytest.approx(
        {"pairs": 3, "prompts": 1, "chosen_models": 2, "rejected_models": 2,
         "margin_mean": 1.4 / 3, "margin_min": 0.05}
    )  # fmt: skip


def test_a_pair_is_in_trls_conversational_format():
    pair = make_pairs("persodpo", EXAMPLE, PROMPTS, params())[0].model_dump()
    assert is_conversational(pair)
    assert pair["prompt"] == [{"role": "user", "content": "ask a"}]
    assert pair["chosen"] == [{"role": "assistant", "content": "x"}]
    assert pair["rejected"] == [{"role": "assistant", "content": "z"}]
    assert pair["score_chosen"] == 0.9
    assert pair["score_rejected"] == 0.2


tables = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["m1", "m2", "m3", "m4"]),
              st.sampled_from("xyz"), st.booleans(), st.floats(0, 1)),
    min_size=1, max_size=12, unique_by=lambda row: row[:2],
).map(table)  # fmt: skip


def pairs_or_none(which, rows, settings):
    try:
        return make_pairs(which, rows, PROMPTS, settings)
    except UserError:
        return []


@given(rows=tables, margin=st.floats(0, 0.5), more=st.floats(0, 0.5))
def test_the_invariants_of_pairs(rows, margin, more):
    pairs = pairs_or_none("persodpo", rows, params(margin))
    for pair in pairs:
        assert pair.score_chosen - pair.score_rejected >= margin
        assert pair.score_chosen > pair.score_rejected
        assert pair.chosen[0].content != pair.rejected[0].content
    assert len(keys(pairs)) == len(pairs)
    responses = list(rows.itertuples(index=False))
    assert keys(pairs) == {
        (one.id, one.model, two.model)
        for one in responses
        for two in responses
        if one.id == two.id and one.raw != two.raw and one.s_total > two.s_total
        and one.s_total - two.s_total >= margin
    }  # fmt: skip
    assert pairs_or_none("persodpo", rows.iloc[::-1], params(margin)) == pairs
    assert keys(pairs_or_none("persodpo", rows, params(margin + more))) <= keys(pairs)
    valid = rows.set_index(["id", "model"])["valid"]
    for pair in pairs_or_none("dpo", rows, params()):
        assert valid[pair.prompt_id, pair.model_chosen]
        assert not valid[pair.prompt_id, pair.model_rejected]


@given(rows=tables, cap=st.integers(1, 3), seed=st.integers(0, 9))
def test_the_cap_keeps_so_many_of_each_prompt(rows, cap, seed):
    whole = pairs_or_none("persodpo", rows, params(0.0))
    capped = pairs_or_none("persodpo", rows, params(0.0, cap, seed))
    assert keys(capped) <= keys(whole)
    for id_ in "abc":
        n = sum(pair.prompt_id == id_ for pair in whole)
        assert sum(pair.prompt_id == id_ for pair in capped) == min(n, cap)


@pytest.mark.parametrize(
    ("which", "message"),
    [("persodpo", "pairing.margin = 0.8"), ("dpo", "no prompt has a valid and an invalid")],
)
def test_no_pairs_is_a_mistake(which, message):
    rows = EXAMPLE[EXAMPLE["valid"]]
    with pytest.raises(UserError, match=message):
        make_pairs(which, rows, PROMPTS, params(margin=0.8))


def test_the_distribution_sums_to_one():
    pairs = make_pairs("persodpo", EXAMPLE, PROMPTS, params())
    shares = score_distribution(EXAMPLE, pairs, n_bins=4)
    assert shares[["responses", "chosen", "rejected"]].sum().tolist() == pytest.approx([1, 1, 1])
    assert shares["rejected"].tolist() == [1, 0, 0, 0]


def test_the_pool_is_counted():
    rows = EXAMPLE.assign(c=0.0, ue=0.0, coh=0.0, p=[None, 0.1, None, 0.1, 0.1, 0.0])
    # the missing value of a failed response doesn't count
    assert response_metrics(rows, ["c", "ue", "p", "coh"]) == {
        "responses": 6,
        "valid": 4,
        "missing_values": 1,
    }


def test_equal_scores_are_never_paired():
    rows = table([("a", "m1", "x", True, 0.5), ("a", "m2", "y", True, 0.5)])
    assert pairs_or_none("persodpo", rows, params(margin=0.0)) == []


def test_the_cap_draws_at_random():
    rows = table([("a", f"m{i}", str(i), True, i / 10) for i in range(6)])
    drawn = {frozenset(keys(make_pairs("persodpo", rows, PROMPTS, params(0.0, 1, seed))))
             for seed in range(10)}  # fmt: skip
    assert len(drawn) > 1
