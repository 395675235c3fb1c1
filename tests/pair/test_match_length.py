"""Pairs that are left out until both sides are alike in length."""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import assume, given
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.pair.lengths import length_d, match_length
from persodpo.pair.pairing import form_pair_sets, pair_rows
from persodpo.records import Prompt
from persodpo.workflow.params import load_params

PAIRING = load_params(ROOT / "params.yaml").pairing.model_copy(update={"margin": 0.05})
BOUNDS = st.sampled_from([0.05, 0.2, 0.5, 1.0])


def formed(rows):
    """Pairs of a margin and the words of both sides, as the pairs and the words of a table."""
    places = np.arange(2 * len(rows)).reshape(-1, 2)
    pairs = pd.DataFrame(
        {"chosen": places[:, 0], "rejected": places[:, 1], "margin": [row[0] for row in rows]}
    )
    return pairs, np.array([words for _, *both in rows for words in both], dtype=float)


def sides(pairs, words):
    return words[pairs["chosen"]], words[pairs["rejected"]]


words_of_both = st.tuples(st.integers(0, 110), st.integers(0, 110))


@given(st.lists(words_of_both, min_size=2, max_size=40))
def test_d_is_the_difference_of_means_over_the_pooled_deviation(rows):
    chosen, rejected = np.array(rows, dtype=float).T
    pooled = ((np.var(chosen, ddof=1) + np.var(rejected, ddof=1)) / 2) ** 0.5
    if pooled == 0:
        assert length_d(chosen, rejected) is None
    else:
        expected = (np.mean(chosen) - np.mean(rejected)) / pooled
        assert length_d(chosen, rejected) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_d_of_one_pair():
    assert length_d(np.array([1.0]), np.array([2.0])) is None


rows_of_pairs = st.lists(
    st.tuples(st.floats(-0.2, 1), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=50
)


def match(rows, bound):
    """The pairs before and after, and the words; what can't be matched is no example."""
    pairs, words = formed(rows)
    try:
        return pairs, match_length(pairs, words, bound), words
    except UserError:
        assume(False)


@given(rows=rows_of_pairs, bound=BOUNDS)
def test_the_bound_is_kept_by_a_subset(rows, bound):
    pairs, matched, words = match(rows, bound)
    d = length_d(*sides(matched, words))
    chosen, rejected = sides(matched, words)
    assert chosen.mean() == rejected.mean() if d is None else abs(d) <= bound
    merged = matched.merge(pairs, how="left", indicator=True)
    assert (merged["_merge"] == "both").all()
    assert matched["chosen"].is_monotonic_increasing
    assert list(matched.index) == list(range(len(matched)))


@given(rows=rows_of_pairs, bound=BOUNDS)
def test_no_more_is_left_out_than_is_needed(rows, bound):
    """The last one back in, and the bound is broken; each drove the difference, at a low price."""
    pairs, matched, words = match(rows, bound)
    chosen, rejected = sides(pairs, words)
    sign = np.sign((chosen - rejected).sum())
    drive = (chosen - rejected) * sign
    price = pairs["margin"].clip(lower=0).to_numpy() / np.where(drive > 0, drive, 1)
    gone = ~pairs["chosen"].isin(matched["chosen"]).to_numpy()
    if not gone.any():
        return
    assert (drive[gone] > 0).all()
    stays = ~gone & (drive > 0)
    assert not stays.any() or price[gone].max() <= price[stays].min()
    dearest = np.flatnonzero(gone & (price == price[gone].max()))
    last = dearest[drive[dearest] == drive[dearest].min()][-1]
    back = pairs[~gone | (np.arange(len(pairs)) == last)]
    d = length_d(*sides(back, words))
    assert np.diff(sides(back, words), axis=0).mean() != 0 if d is None else abs(d) > bound


@given(rows=rows_of_pairs)
def test_a_wide_bound_changes_nothing(rows):
    pairs, words = formed(rows)
    d = length_d(*sides(pairs, words))
    assume(d is not None)
    pd.testing.assert_frame_equal(match_length(pairs, words, abs(d) + 1e-9), pairs)


def test_a_worked_example():
    """One long pair of a small margin goes before five that hardly differ."""
    rows = [(0.1, 40, 41)] * 5 + [(0.3, 20, 90), (0.9, 30, 70), (0.5, 50, 40), (0.5, 45, 44)]
    pairs, words = formed(rows)
    assert length_d(*sides(pairs, words)) == pytest.approx(-0.825, abs=1e-3)
    matched = match_length(pairs, words, 0.6)
    assert matched["margin"].tolist() == [0.1] * 5 + [0.9, 0.5, 0.5]
    # of equal pairs the first by name goes first
    pairs, words = formed([(0.5, 20, 60), (0.5, 20, 60), (0.5, 30, 30), (0.5, 60, 30)])
    assert match_length(pairs, words, 0.2)["chosen"].tolist() == [2, 4, 6]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1.0, 10, 50), (1.0, 11, 50)], "match_length is 0.01, .* from -?[0-9.]+ to [0-9.]+ at"),
        # no spread at all, so that d is infinite
        ([(1.0, 10, 20), (1.0, 10, 20)], "the lengths of the 2 pairs have no spread"),
    ],
)
def test_a_bound_out_of_reach_is_refused(rows, message):
    with pytest.raises(UserError, match=message):
        match_length(*formed(rows), 0.01)


