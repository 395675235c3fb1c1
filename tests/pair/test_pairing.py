import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from trl.data_utils import is_conversational

from persodpo.config.pair import PairingParams
from persodpo.errors import UserError
from persodpo.pair.pairing import best_answers, form_pair_sets, pair_rows, pair_texts, select_pairs
from persodpo.records import Prompt
from persodpo.workflow.params import load_params

WHOLE = load_params(ROOT / "params.yaml")
PROMPTS = [
    Prompt(id=i, persona=["p"], turns=["t"], golden_answer="r", text=f"ask {i}") for i in "abc"
]


def params(strategy="margin", margin=0.1, **changes):
    values = {"strategy": strategy, "margin": margin, "low_quantile": 0.4, "high_quantile": 0.6,
              "text": "raw", "unanswered": "keep", "max_per_prompt": None, "cap": "random",
              "seed": 0, "match_length": None, "checks": WHOLE.pairing.checks}  # fmt: skip
    return PairingParams(**(values | changes))


def table(rows):
    """Responses whose raw texts are shown; only those that are `!` have no answer.

    A model's second sample is written m1#1.
    """
    frame = pd.DataFrame(rows, columns=["id", "model", "text", "valid", "s_total"])
    named = frame["model"].str.partition("#")
    frame = frame.assign(model=named[0], sample=pd.to_numeric(named[2]).fillna(0).astype(int))
    frame = frame.astype({"valid": bool, "s_total": float, "text": object})
    answer = frame["text"].replace("!", None)
    valid = frame["valid"] & answer.notna()
    return frame.assign(raw=frame["text"], answer=answer, valid=valid, cut=frame["text"] == "z")


def select(rows, settings):
    return select_pairs(rows, settings.strategy, settings)


def keys(pairs, rows):
    """The pairs by what they are, not where they stand."""
    names = [_name(row) for row in rows.itertuples()]
    return {
        (rows["id"].iloc[pair.chosen], names[pair.chosen], names[pair.rejected])
        for pair in pairs.itertuples()
    }


def _name(row):
    return f"{row.model}#{row.sample}" if row.sample else row.model


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
FAR = {("a", "m1", "m3"), ("a", "m2", "m3")}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # m1 and m2 are too near in a; b's texts are the same; c has one response
        (params(), FAR),
        (params(margin=0.0), FAR | {("a", "m1", "m2")}),
        (params("best_worst"), {("a", "m1", "m3")}),
        (params("valid_invalid", margin=9.0), FAR),
        # of .1 .2 .4 .5 .85 .9 the quantiles .4 and .6 are .4 and .5
        (params("quantile"), FAR),
        (params("quantile", low_quantile=0.9, high_quantile=0.9, margin=0.0),
         {("a", "m1", "m2"), ("a", "m1", "m3")}),
        (params("quantile", low_quantile=0.0, high_quantile=1.0, margin=0.0), set()),
    ],
)  # fmt: skip
def test_a_worked_example(settings, expected):
    assert keys(select(EXAMPLE, settings), EXAMPLE) == expected


def test_a_pair_is_in_trls_conversational_format():
    pair = next(pair_rows(select(EXAMPLE, params()), EXAMPLE, EXAMPLE["text"], PROMPTS))
    row = pair.model_dump()
    assert is_conversational(row)
    assert row["prompt"] == [{"role": "user", "content": "ask a"}]
    assert row["chosen"] == [{"role": "assistant", "content": "x"}]
    assert row["rejected"] == [{"role": "assistant", "content": "z"}]
    assert (row["score_chosen"], row["score_rejected"]) == (0.9, 0.2)
    assert (row["cut_chosen"], row["cut_rejected"]) == (False, True)


def test_a_text_that_is_put_into_the_format_anew_is_whole():
    texts = EXAMPLE["text"].map(lambda text: f"{{{text}}}")
    pair = next(pair_rows(select(EXAMPLE, params()), EXAMPLE, texts, PROMPTS))
    assert not pair.cut_rejected


