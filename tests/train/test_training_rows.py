"""Pairs become rows: grouped, weighted, tokenised, cut where they must be, and planned in steps."""

import re
from itertools import chain

import numpy as np
import pytest
from conftest import transformers_model
from hypothesis import given
from hypothesis import strategies as st
from tiny_trainings import DEMONSTRATIONS, METHOD, PAIRS, PROMPTS, make_pair

from persodpo.config.train import PairMethod
from persodpo.errors import UserError
from persodpo.prompts import render_prompt
from persodpo.records import Prompt
from persodpo.train.batches import plan_passes, split, steps_per_epoch
from persodpo.train.rows import (
    AnswerPair,
    TokenisedRow,
    group_by_prompt,
    tokenise,
    training_rows,
)
from persodpo.train.weighting import pair_weights, weigh
from persodpo.workflow.params import load_params

PARAMS = load_params().train


def method(weight="score", **changes):
    return PairMethod(**(METHOD | {"weight": weight} | changes))


def row_of(pairs, tokens=1):
    """So many pairs, and so many tokens of a prompt."""
    return TokenisedRow((0,) * tokens, (), tuple(pairs))


def sides(row):
    return [(pair.chosen, pair.rejected) for pair in row.pairs]


def test_pairs_are_grouped_by_prompt():
    first, second = group_by_prompt(PAIRS)
    texts = ("In Paris, by the river.", "No.", "tower tower tower")
    assert first.answers == tuple((text, False) for text in texts)
    assert sides(first) == [(0, 1), (0, 2), (1, 2)]
    assert [pair.difference for pair in first.pairs] == pytest.approx([0.5, 0.9, 0.4])
    assert second.prompt_id == "p2"


def test_a_cut_answer_is_another_than_a_whole_one():
    pairs = [make_pair("p", "q", "a", "b", cut=(False, True)), make_pair("p", "q", "a", "b")]
    (row,) = group_by_prompt(pairs)
    assert row.answers == (("a", False), ("b", True), ("b", False))
    assert sides(row) == [(0, 1), (0, 2)]


def test_the_tokens_are_the_chat_templates(tokenizer, template):
    row = tokenise(group_by_prompt(PAIRS)[0], template, 512)
    whole = tokenizer.decode([*row.prompt_ids, *row.answer_ids[0]])
    assert "user\nWhere is the tower?<|im_end|>\n<|im_start|>assistant\nIn Paris, by" in whole
    assert whole.endswith("river.<|im_end|>\n")


def test_a_cut_answer_does_not_end_its_turn(tokenizer, template):
    pair = make_pair("p", "Where?", '{"response": "In Par', " In a cut\n", cut=(True, True))
    row = tokenise(group_by_prompt([pair])[0], template, 512)
    cut = [tokenizer.decode(list(ids)) for ids in row.answer_ids]
    assert cut == ['{"response": "In Par', " In a cut\n"]
    # what the template itself says behind an answer isn't taken for the answer
    odd = make_pair("p", "Where?", "im_end", "user", cut=(True, True))
    row = tokenise(group_by_prompt([odd])[0], template, 512)
    assert [tokenizer.decode(list(ids)) for ids in row.answer_ids] == ["im_end", "user"]
    whole = make_pair("p", "Where?", "In Paris.", "No.")
    row = tokenise(group_by_prompt([whole])[0], template, 512)
    assert all(tokenizer.decode(list(ids)).endswith("<|im_end|>\n") for ids in row.answer_ids)


def dialogue(n_turns, persona_of="user"):
    turns = [f"Turn {number} of a long talk about towers and rivers." for number in range(n_turns)]
    persona = ["I like towers."]
    return Prompt(id="p", persona=persona, persona_of=persona_of, turns=turns, golden_answer="x",
                  text=render_prompt(persona, turns, 110, persona_of))  # fmt: skip


@pytest.mark.parametrize(("persona_of", "speaker"), [("user", "User1"), ("machine", "User2")])
def test_a_long_prompt_loses_its_oldest_turns(
    tokenizer, template, tiny_model, capsys, persona_of, speaker
):
    prompt = dialogue(7, persona_of)
    pairs = [make_pair("p", prompt.text, "Yes, it is.", "No.")]
    base = transformers_model(tiny_model)

    def rows(max_length):
        params = PARAMS.model_copy(update={"max_length": max_length})
        return training_rows(pairs, [prompt], params, base, template, 110)

    def decoded(row):
        return tokenizer.decode(list(row.prompt_ids))

    (whole,) = rows(512)
    length = len(whole.prompt_ids) + max(map(len, whole.answer_ids))
    assert rows(length)[0] == whole
    assert capsys.readouterr().err == ""
    (cut,) = rows(length - 1)
    text = decoded(cut)
    assert "Turn 1 " not in text
    assert "User1: Turn 2 " in text
    assert "User1: Turn 6 " in text
    assert f"Persona of {speaker}:\n- I like towers." in text
    assert cut.answer_ids == whole.answer_ids
    assert "1 of 1 prompts are longer than train.max_length" in capsys.readouterr().err
    last = length - 3 * (len(whole.prompt_ids) - len(cut.prompt_ids))
    assert "User1: Turn 6 " in decoded(rows(last)[0])
    with pytest.raises(UserError, match=re.escape(f"more than train.max_length = {last - 1};")):
        rows(last - 1)


def test_pairs_of_another_run_are_refused(template, tiny_model):
    base = transformers_model(tiny_model)
    with pytest.raises(UserError, match=r"'p1' isn't in artifacts/prompts/train.jsonl"):
        training_rows(PAIRS, [dialogue(1)], PARAMS, base, template, 110)