def test_an_empty_set_stays_empty():
    pairs, words = formed([(1.0, 1, 2)])
    assert match_length(pairs.iloc[:0], words, 0.1).empty


def pool(rows):
    """Four models' responses to each prompt: score in tenths and words."""
    frame = pd.DataFrame(rows, columns=["s_total", "words"])
    number = np.arange(len(frame))
    frame = frame.assign(
        id=[f"p{n // 4}" for n in number], model=[f"m{n % 4}" for n in number], sample=0,
        answer=[f"answer {n}" for n in number], valid=number % 4 > 0, cut=False,
    )  # fmt: skip
    return frame.assign(s_total=frame["s_total"] / 10, raw=frame["answer"])


pools = st.lists(
    st.tuples(st.integers(0, 10), st.sampled_from([10, 20, 60])), min_size=12, max_size=40
).map(pool)


def texts(sets, table):
    prompts = [Prompt(id=id_, persona=[], turns=["t"], golden_answer="g", text=id_)
               for id_ in table["id"].unique()]  # fmt: skip
    return {name: list(pair_rows(each, table, table["raw"], prompts))
            for name, each in sets.items()}  # fmt: skip


@pytest.mark.slow
@given(table=pools, bound=BOUNDS, seed=st.integers(0, 99))
def test_the_order_of_the_responses_is_irrelevant(table, bound, seed):
    matched = PAIRING.model_copy(update={"match_length": bound})
    shuffled = table.sample(frac=1, random_state=seed).reset_index(drop=True)
    try:
        one, two = (texts(form_pair_sets(t, matched, ()), t) for t in (table, shuffled))
    except UserError:
        assume(False)
    assert one == two


@pytest.mark.slow
@given(table=pools)
def test_only_the_set_persodpo_is_matched(table):
    every = form_pair_sets(table, PAIRING, ())
    d = length_d(*sides(every["persodpo"], table["words"].to_numpy(dtype=float)))
    assume(d is not None and abs(d) > 0.3)
    try:
        bounded = PAIRING.model_copy(update={"match_length": 0.3})
        matched = form_pair_sets(table, bounded, ("persodpo",))
    except UserError:
        assume(False)
    pd.testing.assert_frame_equal(matched["dpo"], every["dpo"])
    assert len(matched["persodpo"]) < len(every["persodpo"])
    assert len(matched["persodpo"].merge(every["persodpo"])) == len(matched["persodpo"])
    # nothing is trained on it
    pd.testing.assert_frame_equal(form_pair_sets(table, bounded, ())["persodpo"], every["persodpo"])