def test_what_a_pair_shows():
    rows = pd.DataFrame({"raw": ['So: {"response": "a"}', "prose"], "answer": ["a", None]})
    assert pair_texts("persodpo", rows, params()).tolist() == rows["raw"].tolist()
    wrapped = pair_texts("persodpo", rows, params(text="rewrapped"))
    assert wrapped[0] == '{"response": "a"}'
    assert pd.isna(wrapped[1])
    # the baseline always shows raw texts
    assert pair_texts("dpo", rows, params(text="rewrapped")).tolist() == rows["raw"].tolist()
    for which in ("dpo", "persodpo"):
        dropped = pair_texts(which, rows, params(unanswered="drop"))
        assert dropped[0] == rows["raw"][0]
        assert pd.isna(dropped[1])


def test_a_response_that_cannot_be_shown_is_in_no_pair_and_no_quantile():
    rows = table([("a", f"m{i}", str(i), i > 1, i / 10) for i in range(6)])
    rows.loc[0, "text"] = None
    for strategy in ("margin", "valid_invalid", "best_worst"):
        assert "m0" not in str(keys(select(rows, params(strategy)), rows))
    # of .1 to .5 the median is .3; with .0 it would be .25
    settings = params("quantile", margin=0.0, low_quantile=0.5, high_quantile=0.5)
    assert keys(select(rows, settings), rows) == {
        ("a", chosen, rejected)
        for chosen in ("m3", "m4", "m5") for rejected in ("m1", "m2", "m3") if chosen > rejected
    }  # fmt: skip


tables = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["m1", "m2", "m1#1", "m1#2"]),
              st.sampled_from("xyz!") | st.none(), st.booleans(),
              st.floats(0, 1) | st.sampled_from([0.25, 0.5, 0.75])),
    min_size=1, max_size=12, unique_by=lambda row: row[:2],
).map(table)  # fmt: skip
strategies = st.sampled_from(["margin", "best_worst", "quantile", "valid_invalid"])
margins = st.sampled_from([0.0, 0.25]) | st.floats(0, 0.5)
caps = st.none() | st.integers(1, 3)
ways = st.sampled_from(["random", "largest_margin"])


def brute_force(rows, settings):
    """All pairs by a plain reading of the definition, without a cap."""
    shown = [row for row in rows.itertuples() if pd.notna(row.text)]
    low = pd.Series([row.s_total for row in shown], dtype=float).quantile(settings.low_quantile)
    high = pd.Series([row.s_total for row in shown], dtype=float).quantile(settings.high_quantile)
    found = set()
    for one in shown:
        for two in shown:
            if one.id != two.id or one.text in (two.text, "!"):
                continue
            difference = one.s_total - two.s_total
            enough = difference > 1e-9 and difference >= settings.margin - 1e-9
            if {
                "margin": enough,
                "quantile": enough and one.s_total >= high and two.s_total <= low,
                "valid_invalid": one.valid and not two.valid,
            }[settings.strategy]:
                found.add((one.id, _name(one), _name(two)))
    return found


@pytest.mark.slow
@given(rows=tables, strategy=st.sampled_from(["margin", "quantile", "valid_invalid"]),
       margin=margins, low=st.floats(0, 1), high=st.floats(0, 1))  # fmt: skip
def test_pairs_are_those_of_the_definition(rows, strategy, margin, low, high):
    low, high = sorted((low, high))
    settings = params(strategy, margin, low_quantile=low, high_quantile=high)
    pairs = select(rows, settings)
    assert keys(pairs, rows) == brute_force(rows, settings)
    assert len(keys(pairs, rows)) == len(pairs)


@pytest.mark.slow
@given(rows=tables, strategy=strategies, margin=margins, cap=caps, way=ways)
def test_the_invariants_of_pairs(rows, strategy, margin, cap, way):
    settings = params(strategy, margin=margin, max_per_prompt=cap, cap=way)
    pairs = select(rows, settings)
    chosen, rejected = rows.iloc[pairs["chosen"]], rows.iloc[pairs["rejected"]]
    assert chosen["id"].tolist() == rejected["id"].tolist()
    texts = zip(chosen["text"], rejected["text"], strict=True)
    assert all(pd.notna(one) and pd.notna(two) and one not in (two, "!") for one, two in texts)
    differences = chosen["s_total"].to_numpy() - rejected["s_total"].to_numpy()
    assert (pairs["margin"].to_numpy() == differences).all()
    if strategy == "valid_invalid":
        assert chosen["valid"].all()
        assert not rejected["valid"].any()
    else:
        assert (differences >= margin - 1e-9).all()
        assert (differences > 0).all()
    if cap is not None:
        assert chosen["id"].value_counts().le(cap).all()


