"""How tokens are drawn, and where an answer ends."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from persodpo.generate.decoding import AnswerIsValid, AnswerText, RowSampler


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6), st.integers(0, 2**64 - 1))
def test_the_sampler_leaves_one_possible_token(logits, seed):
    scores = torch.tensor([[*logits, -torch.inf]])
    left = RowSampler([seed], prompt_length=3, max_tokens=5)(torch.zeros(1, 4, dtype=int), scores)
    assert (left == 0).sum() == 1
    assert left[0, -1] == -torch.inf  # what top-p has ruled out stays ruled out


def test_the_sampler_draws_by_probability():
    """Chi-squared over 4000 rows with seeds of their own; 16.3 is the 0.1 % bound at 3 df."""
    probabilities = torch.tensor([0.5, 0.25, 0.2, 0.05])
    n = 4000
    sampler = RowSampler(list(range(n)), prompt_length=0, max_tokens=2)
    for step in (0, 1):
        left = sampler(torch.zeros(n, step, dtype=int), probabilities.log().repeat(n, 1))
        counts = Counter(left.argmax(dim=1).tolist())
        expected = (probabilities * n).tolist()
        assert sum((counts[i] - e) ** 2 / e for i, e in enumerate(expected)) < 16.3


@pytest.mark.parametrize(
    ("steps", "done_after"),
    [
        (['{"response"', ': "a', '"}', "xx"], 3),
        (['{"a": {"response": "b"', "}", " "], None),
        # what the parser doesn't take for an answer is none to stop at
        (['{"mood": "good"}', ' {"response": ', '"b"}', " more"], 3),
        (['{"response": "..."}', ' {"response": "b"}', " more"], 2),
        (["<think>", '{"response": "draft"}', "</think>", '{"response": "b"}', "x"], 4),
        (["<think>", '{"response": "draft"}', " and so on"], None),
    ],
)
def test_generation_stops_where_the_parser_says_valid(tokenizer, template, steps, done_after):
    prompt = tokenizer("{}")["input_ids"]  # a closed object in the prompt doesn't count
    stop = AnswerIsValid(AnswerText(template), len(prompt), "strict", [False])
    ids = list(prompt)
    for step in steps:
        for token in tokenizer(step)["input_ids"]:
            ids.append(token)
            stop(torch.tensor([ids]), torch.empty(0))
    text = tokenizer.decode(ids[len(prompt) : len(prompt) + stop.length.get(0, 0)])
    assert text == ("".join(steps[:done_after]) if done_after else "")


def test_generation_stops_by_the_rule_that_is_set(tokenizer, template):
    ids = tokenizer('{"response": "a", "mood": "b"}')["input_ids"]
    for rule, length in (("released", len(ids)), ("strict", None)):
        stop = AnswerIsValid(AnswerText(template), 0, rule, [False])
        stop(torch.tensor([ids]), torch.empty(0))
        assert stop.length.get(0) == length


def test_a_prompt_that_ends_inside_the_thoughts(tokenizer, template):
    """The template has written <think>, so a draft before </think> is no answer."""
    draft = tokenizer('maybe {"response": "a"}')["input_ids"]
    rest = tokenizer('</think>{"response": "b"}')["input_ids"]
    stop = AnswerIsValid(AnswerText(template), 0, "strict", [True])
    stop(torch.tensor([draft]), torch.empty(0))
    assert stop.length == {}
    stop(torch.tensor([draft + rest]), torch.empty(0))
    assert stop.length == {0: len(draft + rest)}