def test_a_context_that_the_model_has_not(template, tiny_model):
    base = transformers_model(tiny_model)
    params = PARAMS.model_copy(update={"max_length": 4096})
    with pytest.raises(UserError, match=r"train.max_length is 4096, but .* no more than 2048"):
        training_rows(PAIRS, PROMPTS, params, base, template, 110)


@given(
    st.lists(st.lists(st.floats(0, 3), min_size=1, max_size=4), min_size=1, max_size=6),
    st.sampled_from(["score", "none", "margin_offset"]),
    st.floats(0.1, 3),
    st.sampled_from(["none", "mean_one"]),
)
def test_weights_and_offsets(differences, weight, temperature, normalisation):
    chosen = method(weight, weight_temperature=temperature, weight_normalisation=normalisation)
    unweighed = [row_of([AnswerPair(0, 1, each) for each in row]) for row in differences]
    rows = weigh(unweighed, chosen)
    assert [[pair.difference for pair in row.pairs] for row in rows] == differences
    flat = [each for row in differences for each in row]
    weights = [pair.weight for row in rows for pair in row.pairs]
    offsets = [pair.offset for row in rows for pair in row.pairs]
    by_score = pair_weights(flat, temperature, normalisation)
    assert weights == pytest.approx(by_score if weight == "score" else np.ones(len(flat)))
    expected = np.asarray(flat) / temperature if weight == "margin_offset" else np.zeros(len(flat))
    assert offsets == pytest.approx(expected)


def test_weights():
    assert pair_weights([0.0, 1.0], 1.0, "none").tolist() == pytest.approx([0.5, 0.7310586])
    assert pair_weights([-50.0, 50.0], 0.01, "none").tolist() == [0.0, 1.0]
    assert pair_weights([50.0, 50.0], -0.001, "mean_one").tolist() == [0.0, 0.0]
    with pytest.raises(UserError, match=r"weight_temperature -0\.001 of .* no pair a weight"):
        weigh([row_of([AnswerPair(0, 1, 50.0)])], method("score", weight_temperature=-0.001))


@given(st.lists(st.floats(0, 3), min_size=2, unique=True), st.floats(0.05, 3))
def test_below_0_small_differences_weigh_more(differences, temperature):
    ordered = np.sort(differences)
    up, down = (pair_weights(ordered, t, "none") for t in (temperature, -temperature))
    assert (np.diff(up) >= 0).all() and (np.diff(down) <= 0).all()
    assert up + down == pytest.approx(np.ones(len(ordered)))


def test_demonstrations_are_rows_of_one_answer(template, tiny_model):
    rows = training_rows(
        DEMONSTRATIONS, PROMPTS, PARAMS, transformers_model(tiny_model), template, 110
    )
    assert [len(row.answer_ids) for row in rows] == [1, 1]
    assert [sides(row) for row in rows] == [[(0, 0)], [(0, 0)]]
    of_pairs = training_rows(PAIRS, PROMPTS, PARAMS, transformers_model(tiny_model), template, 110)
    assert [row.answer_ids[0] for row in rows] == [row.answer_ids[0] for row in of_pairs]
    assert [row.prompt_ids for row in rows] == [row.prompt_ids for row in of_pairs]


@given(st.integers(2, 40), st.floats(0.01, 0.9), st.integers(0, 9))
def test_held_out_prompts(n, share, seed):
    rows = [row_of([AnswerPair(0, 1, number)]) for number in range(n)]
    if max(1, round(share * n)) == n:
        with pytest.raises(UserError, match=r"train\.held_out"):
            split(rows, share, seed)
        return
    train, held_out = split(rows, share, seed)
    assert len(held_out) == max(1, round(share * n))
    assert sorted(train + held_out, key=lambda row: row.pairs[0].difference) == rows
    assert split(rows, 0.0, seed) == (rows, [])


@given(
    pairs=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    unit=st.sampled_from(["prompts", "pairs"]),
    size=st.integers(1, 20),
    passes=st.integers(1, 4),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_plan(pairs, unit, size, passes, epochs, seed):
    rows = [row_of([AnswerPair(0, 1, 0.0)] * each, 10 * each) for each in pairs]
    plan = plan_passes(rows, unit, size, passes, epochs, seed)
    n_steps = steps_per_epoch(rows, unit, size)
    assert len(plan) == n_steps * passes * epochs
    steps = [list(chain(*plan[k : k + passes])) for k in range(0, len(plan), passes)]
    assert all(steps)
    for epoch in range(epochs):
        seen = chain(*steps[epoch * n_steps : (epoch + 1) * n_steps])
        assert sorted(seen) == list(range(len(pairs)))  # every prompt once
    counts = [1] * len(pairs) if unit == "prompts" else pairs
    for step in steps:
        # no step is larger than its fair share by more than a prompt
        fair = sum(counts) / n_steps
        assert sum(counts[each] for each in step) <= fair + 2 * max(counts)
    # the number of passes changes who is with whom in a pass, not in a step
    whole = plan_passes(rows, unit, size, 1, epochs, seed)
    assert [sorted(step) for step in steps] == [sorted(step) for step in whole]
    half = plan_passes(rows, unit, size, passes, epochs / 2, seed)
    assert half == plan[: len(half)]


def test_passes_have_about_the_same_number_of_tokens():
    tokens = [600, 100, 300, 200, 300, 300]
    rows = [row_of([AnswerPair(0, 1, 0.0)], each) for each in tokens]
    plan = plan_passes(rows, "prompts", 6, 3, 1, 0)
    assert [sum(tokens[each] for each in one) for one in plan] == [600, 600, 600]