@pytest.mark.slow
@given(rows=tables, strategy=strategies, cap=caps, way=ways, seed=st.integers(0, 99))
def test_the_order_of_the_responses_is_irrelevant(rows, strategy, cap, way, seed):
    settings = params(strategy, max_per_prompt=cap, cap=way)
    shuffled = rows.sample(frac=1, random_state=seed).reset_index(drop=True)
    shown = [list(pair_rows(select(t, settings), t, t["text"], PROMPTS)) for t in (rows, shuffled)]
    assert shown[0] == shown[1]


@pytest.mark.slow
@given(rows=tables, strategy=st.sampled_from(["margin", "quantile"]), margin=margins,
       more=st.floats(0, 0.5))  # fmt: skip
def test_a_larger_margin_gives_a_subset(rows, strategy, margin, more):
    larger = keys(select(rows, params(strategy, margin + more)), rows)
    assert larger <= keys(select(rows, params(strategy, margin)), rows)


@pytest.mark.slow
@given(rows=tables, strategy=st.sampled_from(["margin", "best_worst", "valid_invalid"]), cap=caps,
       way=ways, score=st.floats(0, 1))  # fmt: skip
def test_a_response_more_changes_no_other_prompts_pairs(rows, strategy, cap, way, score):
    settings = params(strategy, max_per_prompt=cap, cap=way)
    more = pd.concat([rows, table([("b", "m0", "new", True, score)])], ignore_index=True)

    def others(t):
        return {key for key in keys(select(t, settings), t) if key[0] != "b"}

    assert others(more) == others(rows)


@pytest.mark.slow
@given(rows=tables, cap=st.integers(1, 3), way=ways, seed=st.integers(0, 9))
def test_the_cap_keeps_so_many_of_each_prompt(rows, cap, way, seed):
    every = select(rows, params(margin=0.0))
    capped = select(rows, params(margin=0.0, max_per_prompt=cap, cap=way, seed=seed))
    assert keys(capped, rows) <= keys(every, rows)
    for id_ in "abc":
        all_margins, margins = (
            pairs[rows["id"].to_numpy()[pairs["chosen"]] == id_]["margin"]
            for pairs in (every, capped)
        )
        assert len(margins) == min(len(all_margins), cap)
        if way == "largest_margin":
            assert sorted(margins) == sorted(all_margins.nlargest(cap))


@pytest.mark.slow
@given(rows=tables)
def test_best_worst_is_one_pair_of_the_largest_margin(rows):
    best = select(rows, params("best_worst", 0.0))
    one = params(margin=0.0, max_per_prompt=1, cap="largest_margin")
    pd.testing.assert_frame_equal(best, select(rows, one))


def test_the_samples_of_a_model_are_paired_like_models():
    rows = table([("a", "m1", "x", True, 0.9), ("a", "m1#1", "y", True, 0.2),
                  ("a", "m2", "z", True, 0.5)])  # fmt: skip
    pairs = select(rows, params())
    assert keys(pairs, rows) == {("a", "m1", "m1#1"), ("a", "m1", "m2"), ("a", "m2", "m1#1")}
    shown = [
        (pair.model_chosen, pair.sample_chosen, pair.model_rejected, pair.sample_rejected)
        for pair in pair_rows(pairs, rows, rows["text"], PROMPTS)
    ]
    assert shown == [("m1", 0, "m1", 1), ("m1", 0, "m2", 0), ("m2", 0, "m1", 1)]


def test_the_cap_draws_at_random():
    rows = table([("a", f"m{i}", str(i), True, i / 10) for i in range(6)])
    settings = [params(margin=0.0, max_per_prompt=1, seed=seed) for seed in range(10)]
    drawn = {frozenset(keys(select(rows, each), rows)) for each in settings}
    assert len(drawn) > 1


ALIKE = EXAMPLE.assign(s_total=EXAMPLE["id"].map({"a": 0.5, "b": 0.25, "c": 0.125}))
SAME = EXAMPLE.assign(raw=EXAMPLE["id"], text=EXAMPLE["id"])


@pytest.mark.parametrize(
    ("rows", "settings", "needed", "message"),
    [
        (EXAMPLE[EXAMPLE["valid"]], params(margin=0.8), {"persodpo"}, "pairing.margin = 0.8"),
        (EXAMPLE[EXAMPLE["valid"]], params(), {"dpo"}, "no prompt has a valid and an invalid"),
        (EXAMPLE.assign(valid=False, s_total=0.0), params(), {"dpo"}, "keeps the format; raise"),
        (EXAMPLE.assign(valid=False, s_total=0.0), params(), {"persodpo"}, "keeps the format; ra"),
        (EXAMPLE.iloc[[0, 3, 5]], params(), {"persodpo"}, "no prompt has two responses"),
        (EXAMPLE.iloc[:0], params(), {"persodpo"}, "no prompt has two responses"),
        (ALIKE, params(), {"persodpo"}, "responses to a prompt have the same total score;"),
        (SAME, params(margin=0.0), {"persodpo"}, "responses to a prompt have the same text;"),
        (EXAMPLE, params("quantile", low_quantile=0.0, high_quantile=1.0), {"persodpo"},
         "pairing.low_quantile = 0, pairing.high_quantile = 1"),
        (EXAMPLE[EXAMPLE["valid"]], params("valid_invalid"), {"persodpo"}, "set persodpo would be"),
    ],
)  # fmt: skip
def test_no_pairs_is_a_mistake(rows, settings, needed, message):
    with pytest.raises(UserError, match=message):
        form_pair_sets(rows, settings, needed)


def test_a_set_that_nothing_is_trained_on_may_be_empty():
    sets = form_pair_sets(EXAMPLE[EXAMPLE["valid"]], params(margin=0.0), {"persodpo"})
    assert (len(sets["dpo"]), len(sets["persodpo"])) == (0, 1)


def test_the_best_answer_of_each_prompt():
    rows = table([("a", "m1", "x", True, 0.5), ("a", "m2", "y", True, 0.9),
                  ("a", "m3", "z", False, 1.0), ("b", "m1", "u", True, 0.2),
                  ("b", "m2", "v", True, 0.2), ("c", "m1", "w", False, 0.9)])  # fmt: skip
    found = {each.prompt_id: each for each in best_answers(rows, PROMPTS)}
    assert found.keys() == {"a", "b"}
    answers = {id_: each.completion[0].content for id_, each in found.items()}
    assert answers == {"a": '{"response": "y"}', "b": '{"response": "u"}'}
    assert found["a"].prompt[0].content == "ask a"
    assert not any(each.cut for each in found.values())


def test_equal_scores_are_never_paired_and_the_margin_itself_is_enough():
    rows = table([("a", "m1", "x", True, 0.3), ("a", "m2", "y", True, 0.1 + 0.2),
                  ("a", "m3", "z", True, 0.2)])  # fmt: skip
    assert keys(select(rows, params(margin=0.0)), rows) == {("a", "m1", "m3"), ("a", "m2", "m3")}
    assert len(select(rows, params(margin=0.1))) == 2


def test_a_response_without_an_answer_is_never_chosen():
    rows = table([("a", "m1", "!", False, 0.9), ("a", "m2", "x", True, 0.1)])
    for strategy in ("margin", "best_worst", "quantile"):
        assert select(rows, params(strategy)).empty
    assert keys(select(rows, params("valid_invalid")), rows) == {("a", "m2", "m1")}


def test_the_baseline_is_capped_too():
    rows = table([("a", "m0", "x", True, 0.9)] + [("a", f"m{i}", str(i), False, i / 10)
                                                 for i in (1, 2, 3)])  # fmt: skip
    settings = params("valid_invalid", max_per_prompt=1, cap="largest_margin")
    assert keys(select(rows, settings), rows) == {("a", "m0", "m1")}
